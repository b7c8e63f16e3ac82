"""Look-up tables and palettes: cut to what their descriptor declares, and refused where they spell text.

References
----------
DICOM PS3.3 C.7.6.3.1.5, C.7.6.3.1.6 (palettes), C.11.1.1 (LUT descriptor).
"""

from __future__ import annotations

import re
from struct import unpack

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
