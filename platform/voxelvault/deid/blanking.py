"""Pixels written again without what was blanked: in the coding they came in, and never lossy twice.

Lossless codings are coded again with the same transfer syntax where that can be done here, and the
result is decoded and compared. Lossy ones keep their codestreams where nothing is blanked, JPEG is
blanked block by block (`jpeg_blocks`), and what is left becomes Explicit VR Little Endian, with its
history of lossy compression kept.

References
----------
DICOM PS3.5 8.2 and A.4 (native and encapsulated pixels), PS3.3 C.7.6.1.1.5 (lossy compression).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from struct import pack
from typing import Any

import imagecodecs as _typed_too_narrowly
import numpy as np
from pydicom.dataset import Dataset

from voxelvault.deid.burned_in import Box
from voxelvault.deid.pixel_data import PixelData
from voxelvault.dicom.codestream import coding_style, jpeg2000_info, jpeg_info
from voxelvault.dicom.decode import decode_frame
from voxelvault.dicom.native import Pixels, pack_native
from voxelvault.dicom.read import Header
from voxelvault.errors import DicomError, IntegrityError
from voxelvault.model import FrameSpec
from voxelvault.storage.codecs import htj2k_codestream

imagecodecs: Any = _typed_too_narrowly

_HTJ2K_LOSSLESS, _HTJ2K_RPCL = "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202"
_WHOLE_WORDS = frozenset(["1.2.840.10008.1.2.5", "1.2.840.10008.1.2.8.1"])
"""Codings of whole bytes, whatever the values use of them."""
_METHODS = {
    **dict.fromkeys(("50", "51", "53", "55"), "ISO_10918_1"),
    "81": "ISO_14495_1",
    "91": "ISO_15444_1",
    "203": "ISO_15444_15",
    "111": "ISO_18181_1",
}
"""How lossy codings are called in Lossy Image Compression Method, by the end of their UID."""
_PROCESS = "1.2.840.10008.1.2.4."
_REVERSIBLE_OR_NOT = frozenset([_PROCESS + "91", _PROCESS + "203"])
_REACH = 32
"""Pixels around a box that blanking by blocks may change: its MCUs, and colours between two samples."""
_NEARLY = 2


def black(frames: Pixels, pixels: PixelData) -> Any:
    """Return what blanked pixels become: black as it is displayed.

    Parameters
    ----------
    frames : numpy.ndarray
        (frame, row, column[, sample]) stored values; signed ones choose their least.
    pixels : PixelData
        Says how values are displayed.

    Returns
    -------
    numpy.ndarray or int
        One value a sample; index 0 of a palette.
    """
    spec = pixels.spec
    if frames.ndim == 4:
        middle = 1 << (spec.bits_stored - 1)
        chroma = middle if pixels.photometric.startswith("YBR_FULL") else 0
        return np.array([0, *[chroma] * (frames.shape[-1] - 1)], frames.dtype)
    if spec.photometric == "MONOCHROME1":
        return int(frames.max()) if spec.pixel_representation else (1 << spec.bits_stored) - 1
    return int(frames.min()) if spec.pixel_representation else 0


def values_only(frames: Pixels, spec: FrameSpec, header: Header) -> Pixels:
    """Clear the bits of each word that are not the value's: overlays and leftovers live there.

    Parameters
    ----------
    frames : numpy.ndarray
        Words as they came.
    spec : FrameSpec
        BitsAllocated, BitsStored and PixelRepresentation.
    header : Header
        HighBit.

    Returns
    -------
    numpy.ndarray
        The same array where every bit is the value's. Signs are extended above HighBit.
    """
    if frames.dtype.kind not in "iu" or not 1 < spec.bits_allocated > spec.bits_stored:
        return frames
    high = int(header.get("HighBit") or spec.bits_stored - 1)
    low = max(0, high + 1 - spec.bits_stored)
    above = spec.bits_allocated - low - spec.bits_stored
    if above < 0:
        return frames
    if not spec.pixel_representation:
        kept: Pixels = frames & frames.dtype.type(((1 << spec.bits_stored) - 1) << low)
        return kept
    cut = np.left_shift(np.right_shift(frames, low), low + above)
    signed: Pixels = np.right_shift(cut, above)
    return signed


def is_lossy(pixels: PixelData) -> bool:
    """Say whether frames were coded with a loss: then bits above the values are overshoot, and hide nothing.

    Parameters
    ----------
    pixels : PixelData
        The frames.
    """
    syntax = pixels.part10.transfer_syntax
    if syntax not in _REVERSIBLE_OR_NOT:
        return syntax.removeprefix(_PROCESS) in _METHODS
    return not _is_reversible(pixels.codestreams()[0])


def put_history(target: Dataset, pixels: PixelData, size: int) -> None:
    """Say of pixels that are no longer coded with a loss that they were, where their header did not.

    Parameters
    ----------
    target : Dataset
        Gets LossyImageCompression, its ratio and method.
    pixels : PixelData
        As they came.
    size : int
        Of all frames decoded, in bytes.

    References
    ----------
    DICOM PS3.3 C.7.6.1.1.5.
    """
    if str(target.get("LossyImageCompression")) == "01":
        return
    coded = sum(map(len, pixels.codestreams()))
    target.LossyImageCompression = "01"
    target.LossyImageCompressionRatio = f"{size / max(coded, 1):.2f}"
    target.LossyImageCompressionMethod = _METHODS[pixels.part10.transfer_syntax.removeprefix(_PROCESS)]


def is_blanked(made: Pixels, wanted: Pixels, boxes: Sequence[Box]) -> bool:
    """Say whether a frame blanked by blocks is what it should be.

    Parameters
    ----------
    made : numpy.ndarray
        (row, column[, sample]) as it decodes.
    wanted : numpy.ndarray
        The same with nothing but the boxes blanked.
    boxes : sequence of Box
        What was to be blanked.

    Returns
    -------
    bool
        True where brightness is that of the boxes within them, and nothing is changed far from them.
    """
    far = np.ones(made.shape[:2], bool)
    light = (made, wanted) if made.ndim == 2 else (made[..., 0], wanted[..., 0])
    for box in boxes:
        far[
            max(0, box.top - _REACH) : box.bottom + _REACH, max(0, box.left - _REACH) : box.right + _REACH
        ] = 0
        shown, meant = (one[box.rows, box.columns].astype(np.int64) for one in light)
        if np.abs(shown - meant).max(initial=0) > _NEARLY:
            return False
    return np.array_equal(made[far], wanted[far])


def has_spare_bits(pixels: PixelData, header: Header) -> bool:
    """Say whether frames are coded with room for more bits than their values use.

    Parameters
    ----------
    pixels : PixelData
        The frames; native ones are cleared when they are passed on.
    header : Header
        HighBit: native values that don't begin at the lowest bit have room below.

    Returns
    -------
    bool
        True where only decoding shows what the room holds.
    """
    spec = pixels.spec
    if is_lossy(pixels):
        return False
    if spec.floating or spec.bits_allocated == 1 or spec.bits_stored == spec.bits_allocated:
        return False
    if not pixels.encapsulated:
        return int(header.get("HighBit") or spec.bits_stored - 1) != spec.bits_stored - 1
    if pixels.part10.transfer_syntax in _WHOLE_WORDS:
        return True
    return any(_precision(one) > spec.bits_stored for one in pixels.codestreams())


def _is_reversible(codestream: bytes) -> bool:
    try:
        return coding_style(codestream).reversible
    except DicomError:
        return False


def _precision(codestream: bytes) -> int:
    try:
        read = jpeg_info if codestream[:2] == b"\xff\xd8" else jpeg2000_info
        return read(codestream).precision
    except DicomError:
        return 64


def coded_again(frame: Pixels, syntax: str, codestream: bytes, spec: FrameSpec) -> tuple[str, bytes] | None:
    """Code a changed frame losslessly as it came.

    Parameters
    ----------
    frame : numpy.ndarray
        Stored values.
    syntax : str
        Transfer syntax UID that it came in.
    codestream : bytes
        What it came as.
    spec : FrameSpec
        What the header says of each frame.

    Returns
    -------
    (str, bytes) or None
        Transfer syntax and codestream; None where its coding was lossy, or can't be made here.
    """
    syntax, encode = _lossless(syntax, codestream)
    if encode is None:
        return None
    try:
        coded = encode(frame, spec)
        same = np.array_equal(decode_frame(syntax, coded, spec), frame)
    except (DicomError, IntegrityError, RuntimeError, ValueError, TypeError):
        return None
    return (syntax, coded) if same else None


_Encoder = Callable[[Pixels, FrameSpec], bytes]


def _lossless(syntax: str, codestream: bytes) -> tuple[str, _Encoder | None]:
    name = syntax.removeprefix("1.2.840.10008.1.2.")
    if syntax in _REVERSIBLE_OR_NOT and not _is_reversible(codestream):
        return syntax, None
    return (_HTJ2K_LOSSLESS if syntax == _HTJ2K_RPCL else syntax), _ENCODERS.get(name)


def _jpeg2000(frame: Pixels, spec: FrameSpec) -> bytes:
    settings = {"reversible": True, "codecformat": "j2k", "bitspersample": spec.bits_stored}
    return bytes(imagecodecs.jpeg2k_encode(frame, level=0, mct=spec.photometric == "YBR_RCT", **settings))


def _htj2k(frame: Pixels, spec: FrameSpec) -> bytes:
    return htj2k_codestream(frame, mixed=spec.photometric == "YBR_RCT")


def _jpeg(frame: Pixels, spec: FrameSpec) -> bytes:
    if frame.ndim == 3:
        raise ValueError("components would be transformed")
    return bytes(
        imagecodecs.jpeg8_encode(frame, lossless=True, predictor=1, bitspersample=max(2, spec.bits_stored))
    )


def _jpegls(frame: Pixels, spec: FrameSpec) -> bytes:
    return bytes(imagecodecs.jpegls_encode(frame, level=0))


def _rle(frame: Pixels, spec: FrameSpec) -> bytes:
    """PackBits, each row and each byte of a word by itself, most significant first (PS3.5 G.3)."""
    samples = frame.reshape(*frame.shape[:2], -1)
    words = np.ascontiguousarray(np.moveaxis(samples, -1, 0)).astype(samples.dtype.newbyteorder(">"))
    planes = words[..., None].view(np.uint8).reshape(*words.shape, -1)
    segments = [
        bytes(imagecodecs.packbits_encode(np.ascontiguousarray(planes[sample, :, :, byte]), axis=-1))
        for sample in range(planes.shape[0])
        for byte in range(planes.shape[3])
    ]
    return rle_frame(segments)


def rle_frame(segments: Sequence[bytes]) -> bytes:
    """Return an RLE frame: its header, and the segments at even lengths.

    Parameters
    ----------
    segments : sequence of bytes
        At most 15.

    Returns
    -------
    bytes
        Without anything between the segments or behind them.

    Raises
    ------
    ValueError
        There are too many.

    References
    ----------
    DICOM PS3.5 G.5.
    """
    if len(segments) > 15:
        raise ValueError
    even = [one + b"\0" * (len(one) % 2) for one in segments]
    starts = np.cumsum([64, *map(len, even[:-1])])
    header = pack("<16I", len(even), *map(int, starts), *[0] * (15 - len(even)))
    return header + b"".join(even)


def _deflated(frame: Pixels, spec: FrameSpec) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(bytes(pack_native(frame[None], spec))) + deflater.flush()


_ENCODERS: dict[str, _Encoder] = {
    "4.57": _jpeg,
    "4.70": _jpeg,
    "4.80": _jpegls,
    "4.90": _jpeg2000,
    "4.91": _jpeg2000,
    "4.201": _htj2k,
    "4.202": _htj2k,
    "4.203": _htj2k,
    "5": _rle,
    "8.1": _deflated,
}

__all__ = [
    "black",
    "coded_again",
    "has_spare_bits",
    "is_blanked",
    "is_lossy",
    "put_history",
    "rle_frame",
    "values_only",
]
