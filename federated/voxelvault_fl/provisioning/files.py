"""Files of a kit: private ones for their owner only, each written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def canonical(value: Any) -> bytes:
    """Return JSON with sorted keys and no spaces: the bytes that are signed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def write(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file whole or not at all, readable by its owner only where it is private."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        # What a full disk left behind would keep it full.
        beside.unlink(missing_ok=True)


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


__all__ = ["canonical", "private_folder", "version", "write"]
