"""Which words and numbers may stay in a descriptor, and which few in pixels."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib import resources

UNITS = frozenset(
    "mm mm2 mm3 cm cm2 cm3 m um μm nm ml l cc mg g kg ug mcg μg mmol mol s sec secs second seconds ms "
    "us min mins h hr hrs hz khz mhz ghz kv kvp mv ma mas uas mgy mgycm gy cgy rad rads sv msv mbq bq "
    "bqml mci ci t tesla gauss mt deg degrees hu ppm px pixel pixels voxels db pct percent bpm fps x "
    "times gev kev mev".split()
)
ROUND = frozenset("1000 1024 1200 1500 2048 2500 3072 4096".split())
"""Numbers of four digits that are matrices, b-values and times, and no year."""

NAMED = frozenset([("jpeg", "2000")])
"""A word and the number that belongs to it, which is no year."""

_NUMBER = re.compile(r"(\d+)(?:[.,](\d+))?")
_CODE = re.compile(r"[a-z]\d{1,3}[a-z]?|\d{1,3}[a-z]")
_DESIGNATION = re.compile(r"([A-Z]{1,3})\d{1,3}[A-Z]?")
_MODEL = re.compile(r"(?!19|20)\d{4}")
_MATRIX = re.compile(r"\d{1,4}(?:x\d{1,4}){1,3}")
_RUNS = re.compile(r"\d+|[^\W\d_]+")
_HUMPS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")


@cache
def _list(name: str) -> frozenset[str]:
    lines = (resources.files("voxelvault.deid.vocabulary") / f"{name}.txt").read_text("utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


@cache
def clinical() -> frozenset[str]:
    """Return every clinical and technical word, folded."""
    return _list("clinical") | _list("standard_terms") | UNITS


def is_known(word: str) -> bool:
    """Say whether a folded word is on the clinical lists."""
    return word in clinical()


def may_stay(token: str, written: str, following: str, before: str = "") -> bool:
    """Say whether a token of a descriptor tells of medicine or machines alone.

    Parameters
    ----------
    token : str
        Folded: a run of letters and digits, or a decimal number with what follows it.
    written : str
        The same as it was written; its capitals tell joined words apart.
    following : str
        The next token, folded: a unit lets a longer number stay.
    before : str
        The token before it, folded: some names end with a number.

    Returns
    -------
    bool
        False for whatever is on no list.
    """
    if token in clinical() or (before, token) in NAMED:
        return True
    if _NUMBER.fullmatch(token):
        return _number_may_stay(token, following in UNITS)
    if any(map(str.isdigit, token)):
        return _mixed_may_stay(token)
    humps = [hump.casefold() for hump in _HUMPS.findall(written)] if written.isascii() else []
    return len(humps) > 1 and all(len(hump) > 1 and is_known(hump) for hump in humps)


def _number_may_stay(number: str, unit: bool) -> bool:
    match = _NUMBER.fullmatch(number)
    assert match  # noqa: S101  the caller looked
    whole, fraction = match[1], match[2]
    if fraction is None:
        return len(whole) <= 3 or (unit and len(whole) <= 5) or whole in ROUND
    most = 6 if unit or len(whole) == 1 else 3  # more is a place on the globe
    return len(whole) <= 4 and len(fraction) <= most


def _mixed_may_stay(token: str) -> bool:
    """Judge letters and digits together: T2, H31s, 3.0T, b1000, epfid2d1."""
    if _CODE.fullmatch(token) or _MATRIX.fullmatch(token):
        return True
    decimal = re.match(r"\d+[.,]\d+", token)
    if decimal:
        rest = token[decimal.end() :]
        return rest in UNITS and _number_may_stay(decimal[0], True)
    runs = _RUNS.findall(token)
    letters = [run for run in runs if not run[0].isdigit()]
    digits = [run for run in runs if run[0].isdigit()]
    last_is_unit = len(runs) == 2 and runs[1] in UNITS
    return (
        len(runs) <= 5
        and all(_number_may_stay(run, last_is_unit) for run in digits)
        and all(len(run) == 1 or is_known(run) for run in letters)
        and sum(len(run) == 1 for run in letters) <= 1
    )


def designation(written: str) -> str | None:
    """Return the letters that a maker's designation begins with, such as VA of VA48A; None for what is none.

    Parameters
    ----------
    written : str
        A token as it was written: one to three capitals, as many digits at most, maybe a letter.
    """
    match = _DESIGNATION.fullmatch(written)
    return match[1] if match else None


def is_model_number(written: str) -> bool:
    """Say whether a number of four digits may be a model's, as in SSD-4000: those of years are none."""
    return bool(_MODEL.fullmatch(written))


def like_designations(ids: Iterable[str]) -> frozenset[str]:
    """Return the patient ids that read as a maker's designation or a model's number: those name somebody."""
    found = ("".join(filter(str.isalnum, one)).upper() for one in ids)
    return frozenset(one for one in found if designation(one) or is_model_number(one))


_STAMP = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}|\d:\d|\d[-/]\d{3}|\d{4}[-/]\d")
_NUMBERED = re.compile(r"(?<![^\W\d_])(?!(?:w|l|ww|wl|wc|te|tr)\d)[^\W\d_]+\d{3}")
"""A word with a number of three digits right behind it, as identifiers have; windows and times may."""
_PIXEL_TOKEN = re.compile(r"\d+(?:[.,]\d+)?|[^\W\d_]+")


def may_stay_in_pixels(folded: str) -> bool:
    """Say whether a string read from pixels is made of display words and short numbers alone.

    Parameters
    ----------
    folded : str
        What was read, folded.

    Returns
    -------
    bool
        False for dates and clock times, for more than six digits, for anything unread.
    """
    tokens = _PIXEL_TOKEN.findall(folded)
    digits = sum(map(str.isdigit, folded))
    if not tokens or _STAMP.search(folded) or _NUMBERED.search(folded) or digits > 6:
        return False
    return all(
        len(re.sub(r"[.,]", "", token)) <= 4 and len(token.split(".")[0]) <= 3
        if token[0].isdigit()
        else token in _list("harmless")
        for token in tokens
    )


__all__ = [
    "ROUND",
    "UNITS",
    "clinical",
    "designation",
    "is_known",
    "is_model_number",
    "like_designations",
    "may_stay",
    "may_stay_in_pixels",
]
