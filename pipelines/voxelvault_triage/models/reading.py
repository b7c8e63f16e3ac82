"""A bundle from a folder or a zip file into memory; links, names that lead out and bombs are refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from voxelvault.dicom.archives import Limits, archive_kind, members, read_member
from voxelvault.errors import UsageError
from voxelvault_triage.models.bundle import METADATA, MOST_BYTES, MOST_FILES, Bundle, check_names

LIMITS = Limits(members=MOST_FILES, total=MOST_BYTES, member=MOST_BYTES)

_LEFT_OUT = frozenset({".git", "__pycache__", ".DS_Store"})


def read_bundle(path: Path) -> Bundle:
    """Read a bundle.

    Parameters
    ----------
    path : Path
        A folder, or a zip file of one.

    Raises
    ------
    UsageError
        It is no bundle, or holds a link or a name that leads elsewhere.
    ArchiveRefused
        The zip file is hostile or damaged.
    """
    if path.is_dir():
        return Bundle(_folder(path))
    if path.is_file():
        return Bundle(_rooted(_zipped(path)))
    raise UsageError("there is no bundle at this place; name its folder or zip file")


def _folder(root: Path) -> dict[str, bytes]:
    sizes: dict[str, int] = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        for name in [*folders, *(name for name in names if name not in _LEFT_OUT)]:
            found = Path(folder) / name
            status = found.lstat()
            if name in folders and stat.S_ISDIR(status.st_mode):
                continue
            if not stat.S_ISREG(status.st_mode):
                raise UsageError("the bundle holds a link or a device; put the file itself in its place")
            sizes[found.relative_to(root).as_posix()] = status.st_size
        _bounded(sizes)
    check_names(sizes)
    return {name: _read(root / name, size) for name, size in sizes.items()}


def _bounded(sizes: dict[str, int]) -> None:
    if len(sizes) > MOST_FILES or sum(sizes.values()) > MOST_BYTES:
        raise UsageError("this is larger than a bundle may be; name the bundle's own folder")


def _read(path: Path, size: int) -> bytes:
    """Read a file that was looked at before; a link put in its place since is refused."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
            data = stream.read(size + 1)
    except OSError:
        raise UsageError("a file of the bundle can't be read; check who may read it") from None
    if len(data) != size:
        raise UsageError("a file of the bundle changed while it was read; try again")
    return data


def _zipped(path: Path) -> dict[str, bytes]:
    with path.open("rb") as stream:
        if archive_kind(stream.read(512)) != "zip":
            raise UsageError("this file is no bundle; a bundle is a folder or a zip file")
    listed = members(path, "zip", LIMITS)
    check_names([member.name for member in listed])
    return {member.name: read_member(path, member) for member in listed}


def _rooted(files: dict[str, bytes]) -> dict[str, bytes]:
    """Take a bundle out of the one folder that it may have been packed in."""
    tops = {name.partition("/")[0] for name in files}
    if METADATA in files or len(tops) != 1:
        return files
    (top,) = tops
    return {name.removeprefix(f"{top}/"): data for name, data in files.items()}


__all__ = ["read_bundle"]
