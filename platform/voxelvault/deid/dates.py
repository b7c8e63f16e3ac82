"""Dates, date-times and ages as DICOM writes them: moved by whole days, ages over 89 capped.

Times never change, so intervals stay exact and daylight saving makes no second offset. What can't
be read as a date gives None, and the caller empties or replaces it: nothing passes unread.

References
----------
DICOM PS3.5 6.2 (AS, DA, DT, TM), PS3.15 E.3.6 (modified dates); 45 CFR 164.514(b)(2)(i)(C).
"""

from __future__ import annotations

import re
from datetime import date, timedelta

OLDEST = 89
"""Ages above this are told as 90 (45 CFR 164.514(b)(2)(i)(C))."""

_DA = re.compile(r"(\d{4})([.\-/]?)(\d{2})\2(\d{2})")
_DT = re.compile(
    r"(?P<year>\d{4})(?P<month>\d{2})?(?P<day>(?<=\d{6})\d{2})?"
    r"(?P<time>(?<=\d{8})(?:[01]\d|2[0-3])(?:[0-5]\d(?:(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?)?"
    r"(?P<zone>[+-](?:0\d|1[0-4])[0-5]\d)?"
)
_AS = re.compile(r"(\d{1,3})([DWMY])")


def shift_date(value: str, days: int) -> str | None:
    """Move a DA value.

    Parameters
    ----------
    value : str
        One value, YYYYMMDD or, as old equipment wrote it, with dots; padding doesn't matter.
    days : int
        Whole days; negative goes back.

    Returns
    -------
    str or None
        Written as it came, empty if it was empty; None for what is no calendar date, ranges included.
    """
    value = value.strip("\0 ")
    match = _DA.fullmatch(value)
    if not match:
        return None if value else ""
    moved = move(calendar_date(match[1], match[3], match[4]), days)
    if moved is None:
        return None
    return match[2].join((f"{moved.year:04}", f"{moved.month:02}", f"{moved.day:02}"))


def shift_datetime(value: str, days: int) -> str | None:
    """Move a DT value; all components, the fraction and the offset from UTC stay.

    A year or a month alone moves as its middle does, and stays as short as it came.

    Parameters
    ----------
    value : str
        One value, YYYYMMDDHHMMSS.FFFFFF&ZZXX, cut short anywhere.
    days : int
        Whole days; negative goes back.

    Returns
    -------
    str or None
        Empty if it was empty; None for what is no date-time, ranges included.
    """
    value = value.strip("\0 ")
    match = _DT.fullmatch(value)
    if not match:
        return None if value else ""
    year, month, day, time, zone = match.group("year", "month", "day", "time", "zone")
    moved = move(calendar_date(year, month or "07", day or ("15" if month else "01")), days)
    if moved is None:
        return None
    text = f"{moved.year:04}{moved.month:02}{moved.day:02}"
    return text[: 4 + 2 * bool(month) + 2 * bool(day)] + (time or "") + (zone or "")


def cap_age(value: str) -> str | None:
    """Return an AS value, `090Y` where it tells more than 89 years.

    Parameters
    ----------
    value : str
        One value: up to three digits and D, W, M or Y.

    Returns
    -------
    str or None
        With three digits, empty if it was empty; None for what is no age.
    """
    value = value.strip("\0 ").upper()
    match = _AS.fullmatch(value)
    if not match:
        return None if value else ""
    number, unit = int(match[1]), match[2]
    return f"{OLDEST + 1:03}Y" if unit == "Y" and number > OLDEST else f"{number:03}{unit}"


def calendar_date(year: str | int, month: str | int, day: str | int) -> date | None:
    """Return the date, None where the calendar has no such day."""
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None


def move(day: date | None, days: int) -> date | None:
    """Return the date that many days away, None where there is none."""
    try:
        return day + timedelta(days=days) if day else None
    except OverflowError:
        return None


__all__ = ["OLDEST", "calendar_date", "cap_age", "move", "shift_date", "shift_datetime"]
