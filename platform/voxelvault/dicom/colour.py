"""Colour spaces of decoded pixels: to RGB, on request (PS3.3 C.7.6.3.1.2)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voxelvault.dicom.native import Pixels, expand_422
from voxelvault.errors import DecodeError


def to_rgb(array: Pixels, photometric: str) -> Pixels:
    """Turn colour pixels into RGB.

    Parameters
    ----------
    array : numpy.ndarray
        (..., row, column, 3), or (..., row, column, 2) as `unpack_native` returns subsampled frames.
    photometric : str
        What `array` holds: `decode.photometric_of_decoded`, or PhotometricInterpretation.

    Returns
    -------
    numpy.ndarray
        (..., row, column, 3); `array` itself when it is RGB.

    Raises
    ------
    DecodeError
        No rule leads from this colour space to RGB.
    """
    if photometric in ("RGB", "YBR_RCT", "YBR_ICT"):
        return array
    if photometric not in ("YBR_FULL", "YBR_FULL_422"):
        raise DecodeError("these pixels have no RGB; use the stored values as they are")
    return ybr_to_rgb(expand_422(array) if array.shape[-1] == 2 else array)


def ybr_to_rgb(array: Pixels) -> npt.NDArray[np.uint8]:
    """Turn YBR_FULL into RGB.

    Parameters
    ----------
    array : numpy.ndarray
        (..., 3) uint8 of Y, Cb, Cr over the full range.

    Returns
    -------
    numpy.ndarray
        (..., 3) uint8.

    Raises
    ------
    DecodeError
        The samples are not 8-bit.

    References
    ----------
    DICOM PS3.3 C.7.6.3.1.2 (ITU-R BT.601 over the full range).
    """
    if array.dtype != np.uint8 or array.shape[-1] != 3:
        raise DecodeError("only 8-bit YBR turns into RGB; use the stored values as they are")
    y, cb, cr = (array[..., i].astype(np.float32) for i in range(3))
    cb -= 128
    cr -= 128
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    clipped: npt.NDArray[np.uint8] = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    return clipped


def apply_palette(indexes: Pixels, first: int, red: Pixels, green: Pixels, blue: Pixels) -> Pixels:
    """Look palette colours up.

    Parameters
    ----------
    indexes : numpy.ndarray
        (..., row, column) stored values.
    first : int
        First stored value mapped: the second number of PaletteColorLookupTableDescriptor.
    red, green, blue : numpy.ndarray
        The three tables, of one length and dtype.

    Returns
    -------
    numpy.ndarray
        (..., row, column, 3) of the tables' dtype.

    Raises
    ------
    DecodeError
        The tables are empty or differ in length.

    References
    ----------
    DICOM PS3.3 C.7.6.3.1.5 and C.7.6.3.1.6.
    """
    if not len(red) or not len(red) == len(green) == len(blue):
        raise DecodeError("the palette is broken; use the stored values as they are")
    table = np.stack([red, green, blue], axis=-1)
    return table[np.clip(indexes.astype(np.int64) - first, 0, len(red) - 1)]


__all__ = ["apply_palette", "to_rgb", "ybr_to_rgb"]
