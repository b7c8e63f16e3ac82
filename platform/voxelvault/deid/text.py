"""Descriptors cleaned, not dropped: what tells of medicine and machines stays, all else is masked.

Own values go first, whatever lists they are on; then what identifies by its form; then every token
that is on no list. So a name misspelt by one letter goes as an unknown word, while a clinical word
that is one letter away from a name stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from string import ascii_lowercase

from voxelvault.deid.folding import fold, fold_with_places, readable, words
from voxelvault.deid.identifying import UID, identifying_spans
from voxelvault.deid.model import Person
from voxelvault.deid.own_values import OwnValues
from voxelvault.deid.text_dates import TextDate, cap_ages, find_dates
from voxelvault.deid.words import designation, is_known, is_model_number, may_stay, may_stay_in_pixels

MASK = "XXX"
"""Stands for whatever was taken out; valid in every text VR, and survives a second cleaning."""

REMEMBERED = 4096
"""Texts of one patient that are cleaned once only; the files of a series say the same."""

SPELT = 4
"""So many single letters in a row are a word, and no directions such as T/S/C."""

_TOKEN = re.compile(r"\d+[.,]\d+[^\W\d_]*|[^\W_]+")
_SINGLES = re.compile(r"(?<![^\W_])[^\W\d_](?:[\W_]{1,3}[^\W\d_](?![^\W_])){2,}")
_HUMP = re.compile(r"[A-Z][a-z]+")
_LETTERS = re.compile(r"[^\W\d_]+")
_JOINABLE = re.compile(rf"{MASK}(?:[ ^,;:=/_'\u2019.&+-]*{MASK})+")
_GLUE = re.compile(r"[\s,;:./^_'\u2019-]*")


@dataclass(frozen=True)
class _Piece:
    """A stretch of the text with a decision: kept in other words, or masked.

    What may be a `name` masks single letters and post codes beside it (initials, a town), an own
    value (`own`) all numbers (of a house, of a flat).
    """

    start: int
    stop: int
    instead: str
    name: bool = False
    own: bool = False


class TextCleaner:
    """Cleans text of one patient.

    Parameters
    ----------
    person : Person
        The patient's own values.
    uid : callable
        Gives the UID that stands for one.
    days : int or None
        By how many days dates move; None takes them out.
    keep_dates : bool
        Dates stay as they are; those of birth go all the same.
    others : set of str
        Ids of other patients that read as a machine's designation (`like_designations`): none stays as one.
    """

    def __init__(
        self,
        person: Person,
        *,
        uid: Callable[[str], str],
        days: int | None = None,
        keep_dates: bool = False,
        others: Set[str] = frozenset(),
    ) -> None:
        self._own = OwnValues(person)
        self._births = person.dates
        self._others = others
        self._uid = uid
        self._days = 0 if keep_dates else days
        self._initials = frozenset(word[0] for name in person.names for word in words(fold(name)) if word)
        self._birthdays = frozenset(
            day for born in person.dates for day in (born[4:8], born[6:8] + born[4:6])
        )
        self._known: dict[tuple[str, bool], str] = {}

    def text(self, value: str) -> str:
        """Clean a descriptor.

        Parameters
        ----------
        value : str
            One value, of any text VR.

        Returns
        -------
        str
            With `MASK` for what was taken out, UIDs mapped, dates moved, ages above 89 told as 90.
            It may be longer.
        """
        return self._remembered(value, machine=False)

    def machine(self, value: str) -> str:
        """Clean what a machine or its software is called: VA48A and SSD-4000 stay, too.

        Parameters
        ----------
        value : str
            A model's name or a version.

        Returns
        -------
        str
            As `text` has it, with designations of its maker, unless they are of the patient's
            initials or birthday, or another patient's id.
        """
        return self._remembered(value, machine=True)

    def _remembered(self, value: str, *, machine: bool) -> str:
        if not value.strip():
            return value
        key = (value, machine)
        if key not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            plain = readable(value)
            self._known[key] = MASK if plain is None else self._cleaned(cap_ages(plain), machine)
        return self._known[key]

    def _cleaned(self, value: str, machine: bool) -> str:
        settled = _without_overlaps(
            [
                *self._uids(value),
                *self._own_spans(value),
                *self._dates(value),
                *_forms(value),
                *self._spelled_out(value),
            ]
        )
        pieces = self._with_neighbours(value, settled, self._tokens(value, settled, machine))
        return _JOINABLE.sub(MASK, _rewritten(value, pieces))

    def harmless(self, text: str) -> bool:
        """Say whether a string read from pixels may stay.

        Parameters
        ----------
        text : str
            As read; one box.

        Returns
        -------
        bool
            True for short strings of display words, sides and small numbers that aren't the patient's own.
        """
        folded = fold(text)
        joined = "".join(filter(str.isalnum, folded))
        return (
            may_stay_in_pixels(folded)
            and not self._own.is_within(joined)
            and not any(self._own.is_own(token) for token in (joined, *_TOKEN.findall(folded)))
            and not any(True for _ in self._own.spans(folded))
        )

    def _uids(self, value: str) -> list[_Piece]:
        return [
            _Piece(*match.span(), self._uid(match[0])) for match in UID.finditer(value) if len(match[0]) > 12
        ]

    def _own_spans(self, value: str) -> list[_Piece]:
        folded, places = fold_with_places(value)
        return [
            _Piece(places[start], places[stop], MASK, True, True) for start, stop in self._own.spans(folded)
        ]

    def _dates(self, value: str) -> list[_Piece]:
        pieces = []
        for found in find_dates(value):
            own = any(map(found.may_mean, self._births))
            moved = None if own or self._days is None else self._moved(value, found)
            pieces.append(_Piece(found.start, found.stop, moved or MASK))
        return pieces

    def _moved(self, value: str, found: TextDate) -> str | None:
        assert self._days is not None  # noqa: S101  the caller looked
        if self._days:
            return found.moved(self._days)
        return value[found.start : found.stop] if found.days else None

    def _spelled_out(self, value: str) -> Iterator[_Piece]:
        """Yield runs of single letters, but a few, the alphabet, and what spells a known word."""
        for match in _SINGLES.finditer(value):
            word = "".join(filter(str.isalpha, fold(match[0])))
            harmless = len(word) < SPELT or is_known(word) or word in ascii_lowercase
            if self._own.is_own(word) or not harmless:
                yield _Piece(*match.span(), MASK, True)

    def _tokens(self, value: str, settled: list[_Piece], machine: bool) -> list[_Piece]:
        """Judge the tokens between what is settled; those that stay are pieces too."""
        tokens = [token for start, stop in _gaps(value, settled) for token in _tokens_of(value, start, stop)]
        beside = ["", *(token for _, _, token in tokens), ""]
        pieces: list[_Piece] = []
        for number, (start, stop, token) in enumerate(tokens, 1):
            written = value[start:stop]
            said = may_stay(token, written, beside[number + 1], beside[number - 1])
            if machine and not said:
                said = self._designates(written, value[:start], pieces[-1:])
            stays = said and not self._is_own(token, written)
            pieces.append(
                _Piece(start, stop, written if stays else MASK, name=not stays and len(written) > 1)
            )
        return pieces

    def _designates(self, written: str, before: str, last: list[_Piece]) -> bool:
        """Say whether a maker may have called a machine so, or have numbered it after a word that stays."""
        if written in self._others:
            return False
        letters = designation(written)
        if letters is not None:
            return not self._initials.issuperset(letters.casefold())
        word = bool(last) and last[0].stop == len(before) - 1 and last[0].instead.isalpha()
        after = word and last[0].instead != MASK and before[-1] in "-_"
        return after and is_model_number(written) and written not in self._birthdays

    def _is_own(self, token: str, written: str) -> bool:
        humps = [hump.casefold() for hump in _HUMP.findall(written)]
        return any(map(self._own.is_own, [token, *humps, *_LETTERS.findall(token)]))

    def _with_neighbours(self, value: str, settled: list[_Piece], tokens: list[_Piece]) -> list[_Piece]:
        """Mask initials and house numbers: single letters and numbers right beside an own value."""
        pieces = sorted([*settled, *tokens], key=lambda one: one.start)
        for order in (range(1, len(pieces)), range(len(pieces) - 2, -1, -1)):
            step = 1 if order.step > 0 else -1
            for index in order:
                piece, beside = pieces[index], pieces[index - step]
                between = value[min(piece.stop, beside.stop) : max(piece.start, beside.start)]
                written = value[piece.start : piece.stop]
                number = written.isdecimal()
                goes = (beside.own and number) or (beside.name and len(written) == (4 if number else 1))
                if goes and _GLUE.fullmatch(between):
                    pieces[index] = _Piece(piece.start, piece.stop, MASK, beside.name, beside.own)
        return pieces


def _gaps(value: str, settled: list[_Piece]) -> Iterator[tuple[int, int]]:
    """Yield where nothing is settled; what is left of a token of which a part is settled, too."""
    end = 0
    for piece in settled:
        yield end, piece.start
        end = piece.stop
    yield end, len(value)


def _tokens_of(value: str, start: int, stop: int) -> Iterator[tuple[int, int, str]]:
    """Yield start, stop and folded text of the tokens of a stretch."""
    folded, places = fold_with_places(value[start:stop])
    for match in _TOKEN.finditer(folded):
        yield start + places[match.start()], start + places[match.end()], match[0]


def _forms(value: str) -> list[_Piece]:
    return [_Piece(start, stop, MASK) for start, stop in identifying_spans(value)]


def _without_overlaps(pieces: list[_Piece]) -> list[_Piece]:
    """Keep the first of overlapping pieces; what lies over a masked one is masked with it."""
    kept: list[_Piece] = []
    for piece in pieces:
        over = [one for one in kept if one.start < piece.stop and piece.start < one.stop]
        if not over:
            kept.append(piece)
        elif all(one.instead == MASK for one in over):
            start, stop = min(piece.start, *(o.start for o in over)), max(piece.stop, *(o.stop for o in over))
            kept = [one for one in kept if one not in over]
            of = [piece, *over]
            kept.append(_Piece(start, stop, MASK, any(o.name for o in of), any(o.own for o in of)))
    return sorted(kept, key=lambda one: one.start)


def _rewritten(value: str, pieces: list[_Piece]) -> str:
    out, end = [], 0
    for piece in pieces:
        out += [value[end : piece.start], piece.instead]
        end = piece.stop
    return "".join([*out, value[end:]])


__all__ = ["MASK", "TextCleaner"]
