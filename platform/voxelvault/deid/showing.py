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


class Shown:
    """Frames for looking at, each made when it is asked for: a long loop in colours would fill memory.

    Parameters
    ----------
    frames : numpy.ndarray
        (frame, row, column[, sample]) stored values, without other bits.
    pixels : PixelData
        Where they come from.
    header : Header
        Describes the palette, if there is one.
    """

    def __init__(self, frames: np.ndarray[Any, Any], pixels: PixelData, header: Header) -> None:
        self._frames, self._spec = frames, pixels.spec
        self._photometric = pixels.photometric
        self._palette = _palette(pixels, header) if self._spec.photometric == "PALETTE COLOR" else None
        self.coloured = self._palette is not None or frames.ndim == 4

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> np.ndarray[Any, Any]:
        """Return one frame: (row, column) stored values, or (row, column, 3) uint8.

        Raises
        ------
        Refused
            The colours can't be made out.
        """
        frame = self._frames[index]
        try:
            if self._palette is not None:
                return apply_palette(frame, *self._palette)
            if not self.coloured:
                return np.asarray(frame)
            rgb = to_rgb(frame, self._photometric)
        except (DecodeError, ValueError, TypeError):
            raise Refused("pixels_undecodable") from None
        if rgb.dtype != np.uint8:
            rgb = (rgb >> max(0, self._spec.bits_stored - 8)).astype(np.uint8)
        return np.ascontiguousarray(rgb[..., :3])


_Palette = tuple[int, np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]


def _palette(pixels: PixelData, header: Header) -> _Palette | None:
    """Return the first value mapped and three tables of 8 bits; None of a segmented palette.

    Its indexes show the text as well.
    """
    values = [pixels.part10.value(tag) for tag in _TABLES]
    if not all(values):
        return None
    try:
        count, first, bits = (int(n) for n in header.values("RedPaletteColorLookupTableDescriptor"))
    except (ValueError, TypeError):
        raise Refused("pixels_undecodable") from None
    count = count or 1 << 16
    wide = bits > 8 or min(map(len, values)) >= 2 * count
    order = np.dtype(">u2" if pixels.part10.big_endian else "<u2") if wide else np.dtype(np.uint8)
    tables = [np.frombuffer(value[: len(value) & ~1], order)[:count].astype(int) for value in values]
    red, green, blue = ((table >> 8 if bits > 8 else table).astype(np.uint8) for table in tables)
    return first, red, green, blue


__all__ = ["Shown"]
