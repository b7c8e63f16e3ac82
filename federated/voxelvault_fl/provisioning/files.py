"""Files of kits and of state folders: each written whole or not at all, private ones for their owner only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from voxelvault.files import part_of, sync


def canonical(value: Any) -> bytes:
    """Return JSON with sorted keys and no spaces: the bytes that are signed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def write(path: Path, content: bytes, *, private: bool = False, durable: bool = True) -> None:
    """Write a file whole or not at all, readable by its owner only where it is private.

    After a crash it is the old one or the new one, and folders that had to be made are there. What isn't
    durable is only of now: it is replaced whole, but not synced, and a power cut may leave nothing in it.

    Raises
    ------
    OSError
        The disk refused.
    """
    make_folder(path.parent, 0o700 if private else 0o777)
    # What a full disk left behind would keep it full: `part_of` takes it away.
    with part_of(path, [content], 0o600 if private else 0o644, durable=durable) as (part, _):
        part.replace(path)
    if durable:
        sync(path.parent)


def read_json(path: Path) -> dict[str, Any]:
    """Return what a file says; empty where it isn't there, or is damaged."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder, and those above it, so that a crash forgets none of them."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True, mode=mode)
    for one in missing:
        sync(one.parent)


def version(*paths: Path) -> tuple[tuple[int, int, int], ...]:
    """Return what is another value once one of these files was written anew."""
    return tuple(_version(one) for one in paths)


def _version(path: Path) -> tuple[int, int, int]:
    try:
        now = path.stat()
    except OSError:
        return 0, 0, 0
    return now.st_ino, now.st_mtime_ns, now.st_size


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner enters."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


__all__ = ["canonical", "make_folder", "private_folder", "read_json", "version", "write"]
