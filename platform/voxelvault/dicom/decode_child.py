"""The child that decodes foreign codestreams: no keys, no files, no network, one pipe in and one out.

It says that it is ready and what confines it, then reads requests from standard input and answers on
standard output until its input ends. Its parent bounds memory and time::

    ready     u8 "R" | u8 what confines it (`sandbox.confine`) | u64 address space in bytes
    request   u32 length of head | u64 length of codestream | head (JSON) | codestream
    answer    u8 status | u64 length | stored values, C order, little endian

Run by `voxelvault.dicom.decode_pool`, never by hand.
"""

from __future__ import annotations

import json
import os
import resource
import struct
from collections.abc import Mapping
from typing import Any

from voxelvault.dicom.decoders import DECODERS, Decoder, decode_frame, warm_up_decoders
from voxelvault.dicom.native import Pixels
from voxelvault.dicom.sandbox import confine
from voxelvault.errors import VoxelVaultError
from voxelvault.model import Buffer, FrameSpec

REQUEST = struct.Struct(">IQ")
ANSWER = struct.Struct(">BQ")
READY, IS_READY = struct.Struct(">cBQ"), b"R"
DONE, REFUSED, EXHAUSTED, UNSUPPORTED = range(4)


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
    warm_up_decoders()
    base = _address_space()
    os.write(sink, READY.pack(IS_READY, confine(), base))
    while head := _read(source, REQUEST.size):
        _answer(source, sink, head, decoders)


def _answer(source: int, sink: int, head: Buffer, decoders: Mapping[str, Decoder]) -> None:
    """Decode one request and write its answer."""
    described, held = REQUEST.unpack(head)
    request = json.loads(bytes(_read(source, described)))
    spec = FrameSpec(**request["spec"])
    codestream = _read(source, held)
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
