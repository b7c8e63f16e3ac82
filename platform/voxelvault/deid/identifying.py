"""What identifies somebody by its form alone: e-mail, telephones, addresses, places, persons with titles."""

from __future__ import annotations

import re
from collections.abc import Iterator

UID = re.compile(r"(?<![\d.])[0-2](?:\.(?:0|[1-9]\d*)){4,}(?![\d.]*\d)")

_STREET_LAST = (
    r"Street|Str?\.?(?=\s*[,;\n]|\s+[A-Z#]|\s*$)|Avenue|Ave|Road|Rd|Lane|Ln|Boulevard|Blvd|Terrace|Parkway|Pkwy|Highway|Hwy|"
    r"Crescent|Court|Drive|Place|Square|Close"
)
_STREET_LOUD = "STREET|AVENUE|AVE|ROAD|RD|LANE|BOULEVARD|BLVD|TERRACE|PARKWAY|PKWY|HIGHWAY|HWY|CRESCENT"
_STREET_JOINED = r"(?:stra(?:ss|ß)e|str\.|gasse|weg|platz|allee|straat|laan|plein|gracht|kade|gate|vej|gatan)"
_STREET_FIRST = (
    r"(?:[Rr]ue|Avenue|Boulevard|Via|Viale|Piazza|Corso|Calle|Avenida|Plaza|Rua|Chemin|Impasse|Strada)"
)
_WORD = r"[A-ZÀ-Þ][\w'\u2019.-]*"
_TITLE = r"\b(?:Dr|Prof|Mr|Mrs|Ms|Miss|Herrn?|Frau|Mme|Mlle|Sra?|Dott|Docteur)"
_SAYS_NAME = (
    r"\b(?:patient(?:'s)? name|name|surname|physician|operator"
    r"|(?:referr(?:ed|ing)|performed|read|reported|signed) by)"
)


def _compiled(*forms: str) -> list[re.Pattern[str]]:
    return [re.compile(form) for form in forms]


_WITH_DIGITS = _compiled(
    # Telephones: with a plus, after a word that says so, or groups of digits held together by signs.
    r"\+\d[\d ()/.-]{5,}\d",
    r"(?i)\b(?:tel|phone|fax|mobile|cell|call|pager|telefon|telephone|tel[ée]fono)\b"
    r"[\s.:#]*[+(]?\d[\d ()/.-]{4,}\d",
    r"(?<![\d.])\(?\d{2,5}\)?(?:[-/]| ?- ?|\) ?)\d{2,4}(?:[-/ .]\d{2,6}){1,3}(?![\d.]*\d)",
    r"(?<![\d.])0\d{1,4}(?: \d{2,4}){2,4}(?!\d)",
    r"(?<![\d.])\d{3}[-. ]\d{3}[-. ]\d{4}(?!\d)",
    # Addresses of machines, places on the globe.
    r"(?<![\d.])(?=(?:\d\.?){8})(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)",
    r"(?i)\b(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b",
    r"-?\d{1,3}[.,]\d{4,}\s*°?\s*[NSns]?\s*[,;/ ]\s*-?\d{1,3}[.,]\d{4,}\s*°?\s*[EWOewo]?\b",
    r"\d{1,3}\s*°\s*\d{1,2}\s*['\u2032]\s*(?:\d{1,2}(?:[.,]\d+)?\s*[\"\u2033])?\s*[NSEWOnsewo]",
    # Where somebody lives.
    rf"\b\d{{1,5}}[A-Za-z]?(?:-\d+)?,?\s+(?:{_WORD}\s+){{1,4}}(?:{_STREET_LAST})\b",
    rf"\b\d{{1,5}}[A-Z]?,?\s+(?:[A-Z'\u2019.-]+\s+){{1,4}}(?:{_STREET_LOUD})\b",
    rf"(?i)\b[\w-]{{3,40}}{_STREET_JOINED}\s+\d+\s?[a-z]?\b",
    r"(?i)\bp\.?\s?o\.?\s?box\s+\d+",
    r"\b[A-Z]{1,2}\d[A-Z\d]? ?\d[ABDEFGHJLNPQRSTUWXYZ]{2}\b",
    r"\b[A-CEGHJ-NPR-TVXY]\d[A-Z] \d[A-Z]\d\b",
)
_WITH_SIGNS = _compiled(
    r"[\w.+%'-]{1,64}\s?@\s?[\w-]+(?:\.[\w-]+)+",
    r"(?i)\b(?:[a-z][a-z0-9+.-]*://|www\.)[^\s\"'<>]+",
    r"(?i)\bgit@\S+",
)
_OF_WORDS = _compiled(
    rf"(?:\b\d{{1,4}},?\s+)?\b{_STREET_FIRST}\s+(?:(?:de|du|des|la|le|l'|del|della|dei|di|d')\s*)*"
    rf"{_WORD}(?:\s+{_WORD})*(?:,?\s+\d+)?",
    # Persons by their titles and by what a form says before them.
    rf"{_TITLE}\b\.?(?:\s+(?:Dr|med|Prof)\b\.?)*\s+{_WORD}(?:[\s-]+{_WORD})?",
    rf"\b(?:DR|PROF|MRS|MR)\.\s*{_WORD}",
    rf"(?i:{_SAYS_NAME})\s*[:=]\s*{_WORD}(?:[\s,^]+{_WORD}){{0,3}}",
)


def identifying_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield where a text holds what identifies somebody whatever the words are.

    Parameters
    ----------
    text : str
        As written: capitals count.

    Yields
    ------
    (int, int)
        Start and stop; spans may overlap.
    """
    forms = _OF_WORDS
    if any(map(str.isdigit, text)):
        forms = forms + _WITH_DIGITS
    if "@" in text or "://" in text or "www." in text.lower():
        forms = forms + _WITH_SIGNS
    for form in forms:
        yield from (match.span() for match in form.finditer(text))


__all__ = ["UID", "identifying_spans"]
