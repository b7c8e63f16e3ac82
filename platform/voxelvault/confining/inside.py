"""The child's half: its pipes kept apart from what libraries print, and its word that it is ready.

::

    ready     u8 "R" | u8 what confines it (`sandbox.confine`) | u64 address space in bytes
"""

from __future__ import annotations

import os
import resource
import struct
from typing import Any

from voxelvault.confining.sandbox import confine

READY, IS_READY = struct.Struct(">cBQ"), b"R"


def own_pipes() -> tuple[int, int]:
    """Return descriptors of standard input and output, and leave the null device in their place.

    Libraries print: the pipe to the parent is not theirs.
    """
    source, sink = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    return source, sink


def give_up(sink: int, *, threads: bool = False) -> None:
    """Confine this process for good, and tell the parent; what is to be imported must have been.

    Parameters
    ----------
    sink : int
        Where the parent listens.
    threads : bool
        Further threads may be started; processes never.

    Raises
    ------
    OSError
        The pipe broke.
    """
    base = address_space()
    os.write(sink, READY.pack(IS_READY, confine(threads=threads), base))


def address_space() -> int:
    """Return the address space in use, in bytes; a guess where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 4 << 30


def read(fd: int, length: int) -> bytearray:
    """Return exactly `length` bytes; nothing when the pipe ended."""
    data = bytearray(length)
    view, at = memoryview(data), 0
    while at < length:
        got = os.readv(fd, [view[at:]])
        if not got:
            return bytearray()
        at += got
    return data


def write(fd: int, data: Any) -> None:
    """Write all of `data`."""
    view = memoryview(data)
    while view.nbytes:
        view = view[os.write(fd, view) :]


__all__ = ["IS_READY", "READY", "address_space", "give_up", "own_pipes", "read", "write"]
