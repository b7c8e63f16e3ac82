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

_SNOMED_RT = frozenset(["SRT", "SNM3", "99SDM"])
_LANGUAGES_OF_PLACES = frozenset(["RFC3066", "RFC5646"])

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
def _concepts() -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the meanings of a code, the shortest first, of the context groups that pydicom holds."""
    from pydicom.sr import _concepts_dict

    concepts: dict[str, dict[str, dict[str, tuple[str, object]]]]
    concepts = _concepts_dict.concepts  # type: ignore[assignment]
    found: dict[str, dict[str, set[str]]] = {}
    for scheme, keywords in concepts.items():
        for codes in keywords.values():
            for code, said in codes.items():
                found.setdefault(scheme, {}).setdefault(code, set()).add(said[0])
    return {
        scheme: {code: tuple(sorted(said, key=lambda one: (len(one), one))) for code, said in codes.items()}
        for scheme, codes in found.items()
    }


@cache
def _snomed() -> dict[str, str]:
    """Return the code of today by one of SNOMED RT, as the standard used it until 2017."""
    from pydicom.sr import _snomed_dict

    return dict(_snomed_dict.mapping["SRT"])


def meaning(value: str, designator: str, written: str = "") -> str | None:
    """Return the meaning that a dictionary gives to a code; it says no more than the code does.

    Parameters
    ----------
    value, designator : str
        (0008,0100) and (0008,0102), without padding.
    written : str
        What the sender wrote: decides where a dictionary has several meanings.

    Returns
    -------
    str or None
        Of 64 characters at most; None where no dictionary has the code.
    """
    known = _meanings(value, designator)
    if not known:
        return None
    same = (one for one in known if one.casefold() == written.casefold())
    return next(same, known[0])[:64].rstrip()


def _meanings(value: str, designator: str) -> tuple[str, ...]:
    if designator in _SNOMED_RT:
        value, designator = _snomed().get(value, ""), "SCT"
    known = _concepts().get(designator, {}).get(value, ())
    return known or _place_or_language(value, designator)


def _place_or_language(value: str, designator: str) -> tuple[str, ...]:
    said = tables.meanings()
    if designator in _LANGUAGES_OF_PLACES:
        language, _, place = value.partition("-")
        names = said.get(("ISO639_1", language)), said.get(("ISO3166_1", place))
        if names[0] and place:
            return (f"{names[0]} ({names[1]})",) if names[1] else ()
        return (names[0],) if names[0] else ()
    found = said.get((designator, value))
    return (found,) if found else ()


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
    "meaning",
    "verhoeff",
]
