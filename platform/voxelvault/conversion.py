"""What stored values become on the way out: modality values, SUV, colour. One frame at a time."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels.processing import apply_color_lut

from voxelvault.dicom.colour import to_rgb
from voxelvault.dicom.decode import photometric_of_decoded
from voxelvault.dicom.frames import FrameAttributes
from voxelvault.dicom.native import stored_values
from voxelvault.dicom.read import Header
from voxelvault.dicom.values import RealWorldMap, padding_mask, real_world_maps, suv_factor, to_modality
from voxelvault.errors import DecodeError, NoPixels, UsageError
from voxelvault.model import Buffer
from voxelvault.storage.pack import StackKey

Array = npt.NDArray[Any]
Turn = Callable[[Array, Array], None]
"""Called as ``turn(stored, slot)``: writes one frame's values into its slot."""

UNITS = ("modality", "stored", "real_world", "suvbw")


def stored_turn(key: StackKey) -> Turn | None:
    """Return what gives the stored values alone; None where the bytes decode to just that."""
    if not key.high_bits:
        return None

    def turn(stored: Array, slot: Array) -> None:
        slot[...] = stored_values(stored, key.spec)

    return turn


def modality_turn(key: StackKey, frame: FrameAttributes, factor: float, mask: bool) -> Turn:
    """Return what gives values in the modality's unit, times a factor, padding as NaN.

    References
    ----------
    DICOM PS3.3 C.11.1 (modality LUT), C.7.5.1.1.2 (padding).
    """
    slope, intercept = frame.slope * factor, frame.intercept * factor
    padding = frame.padding if mask else None

    def turn(stored: Array, slot: Array) -> None:
        values = stored_values(stored, key.spec) if key.high_bits else stored
        to_modality(values, slope, intercept, out=slot)
        if padding is not None:
            slot[padding_mask(values, padding)] = np.nan

    return turn


def real_world_turn(key: StackKey, mapping: RealWorldMap) -> Turn:
    """Return what gives values of a real world value map (PS3.3 C.7.6.16.2.11)."""

    def turn(stored: Array, slot: Array) -> None:
        slot[...] = mapping.apply(stored_values(stored, key.spec))

    return turn


def rgb_turn(key: StackKey, codestream: Buffer | None) -> Turn:
    """Return what turns colour frames into RGB; `codestream` tells how a JPEG coded its colours."""
    photometric = (
        key.spec.photometric
        if codestream is None
        else photometric_of_decoded(key.transfer_syntax, key.spec, codestream)
    )

    def turn(stored: Array, slot: Array) -> None:
        slot[...] = to_rgb(stored, photometric)

    return turn


def palette_turn(key: StackKey, head: bytes) -> Turn:
    """Return what looks up an instance's palette; `head` is its file up to the pixels.

    References
    ----------
    DICOM PS3.3 C.7.6.3.1.5 and C.7.9 (palette colour look-up tables, segmented ones included).
    """
    dataset = pydicom.dcmread(io.BytesIO(head), force=True, stop_before_pixels=True)

    def turn(stored: Array, slot: Array) -> None:
        try:
            colours = apply_color_lut(stored_values(stored, key.spec), dataset)
        except (ValueError, AttributeError) as error:
            raise DecodeError("the palette is not usable; read the indexes with `pixels`") from error
        # A 16-bit table may hold 8-bit colours; what the slot can't hold is scaled to it.
        wide = colours.dtype.itemsize > slot.dtype.itemsize and colours.max(initial=0) > 255
        slot[...] = colours >> 8 if wide else colours

    return turn


def unit_of(
    units: str | None, frame: FrameAttributes, header: Header
) -> tuple[str, str, RealWorldMap | None]:
    """Return which kind of values is meant, their unit, and the real world map if it is one.

    Without a wish, the modality's rescale counts; where a header has none, its real world value map.

    Raises
    ------
    UsageError
        No such kind.
    NoPixels
        The header has no real world value map.
    """
    if units not in (None, *UNITS):
        raise UsageError(f"no units {units!r}; choose one of {', '.join(UNITS)}")
    if units == "suvbw":
        return "suvbw", "g/ml", None
    if units == "stored":
        return "stored", "", None
    plain = frame.rescale_type is None and frame.slope == 1.0 and frame.intercept == 0.0
    if units == "real_world" or (units is None and plain):
        maps = real_world_maps(header, frame.frame)
        if maps:
            return "real_world", maps[0].unit, maps[0]
        if units == "real_world":
            raise NoPixels("this series has no real world value map; use units='modality'")
    return "modality", frame.rescale_type or "", None


__all__ = [
    "UNITS",
    "modality_turn",
    "palette_turn",
    "real_world_turn",
    "rgb_turn",
    "stored_turn",
    "suv_factor",
    "unit_of",
]
