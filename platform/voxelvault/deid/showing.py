"""Frames as somebody sees them: grey values or red, green and blue."""

from __future__ import annotations

from typing import Any

import numpy as np

from voxelvault.deid.model import Refused
from voxelvault.deid.pixel_data import PixelData
from voxelvault.dicom.colour import apply_palette, to_rgb
from voxelvault.dicom.read import Header
from voxelvault.errors import DecodeError

_TABLES = (0x00281201, 0x00281202, 0x00281203)


def shown(frames: np.ndarray[Any, Any], pixels: PixelData, header: Header) -> np.ndarray[Any, Any]:
    """Return frames for looking at.

    Parameters
    ----------
    frames : numpy.ndarray
        (frame, row, column[, sample]) stored values, without other bits.
    pixels : PixelData
        Where they come from.
    header : Header
        Describes the palette, if there is one.

    Returns
    -------
    numpy.ndarray
        (frame, row, column) stored values, or (frame, row, column, 3) uint8.

    Raises
    ------
    Refused
        The colours can't be made out.
    """
    try:
        if pixels.spec.photometric == "PALETTE COLOR":
            return _coloured(frames, pixels, header)
        if frames.ndim == 3:
            return frames
        rgb = to_rgb(frames, pixels.photometric)
    except (DecodeError, ValueError, TypeError):
        raise Refused("pixels_undecodable") from None
    if rgb.dtype != np.uint8:
        rgb = (rgb >> max(0, pixels.spec.bits_stored - 8)).astype(np.uint8)
    return np.ascontiguousarray(rgb[..., :3])


def _coloured(frames: np.ndarray[Any, Any], pixels: PixelData, header: Header) -> np.ndarray[Any, Any]:
    values = [pixels.part10.value(tag) for tag in _TABLES]
    if not all(values):  # a segmented palette: the indexes show the text as well
        return frames
    count, first, bits = (int(number) for number in header.values("RedPaletteColorLookupTableDescriptor"))
    count = count or 1 << 16
    wide = bits > 8 or min(map(len, values)) >= 2 * count
    order = ">u2" if pixels.part10.big_endian else "<u2"
    tables = [
        np.frombuffer(value[: len(value) & ~1], order if wide else np.uint8)[:count] for value in values
    ]
    colours = apply_palette(frames, first, *tables)
    return (colours >> 8 if bits > 8 else colours).astype(np.uint8)


__all__ = ["shown"]
