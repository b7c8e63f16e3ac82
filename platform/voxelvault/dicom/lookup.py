"""Look-up tables of a header: colours of a palette, and modality values that no line describes.

Read by our own parser: pydicom's walks and converts a stranger's whole header for one table, and its
expansion of a segmented palette follows one that points at itself.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault.dicom.elements import Element
from voxelvault.dicom.part10 import Part10, parse
from voxelvault.dicom.read import Header
from voxelvault.errors import DecodeError, DicomError

Array = npt.NDArray[Any]

LARGEST = 1 << 16
"""Entries of a table; a descriptor says 0 of so many."""

_RED, _RED_SEGMENTS = 0x00281201, 0x00281221
_SEQUENCE, _DATA = 0x00283000, 0x00283006
_NO_SENSE = (DicomError, ValueError, TypeError, KeyError, IndexError, struct.error)


@dataclass(frozen=True, eq=False)
class Table:
    """One entry for each stored value from `first` on; values beyond an end get that end's entry.

    Parameters
    ----------
    first : int
        Stored value of the first entry.
    entries : ndarray
        Shape (entry,), or (entry, 3) for colours.
    """

    first: int
    entries: Array

    def apply(self, stored: Array) -> Array:
        """Return the entries of stored values."""
        index = np.clip(stored.astype(np.int64) - self.first, 0, len(self.entries) - 1)
        return np.asarray(self.entries[index])


def palette_table(head: bytes) -> Table:
    """Return an instance's palette: RGB, uint8.

    Parameters
    ----------
    head : bytes
        The instance's file up to the pixels, or beyond.

    Raises
    ------
    DecodeError
        It has none that makes sense.

    References
    ----------
    DICOM PS3.3 C.7.6.3.1.5, C.7.6.3.1.6 and C.7.9.
    """
    try:
        part10 = parse(head)
        count, first, bits = _descriptor(Header.from_part10(part10), "RedPaletteColorLookupTableDescriptor")
        if _RED in part10.dataset:
            channels = [_whole(part10, _RED + colour, count) for colour in range(3)]
        else:
            channels = [_expanded(part10, _RED_SEGMENTS + colour, count, bits) for colour in range(3)]
        colours = np.stack(channels, axis=-1)
    except _NO_SENSE as error:
        raise DecodeError("the palette is not usable; read the indexes with `pixels`") from error
    # A table of 16-bit entries may hold 8-bit colours: the largest entry tells, not the descriptor.
    wide = colours.dtype.itemsize > 1 and colours.max(initial=0) > 255
    return Table(first, np.asarray(colours >> 8 if wide else colours, dtype=np.uint8))


def modality_table(head: bytes) -> Table:
    """Return an instance's modality look-up table.

    Parameters
    ----------
    head : bytes
        The instance's file up to the pixels, or beyond.

    Raises
    ------
    DecodeError
        It makes no sense.

    References
    ----------
    DICOM PS3.3 C.11.1.1.1.
    """
    try:
        part10 = parse(head)
        item = Header.from_part10(part10).items_of("ModalityLUTSequence")[0]
        count, first, _ = _descriptor(item, "LUTDescriptor")
        found = (part10.dataset[_SEQUENCE].items or ())[0][_DATA]
        entries = np.frombuffer(_value(part10, found), _words(part10))[:count].astype(np.float64)
        if not entries.size:
            raise ValueError("no entries")
    except _NO_SENSE as error:
        raise DecodeError("the modality LUT is not usable; load with units='stored'") from error
    return Table(first, entries)


def _descriptor(header: Header, keyword: str) -> tuple[int, int, int]:
    """Return number of entries, first stored value and bits of an entry."""
    count, first, bits = header.values(keyword)
    if not all(isinstance(number, int) and abs(number) <= LARGEST for number in (count, first, bits)):
        raise ValueError("a descriptor holds three numbers of 16 bits")
    return count % LARGEST or LARGEST, first, bits  # unsigned, though its VR may be SS


def _value(part10: Part10, found: Element) -> bytes:
    return bytes(part10.data[found.start : found.stop])


def _words(part10: Part10) -> np.dtype[Any]:
    return np.dtype(">u2" if part10.big_endian else "<u2")


def _whole(part10: Part10, tag: int, count: int) -> Array:
    """Return the entries of a table that is not segmented, in the byte order of its file."""
    data = _value(part10, part10.dataset[tag])
    return np.frombuffer(data, _words(part10) if len(data) >= 2 * count else np.uint8, count)


def _expanded(part10: Part10, tag: int, count: int, bits: int) -> Array:
    """Return the entries of a segmented table (PS3.3 C.7.9.2)."""
    data = _value(part10, part10.dataset[tag])
    dtype = np.dtype(np.uint8) if bits == 8 else _words(part10)
    codes = np.frombuffer(data, dtype, len(data) // dtype.itemsize).tolist()
    entries: list[int] = []
    at = 0
    while len(entries) < count:
        at = _segment(codes, at, entries, part10.big_endian if bits == 8 else None)
    return np.array(entries[:count], np.uint8 if bits == 8 else np.uint16)


def _segment(codes: Sequence[int], at: int, entries: list[int], big_endian_bytes: bool | None) -> int:
    """Add the entries of the segment at `at` and return where the next begins.

    An indirect segment, (2, number of segments, low word, high word), copies segments that aren't
    indirect themselves; its offset counts bytes.
    """
    kind, length = codes[at], codes[at + 1]
    if kind != 2:
        return _plain(codes, at, entries)
    if big_endian_bytes is None:
        offset, end = (codes[at + 2] | codes[at + 3] << 16) // 2, at + 4
    else:
        offset, end = _offset(codes[at + 2 : at + 6], big_endian_bytes), at + 6
    for _ in range(length):
        offset = _plain(codes, offset, entries)
        if len(entries) > LARGEST:
            break
    return end


def _offset(four: Sequence[int], big_endian: bool) -> int:
    low, high = struct.unpack(">HH" if big_endian else "<HH", bytes(four))
    return int(low | high << 16)


def _plain(codes: Sequence[int], at: int, entries: list[int]) -> int:
    """Add the entries of a discrete segment, (0, length, …), or a linear one, (1, length, last)."""
    kind, length = codes[at], codes[at + 1]
    if not length:
        raise ValueError("a segment has no entries")  # copied over and over it would take for ever
    if kind == 0:
        entries += codes[at + 2 : at + 2 + length]
        return at + 2 + length
    if kind != 1:
        raise ValueError("a segment is neither discrete nor linear, nor one that copies such")
    last, before = codes[at + 2], entries[-1]
    entries += np.rint(np.linspace(before, last, length + 1)[1:]).astype(int).tolist()
    return at + 3
