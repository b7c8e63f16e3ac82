"""Small files that are whole or not there, and journals that lose at most a line that was never finished."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from voxelvault.files import sync
from voxelvault_fl.provisioning.files import make_folder, write


def put(path: Path, data: bytes) -> None:
    """Write a file that only this user can read; after a crash it is the old one or the new one."""
    write(path, data, private=True)


def get(path: Path) -> bytes | None:
    """Return a file, or None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def append(path: Path, lines: Sequence[bytes]) -> None:
    """Add lines to a journal; they are on the disk when this returns."""
    make_folder(path.parent, 0o700)
    new = not path.exists()
    opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with open(opened, "r+b") as file:
        # What a crash left unfinished goes before anything is added.
        file.seek(_finished(path.read_bytes()))
        file.truncate()
        file.write(b"".join(line + b"\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync(path.parent)


def lines(path: Path) -> list[bytes]:
    """Return the finished lines of a journal; none where there is no file."""
    data = get(path) or b""
    return data[: _finished(data)].splitlines()


def _finished(data: bytes) -> int:
    return data.rfind(b"\n") + 1


__all__ = ["append", "get", "lines", "put"]
