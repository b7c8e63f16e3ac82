"""Elements as they ought to be: the right VR, little endian, whatever the file says.

A name hides best in an element that claims to be a number or bytes, so the dictionary's VR counts and not
the stored one; what can't be read as it is removed.

References
----------
DICOM PS3.5 6.2 (value representations), 6.2.2 (UN), 7.1 (explicit VR); PS3.6.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence as Several
from functools import lru_cache
from io import BytesIO
from typing import Any, NamedTuple

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_sequence
from pydicom.filewriter import write_data_element
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from voxelvault.deid import tables
from voxelvault.dicom.vr import CODES, NUMBERS, public_vr

WORDS = {
    **{vr: size for vr, (_, size) in NUMBERS.items()},
    "AT": 2,
    "OW": 2,
    "OF": 4,
    "OL": 4,
    "OD": 8,
    "OV": 8,
}
"""Size in bytes of what is swapped between orders of bytes; a value is a multiple of it (AT: of 4)."""

TEXTS = frozenset("AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())
"""VRs that are characters."""

_ANY = frozenset([None, "UN", "OB", "OW"])
_UTF8 = ("utf8",)
_CHOICES = {"US or SS": ("US", "SS"), "OB or OW": ("OW", "OW"), "US or OW": ("OW", "OW")}


class Stored(NamedTuple):
    """One element as it was found: `value` are bytes in little or big endian, or a sequence.

    `vr` is None for implicit VR; `encodings` are set where they are not those of the data set.
    """

    vr: str | None
    value: bytes | Sequence
    little: bool = True
    encodings: tuple[str, ...] | None = None


_new = tuple.__new__
"""Makes a named tuple in half the time of calling its class; there is one for each element."""


def stored(element: RawDataElement | DataElement) -> Stored:
    """Return an element of pydicom's, read or made, without converting what was read."""
    if isinstance(element, RawDataElement):
        return _new(Stored, (element.VR, element.value or b"", element.is_little_endian, None))
    if isinstance(element.value, Sequence):
        return Stored("SQ", element.value)
    return _encoded(element)


def _encoded(element: DataElement) -> Stored:
    """Write an element that a program made, and take the value out again."""
    if element.VR == "US" and isinstance(element.value, int):  # read along with what depends on it
        return Stored("US", struct.pack("<H", element.value), True, _UTF8)
    if element.VR == "CS" and isinstance(element.value, str) and element.value.isascii():
        return Stored("CS", element.value.encode(), True, _UTF8)
    if " or " in element.VR:
        vr = "OW" if "OW" in element.VR and isinstance(element.value, bytes) else element.VR[:2]
        element = DataElement(element.tag, vr, element.value)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_data_element(buffer, element, ["utf8"])
    data = buffer.getvalue()
    value = data[12 if CODES[data[4:6]].long else 8 :]
    return Stored(str(element.VR), value, True, _UTF8)


def raw_element(tag: BaseTag, vr: str, value: bytes) -> RawDataElement:
    """Return an element as if it had been read: explicit VR, little endian, not converted."""
    return RawDataElement(tag, vr, len(value), value, 0, False, True)


@lru_cache(maxsize=65536)
def proper_vr(tag: int, vr: str | None, creator: str | None, signed: bool) -> str:
    """Return the VR that an element ought to have.

    Parameters
    ----------
    tag : int
        Group and element.
    vr : str or None
        As stored; it decides where the dictionary leaves a choice.
    creator : str or None
        Of a private element.
    signed : bool
        Pixels are signed, which decides between US and SS.

    Returns
    -------
    str
        `UN` for what nobody knows.
    """
    if tag >> 16 & 1:
        known = tables.safe_private().get((tag >> 16, tag & 0xFF, creator or ""), "") or vr or "UN"
    else:
        row = tables.listed(tag)
        known = public_vr(tag)
        known = row.vr if known == "UN" and row and row.vr else known
    if " or " not in known:
        return known
    if vr is not None and vr in known.split(" or "):
        return vr
    return _CHOICES.get(known, ("OW", "OW"))[signed]


def as_sequence(found: Stored, encoding: Several[str]) -> Sequence | None:
    """Return the items of a sequence, also of one that is stored as bytes; None for what is none.

    References
    ----------
    DICOM PS3.5 6.2.2: a sequence within UN is in implicit VR, little endian.
    """
    if isinstance(found.value, Sequence):
        return found.value
    ways = [(True, True), (False, True)] if found.vr in _ANY else [(False, found.little)]
    return next((items for way in ways if (items := _parsed(found.value, way, encoding)) is not None), None)


def _parsed(value: bytes, way: tuple[bool, bool], encoding: Several[str]) -> Sequence | None:
    if value and not value.startswith((b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")):
        return None
    try:
        return read_sequence(BytesIO(value), *way, len(value), list(encoding))
    except (
        AttributeError,
        EOFError,
        KeyError,
        NotImplementedError,
        OSError,
        TypeError,
        ValueError,
        struct.error,
    ):
        return None


def as_bytes(found: Stored, vr: str) -> bytes | None:
    """Return the value in the VR that it ought to have, little endian; None for what can't be.

    Raises
    ------
    Nothing: what can't be read is None.
    """
    if isinstance(found.value, Sequence):
        return None
    if found.vr == vr or found.vr in _ANY or (found.vr in TEXTS and vr in TEXTS):
        return _ordered(found.value, vr, found.little)
    numbers = _numbers(found)
    return None if numbers is None else _from_numbers(numbers, vr)


def _ordered(value: bytes, vr: str, little: bool) -> bytes:
    size = WORDS.get(vr)
    if size is None:
        return value
    whole = len(value) - len(value) % (4 if vr == "AT" else size)
    value = value[:whole] if whole != len(value) else value
    return value if little else swapped(value, size)


def swapped(value: bytes, size: int) -> bytes:
    """Return bytes with the order within each word turned round."""
    out = bytearray(len(value))
    for place in range(size):
        out[place::size] = value[size - 1 - place :: size]
    return bytes(out)


def _numbers(found: Stored) -> list[Any] | None:
    assert isinstance(found.value, bytes)  # noqa: S101
    if found.vr in NUMBERS:
        code, size = NUMBERS[found.vr]
        count = len(found.value) // size
        return list(
            struct.unpack(f"{'<' if found.little else '>'}{count}{code}", found.value[: count * size])
        )
    try:
        return [float(part) for part in found.value.strip(b"\0 ").split(b"\\") if part.strip()]
    except ValueError:
        return None


def _from_numbers(numbers: list[Any], vr: str) -> bytes | None:
    try:
        if vr in ("DS", "IS"):
            return "\\".join(
                f"{number:.10g}" if vr == "DS" else str(int(number)) for number in numbers
            ).encode()
        if vr in NUMBERS:
            whole = [number if vr in ("FL", "FD") else int(number) for number in numbers]
            return struct.pack(f"<{len(whole)}{NUMBERS[vr][0]}", *whole)
    except (OverflowError, ValueError, struct.error):
        return None
    return None


__all__ = [
    "TEXTS",
    "WORDS",
    "Stored",
    "as_bytes",
    "as_sequence",
    "proper_vr",
    "raw_element",
    "stored",
    "swapped",
]
