"""What a codestream says of itself, read from its own header before any decoder sees it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from voxelvault.errors import DecodeError
from voxelvault.model import Buffer, FrameSpec

_BROKEN = (
    "the codestream has no readable header; export the original file and ask its sender for another copy"
)
_SCANNED = 1 << 20
"""Bytes searched for a header: JPEG application segments and JP2 boxes come before it."""


@dataclass(frozen=True, slots=True)
class CodestreamInfo:
    """The header of a codestream.

    Parameters
    ----------
    rows, columns, samples : int
        Image size and number of components.
    precision : int
        Bits a sample; of an RLE frame, whole bytes.
    signed : bool
        The codestream itself calls its samples signed (JPEG 2000 only).
    adobe_transform : int or None
        Colour transform of a JPEG's Adobe APP14 segment: 0 none, 1 YCbCr; None without one.
    """

    rows: int
    columns: int
    samples: int
    precision: int
    signed: bool = False
    adobe_transform: int | None = None


def jpeg_info(data: Buffer) -> CodestreamInfo:
    """Read the frame header of a JPEG or JPEG-LS codestream.

    Parameters
    ----------
    data : bytes-like
        The codestream.

    Returns
    -------
    CodestreamInfo
        From the first SOF segment (SOF0 to SOF15, or JPEG-LS's SOF55).

    Raises
    ------
    DecodeError
        There is none.

    References
    ----------
    ITU-T T.81 B.2.2 (frame header), T.87 C.2.2 (JPEG-LS); T.872 6.5.3 (APP14).
    """
    adobe = None
    for marker, body in _jpeg_segments(bytes(memoryview(data)[:_SCANNED])):
        if marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            adobe = body[11]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            if len(body) < 6:
                break
            rows, columns = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            return CodestreamInfo(rows, columns, body[5], body[0], adobe_transform=adobe)
    raise DecodeError(_BROKEN)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and body of each segment up to the first scan."""
    if data[:2] != b"\xff\xd8":
        return
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes may precede a marker
            at += 1
            continue
        if marker in (0xDA, 0xD9):
            return
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)


def jpeg2000_info(data: Buffer) -> CodestreamInfo:
    """Read the SIZ segment of a JPEG 2000 or HTJ2K codestream, bare or in a JP2 file.

    Parameters
    ----------
    data : bytes-like
        The codestream.

    Returns
    -------
    CodestreamInfo
        Precision and signedness of the first component.

    Raises
    ------
    DecodeError
        There is no SIZ segment, or its components differ in size.

    References
    ----------
    ITU-T T.800 A.5.1 (SIZ) and I.5.4 (contiguous codestream box).
    """
    head = bytes(memoryview(data)[:_SCANNED])
    start = 0 if head[:4] == b"\xff\x4f\xff\x51" else head.find(b"\xff\x4f\xff\x51")
    siz = head[start + 6 :] if start >= 0 else b""
    if len(siz) < 37:
        raise DecodeError(_BROKEN)
    width, height, left, top = (int.from_bytes(siz[i : i + 4], "big") for i in (2, 6, 10, 14))
    samples = int.from_bytes(siz[34:36], "big")
    components = siz[36 : 36 + 3 * samples]
    if len(components) < 3 * samples or not samples or set(components[1::3]) | set(components[2::3]) != {1}:
        raise DecodeError("the codestream's components differ in size; export the original file instead")
    return CodestreamInfo(
        height - top, width - left, samples, (components[0] & 0x7F) + 1, signed=components[0] >= 0x80
    )


@dataclass(frozen=True, slots=True)
class CodingStyle:
    """How a JPEG 2000 codestream was coded.

    Parameters
    ----------
    reversible : bool
        By the 5/3 wavelet, in every component.
    colour_transform : bool
        Components 0 to 2 are the reversible (or irreversible) transform of red, green and blue.
    high_throughput : bool
        By the block coder of Part 15.
    uniform : bool
        All components have one precision and sign.
    """

    reversible: bool
    colour_transform: bool
    high_throughput: bool
    uniform: bool


def coding_style(data: Buffer) -> CodingStyle:
    """Read how a bare JPEG 2000 codestream was coded from its main header.

    Parameters
    ----------
    data : bytes-like
        From its SOC marker on.

    Returns
    -------
    CodingStyle
        From SIZ, CAP, COD and COC.

    Raises
    ------
    DecodeError
        There is no main header.

    References
    ----------
    ISO/IEC 15444-1 A.5.1 (SIZ), A.6.1 (COD), A.6.2 (COC); ISO/IEC 15444-15 A.3 (CAP).
    """
    transforms, mixing, capabilities, kinds = list[int](), 0, 0, set[int]()
    for marker, body in _main_header(bytes(memoryview(data)[:_SCANNED])):
        if marker == 0x51 and len(body) >= 39:
            kinds = set(body[36::3])
        elif marker == 0x50 and len(body) >= 4:
            capabilities = int.from_bytes(body[:4], "big")
        elif marker == 0x52 and len(body) >= 10:
            mixing = body[4]
            transforms.append(body[9])
        elif marker == 0x53 and len(body) >= 7:  # fewer than 257 components: one byte names it
            transforms.append(body[6])
    if not transforms or not kinds:
        raise DecodeError(_BROKEN)
    return CodingStyle(set(transforms) == {1}, mixing == 1, bool(capabilities & _PART_15), len(kinds) == 1)


_PART_15 = 1 << (32 - 15)


def _main_header(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and body of each segment up to the first tile-part."""
    at = 2 if data[:2] == b"\xff\x4f" else len(data)
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0x90:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield data[at + 1], data[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)


def rle_info(data: Buffer, spec: FrameSpec) -> CodestreamInfo:
    """Check the header of an RLE frame, which names only its number of segments.

    Parameters
    ----------
    data : bytes-like
        The frame.
    spec : FrameSpec
        What the header says of each frame.

    Returns
    -------
    CodestreamInfo
        Size as `spec` says: an RLE frame does not know it.

    Raises
    ------
    DecodeError
        The number of segments is not one for each byte of a pixel, or an offset lies outside.

    References
    ----------
    DICOM PS3.5 annex G.5.
    """
    view = memoryview(data)
    if view.nbytes < 64:
        raise DecodeError(_BROKEN)
    words = [int.from_bytes(view[i : i + 4], "little") for i in range(0, 64, 4)]
    count, offsets = words[0], words[1 : 1 + words[0]]
    wanted = spec.samples * max(1, spec.bits_allocated // 8)
    if count != wanted or offsets != sorted(offsets) or offsets[0] < 64 or offsets[-1] > view.nbytes:
        raise DecodeError("the RLE segments do not fit the header; export the original file instead")
    return CodestreamInfo(spec.rows, spec.columns, spec.samples, spec.bits_allocated)


class _Bits:
    """Bits of a JPEG XL header, least significant first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")
        self._left = len(data) * 8

    def take(self, count: int) -> int:
        """Return the next `count` bits as a number."""
        if count > self._left:
            raise DecodeError(_BROKEN)
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return value

    def pick(self, *choices: tuple[int, int]) -> int:
        """Return a U32 of four (base, bits) choices."""
        base, bits = choices[self.take(2)]
        return base + self.take(bits)


_JXL_SIZES = ((1, 9), (1, 13), (1, 18), (1, 30))
_JXL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def jpegxl_info(data: Buffer) -> CodestreamInfo:
    """Read the size and bit depth of a JPEG XL codestream, bare or in its container.

    Parameters
    ----------
    data : bytes-like
        The codestream.

    Returns
    -------
    CodestreamInfo
        `samples` is 1 or 3 by the colour encoding; extra channels are not counted.

    Raises
    ------
    DecodeError
        There is no header, or it is animated, previewed or of floating samples.

    References
    ----------
    ISO/IEC 18181-1 annexes D and E (SizeHeader, ImageMetadata).
    """
    head = _jxl_codestream(bytes(memoryview(data)[:_SCANNED]))[:64]
    if head[:2] != b"\xff\x0a":
        raise DecodeError(_BROKEN)
    bits = _Bits(head[2:])
    rows, columns = _jxl_size(bits)
    if bits.take(1):  # all_default: 8-bit sRGB, XYB coded
        return CodestreamInfo(rows, columns, 3, 8)
    if bits.take(1) and (bits.take(3), bits.take(1), bits.take(1), bits.take(1))[1:] != (0, 0, 0):
        raise DecodeError("the codestream is animated or has a preview; export the original file instead")
    if bits.take(1):
        raise DecodeError("the codestream holds floating samples; export the original file instead")
    precision = bits.pick((8, 0), (10, 0), (12, 0), (1, 6))
    bits.take(1)  # modular_16bit_buffers
    if bits.pick((0, 0), (1, 0), (2, 4), (1, 12)):
        raise DecodeError("the codestream has extra channels; export the original file instead")
    bits.take(1)  # xyb_encoded
    grey = not bits.take(1) and not bits.take(1) and bits.pick((0, 0), (1, 0), (2, 4), (18, 6)) == 1
    return CodestreamInfo(rows, columns, 1 if grey else 3, precision)


def _jxl_size(bits: _Bits) -> tuple[int, int]:
    """Return rows and columns of a SizeHeader."""
    small = bits.take(1)
    rows = (bits.take(5) + 1) * 8 if small else bits.pick(*_JXL_SIZES)
    ratio = bits.take(3)
    if ratio:
        wide, high = _JXL_RATIOS[ratio - 1]
        return rows, rows * wide // high
    return rows, (bits.take(5) + 1) * 8 if small else bits.pick(*_JXL_SIZES)


def _jxl_codestream(data: bytes) -> bytes:
    """Return the codestream's beginning out of its container, if it is in one."""
    if data[:2] == b"\xff\x0a":
        return data
    at = 0
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        head = 16 if length == 1 else 8
        if length == 1:
            length = int.from_bytes(data[at + 8 : at + 16], "big")
        if kind == b"jxlc":
            return data[at + head :]
        if kind == b"jxlp":
            return data[at + head + 4 :]
        if length < head:
            break
        at += length
    return b""


__all__ = [
    "CodestreamInfo",
    "CodingStyle",
    "coding_style",
    "jpeg2000_info",
    "jpeg_info",
    "jpegxl_info",
    "rle_info",
]
