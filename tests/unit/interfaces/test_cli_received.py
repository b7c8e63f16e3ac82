"""`deidentify verify` and `card` of a release that somebody handed over: it is read, and left as it is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def release(run: Any, filled: Path, tmp_path: Path) -> Path:
    """Return a release that is a vault."""
    place = tmp_path / "release"
    made = run("--vault", filled, "deidentify", "--all", "--out", place, "--faces", "keep")
    assert made.code == 0
    return place


def lying(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.relative_to(folder).as_posix(): (
            path.read_bytes() if path.is_file() else b"",
            path.stat().st_mtime_ns,
        )
        for path in folder.rglob("*")
    }


def test_a_check_writes_nothing_into_it(run: Any, release: Path) -> None:
    before = lying(release)
    assert run("deidentify", "verify", release).code == 0
    assert run("deidentify", "card", release).code == 0
    assert lying(release) == before


def test_two_copies_are_checked_from_one_account(run: Any, release: Path, tmp_path: Path) -> None:
    copies = [shutil.copytree(release, tmp_path / name) for name in ("first", "second")]
    assert run("--vault", copies[0], "verify").code == 0  # opened for work: its log grows, and is pinned
    for place in (*copies, release, copies[0]):
        checked = run("deidentify", "verify", place, "--json")
        assert (checked.code, checked.json["ok"]) == (0, True)
