"""Native pixel bytes to arrays and back, byte for byte (PS3.5 8.1, 8.2, annex D)."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from voxelvault.errors import MalformedDicom
from voxelvault.model import Buffer, FrameSpec

Pixels: TypeAlias = npt.NDArray[Any]

_ALLOCATED = (1, 8, 16, 32, 64)


def native_dtype(spec: FrameSpec) -> np.dtype[Any]:
    """Return the little-endian dtype of the stored values.

    Parameters
    ----------
    spec : FrameSpec
        1-bit pixels become uint8 of 0 and 1.

    Returns
    -------
    numpy.dtype
        Unsigned, signed or floating, of BitsAllocated bits.

    Raises
    ------
    MalformedDicom
        BitsAllocated is not 1, 8, 16, 32 or 64, or the pixels float in fewer than 32 bits.
    """
    smallest = 32 if spec.floating else 1
    if spec.bits_allocated not in _ALLOCATED or spec.bits_allocated < smallest:
        raise MalformedDicom(
            f"pixels of {spec.bits_allocated} bits are not read; export the original file instead"
        )
    if spec.bits_allocated == 1:
        return np.dtype(np.uint8)
    kind = "f" if spec.floating else "iu"[spec.pixel_representation == 0]
    return np.dtype(f"<{kind}{spec.bits_allocated // 8}")


def frame_shape(spec: FrameSpec) -> tuple[int, ...]:
    """Return (row, column) or, with several samples, (row, column, sample).

    Parameters
    ----------
    spec : FrameSpec
        What the header says of each frame.

    Returns
    -------
    tuple of int
        The shape of one decoded frame.

    Raises
    ------
    MalformedDicom
        A size is zero or negative.
    """
    if min(spec.rows, spec.columns, spec.samples) < 1:
        raise MalformedDicom("Rows, Columns or SamplesPerPixel is zero; export the original file instead")
    return (spec.rows, spec.columns) if spec.samples == 1 else (spec.rows, spec.columns, spec.samples)


def frame_nbytes(spec: FrameSpec) -> int:
    """Return the size in bytes of one decoded frame.

    Parameters
    ----------
    spec : FrameSpec
        What the header says of each frame.

    Returns
    -------
    int
        `frame_shape` times the item size of `native_dtype`.

    Raises
    ------
    MalformedDicom
        The header's numbers make no frame.
    """
    rows, columns, *samples = frame_shape(spec)
    return rows * columns * (samples[0] if samples else 1) * native_dtype(spec).itemsize


def native_length(spec: FrameSpec, frames: int, *, subsampled: bool = False) -> int:
    """Return how many bytes the native pixels of `frames` frames take, padding not counted.

    Parameters
    ----------
    spec : FrameSpec
        What the header says of each frame.
    frames : int
        1-bit frames follow each other without a gap, so only the last byte is filled up.
    subsampled : bool
        The frames are sent as Y Y Cb Cr (`is_subsampled`).

    Returns
    -------
    int
        Length in bytes.

    Raises
    ------
    MalformedDicom
        The header's numbers make no frame.
    """
    native_dtype(spec)
    rows, columns, *_ = frame_shape(spec)
    samples = 2 if subsampled else spec.samples
    return (frames * rows * columns * samples * spec.bits_allocated + 7) // 8


def is_subsampled(spec: FrameSpec, length: int, frames: int) -> bool:
    """Tell whether native pixels of `length` bytes hold half the chroma samples.

    Some senders say YBR_FULL_422 of pixels that are not subsampled; the length decides.

    Parameters
    ----------
    spec : FrameSpec
        What the header says of each frame.
    length : int
        Length of the pixel data in bytes.
    frames : int
        NumberOfFrames.

    Returns
    -------
    bool
        Two samples a pixel (Y Y Cb Cr for each pair of columns) instead of three.

    Raises
    ------
    MalformedDicom
        The header's numbers make no frame.

    References
    ----------
    DICOM PS3.3 C.7.6.3.1.2 (YBR_FULL_422).
    """
    if spec.photometric != "YBR_FULL_422" or spec.samples != 3 or spec.columns % 2:
        return False
    return length < native_length(spec, frames)


def word_swapped(spec: FrameSpec, *, big_endian: bool, vr: str) -> bool:
    """Tell whether bytes or bits come swapped within 16-bit words.

    Parameters
    ----------
    spec : FrameSpec
        What the header says of each frame.
    big_endian : bool
        The transfer syntax is Explicit VR Big Endian.
    vr : str
        VR of the pixel data.

    Returns
    -------
    bool
        True for OW pixels of 8 bits or 1 bit in big endian.

    References
    ----------
    DICOM PS3.5 8.1.1 and annex D.
    """
    return big_endian and vr == "OW" and spec.bits_allocated <= 8


def unpack_native(
    data: Buffer,
    spec: FrameSpec,
    frames: int,
    *,
    big_endian: bool = False,
    word_swapped: bool = False,
    subsampled: bool = False,
    bit_offset: int = 0,
) -> Pixels:
    """Turn native pixel bytes into stored values; `pack_native` turns them back.

    Nothing is masked: bits above BitsStored stay, so that the bytes can be rebuilt
    (`stored_values` clears them for a reader). Where the bytes already are the array, the result
    is a view of `data`.

    Parameters
    ----------
    data : bytes-like
        At least `native_length(spec, frames)` bytes; what follows is ignored.
    spec : FrameSpec
        What the header says of each frame.
    frames : int
        How many frames `data` holds.
    big_endian : bool
        Words come most significant byte first.
    word_swapped : bool
        8-bit or 1-bit pixels come swapped in 16-bit words (`word_swapped`).
    subsampled : bool
        The pixels come as Y Y Cb Cr (`is_subsampled`).
    bit_offset : int
        For 1-bit pixels: where in the first byte the first frame begins.

    Returns
    -------
    numpy.ndarray
        (frame, row, column[, sample]) of `native_dtype`, interleaved whatever
        PlanarConfiguration; subsampled (frame, row, column, 2), see `expand_422`.

    Raises
    ------
    MalformedDicom
        The bytes are fewer than the header claims, or its numbers make no frame.

    References
    ----------
    DICOM PS3.5 8.1.1, 8.2 and annex D; PS3.3 C.7.6.3.1.3 (PlanarConfiguration).
    """
    dtype = native_dtype(spec)
    rows, columns, *_ = frame_shape(spec)
    samples = 2 if subsampled else spec.samples
    length = (bit_offset + frames * rows * columns * samples * spec.bits_allocated + 7) // 8
    if memoryview(data).nbytes < length:
        raise MalformedDicom(
            "the pixel data is shorter than the header claims; export the original file instead"
        )
    flat = np.frombuffer(data, np.uint8)
    if word_swapped:
        flat = _swap_words(flat[: length + length % 2])
    if spec.bits_allocated == 1:
        values: Pixels = _unpack_bits(flat, frames * rows * columns * spec.samples, bit_offset)
    else:
        values = _words(flat[:length], dtype, big_endian)
    if subsampled:
        return values.reshape(frames, rows, columns, 2)
    return _interleaved(values, spec, frames)


def pack_native(
    array: Pixels, spec: FrameSpec, *, big_endian: bool = False, word_swapped: bool = False
) -> bytes | memoryview:
    """Rebuild native pixel bytes as they were sent.

    Parameters
    ----------
    array : numpy.ndarray
        What `unpack_native` returned. To rebuild 1-bit pixels in several calls, begin each one at
        a multiple of eight frames.
    spec : FrameSpec
        What the header says of each frame.
    big_endian, word_swapped : bool
        As for `unpack_native`.

    Returns
    -------
    bytes-like
        `native_length` bytes (filled up to even with a zero byte when `word_swapped`); a view of
        `array` where that is what the bytes are.

    Raises
    ------
    MalformedDicom
        The header's numbers make no frame.
    """
    dtype = native_dtype(spec)
    if spec.samples > 1 and spec.planar == 1 and array.shape[-1] == spec.samples:
        array = np.moveaxis(array, -1, 1)
    if spec.bits_allocated == 1:
        flat = np.packbits(array.reshape(-1), bitorder="little")
    else:
        wire = dtype.newbyteorder(">") if big_endian else dtype
        flat = np.ascontiguousarray(array, dtype=wire).reshape(-1).view(np.uint8)
    if word_swapped:
        flat = _swap_words(np.pad(flat, (0, flat.size % 2)))
    return flat.data


def expand_422(pairs: Pixels) -> Pixels:
    """Give every pixel its own chroma samples.

    Parameters
    ----------
    pairs : numpy.ndarray
        (..., row, column, 2): for each pair of columns the four samples Y1 Y2 Cb Cr.

    Returns
    -------
    numpy.ndarray
        (..., row, column, 3) YBR_FULL, chroma repeated over the pair.

    Raises
    ------
    MalformedDicom
        The number of columns is odd.

    References
    ----------
    DICOM PS3.3 C.7.6.3.1.2 (YBR_FULL_422).
    """
    *lead, columns, _ = pairs.shape
    if columns % 2:
        raise MalformedDicom("YBR_FULL_422 needs an even number of columns; export the original file instead")
    quads = np.ascontiguousarray(pairs).reshape(*lead, columns // 2, 4)
    out = np.empty((*lead, columns // 2, 2, 3), pairs.dtype)
    out[..., 0] = quads[..., 0:2]
    out[..., 1] = quads[..., 2:3]
    out[..., 2] = quads[..., 3:4]
    return out.reshape(*lead, columns, 3)


def stored_values(array: Pixels, spec: FrameSpec) -> Pixels:
    """Keep only the BitsStored lowest bits of each word and extend their sign.

    Old overlays and leftovers live in the bits above; a reader must not see them.

    Parameters
    ----------
    array : numpy.ndarray
        Integers of BitsAllocated bits, HighBit = BitsStored - 1.
    spec : FrameSpec
        BitsStored and PixelRepresentation.

    Returns
    -------
    numpy.ndarray
        `array` itself when every bit is in use, else a new array of the same dtype.

    References
    ----------
    DICOM PS3.5 8.1.1 (bits above HighBit are not part of the value).
    """
    unused = spec.bits_allocated - spec.bits_stored
    if spec.floating or array.dtype.kind not in "iu" or not 0 < unused < spec.bits_allocated:
        return array
    if spec.pixel_representation == 0:
        kept: Pixels = array & array.dtype.type((1 << spec.bits_stored) - 1)
        return kept
    shift = array.dtype.type(unused)
    shifted: Pixels = np.left_shift(array, shift)
    np.right_shift(shifted, shift, out=shifted)
    return shifted


def _unpack_bits(flat: Pixels, count: int, bit_offset: int) -> Pixels:
    """Return `count` bits as bytes, the first pixel in the least significant bit (PS3.5 8.1.1)."""
    used = flat[: (bit_offset + count + 7) // 8]
    return np.unpackbits(used, bitorder="little", count=bit_offset + count)[bit_offset:]


def _words(flat: Pixels, dtype: np.dtype[Any], big_endian: bool) -> Pixels:
    """View bytes as little-endian words; copies only for big endian or an odd address."""
    if big_endian and dtype.itemsize > 1:
        return flat.view(dtype.newbyteorder(">")).astype(dtype)
    values: Pixels = flat.view(dtype)
    return values if values.flags.aligned else values.copy()


def _interleaved(values: Pixels, spec: FrameSpec, frames: int) -> Pixels:
    """Shape the values, colour planes moved last."""
    if spec.samples > 1 and spec.planar == 1:
        planes = values.reshape(frames, spec.samples, spec.rows, spec.columns)
        values = np.ascontiguousarray(np.moveaxis(planes, 1, -1))
    shaped: Pixels = values.reshape(frames, *frame_shape(spec))
    return shaped


def _swap_words(flat: Pixels) -> Pixels:
    """Swap the two bytes of each 16-bit word; a lone last byte stays."""
    even = flat[: flat.size & ~1]
    swapped = even.view(np.uint16).byteswap().view(np.uint8)
    return swapped if even.size == flat.size else np.concatenate([swapped, flat[even.size :]])


__all__ = [
    "Pixels",
    "expand_422",
    "frame_nbytes",
    "frame_shape",
    "is_subsampled",
    "native_dtype",
    "native_length",
    "pack_native",
    "stored_values",
    "unpack_native",
    "word_swapped",
]
