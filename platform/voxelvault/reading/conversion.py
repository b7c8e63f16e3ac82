"""What stored values become on the way out: modality values, SUV, colour. One frame at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault.dicom.colour import to_rgb
from voxelvault.dicom.decode import photometric_of_decoded
from voxelvault.dicom.frames import FrameAttributes
from voxelvault.dicom.lookup import modality_table, palette_table
from voxelvault.dicom.native import expand_422, stored_values
from voxelvault.dicom.read import Header
from voxelvault.dicom.values import RealWorldMap, padding_mask, real_world_maps, suv_factor, to_modality
from voxelvault.errors import NoPixels, UsageError
from voxelvault.model import Buffer
from voxelvault.storage.pack import StackKey

Array = npt.NDArray[Any]
Turn = Callable[[Array, Array], None]
"""Called as ``turn(stored, slot)``: writes one frame's values into its slot."""

UNITS = ("modality", "stored", "real_world", "suvbw")


def stored_turn(key: StackKey) -> Turn | None:
    """Return what gives the stored values alone; None where the bytes decode to just that.

    Native YBR_FULL_422 has two samples a pixel: each pixel gets its own chroma, as it does elsewhere.
    """
    if key.spec.samples == 3 and key.shape[-1] == 2:
        return _expand
    if not key.high_bits:
        return None

    def turn(stored: Array, slot: Array) -> None:
        slot[...] = stored_values(stored, key.spec)

    return turn


def _expand(stored: Array, slot: Array) -> None:
    slot[...] = expand_422(stored)


def modality_turn(
    key: StackKey, frame: FrameAttributes, factor: float, mask: bool, fill: float = np.nan
) -> Turn:
    """Return what gives values in the modality's unit, times a factor; padding becomes `fill`.

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
            outside = padding_mask(values, padding)
            if outside.any():
                np.copyto(slot, fill, where=outside)

    return turn


def real_world_turn(key: StackKey, frame: FrameAttributes, mapping: RealWorldMap, mask: bool) -> Turn:
    """Return what gives values of a real world value map (PS3.3 C.7.6.16.2.11), padding as NaN."""
    return _masked(key, frame if mask else None, mapping.apply)


def lookup_turn(key: StackKey, frame: FrameAttributes, head: bytes, mask: bool) -> Turn:
    """Return what looks values up in an instance's modality LUT (PS3.3 C.11.1), padding as NaN."""
    return _masked(key, frame if mask else None, modality_table(head).apply)


def _masked(key: StackKey, frame: FrameAttributes | None, apply: Callable[[Array], Array]) -> Turn:
    padding = frame.padding if frame is not None else None

    def turn(stored: Array, slot: Array) -> None:
        values = stored_values(stored, key.spec)
        slot[...] = apply(values)
        if padding is not None:
            slot[padding_mask(values, padding)] = np.nan

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
    table = palette_table(head)

    def turn(stored: Array, slot: Array) -> None:
        slot[...] = table.apply(stored_values(stored, key.spec))

    return turn


def check_units(units: str | None) -> None:
    """Refuse a kind of values that there is not; None leaves it to each series."""
    if units not in (None, *UNITS):
        raise UsageError(f"no units {units!r}; choose one of {', '.join(UNITS)}")


def unit_of(
    units: str | None, frame: FrameAttributes, header: Callable[[], Header]
) -> tuple[str, str, RealWorldMap | None]:
    """Return which kind of values is meant, their unit, and the real world map if it is one.

    The header is asked for only where the frame's own attributes leave it open: it costs a query.
    Without a wish, the modality's rescale counts; where a header has none, its modality LUT, and else
    its real world value map.

    Returns
    -------
    tuple
        Kind (one of `UNITS`, or ``modality_lut``), unit, and the map of that frame.

    Raises
    ------
    UsageError
        No such kind.
    NoPixels
        The header has no real world value map.
    """
    check_units(units)
    if units == "suvbw":
        return "suvbw", "g/ml", None
    if units == "stored":
        return "stored", "", None
    plain = frame.slope == 1.0 and frame.intercept == 0.0
    tables = header().items_of("ModalityLUTSequence") if plain and units != "real_world" else ()
    if tables:
        unit = str(tables[0].get("ModalityLUTType") or "")
        return "modality_lut", "" if unit == "US" else unit, None
    plain = plain and frame.rescale_type is None
    if units == "real_world" or (units is None and plain):
        maps = real_world_maps(header(), frame.frame)
        if maps:
            return "real_world", maps[0].unit, maps[0]
        if units == "real_world":
            raise NoPixels("this series has no real world value map; use units='modality'")
    return "modality", frame.rescale_type or "", None


__all__ = [
    "UNITS",
    "check_units",
    "lookup_turn",
    "modality_turn",
    "palette_turn",
    "real_world_turn",
    "rgb_turn",
    "stored_turn",
    "suv_factor",
    "unit_of",
]
