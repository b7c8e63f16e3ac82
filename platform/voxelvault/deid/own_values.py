"""The deny-list: where a text holds the patient's own values, however they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator

from voxelvault.deid.folding import fold, spellings, words
from voxelvault.deid.model import Person
from voxelvault.deid.person import name_words

Span = tuple[int, int]

SHORTEST_INSIDE = 4
"""Identifiers of so many characters are found inside longer tokens too."""

_BREAK = r"[\W_]{0,3}"
_TOKEN_CHARACTER = re.compile(r"[^\W_]")


class OwnValues:
    """Finds a person's names, identifiers, addresses and the like in folded text.

    Names are found as whole words, each by itself, so in any order; with umlauts as such, plain or
    written out; and cut into pieces, as in ``S.M.I.T.H``. Identifiers, telephone numbers and the date
    of birth are found with any punctuation between their characters, and inside longer tokens.
    Addresses and places are found as a whole; what they hold of words that are in no list goes anyway.

    Parameters
    ----------
    person : Person
        The patient's own values.
    """

    def __init__(self, person: Person) -> None:
        self.words = frozenset(_name_words(person)) | frozenset(_numbers(person))
        self._joined = frozenset(word for word in self.words if len(word) >= SHORTEST_INSIDE)
        self._inside = _any_of({*_identifiers(person), *_births(person), *map(_phrase, _long_texts(person))})
        short = {_phrase(value) for value in person.ids if _size(value) == 3}
        self._whole = _any_of({*short, *map(_BREAK.join, self._joined)})

    def is_own(self, word: str) -> bool:
        """Say whether a folded word is one of a name, or a number of an address."""
        return word in self.words

    def is_within(self, joined: str) -> bool:
        """Say whether letters and digits without anything between hold a name or an identifier."""
        return bool(self._inside and self._inside.search(joined)) or any(
            word in joined for word in self._joined
        )

    def spans(self, folded: str) -> Iterator[Span]:
        """Yield where identifiers, telephones, addresses and names in pieces stand, whole tokens always.

        Parameters
        ----------
        folded : str
            Folded text.

        Yields
        ------
        (int, int)
            Start and stop in `folded`.
        """
        if self._inside:
            for match in self._inside.finditer(folded):
                yield _to_token_edges(folded, *match.span())
        if self._whole:
            for match in self._whole.finditer(folded):
                if _to_token_edges(folded, *match.span()) == match.span():
                    yield match.span()


def _name_words(person: Person) -> Iterator[str]:
    for name in person.names:
        for spelling in spellings(name):
            yield from (word for word in name_words(spelling) if len(word) > 1 or not word.isascii())


def _numbers(person: Person) -> Iterator[str]:
    """Yield house numbers and post codes long enough to tell of a place."""
    for text in person.texts:
        yield from (word for word in words(fold(text)) if len(word) >= 3 and any(map(str.isdigit, word)))


def _identifiers(person: Person) -> Iterator[str]:
    """Yield patterns of identifiers, and of the digits of identifiers and telephones."""
    for value in person.ids:
        if _size(value) >= SHORTEST_INSIDE:
            yield _BREAK.join("".join(words(fold(value))))
    for value in person.ids | person.texts:
        digits = "".join(filter(str.isdecimal, fold(value)))
        if 5 <= len(digits) <= 24:
            yield _BREAK.join(digits)


def _births(person: Person) -> Iterator[str]:
    """Yield patterns of the digits of a date of birth, in three orders, with the century and without."""
    for born in person.dates:
        year, month, day = born[:4], born[4:6], born[6:8]
        for y in (year, year[2:]):
            yield from (_BREAK.join(digits) for digits in (y + month + day, day + month + y, month + day + y))


def _long_texts(person: Person) -> Iterator[str]:
    for text in person.texts:
        yield from (part for part in (text, *re.split(r"[\r\n;^]+", text)) if _size(part) >= SHORTEST_INSIDE)


def _phrase(value: str) -> str:
    return _BREAK.join(map(re.escape, words(fold(value))))


def _size(value: str) -> int:
    return sum(map(len, words(fold(value))))


def _any_of(patterns: set[str]) -> re.Pattern[str] | None:
    known = sorted(patterns - {""}, key=lambda one: (-len(one), one))
    return re.compile("|".join(known)) if known else None


def _to_token_edges(text: str, start: int, stop: int) -> Span:
    while start and _TOKEN_CHARACTER.match(text[start - 1]):
        start -= 1
    while stop < len(text) and _TOKEN_CHARACTER.match(text[stop]):
        stop += 1
    return start, stop


__all__ = ["OwnValues", "Span"]
