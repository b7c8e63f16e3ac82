"""Value representations: how each is encoded, and which one a tag has.

The dictionaries are pydicom's, read once at first use: importing pydicom costs more than
importing the rest of this room.

References
----------
DICOM PS3.5 6.2 (value representations), 7.1 (data elements), PS3.6 (data dictionary).
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import NamedTuple


class Code(NamedTuple):
    """A two-letter code as it stands in an explicit VR element."""

    vr: str
    long: bool
    """The length field has 4 bytes after 2 reserved ones (PS3.5 table 7.1-1)."""


_LONG = "OB OD OF OL OV OW SQ SV UC UN UR UT UV"
_SHORT = "AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US"

CODES: dict[bytes, Code] = {
    **{vr.encode(): Code(vr, True) for vr in _LONG.split()},
    **{vr.encode(): Code(vr, False) for vr in _SHORT.split()},
}
"""Every VR of PS3.5 2024, by its two bytes."""

BINARY = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "UN"])
"""VRs whose value is bulk: bytes with no value multiplicity."""

NUMBERS: dict[str, tuple[str, int]] = {
    "US": ("H", 2),
    "SS": ("h", 2),
    "UL": ("I", 4),
    "SL": ("i", 4),
    "UV": ("Q", 8),
    "SV": ("q", 8),
    "FL": ("f", 4),
    "FD": ("d", 8),
}
"""Binary numbers: struct code and size in bytes."""

TEXT = frozenset(["LO", "LT", "PN", "SH", "ST", "UC", "UT"])
"""VRs in the character set of (0008,0005)."""

SINGLE = frozenset(["LT", "ST", "UT", "UR"])
"""VRs where a backslash is just a backslash."""


@cache
def public_vrs() -> dict[int, str]:
    """Return VR by tag of the public dictionary; ambiguous ones read `US or SS` and the like."""
    from pydicom.datadict import DicomDictionary  # type: ignore[attr-defined]

    return {tag: entry[0] for tag, entry in DicomDictionary.items()}


@cache
def tags_by_keyword() -> dict[str, int]:
    """Return tag by keyword of the public dictionary."""
    from pydicom.datadict import DicomDictionary  # type: ignore[attr-defined]

    return {entry[4]: tag for tag, entry in DicomDictionary.items() if entry[4]}


@lru_cache(maxsize=4096)
def _repeater_vr(tag: int) -> str:
    from pydicom.datadict import dictionary_VR

    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return "UN"


@lru_cache(maxsize=4096)
def private_vr(tag: int, creator: str) -> str:
    """Return the VR of a private element by its creator's name, `UN` if nobody has told."""
    from pydicom.datadict import private_dictionary_VR

    try:
        return str(private_dictionary_VR(tag, creator))
    except KeyError:
        return "UN"


def public_vr(tag: int) -> str:
    """Return the VR of a public element, `UN` if the dictionary lacks it.

    Group lengths are UL (PS3.5 7.2); repeating groups such as overlays are known.
    """
    found = public_vrs().get(tag)
    if found is not None:
        return found
    return "UL" if not tag & 0xFFFF else _repeater_vr(tag)


__all__ = [
    "BINARY",
    "CODES",
    "Code",
    "NUMBERS",
    "SINGLE",
    "TEXT",
    "private_vr",
    "public_vr",
    "public_vrs",
    "tags_by_keyword",
]
