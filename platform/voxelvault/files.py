"""Plain files that leave the vault: created, never overwritten, durable."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from voxelvault.errors import NoPermission, NoSpace, StorageError, UsageError
from voxelvault.model import Buffer


def write_new(path: Path, parts: Iterable[Buffer], *, private: bool = False) -> int:
    """Write a file that isn't there yet; return its length in bytes.

    It gets its name when it is whole: whoever is killed on the way leaves a `.part` file, and no
    half-written one under the name. A private one, such as a key, is its owner's alone from the first byte
    on, and its name is on the disk too: of others a crash may forget the last names, and they are made again.

    Raises
    ------
    UsageError
        The file is there already.
    NoSpace, NoPermission, StorageError
        The disk refused.
    """
    try:
        with part_of(path, parts, 0o600 if private else 0o666) as (part, length):
            if path.exists():
                raise FileExistsError
            _name_once(part, path)
        if private:
            sync(path.parent)
    except FileExistsError:
        raise UsageError("a file to be written is there already; choose another place") from None
    except OSError as error:
        raise disk_error(error) from None
    return length


def replace_file(path: Path, parts: Iterable[Buffer]) -> str:
    """Write a file, in the place of the one that is there; either the old or the new one is whole.

    Returns
    -------
    str
        Its SHA-256, hexadecimal.

    Raises
    ------
    NoSpace, NoPermission, StorageError
        The disk refused.
    """
    digest = hashlib.sha256()

    def counted() -> Iterator[Buffer]:
        for data in parts:
            digest.update(data)
            yield data

    try:
        with part_of(path, counted()) as (part, _):
            os.replace(part, path)
    except OSError as error:
        raise disk_error(error) from None
    return digest.hexdigest()


@contextmanager
def part_of(
    path: Path, parts: Iterable[Buffer], mode: int = 0o666, *, durable: bool = True
) -> Iterator[tuple[Path, int]]:
    """Write a file beside `path`, synced where it is durable, and gone afterwards unless it was renamed.

    Raises
    ------
    OSError
        The disk refused.
    """
    # Short, and without the name: that one may be as long as names can be.
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    length = 0
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            for data in parts:
                length += file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        yield part, length
    finally:
        part.unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Have the names in a folder reach the disk."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _name_once(part: Path, path: Path) -> None:
    """Give the file its name; `FileExistsError` if that is taken meanwhile."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:
        # No hard links, as on a USB stick: what came in between two lines ago would be replaced.
        os.replace(part, path)


def disk_error(error: OSError) -> StorageError:
    """Return the error of ours that says what the operating system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace("the disk is full; free some space and run it again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NoPermission("the output folder cannot be written; choose another or change its permissions")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return StorageError("the folder that a file is to go into does not exist; make it, or choose another")
    return StorageError(f"the disk refused ({errno.errorcode.get(error.errno or 0, 'unknown')}); check it")
