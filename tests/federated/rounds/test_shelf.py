"""A file that was written is there after a crash, and so are the folders above it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from voxelvault_fl.provisioning import files
from voxelvault_fl.rounds import shelf


@pytest.mark.parametrize(
    "write",
    [
        lambda path: shelf.append(path, [b"line"]),
        lambda path: shelf.put(path, b"data"),
        lambda path: files.write(path, b"data"),
    ],
)
def test_a_new_file_and_its_new_folders_reach_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None]
) -> None:
    synced, real = set[int](), os.fsync

    def fsync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "jobs" / "one" / "journal"
    write(path)
    wanted = (path, path.parent, path.parent.parent, tmp_path)
    assert synced >= {one.stat().st_ino for one in wanted}


def test_a_journal_that_is_there_costs_one_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.append(tmp_path / "journal", [b"one"])
    count = list[int]()
    monkeypatch.setattr(os, "fsync", count.append)
    shelf.append(tmp_path / "journal", [b"two"])
    assert len(count) == 1
    assert shelf.lines(tmp_path / "journal") == [b"one", b"two"]
