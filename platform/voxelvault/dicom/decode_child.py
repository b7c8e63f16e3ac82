"""The child that decodes foreign codestreams: no keys, no files, no network, one pipe in and one out.

It says that it is ready and what confines it, then reads requests from standard input and answers on
standard output until its input ends. Its parent bounds memory and time::

    ready     as `voxelvault.confining.inside` says
    request   u32 length of head | u64 length of codestream | head (JSON) | codestream
    answer    u8 status | u64 length | stored values, C order, little endian

Run by `voxelvault.dicom.decode_pool`, never by hand.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

from voxelvault.confining.inside import give_up, own_pipes, read, write
from voxelvault.dicom.decoders import DECODERS, Decoder, decode_frame, warm_up_decoders
from voxelvault.dicom.native import Pixels
from voxelvault.errors import VoxelVaultError
from voxelvault.model import Buffer, FrameSpec

REQUEST = struct.Struct(">IQ")
ANSWER = struct.Struct(">BQ")
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
    source, sink = own_pipes()
    warm_up_decoders()
    give_up(sink)
    while head := read(source, REQUEST.size):
        _answer(source, sink, head, decoders)


def _answer(source: int, sink: int, head: Buffer, decoders: Mapping[str, Decoder]) -> None:
    """Decode one request and write its answer."""
    described, held = REQUEST.unpack(head)
    request = json.loads(bytes(read(source, described)))
    spec = FrameSpec(**request["spec"])
    codestream = read(source, held)
    frame: Pixels | None = None
    status = DONE
    try:
        frame = decode_frame(request["transfer_syntax"], codestream, spec, decoders=decoders)
    except VoxelVaultError as error:
        status = EXHAUSTED if isinstance(error.__context__, MemoryError) else REFUSED
        status = status if request["transfer_syntax"] in decoders else UNSUPPORTED
    payload = memoryview(b"") if frame is None else frame.reshape(-1).data.cast("B")
    write(sink, ANSWER.pack(status, payload.nbytes))
    write(sink, payload)


if __name__ == "__main__":
    main()
