"""Overlay planes: rasterised, searched as pictures are, and written anew without text.

Without the Clean Graphics Option they are left out, those in unused bits of the pixels too.

References
----------
DICOM PS3.3 C.9.2 (overlay plane module), PS3.5 8.1.2 (overlays in pixel data, retired), PS3.15 E.3.3.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from voxelvault.deid.cine import find_everywhere
from voxelvault.deid.model import Action, Context, Option, Refused, Rewritten
from voxelvault.dicom.part10 import Part10
from voxelvault.model import FrameSpec

Planes = np.ndarray[Any, np.dtype[np.uint8]]

GROUPS = range(0x6000, 0x6020, 2)
_FRAMES, _ROWS, _COLUMNS, _TYPE, _ORIGIN, _POSITION, _DATA = 0x15, 0x10, 0x11, 0x40, 0x50, 0x102, 0x3000
_MOST = 1 << 28


def put_overlays(
    part10: Part10,
    words: np.ndarray[Any, Any] | None,
    spec: FrameSpec,
    rewritten: Rewritten,
    context: Context,
) -> int:
    """Put cleaned overlays into a data set, if the policy keeps graphics.

    Parameters
    ----------
    part10 : Part10
        The file as it came.
    words : numpy.ndarray or None
        (frame, row, column) pixels with all their bits, where overlays may be in them.
    spec : FrameSpec
        What the header says of the pixels: overlays are never in bits of their values.
    rewritten : Rewritten
        Gets the overlays, and 113103.
    context : Context
        Policy and cleaner.

    Returns
    -------
    int
        How many areas were blanked.

    Raises
    ------
    Refused
        Text stays readable in one.
    MissingExtra
        There is no OCR engine.
    """
    if Option.CLEAN_GRAPHICS not in context.policy.options:
        return 0
    blanked = 0
    for group in GROUPS:
        decision = context.policy.decide(group << 16 | 0x3000, "OW", None, "", False)
        if decision.action is not Action.CLEAN:  # a site's rule
            continue
        planes = _planes(part10, group, words, spec)
        if planes is None:
            continue
        boxes, is_clean = find_everywhere(planes, 0, context.cleaner.harmless)
        if not is_clean:
            raise Refused("pixels_unclean")
        for box in boxes:
            planes[:, box.rows, box.columns] = 0
        _put(rewritten.dataset, part10, group, planes)
        rewritten.applied.add(Option.CLEAN_GRAPHICS.code)
        blanked += len(boxes)
    return blanked


def _planes(part10: Part10, group: int, words: np.ndarray[Any, Any] | None, spec: FrameSpec) -> Planes | None:
    """Return (frame, row, column) of 0 and 255; None where there is no whole overlay."""
    rows, columns = (_number(part10, group, element) for element in (_ROWS, _COLUMNS))
    count = part10.value(group << 16 | _FRAMES).strip(b"\0 ")
    frames = max(1, int(count)) if count.isdigit() else 1
    if not 0 < rows * columns * frames <= _MOST:
        return None
    data = part10.value(group << 16 | _DATA)
    if data:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[: frames * rows * columns]
        whole = bits.size == frames * rows * columns
        return bits.reshape(frames, rows, columns) * np.uint8(255) if whole else None
    position = _number(part10, group, _POSITION)
    inside = words is not None and words.ndim == 3 and words.shape[1:] == (rows, columns)
    if words is None or not inside or not spec.bits_stored <= position < spec.bits_allocated:
        return None
    planes: Planes = ((words >> position & 1) * 255).astype(np.uint8)
    return planes


def _number(part10: Part10, group: int, element: int) -> int:
    value = part10.value(group << 16 | element)
    order = ">H" if part10.big_endian else "<H"
    return int(struct.unpack_from(order, value)[0]) if len(value) >= 2 else 0


def _put(dataset: Dataset, part10: Part10, group: int, planes: Planes) -> None:
    """Write a plane of its own, whatever it came in; labels and descriptions are no part of it."""
    origin = part10.value(group << 16 | _ORIGIN)
    order = ">2h" if part10.big_endian else "<2h"
    place = list(struct.unpack_from(order, origin)) if len(origin) >= 4 else [1, 1]
    kind = part10.value(group << 16 | _TYPE).strip(b"\0 ")
    data = np.packbits(planes.reshape(-1) > 0, bitorder="little").tobytes()
    for element, vr, value in (
        (_ROWS, "US", planes.shape[1]),
        (_COLUMNS, "US", planes.shape[2]),
        (_TYPE, "CS", "R" if kind == b"R" else "G"),
        (_ORIGIN, "SS", place),
        (0x100, "US", 1),
        (_POSITION, "US", 0),
        (_DATA, "OW", data + b"\0" * (len(data) % 2)),
    ):
        dataset.add_new(group << 16 | element, vr, value)
    if len(planes) > 1:
        dataset.add_new(group << 16 | _FRAMES, "IS", len(planes))
        dataset.add_new(group << 16 | 0x51, "US", 1)


__all__ = ["GROUPS", "put_overlays"]
