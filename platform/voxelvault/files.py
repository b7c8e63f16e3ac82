"""Plain files that leave the vault: created, never overwritten, durable."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from voxelvault.errors import NoPermission, NoSpace, StorageError, UsageError
from voxelvault.model import Buffer


def write_new(path: Path, parts: Iterable[Buffer]) -> int:
    """Write a file that isn't there yet; return its length in bytes.

    A failure leaves no half-written file behind.

    Raises
    ------
    UsageError
        The file is there already.
    NoSpace, NoPermission, StorageError
        The disk refused.
    """
    length = 0
    try:
        with path.open("xb") as file:
            try:
                for part in parts:
                    length += file.write(part)
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                path.unlink(missing_ok=True)
                raise
    except FileExistsError:
        raise UsageError("a file to be written is there already; choose an empty folder") from None
    except OSError as error:
        raise disk_error(error) from None
    return length


def disk_error(error: OSError) -> StorageError:
    """Return the error of ours that says what the operating system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace("the disk is full; free some space and run it again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NoPermission("the output folder cannot be written; choose another or change its permissions")
    return StorageError(f"the disk refused ({errno.errorcode.get(error.errno or 0, 'unknown')}); check it")
