"""Frames as somebody sees them: grey values or red, green and blue."""

from __future__ import annotations

from typing import Any

import numpy as np

from voxelvault.deid.model import Refused
from voxelvault.deid.palettes import expanded
from voxelvault.deid.pixel_data import PixelData
from voxelvault.dicom.colour import apply_palette, to_rgb
from voxelvault.dicom.read import Header
from voxelvault.errors import DecodeError

_TABLES = (0x00281201, 0x00281202, 0x00281203)
_SEGMENTED = (0x00281221, 0x00281222, 0x00281223)


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
        # Without any palette the indexes are shown: they hold the text as well.
        is_palette = self._spec.photometric == "PALETTE COLOR" and any(
            map(pixels.part10.value, (*_TABLES, *_SEGMENTED))
        )
        self._palette = _palette(pixels, header) if is_palette else None
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


def _palette(pixels: PixelData, header: Header) -> _Palette:
    """Return the first value mapped and three tables of 8 bits.

    Raises
    ------
    Refused
        They make no sense.
    """
    try:
        count, first, bits = (int(n) for n in header.values("RedPaletteColorLookupTableDescriptor"))
        tables = _tables(pixels, count or 1 << 16, bits)
    except (ValueError, TypeError, IndexError):
        raise Refused("pixels_undecodable") from None
    red, green, blue = ((table >> 8 if bits > 8 else table).astype(np.uint8) for table in tables)
    return first, red, green, blue


def _tables(pixels: PixelData, count: int, bits: int) -> list[np.ndarray[Any, Any]]:
    values = [pixels.part10.value(tag) for tag in _TABLES]
    segments = [pixels.part10.value(tag) for tag in _SEGMENTED]
    word = np.dtype(">u2" if pixels.part10.big_endian else "<u2")
    if not all(values) and all(segments):
        order = word if bits > 8 else np.dtype(np.uint8)
        return [expanded(np.frombuffer(value[: len(value) & ~1], order))[:count] for value in segments]
    wide = bits > 8 or min(map(len, values)) >= 2 * count
    order = word if wide else np.dtype(np.uint8)
    return [np.frombuffer(value[: len(value) & ~1], order)[:count].astype(int) for value in values]


__all__ = ["Shown"]
