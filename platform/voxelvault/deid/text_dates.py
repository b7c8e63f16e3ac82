"""Dates and ages within text, found in the ways that people and machines write them.

A date that is found is either moved by whole days and written as it was, or has no moved form: a
day that no calendar has, or one of which nobody can tell day from month. Those are masked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date

from voxelvault.deid.dates import OLDEST, calendar_date, move

_NAMES = """
january february march april may june july august september october november december
jan feb mar apr may jun jul aug sep oct nov dec
januar februar märz april mai juni juli august september oktober november dezember
jan feb mär apr mai jun jul aug sep okt nov dez
janvier février mars avril mai juin juillet août septembre octobre novembre décembre
janv févr mars avr mai juin juil août sept oct nov déc
enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre
ene feb mar abr may jun jul ago sep oct nov dic
gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre
gen feb mar apr mag giu lug ago set ott nov dic
janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro
jan fev mar abr mai jun jul ago set out nov dez
januari februari maart april mei juni juli augustus september oktober november december
jan feb mrt apr mei jun jul aug sep okt nov dec
"""
_TABLES = [line.split() for line in _NAMES.strip().splitlines()]
# Spelled without accents, as DICOM's default character set makes people do.
_PLAIN = str.maketrans("äéûç", "aeuc")
_TABLES += [[name.translate(_PLAIN) for name in table] for table in _TABLES]
_ANY = "|".join(sorted({name for table in _TABLES for name in table}, key=len, reverse=True))
_FULL = "|".join(
    sorted({n for t in _TABLES for n in t if len(n) > 3 and not n.startswith("mar")}, key=len, reverse=True)
)
_WEEKDAY = (
    r"(?:\b(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*|(?:mon|diens|donners|frei|sams|sonn)tag|mittwoch"
    r"|lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche)[.,]?\s+(?:den\s+|le\s+)?)?"
)
_Y4, _Y, _N = r"(?:1[89]|20)\d\d", r"(?:1[89]|20)\d\d|'?\d\d", r"\d{1,2}"
_CLOCK = r"(?:\s+\d{1,2}:\d\d(?::\d\d)?(?:\s+[A-Z]{3,4})?)?"
_SUFFIX = r"(?P<o>st|nd|rd|th|º|er)?"
_LEFT, _RIGHT = r"(?<![\d.])(?<!\d[/-])", r"(?!\d)(?!\.\d)"

_FORMS = {
    "compact": rf"(?<!\d)(?P<y>{_Y4})(?P<m>0[1-9]|1[0-2])(?P<d>0[1-9]|[12]\d|3[01])"
    r"(?:(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d)?)?(?!\d)",
    "compact_end": rf"(?<!\d)(?P<a>\d\d)(?P<b>\d\d)(?P<y>{_Y4})(?!\d)",
    "year_first": rf"{_LEFT}(?P<y>{_Y4})(?P<s>[-/.])(?P<m>{_N})(?P=s)(?P<d>{_N})(?!\d)(?!\.\d)",
    "cjk": rf"(?<!\d)(?P<y>{_Y4})\s*[年년]\s*(?P<m>{_N})\s*[月월](?:\s*(?P<d>{_N})\s*[日일])?",
    "dotted": rf"{_LEFT}(?P<d>{_N})\.\s?(?P<m>{_N})\.\s?(?P<y>{_Y4}){_RIGHT}",
    "dotted_short": rf"{_LEFT}(?P<d>\d\d)\.(?P<m>\d\d)\.(?P<y>\d\d){_RIGHT}",
    "slashed": rf"{_LEFT}(?P<a>{_N})(?P<s>[/-])(?P<b>{_N})(?P=s)(?P<y>{_Y4}|\d\d){_RIGHT}",
    "day_name": rf"{_WEEKDAY}(?<!\d)(?P<d>{_N}){_SUFFIX}\.?[\s./-]*(?:of\s+|de\s+|di\s+)?"
    rf"(?P<n>{_ANY})\b\.?[\s.,/-]*(?:del?\s+)?(?P<y>{_Y})(?!\d)",
    "day_name_joined": rf"(?<!\d)(?P<d>{_N})(?P<n>{_ANY})(?P<y>{_Y4}|\d\d)(?!\d)",
    "name_day": rf"{_WEEKDAY}\b(?P<n>{_ANY})\b\.?[\s./-]*(?P<d>{_N}){_SUFFIX}{_CLOCK}"
    rf"(?:,\s*|[\s./-]+)(?P<y>{_Y})(?!\d)(?!:)",
    "year_name": rf"(?<!\d)(?P<y>{_Y4})[\s./-]*(?P<n>{_ANY})\b[\s./-]*(?P<d>{_N})(?!\d)",
    "name_year": rf"\b(?P<n>{_ANY})\b\.?[\s.,/-]*(?:del?\s+)?(?P<y>{_Y4})(?!\d)",
    "month_year": rf"{_LEFT}(?P<m>0?[1-9]|1[0-2])/(?P<y>{_Y4})(?!\d)",
    "year_month": rf"{_LEFT}(?P<y>{_Y4})[-/](?P<m>0[1-9]|1[0-2])(?![\d-])",
    "day_only": rf"{_WEEKDAY}(?<![\d.])(?P<d>{_N}){_SUFFIX}\.?\s+(?:of\s+|de\s+)?(?P<n>{_FULL})\b",
    "name_only": rf"{_WEEKDAY}\b(?P<n>{_FULL})\s+(?P<d>{_N}){_SUFFIX}(?![\d.])",
}
_PATTERNS = [re.compile(form, re.IGNORECASE) for form in _FORMS.values()]
_YEARLESS = 2001
_AGE = re.compile(
    r"(?<![\d.,])(?P<before>\d{2,3})(?=[\s-]*(?:years?\b|yrs?\b|y\.?\s?/?o\b|y\b|jahre|jährig|jaehrig|ans\b"
    r"|años|anos\b|anni\b|jaar|[岁歳세]))|(?:\b(?:aged?|alter|âge|edad|età|leeftijd)[:=\s]+)(?P<after>\d{2,3})(?![\d.])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class TextDate:
    """A date in a text.

    Parameters
    ----------
    start, stop : int
        Where it stands, a weekday before it included.
    days : tuple of date
        What it may mean: one day, none where the calendar has no such day, two where day and
        month can't be told apart. A month stands for its middle, a day without a year for 2001.
    """

    start: int
    stop: int
    days: tuple[date, ...]
    _match: re.Match[str] = field(repr=False, compare=False)

    def moved(self, days: int) -> str | None:
        """Return it so many days away, written as it was but for the weekday; None if it can't be."""
        to = move(self.days[0], days) if len(self.days) == 1 else None
        return None if to is None else _rewritten(self._match, to, self.days[0])

    def may_mean(self, day: str) -> bool:
        """Say whether it may mean a YYYYMMDD, as far as it tells: a month, a day without a year too."""
        groups = self._match.groupdict()
        told = {"%Y": groups.get("y"), "%m": True, "%d": groups.get("d") or groups.get("a")}
        form = "".join(part for part, said in told.items() if said)
        meant = calendar_date(day[:4], day[4:6], day[6:8])
        return meant is not None and any(one.strftime(form) == meant.strftime(form) for one in self.days)


def find_dates(text: str) -> tuple[TextDate, ...]:
    """Return the dates in a text, in order; the longest way to read each place.

    Parameters
    ----------
    text : str
        Any text, best in NFKC. Digits of any script are read.

    Returns
    -------
    tuple of TextDate
        They don't overlap.
    """
    if not any(map(str.isdecimal, text)):
        return ()
    text = text if text.isascii() else "".join(map(_ascii_digit, text))
    found: list[TextDate] = []
    for pattern in _PATTERNS:
        for match in pattern.finditer(text):
            if all(match.end() <= other.start or other.stop <= match.start() for other in found):
                found.append(TextDate(match.start(), match.end(), _meant(match), match))
    return tuple(sorted(found, key=lambda one: one.start))


def cap_ages(text: str) -> str:
    """Return the text with ages over 89 years told as 90."""
    return _AGE.sub(_capped, text)


def _capped(match: re.Match[str]) -> str:
    group = "before" if match["before"] else "after"
    if int(match[group]) <= OLDEST:
        return match[0]
    return match[0][: match.start(group) - match.start()] + str(OLDEST + 1)


def _ascii_digit(character: str) -> str:
    return str(int(character)) if character.isdecimal() else character


def _meant(match: re.Match[str]) -> tuple[date, ...]:
    """Return the days that a match may mean."""
    groups = match.groupdict()
    year = _year(groups.get("y"))
    if "a" in groups:
        pairs = {(groups["a"], groups["b"]), (groups["b"], groups["a"])}
        days = {calendar_date(year, month, day) for day, month in pairs}
        return tuple(sorted(day for day in days if day))
    month = groups.get("m") or _month(groups["n"])
    day = calendar_date(year, month, groups.get("d") or 15)
    return (day,) if day else ()


def _year(text: str | None) -> int:
    if text is None:
        return _YEARLESS
    number = int(text.lstrip("'"))
    return number if number > 99 else number + (2000 if number < 50 else 1900)


def _month(name: str) -> int:
    return next(table.index(name.lower()) + 1 for table in _TABLES if name.lower() in table)


def _rewritten(match: re.Match[str], to: date, old: date) -> str:
    """Write another day the way that a match wrote its own."""
    new = dict(_components(match, to, old))
    pieces, end = [], min(match.start(name) for name in new)
    for name in sorted(new, key=match.start):
        pieces += [match.string[end : match.start(name)], new[name]]
        end = match.end(name)
    return "".join([*pieces, match.string[end : match.end()]])


def _components(match: re.Match[str], to: date, old: date) -> Iterator[tuple[str, str]]:
    day_is_first = match.re.groupindex.get("a") and int(match["a"]) == old.day
    for name, text in match.groupdict().items():
        if text is None or name == "s":
            continue
        if name == "o":
            yield name, ""  # the ending would tell of the day that it belonged to
        elif name == "n":
            yield name, _named(text, to.month)
        elif name == "y":
            yield (
                name,
                f"{to.year:04}" if len(text) > 3 else text.rstrip("0123456789") + f"{to.year % 100:02}",
            )
        else:
            is_day = name == "d" or name == ("a" if day_is_first else "b")
            yield name, str(to.day if is_day else to.month).zfill(len(text))


def _named(name: str, month: int) -> str:
    """Return another month in the language, length and case of a name."""
    table = next(table for table in _TABLES if name.lower() in table)
    other = table[month - 1]
    return other.upper() if name.isupper() else other.capitalize() if name[0].isupper() else other


__all__ = ["TextDate", "cap_ages", "find_dates"]
