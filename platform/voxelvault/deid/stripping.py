"""What stands in a codestream beside its image goes: comments, EXIF, XMP, private segments, padding.

Nothing is decoded or coded again: what decodes is the same, pixel for pixel.

References
----------
ITU-T T.81 B.2.4.5 and B.2.4.6 (JPEG COM and APPn), T.872 6.5.3 (Adobe); T.87 C.2.4.2 (JPEG-LS APP8);
ISO/IEC 15444-1 A.9.2 (JPEG 2000 COM), I (JP2 boxes); DICOM PS3.5 G (RLE), A.4.13 (deflated frames).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

from voxelvault.deid.model import Refused
from voxelvault.model import FrameSpec

_EOI, _SOS, _ADOBE, _JFIF = 0xD9, 0xDA, 0xEE, 0xE0
_COLOUR_TRANSFORM = 0xE8
_KEPT = frozenset([*range(0xC0, 0xC8), *range(0xC9, 0xD0), *range(0xDA, 0xE0), 0xF7, 0xF8])
"""Frames, tables and scans (T.81 table B.1), and those of JPEG-LS (T.87 C.1); others say what they like."""
_STANDALONE = frozenset([0x01, *range(0xD0, 0xD8)])


def strip(transfer_syntax: str, codestream: bytes, spec: FrameSpec) -> bytes:
    """Return a frame's codestream with nothing but the image.

    Parameters
    ----------
    transfer_syntax : str
        UID.
    codestream : bytes
        The frame's fragments, joined.
    spec : FrameSpec
        What the header says of each frame.

    Raises
    ------
    Refused
        The codestream can't be taken apart.
    """
    process = transfer_syntax.removeprefix("1.2.840.10008.1.2.")
    how = _HOW.get(process)
    if how is None:
        raise Refused("pixels_undecodable")
    try:
        return how(codestream, spec)
    except (IndexError, struct.error, ValueError, zlib.error):
        raise Refused("pixels_undecodable") from None


def _jpeg(data: bytes, _spec: FrameSpec) -> bytes:
    """Keep tables, frame and scans; of APPn, what says how colours are coded."""
    kept = bytearray(b"\xff\xd8")
    for marker, segment in jpeg_segments(data):
        if marker == _ADOBE and segment[4:9] == b"Adobe" and len(segment) >= 16:
            # Version and flags say nothing that decoding needs; the transform does.
            kept += b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + segment[15:16]
        elif marker == _JFIF and segment[4:9] == b"JFIF\0":
            kept += b"\xff\xe0\x00\x10JFIF\x00" + segment[9:16] + b"\x00\x00"
        elif marker == _COLOUR_TRANSFORM and segment[4:8] == b"mrfx":
            kept += segment[:11]
        elif marker in _KEPT:
            kept += segment
    return bytes(kept) + b"\xff\xd9"


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and bytes of each segment between SOI and EOI; a scan comes with its coded data.

    Parameters
    ----------
    data : bytes
        A JPEG or JPEG-LS codestream.

    Yields
    ------
    int, bytes
        The marker's second byte, and the segment from its marker on.

    Raises
    ------
    ValueError, IndexError
        A segment is where none can be, or the end is missing.
    """
    if data[:2] != b"\xff\xd8":
        raise ValueError
    at = 2
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:
            at += 1
        if data[at] != 0xFF:
            raise ValueError
        marker = data[at + 1]
        if marker == _EOI:
            return
        if marker in _STANDALONE:
            at += 2
            continue
        stop = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if stop < at + 4 or stop > len(data):
            raise ValueError
        if marker == _SOS:
            stop = _scan_end(data, stop)
        yield marker, data[at:stop]
        at = stop


def _scan_end(data: bytes, at: int) -> int:
    """Return where the coded data of a scan ends: at the next marker but restarts and stuffing.

    In JPEG-LS a byte below 80 follows an FF that is data (T.87 A.1), in JPEG a zero.
    """
    while True:
        at = data.index(b"\xff", at)
        following = data[at + 1]
        if following >= 0x80 and not 0xD0 <= following <= 0xD7 and following != 0xFF:
            return at
        at += 1 if following == 0xFF else 2


_J2K_SOC, _J2K_SOT, _J2K_SOD = b"\xff\x4f", 0x90, 0x93
_J2K_KEPT = frozenset([0x50, 0x51, 0x52, 0x53, *range(0x55, 0x5A), *range(0x5C, 0x62), 0x63])
"""What says how the image is coded (ISO/IEC 15444-1 table A.2, 15444-15 A): no comments, nothing unknown."""


def _jpeg2000(data: bytes, _spec: FrameSpec) -> bytes:
    """Keep the codestream without comments; of a JP2 file nothing but its codestream."""
    start = data.index(b"\xff\x4f\xff\x51")
    kept = bytearray(_J2K_SOC)
    at = start + 2
    at = _copy_markers(data, at, kept)
    while data[at : at + 2] == b"\xff\x90":
        length = int.from_bytes(data[at + 6 : at + 10], "big")
        stop = at + length if length else _codestream_end(data)
        if stop > len(data) or stop < at + 14:
            raise ValueError
        kept += _tile_part(data[at:stop], last=not length)
        at = stop
    if data[at : at + 2] != b"\xff\xd9":
        raise ValueError
    return bytes(kept) + b"\xff\xd9"


def _copy_markers(data: bytes, at: int, kept: bytearray) -> int:
    """Copy header segments of the coding, up to a tile-part or its data; return where that begins."""
    while data[at] == 0xFF and data[at + 1] not in (_J2K_SOT, _J2K_SOD):
        stop = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if stop < at + 4 or stop > len(data):
            raise ValueError
        if data[at + 1] in _J2K_KEPT:
            kept += data[at:stop]
        at = stop
    return at


def _tile_part(part: bytes, *, last: bool) -> bytes:
    header = bytearray(part[:12])
    data_at = _copy_markers(part, 12, header)
    if part[data_at : data_at + 2] != b"\xff\x93":
        raise ValueError
    body = bytes(header) + part[data_at:]
    return body if last else body[:6] + struct.pack(">I", len(body)) + body[10:]


def _codestream_end(data: bytes) -> int:
    """Return where the last tile-part ends, whose length was left open: before EOC."""
    return data.rindex(b"\xff\xd9")


def _rle(data: bytes, spec: FrameSpec) -> bytes:
    """Keep as many bytes of each segment as its rows take, and nothing between and behind them."""
    words = struct.unpack_from("<16I", data)
    count, offsets = words[0], [*words[1 : 1 + words[0]], len(data)]
    wanted = (spec.rows * spec.columns + 7) // 8 if spec.bits_allocated == 1 else spec.rows * spec.columns
    if count != spec.samples * max(1, spec.bits_allocated // 8):
        raise ValueError
    segments = [_rle_segment(data[offsets[i] : offsets[i + 1]], wanted) for i in range(count)]
    placed, at = [], 64
    for segment in segments:
        placed.append(at)
        at += len(segment)
    return struct.pack("<16I", count, *placed, *[0] * (15 - count)) + b"".join(segments)


def _rle_segment(data: bytes, wanted: int) -> bytes:
    at = made = 0
    while made < wanted:
        control = data[at]
        if control == 128:
            at += 1
            continue
        size = control + 1 if control < 128 else 257 - control
        at += 1 + (size if control < 128 else 1)
        made += size
    return data[:at] + bytes(at % 2)


def _jpegxl(data: bytes, _spec: FrameSpec) -> bytes:
    """Keep the bare codestream; of a container the boxes that hold it."""
    if data[:2] == b"\xff\x0a":
        return data
    kept, at = bytearray(), 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        head = 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        stop = at + size if size else len(data)
        if stop < at + head or stop > len(data):
            raise ValueError
        kind = data[at + 4 : at + 8]
        if kind in (b"jxlc", b"jxlp"):
            kept += data[at + head + (4 if kind == b"jxlp" else 0) : stop]
        at = stop
    if kept[:2] != b"\xff\x0a":
        raise ValueError
    return bytes(kept)


def _deflated(data: bytes, _spec: FrameSpec) -> bytes:
    """Keep the stream without what follows its end."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflater.eof:
        if not inflater.decompress(inflater.unconsumed_tail or data, 1 << 20) and not inflater.eof:
            raise ValueError
    return data[: len(data) - len(inflater.unused_data)]


_HOW: dict[str, Callable[[bytes, FrameSpec], bytes]] = {
    **dict.fromkeys(["4.50", "4.51", "4.53", "4.55", "4.57", "4.70", "4.80", "4.81"], _jpeg),
    **dict.fromkeys(["4.90", "4.91", "4.201", "4.202", "4.203"], _jpeg2000),
    **dict.fromkeys(["4.110", "4.111", "4.112"], _jpegxl),
    "5": _rle,
    "8.1": _deflated,
}

__all__ = ["jpeg_segments", "strip"]
