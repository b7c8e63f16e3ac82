"""Decoders of one frame's codestream, a table keyed by transfer syntax UID."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeAlias

import imagecodecs as _typed_too_narrowly
import numpy as np

from voxelvault.dicom.codestream import CodestreamInfo, jpeg2000_info, jpeg_info, jpegxl_info, rle_info
from voxelvault.dicom.native import (
    Pixels,
    frame_nbytes,
    frame_shape,
    native_dtype,
    native_length,
    unpack_native,
)
from voxelvault.errors import DecodeError, VoxelVaultError
from voxelvault.model import Buffer, FrameSpec

FRAME_LIMIT = 512 << 20
"""Largest frame decoded, in bytes."""

RATIO_LIMIT = 4096
"""Largest ratio of a frame above `RATIO_FROM` bytes to its codestream: a bomb, not an image."""

RATIO_FROM = 64 << 20

Decoder: TypeAlias = Callable[[Buffer, FrameSpec], Pixels]

imagecodecs: Any = _typed_too_narrowly  # it takes every buffer, its stubs only three

_FAILED = "the codestream does not decode; export the original file and ask its sender for another copy"


def _jpeg(data: Buffer, spec: FrameSpec) -> Pixels:
    """JPEG processes 1, 2, 4, 6, 8, 10, 12 and 14 (ITU-T T.81); components stay as coded."""
    info = _agreed(jpeg_info(data), spec)
    same = {"colorspace": "RGB", "outcolorspace": "RGB"} if spec.samples == 3 else {}
    return _stored(imagecodecs.jpeg8_decode(data, **same), info, spec)


def _jpegls(data: Buffer, spec: FrameSpec) -> Pixels:
    """JPEG-LS (ITU-T T.87), each interleave mode."""
    info = _agreed(jpeg_info(data), spec)
    return _stored(imagecodecs.jpegls_decode(data), info, spec)


def _jpeg2000(data: Buffer, spec: FrameSpec) -> Pixels:
    """JPEG 2000 (ITU-T T.800); a multiple component transform is undone."""
    info = _agreed(jpeg2000_info(data), spec)
    return _stored(imagecodecs.jpeg2k_decode(data, numthreads=1), info, spec)


_warm_lock = threading.Lock()
_warm = False


def warm_up_htj2k() -> None:
    """Fill OpenJPH's tables once, before any thread codes.

    It fills them at first use without a lock: two threads that meet there get wrong frames.

    Raises
    ------
    DecodeError
        The codec does not return what it was given.

    References
    ----------
    aous72/OpenJPH pull request 243.
    """
    global _warm
    if _warm:
        return
    with _warm_lock:
        if _warm:
            return
        for dtype in (np.uint8, np.int16, np.uint16):
            probe = np.arange(64 * 64).reshape(64, 64).astype(dtype)
            coded = imagecodecs.htj2k_encode(probe, reversible=True)
            if not np.array_equal(imagecodecs.htj2k_decode(coded), probe):
                raise DecodeError("the HTJ2K codec is broken; reinstall imagecodecs")
        _warm = True


def warm_up_decoders() -> None:
    """Load every codec and let each fail once: a confined process opens no file to load one later."""
    for name in ("jpeg8", "jpegls", "jpeg2k", "htj2k", "jpegxl", "dicomrle"):
        with suppress(Exception):
            getattr(imagecodecs, f"{name}_decode")(b"")
    warm_up_htj2k()


def _htj2k(data: Buffer, spec: FrameSpec) -> Pixels:
    """High-Throughput JPEG 2000 (ITU-T T.814)."""
    info = _agreed(jpeg2000_info(data), spec)
    warm_up_htj2k()
    # Without being told, the decoder returns components apart where they were not transformed.
    return _stored(imagecodecs.htj2k_decode(data, planar=False), info, spec)


def _jpegxl(data: Buffer, spec: FrameSpec) -> Pixels:
    """JPEG XL (ISO/IEC 18181-1)."""
    info = _agreed(jpegxl_info(data), spec)
    return _stored(imagecodecs.jpegxl_decode(data, numthreads=1), info, spec)


def _rle(data: Buffer, spec: FrameSpec) -> Pixels:
    """RLE Lossless (PS3.5 annex G): byte planes, colour planes first; 1-bit frames are packed."""
    rle_info(data, spec)
    raw = bytearray(native_length(spec, 1))
    planes = imagecodecs.dicomrle_decode(data, native_dtype(spec), out=raw)
    if len(planes) != len(raw):
        raise DecodeError(_FAILED)
    frame: Pixels = unpack_native(planes, replace(spec, planar=1), 1)[0]
    return frame


def _deflated(data: Buffer, spec: FrameSpec) -> Pixels:
    """Deflated Image Frame Compression: a raw deflate stream of the frame's native bytes (PS3.5 A.4.13)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    wanted = native_length(spec, 1)
    raw = inflater.decompress(data, wanted + 2)
    if not wanted <= len(raw) <= wanted + 1:  # one byte may fill the frame up to even
        raise DecodeError("the deflated frame's length is not the header's; export the original file instead")
    frame: Pixels = unpack_native(raw, spec, 1)[0]
    return frame


_JPEG = ("50", "51", "53", "55", "57", "70")
DECODERS: dict[str, Decoder] = {
    **{f"1.2.840.10008.1.2.4.{process}": _jpeg for process in _JPEG},
    "1.2.840.10008.1.2.4.80": _jpegls,
    "1.2.840.10008.1.2.4.81": _jpegls,
    "1.2.840.10008.1.2.4.90": _jpeg2000,
    "1.2.840.10008.1.2.4.91": _jpeg2000,
    "1.2.840.10008.1.2.4.110": _jpegxl,
    "1.2.840.10008.1.2.4.111": _jpegxl,
    "1.2.840.10008.1.2.4.112": _jpegxl,
    "1.2.840.10008.1.2.4.201": _htj2k,
    "1.2.840.10008.1.2.4.202": _htj2k,
    # imagecodecs 2026.3.6 wraps what a lossy HTJ2K codestream overshoots (256 becomes 0); OpenJPEG clamps it.
    "1.2.840.10008.1.2.4.203": _jpeg2000,
    "1.2.840.10008.1.2.5": _rle,
    "1.2.840.10008.1.2.8.1": _deflated,
}
"""Decoder of each encapsulated transfer syntax (PS3.5 annex A.4)."""

VIDEO = frozenset(
    f"1.2.840.10008.1.2.4.{number}{tail}"
    for number in range(100, 109)
    for tail in (("", ".1") if number < 107 else ("",))
)
"""MPEG-2, MPEG-4 and HEVC transfer syntaxes: one stream of all frames, kept as it is."""

BIG_ENDIAN = frozenset({"1.2.840.10008.1.2.2", "1.2.840.113619.5.2"})
"""Transfer syntaxes with native pixels of big-endian words; the second is GE's own, of implicit elements."""

NATIVE = BIG_ENDIAN | {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"}
"""Transfer syntaxes with native pixels."""


def can_decode(transfer_syntax: str) -> bool:
    """Tell whether frames of this encapsulated transfer syntax decode here.

    Parameters
    ----------
    transfer_syntax : str
        Transfer syntax UID.

    Returns
    -------
    bool
        False for native syntaxes (`native.unpack_native` reads those) and for video.
    """
    return transfer_syntax in DECODERS


def decode_frame(
    transfer_syntax: str, codestream: Buffer, spec: FrameSpec, *, decoders: Mapping[str, Decoder] = DECODERS
) -> Pixels:
    """Decode one frame in this process; foreign codestreams go through `DecoderPool`.

    Parameters
    ----------
    transfer_syntax : str
        Transfer syntax UID.
    codestream : bytes-like
        One frame's fragments, joined.
    spec : FrameSpec
        What the header says of each frame.
    decoders : mapping
        Decoder of each transfer syntax UID.

    Returns
    -------
    numpy.ndarray
        (row, column[, sample]) of `native_dtype`: stored values, components as coded
        (`photometric_of_decoded` names their colour space).

    Raises
    ------
    DecodeError
        No decoder, a codestream that contradicts the header or itself, a frame too large.
    """
    if transfer_syntax not in decoders:
        raise DecodeError(
            "no decoder for this transfer syntax; export the original file and read it elsewhere"
        )
    check_frame(codestream, spec)
    try:
        frame = decoders[transfer_syntax](codestream, spec)
    except VoxelVaultError:
        raise
    except MemoryError:
        raise DecodeError(
            "decoding ran out of memory; export the original file and read it elsewhere"
        ) from None
    except Exception as error:
        # A codec's own words may quote the file: only their type is passed on.
        raise DecodeError(f"{_FAILED} ({type(error).__name__})") from None
    if frame.shape != frame_shape(spec) or frame.dtype != native_dtype(spec):
        raise DecodeError(_FAILED)
    return np.ascontiguousarray(frame)


def check_frame(codestream: Buffer, spec: FrameSpec) -> None:
    """Refuse a frame whose claimed size no image of this codestream has.

    Parameters
    ----------
    codestream : bytes-like
        One frame.
    spec : FrameSpec
        What the header says of each frame.

    Raises
    ------
    DecodeError
        Above `FRAME_LIMIT`, or above `RATIO_LIMIT` times the codestream.
    MalformedDicom
        The header's numbers make no frame.
    """
    size, held = frame_nbytes(spec), memoryview(codestream).nbytes
    if size > FRAME_LIMIT or (size > RATIO_FROM and size > RATIO_LIMIT * held):
        raise DecodeError(
            "the frame is larger than is decoded here; export the original file and read it elsewhere"
        )


def photometric_of_decoded(transfer_syntax: str, spec: FrameSpec, codestream: Buffer | None = None) -> str:
    """Name the colour space of decoded components.

    Parameters
    ----------
    transfer_syntax : str
        Transfer syntax UID.
    spec : FrameSpec
        What the header says of each frame.
    codestream : bytes-like, optional
        A frame: a JPEG's Adobe segment overrules the header.

    Returns
    -------
    str
        `spec.photometric`, or RGB or YBR_FULL where decoding changed it.

    References
    ----------
    DICOM PS3.5 8.2.1, 8.2.4 and 8.2.14; ITU-T T.872 6.5.3.
    """
    if spec.samples != 3:
        return spec.photometric
    decoder = DECODERS.get(transfer_syntax)
    if decoder is _jpeg:
        adobe = jpeg_info(codestream).adobe_transform if codestream is not None else None
        if adobe is not None:
            return "YBR_FULL" if adobe == 1 else "RGB"
        return "YBR_FULL" if spec.photometric == "YBR_FULL_422" else spec.photometric
    undone = spec.photometric in ("YBR_RCT", "YBR_ICT", "XYB")
    return "RGB" if undone or transfer_syntax == "1.2.840.10008.1.2.4.111" else spec.photometric


def _agreed(info: CodestreamInfo, spec: FrameSpec) -> CodestreamInfo:
    """Return `info` if it says what the header says."""
    if (info.rows, info.columns, info.samples) != (spec.rows, spec.columns, spec.samples):
        raise DecodeError("the codestream's size is not the header's; export the original file instead")
    if info.precision > spec.bits_allocated:
        raise DecodeError(
            "the codestream's samples are wider than the header's; export the original file instead"
        )
    return info


def _stored(values: Pixels, info: CodestreamInfo, spec: FrameSpec) -> Pixels:
    """Return decoded samples as the header's dtype; the codestream need not know the sign."""
    dtype = native_dtype(spec)
    if dtype.kind == values.dtype.kind:
        return values.astype(dtype, copy=False)
    width = 8 * values.dtype.itemsize
    if dtype.kind == "u":
        return (values.view(f"u{width // 8}") & ((1 << info.precision) - 1)).astype(dtype)
    unused = width - info.precision
    return (np.left_shift(values, unused).view(f"i{width // 8}") >> unused).astype(dtype)


__all__ = [
    "BIG_ENDIAN",
    "DECODERS",
    "FRAME_LIMIT",
    "NATIVE",
    "RATIO_FROM",
    "RATIO_LIMIT",
    "VIDEO",
    "Decoder",
    "can_decode",
    "check_frame",
    "decode_frame",
    "photometric_of_decoded",
    "warm_up_decoders",
    "warm_up_htj2k",
]
