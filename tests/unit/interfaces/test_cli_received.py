"""`deidentify verify` and `card` of a release that somebody handed over: it is read, and left as it is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from voxelvault.dicom import columns


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


def test_whatever_was_added_is_named(run: Any, release: Path, incoming: Path, tmp_path: Path) -> None:
    image = incoming / "0.dcm"
    twin = next((release / "objects").glob("*/*"))
    added = {
        "image.dcm": image,
        "objects/zz/image.dcm": image,
        f"objects/ab/{'ab' * 16}": twin,
        f"catalog/ab/{'ab' * 16}": twin,
        f"derived/ab/{'ab' * 16}": image,
        "catalog/lake.duckdb.wal": image,
        f"keys/pages/{'ab' * 16}": image,
        f"audit/edge/{'ab' * 32}": image,
        f"audit/text/ab/{'ab' * 16}": image,
        f"projects/{'00' * 16}/receipts.jsonl": image,
        "projects/image": image,
        "documents/models/image": image,
        "locks/log": image,
        "tags.toml": Path(columns.__file__).with_name("tags.toml"),
        ".tmp-0123456789abcdef": image,
        "Doe^John/1/image.dcm": image,
    }
    for name, source in added.items():
        place = tmp_path / "changed"
        shutil.copytree(release, place)
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place / name)
        checked = run("deidentify", "verify", place, "--json")
        assert (name, checked.code, checked.json.get("extra", checked.json)) == (name, 1, [name])
        shutil.rmtree(place)


def test_links_and_empty_folders_are_named(run: Any, release: Path) -> None:
    (release / "Doe^John").mkdir()
    (release / "objects" / "away").symlink_to("/")
    (release / "objects" / "00").mkdir(exist_ok=True)
    checked = run("deidentify", "verify", release, "--json")
    assert (checked.code, checked.json["extra"]) == (1, ["Doe^John", "objects/away"])
