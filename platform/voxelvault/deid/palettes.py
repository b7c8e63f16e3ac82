"""Look-up tables and palettes: cut to what their descriptor declares, and refused where they spell text.

References
----------
DICOM PS3.3 C.7.6.3.1.5, C.7.6.3.1.6 (palettes), C.7.9.2 (segmented palettes), C.11.1.1 (LUT descriptor).
"""

from __future__ import annotations

import re
from struct import unpack
from typing import Any

import numpy as np

DESCRIPTORS = {
    0x00281201: 0x00281101,
    0x00281202: 0x00281102,
    0x00281203: 0x00281103,
    0x00281204: 0x00281101,
    0x00281408: 0x00281407,
    0x00283006: 0x00283002,
}
"""Descriptor by table."""

SEGMENTED = frozenset([0x00281221, 0x00281222, 0x00281223, 0x00281224])
"""Tables written as segments, whose length no descriptor tells."""

LETTERS, LETTERS_OF_TABLES = 12, 20
"""Letters in a row that are text: in palettes, and in tables of numbers as large as meshes."""

_ONLY_LETTERS = re.compile(rb"[A-Za-z0-9 ^.,_=-]{6,}\0?")
_WORDS = {least: re.compile(rb"[A-Za-z0-9 ^.,_=-]{%d,}" % least) for least in (LETTERS, LETTERS_OF_TABLES)}


def cut(value: bytes, descriptor: bytes) -> bytes | None:
    """Return a table without what stands behind its last entry.

    Parameters
    ----------
    value : bytes
        Entries, little endian, of one or two bytes.
    descriptor : bytes
        Three numbers of 16 bits: entries (0 is 65536), first value mapped, bits of an entry.

    Returns
    -------
    bytes or None
        None without a descriptor, and where the entries spell something.
    """
    if len(descriptor) < 6:
        return None
    entries, _, bits = unpack("<HHH", descriptor[:6])
    entries = entries or 65536
    packed = bits <= 8 and len(value) <= entries + 1
    table = value[: entries if packed else 2 * entries]
    return None if spells(table) else table


def expanded(segments: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the entries of a table that is written as segments.

    Parameters
    ----------
    segments : numpy.ndarray
        Numbers as stored: opcode, length, and what belongs to it.

    Returns
    -------
    numpy.ndarray
        At most 65536 entries, int64.

    Raises
    ------
    ValueError
        It isn't written as the standard says.

    References
    ----------
    DICOM PS3.3 C.7.9.2 (discrete, linear and indirect segments).
    """
    values = [int(value) for value in segments]
    made: list[int] = []
    places: list[int] = []
    at = 0
    while at + 2 < len(values) and len(made) <= 65536:
        places.append(at)
        at = _segment(values, at, made, places)
    return np.array(made[:65536], np.int64)


def _segment(values: list[int], at: int, made: list[int], places: list[int]) -> int:
    """Append what one segment stands for; return where the next one begins."""
    kind, length = values[at], values[at + 1]
    if kind == 0:
        made += values[at + 2 : at + 2 + length]
        return at + 2 + length
    if kind == 1 and made:
        made += np.rint(np.linspace(made[-1], values[at + 2], length + 1))[1:].astype(int).tolist()
        return at + 3
    if kind == 2 and at + 3 < len(values):
        first = places.index(values[at + 2] | values[at + 3] << 16)
        copied = places[first : first + length]
        if any(values[place] == 2 for place in copied):
            raise ValueError
        for place in copied:
            _segment(values, place, made, [])
        return at + 4
    raise ValueError


def spells(value: bytes, least: int = LETTERS) -> bool:
    """Tell whether there is text among the entries; ramps pass through letters too, but in order."""
    runs = [run[0] for run in _WORDS[least].finditer(value)]
    return any(not _is_ramp(run) for run in (runs or [value] if _ONLY_LETTERS.fullmatch(value) else runs))


def _is_ramp(run: bytes) -> bool:
    """Tell whether every second byte goes one way; half an entry may stand at either end."""
    trimmed = (run, run[1:], run[:-1], run[1:-1])
    return any(_goes_one_way(part[::2]) and _goes_one_way(part[1::2]) for part in trimmed)


def _goes_one_way(values: bytes) -> bool:
    up = sorted(values)
    return list(values) in (up, up[::-1])


__all__ = ["DESCRIPTORS", "LETTERS_OF_TABLES", "SEGMENTED", "cut", "spells"]
