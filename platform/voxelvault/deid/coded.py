"""Coded entries: a code of a public scheme names nobody and stays, any other gets a pseudonym.

References
----------
DICOM PS3.3 8.8 (code sequence macro), PS3.16 8 (coding schemes); Verhoeff, Error detecting decimal
codes, 1969 (SNOMED CT); ISO/IEC 7812-1 annex B (LOINC's check digit).
"""

from __future__ import annotations

import re
from functools import cache

from voxelvault.deid import tables

VALUES = frozenset([0x00080100, 0x00080119, 0x00080120])
"""Code Value, Long Code Value, URN Code Value."""

DESIGNATOR, VERSION, MEANING = 0x00080102, 0x00080103, 0x00080104

PUBLIC_ROOTS = ("1.2.840.10008.", "2.16.840.1.113883.6.", "2.16.840.1.113883.5.")
"""Roots of UIDs that name a coding scheme (HL7's registry beside the standard's own)."""

_VERSION = re.compile(r"\d{1,4}(\.\d{1,4}){0,3}|(19|20)\d{6}|01")
_D5 = (
    "0123456789",
    "1234067895",
    "2340178956",
    "3401289567",
    "4012395678",
    "5987604321",
    "6598710432",
    "7659821043",
    "8765932104",
    "9876543210",
)
_PERMUTED = (
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
)


@cache
def _concepts() -> dict[str, dict[str, str]]:
    """Return meaning by code of the context groups that pydicom holds, by coding scheme."""
    from pydicom.sr import _concepts_dict

    concepts: dict[str, dict[str, dict[str, tuple[str, object]]]]
    concepts = _concepts_dict.concepts  # type: ignore[assignment]
    return {
        scheme: {code: said[0] for codes in keywords.values() for code, said in codes.items()}
        for scheme, keywords in concepts.items()
    }


def means(meaning: str, value: str, designator: str) -> bool:
    """Tell whether a code meaning is the one that the standard gives to the code."""
    known = _concepts().get(designator, {}).get(value)
    return known is not None and known.casefold() == meaning.casefold()


def is_public_scheme(designator: str) -> bool:
    """Tell whether a coding scheme designator is one of PS3.16's."""
    return designator in tables.schemes()


def is_version(value: str) -> bool:
    """Tell whether a coding scheme version is a short number or a date of eight digits."""
    return bool(_VERSION.fullmatch(value))


def is_public_code(value: str, designator: str) -> bool:
    """Tell whether a code is one of a public scheme, by form and check digit or by name.

    Parameters
    ----------
    value, designator : str
        (0008,0100) and (0008,0102), without padding.
    """
    if designator not in tables.schemes():
        return False
    pattern, check = tables.schemes()[designator]
    if pattern and pattern.fullmatch(value):
        return _CHECKS[check](value)
    return value in _concepts().get(designator, {})


def verhoeff(digits: str) -> bool:
    """Tell whether the last digit is the Verhoeff check digit of the others."""
    state = "0"
    for place, digit in enumerate(reversed(digits)):
        state = _D5[int(state)][int(_PERMUTED[place % 8][int(digit)])]
    return state == "0"


def luhn(code: str) -> bool:
    """Tell whether the last digit is the modulus 10 check digit of the others."""
    digits = [int(digit) for digit in reversed(code.replace("-", ""))]
    doubled = (sum(divmod(digit * 2, 10)) for digit in digits[1::2])
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


_CHECKS = {"": lambda value: True, "verhoeff": verhoeff, "luhn": luhn}

__all__ = [
    "DESIGNATOR",
    "MEANING",
    "PUBLIC_ROOTS",
    "VALUES",
    "VERSION",
    "is_public_code",
    "is_public_scheme",
    "is_version",
    "luhn",
    "means",
    "verhoeff",
]
