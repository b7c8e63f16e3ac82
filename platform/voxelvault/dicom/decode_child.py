"""The child that decodes foreign codestreams: no keys, bounded memory and time, one pipe in and one out.

It reads requests from standard input and answers on standard output until its input ends::

    request   u32 length of head | u64 length of codestream | head (JSON) | codestream
    answer    u8 status | u64 length | stored values, C order, little endian

Run by `voxelvault.dicom.decode_pool`, never by hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import struct
from collections.abc import Mapping
from typing import Any

from voxelvault.dicom.decoders import DECODERS, Decoder, decode_frame
from voxelvault.dicom.native import Pixels, frame_nbytes
from voxelvault.errors import VoxelVaultError
from voxelvault.model import Buffer, FrameSpec

REQUEST = struct.Struct(">IQ")
ANSWER = struct.Struct(">BQ")
READY = b"R"
DONE, REFUSED, EXHAUSTED, UNSUPPORTED = range(4)

SPARE = 256 << 20
"""Address space in bytes that a decoder may use beside what grows with the frame."""

FRAMES = 12
"""Frames' worth of memory that a decoder may use: OpenJPEG works in 32 bits, twice over."""


def main(decoders: Mapping[str, Decoder] = DECODERS) -> None:
    """Answer requests until standard input ends.

    Parameters
    ----------
    decoders : mapping
        Decoder of each transfer syntax UID.

    Raises
    ------
    OSError
        The pipe broke.
    """
    # Codecs print: keep the pipe to ourselves and give them the null device.
    source, sink = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    _confine()
    base = _address_space()
    os.write(sink, READY)
    while head := _read(source, REQUEST.size):
        _answer(source, sink, head, base, decoders)


def _answer(source: int, sink: int, head: Buffer, base: int, decoders: Mapping[str, Decoder]) -> None:
    """Decode one request and write its answer."""
    described, held = REQUEST.unpack(head)
    request = json.loads(bytes(_read(source, described)))
    spec = FrameSpec(**request["spec"])
    codestream = _read(source, held)
    _limit(base + SPARE + FRAMES * frame_nbytes(spec) + 2 * held, request["seconds"])
    frame: Pixels | None = None
    status = DONE
    try:
        frame = decode_frame(request["transfer_syntax"], codestream, spec, decoders=decoders)
    except VoxelVaultError as error:
        status = EXHAUSTED if isinstance(error.__context__, MemoryError) else REFUSED
        status = status if request["transfer_syntax"] in decoders else UNSUPPORTED
    payload = memoryview(b"") if frame is None else frame.reshape(-1).data.cast("B")
    _write(sink, ANSWER.pack(status, payload.nbytes))
    _write(sink, payload)


def _confine() -> None:
    """Give up what a decoder has no use for: core dumps (they hold pixels), files, programs."""
    for name in ("RLIMIT_CORE", "RLIMIT_FSIZE"):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (0, 0))


def _limit(address_space: int, seconds: float) -> None:
    """Bound memory and processor time for the next frame; soft limits, since each frame has its own."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = used.ru_utime + used.ru_stime
    for name, value in (("RLIMIT_AS", address_space), ("RLIMIT_CPU", int(spent + seconds) + 2)):
        kind = getattr(resource, name)
        _, hard = resource.getrlimit(kind)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _address_space() -> int:
    """Return the address space in use, in bytes; a guess where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 4 << 30


def _read(fd: int, length: int) -> bytearray:
    """Return exactly `length` bytes; nothing when the pipe ended."""
    data = bytearray(length)
    view, at = memoryview(data), 0
    while at < length:
        got = os.readv(fd, [view[at:]])
        if not got:
            return bytearray()
        at += got
    return data


def _write(fd: int, data: Any) -> None:
    """Write all of `data`."""
    view = memoryview(data)
    while view.nbytes:
        view = view[os.write(fd, view) :]


if __name__ == "__main__":
    main()
