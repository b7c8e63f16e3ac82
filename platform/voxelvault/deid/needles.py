"""What must not be found in a released file: the patient's own values, from the source's bytes.

Part of the second reader: it shares no code with the rewriting. Headers are read with the
project's own parser, at every depth, and tags are told apart by number.

References
----------
DICOM PS3.15 Table E.1-1 (which attributes identify), PS3.5 6.2 (PN, its components).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

from voxelvault.deid.leak_charset import codecs_of, decoded
from voxelvault.deid.model import Option
from voxelvault.dicom.part10 import Dataset, Element, Part10
from voxelvault.dicom.vr import public_vrs
from voxelvault.model import Buffer

SHORTEST = 4
"""Shorter values are compared with whole words and name components, never searched for."""

_LONGEST = 4096
_CHARACTER_SET = 0x00080005


class Kind(StrEnum):
    """Whose value it is, so that those an option retains can be left out."""

    NAME = "name"
    ID = "id"
    BIRTH = "birth"
    ADDRESS = "address"
    PEOPLE = "people"
    INSTITUTION = "institution"
    DEVICE = "device"
    UID = "uid"
    DATE = "date"


def _tags(text: str) -> frozenset[int]:
    return frozenset(int(tag, 16) for tag in text.split())


_BY_TAG: dict[int, Kind] = {
    **dict.fromkeys(_tags("00100012"), Kind.NAME),
    **dict.fromkeys(
        _tags(
            "00080050 00100020 00101000 00101050 00101090 00120040 00120042 00200010 00380010 00380060"
            " 00400009 00400253 0040050A 00400512 00400551 004006FA 00401001 00402016 00402017"
            " 40080040 40080200"
        ),
        Kind.ID,
    ),
    **dict.fromkeys(_tags("00100030 00100032 00100033 00100034"), Kind.BIRTH),
    **dict.fromkeys(_tags("00101040 00102154 00102155 00380300 00380400"), Kind.ADDRESS),
    **dict.fromkeys(
        _tags("00080092 00080094 0016004D 00401102 00401103 00401104 00402010 00402011"), Kind.PEOPLE
    ),
    **dict.fromkeys(
        _tags("00080080 00080081 0038001E 00321020 00400011 00400243 00401005 00402009 00120031 00120060"),
        Kind.INSTITUTION,
    ),
    **dict.fromkeys(
        _tags(
            "00081010 00181000 00181004 00181005 00181007 00181008 00181009 00181010 00181011 00160051"
            " 00400010 00400242 300A00B2 30080105"
        ),
        Kind.DEVICE,
    ),
}

_RETAINED = {
    Option.RETAIN_FULL_DATES: Kind.DATE,
    Option.RETAIN_DEVICE: Kind.DEVICE,
    Option.RETAIN_INSTITUTION: Kind.INSTITUTION,
    Option.RETAIN_UIDS: Kind.UID,
}
# UIDs of classes, syntaxes, coding schemes and makes: they name no study, file or machine.
_PUBLIC_UIDS = _tags(
    "00020002 00020010 00020012 00020100 00041510 00041512 00080016 0008001A 0008001B 0008010C 00080117"
    " 00080118 00080062 00081150 0008115A 00083002 00280303 0040A504"
)
_PUBLIC_TEXTS = _tags("00080070 00081090 00080060 00080061 00020013 00181020")
_TEXT = frozenset(["LO", "SH", "ST", "LT", "UT", "UC", "AE", "CS", "IS", "DS"])
_REGISTERED = "1.2.840.10008."
# What stands for an unknown day in headers everywhere.
_NO_DAYS = frozenset(
    "00010101 16000101 18000101 19000101 19010101 19700101 20000101 20010101 21000101 99991231".split()
)
_MONTHS = "January February March April May June July August September October November December".split()
_WORD = re.compile(r"\w+")
_NAME_PARTS = re.compile(r"[\^=\\\s,.;:_/()\[\]-]+")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_NOT_ALNUM = re.compile(r"[\W_]+")


class Needle(NamedTuple):
    """One value to search for."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Needles:
    """The values of one patient that no file of the release may hold.

    Parameters
    ----------
    values : frozenset of Needle
        As they stood, without padding; names also by component, dates as YYYYMMDD.
    short : frozenset of str
        Name components of one to three characters, folded.
    charsets : frozenset of str
        Python codecs of the sources.
    """

    values: frozenset[Needle] = frozenset()
    short: frozenset[str] = frozenset()
    charsets: frozenset[str] = frozenset()

    def __or__(self, other: Needles) -> Needles:
        return Needles(self.values | other.values, self.short | other.short, self.charsets | other.charsets)

    def without(self, kinds: Iterable[Kind]) -> Needles:
        """Leave out what the options in force retain; a birth date that is also a retained date too."""
        left_out = frozenset(kinds)
        retained = {text for kind, text in self.values if kind is Kind.DATE and kind in left_out}
        values = {
            needle
            for needle in self.values
            if needle.kind not in left_out and not (needle.kind is Kind.BIRTH and needle.text in retained)
        }
        return Needles(frozenset(values), self.short, self.charsets)

    def moved(self, days: int) -> Needles:
        """Leave out each date on which another date of the patient comes to lie by the shift."""
        arrived = {_other_day(text, days) for kind, text in self.values if kind is Kind.DATE}
        kept = (n for n in self.values if n.kind not in (Kind.DATE, Kind.BIRTH) or n.text not in arrived)
        return Needles(frozenset(kept), self.short, self.charsets)


def searched(needles: Needles, options: Set[Option], days: int) -> Needles:
    """Return what no file may hold under the options in force.

    Parameters
    ----------
    needles : Needles
        Of all sources of one patient.
    options : set of Option
        What they retain may stay.
    days : int
        The patient's shift of dates (`Pseudonyms.days`); used where dates are moved.
    """
    kept = needles.without(_RETAINED[option] for option in options if option in _RETAINED)
    return kept.moved(days) if Option.RETAIN_MODIFIED_DATES in options else kept


def collect(source: Part10) -> Needles:
    """Return the values of a source that identify.

    Parameters
    ----------
    source : Part10
        From `voxelvault.dicom.part10.parse`.

    Returns
    -------
    Needles
        Of this file alone; join those of one patient's files with `|`.
    """
    walk = _Walk(source.data)
    walk.dataset(source.dataset, codecs_of(b""))
    values = {needle for needle in walk.values if not _is_public(needle, walk.public)}
    return Needles(frozenset(values), frozenset(walk.short), frozenset(walk.charsets))


def fold(text: str) -> str:
    """Return text without case, accents and compatibility forms."""
    if text.isascii():
        return text.lower()
    plain = _NOT_ASCII.sub(_uncombined, text)
    return unicodedata.normalize("NFKC", plain.casefold())


def _uncombined(run: re.Match[str]) -> str:
    """Return a run of other characters than ASCII, which decompose by themselves, without accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", run[0]) if not unicodedata.combining(c))


def date_forms(day: str) -> frozenset[str]:
    """Return the ways to write a YYYYMMDD in text, lower case."""
    y, m, d = day[:4], day[4:6], day[6:]
    month = _MONTHS[int(m) - 1].lower()
    days, months = {d, d.lstrip("0")}, {m, m.lstrip("0")}
    forms = {day, d + m + y, m + d + y, f"{y}年{int(m)}月{int(d)}日"}
    for s in "-/. ":
        for one, other in ((one, other) for one in days for other in months):
            forms |= {s.join((y, other, one)), s.join((one, other, y)), s.join((other, one, y))}
    for name, one in ((name, one) for name in (month, month[:3]) for one in days):
        forms |= {s.join((one, name, y)) for s in ("-", " ", "", ".", "/")}
        forms |= {f"{name} {one}, {y}", f"{name} {one} {y}", f"{one}. {name} {y}", f"{y}-{name}-{one}"}
    return frozenset(forms)


def stop_words() -> frozenset[str]:
    """Return words that are names of people and also words of any header, folded."""
    return _listed()[1]


def nobodys_words() -> frozenset[str]:
    """Return the words that stand where no name is known; a name made of them is nobody's."""
    return _listed()[0]


@lru_cache(maxsize=1)
def _listed() -> tuple[frozenset[str], frozenset[str]]:
    text = files("voxelvault.deid").joinpath("stop_words.txt").read_text("utf-8")
    _, *parts = re.split(r"^#.*$", text, flags=re.MULTILINE)
    nobodys, names_too = (frozenset(part.split()) for part in parts)
    return nobodys, nobodys | names_too


class _Walk:
    """Collects from one buffer, items of sequences included."""

    def __init__(self, data: Buffer) -> None:
        self.values: set[Needle] = set()
        self.short: set[str] = set()
        self.charsets: set[str] = set()
        self.public: set[str] = set()
        self._data = data

    def dataset(self, dataset: Dataset, encodings: tuple[str, ...]) -> None:
        if (named := dataset.get(_CHARACTER_SET)) is not None:
            encodings = codecs_of(self._raw(named))
        self.charsets.update(encodings)
        for element in dataset.values():
            for item in element.items or ():
                self.dataset(item, encodings)
            if element.items is None and element.stop - element.start <= _LONGEST:
                self._element(element, encodings)

    def _element(self, element: Element, encodings: tuple[str, ...]) -> None:
        tag = element.tag
        vr = public_vrs().get(tag, element.vr)  # a name may stand in it under whatever VR
        kind = _BY_TAG.get(tag)
        if vr == "PN":
            kind = Kind.NAME if tag >> 16 == 0x0010 and tag != 0x00102297 else Kind.PEOPLE
        elif vr == "UI" and tag not in _PUBLIC_UIDS:
            kind = Kind.UID
        elif vr in ("DA", "DT") and kind is None:
            kind = Kind.DATE
        if kind is None and tag not in _PUBLIC_TEXTS:
            return
        text = decoded(self._raw(element), encodings, name=vr == "PN")
        for value in text.split("\\"):
            value = value.strip("\0 \r\n\t")
            if kind is None:
                self.public.add(fold(value))
            elif value:
                self._add(kind, value, vr)

    def _add(self, kind: Kind, value: str, vr: str) -> None:
        if vr in ("DA", "DT"):
            day = re.sub(r"[.\-/]", "", value)[:8]
            if _other_day(day, 0) and day not in _NO_DAYS:
                self.values.add(Needle(kind, day))
        elif kind is Kind.UID:
            if len(value) >= 8 and not value.startswith(_REGISTERED):
                self.values.add(Needle(kind, value))
        elif kind is Kind.NAME or (kind is Kind.PEOPLE and vr == "PN"):
            self._name(kind, value)
        elif vr in _TEXT or vr == "UN":
            self._text(kind, value)

    def _name(self, kind: Kind, value: str) -> None:
        for group in value.split("="):
            components = [part for part in group.split("^") if part.strip()]
            tokens = [token for part in components for token in _NAME_PARTS.split(part) if token]
            for part in {*components, *tokens}:
                self._component(kind, part.strip())
            if len(tokens) > 1:
                self._joined(kind, tokens)

    def _component(self, kind: Kind, part: str) -> None:
        folded = fold(part)
        letters = _NOT_ALNUM.sub("", folded)
        if (
            {folded, letters} & stop_words()
            or _is_nothing(letters)
            or (letters.isdecimal() and len(letters) < 6)
        ):
            return
        if _size(folded) >= SHORTEST:
            self.values.add(Needle(kind, part))
        elif kind is Kind.NAME:
            self.short.add(letters)

    def _joined(self, kind: Kind, tokens: list[str]) -> None:
        """Add family and given name written together, which are no word even where each one is."""
        family, given = tokens[0], tokens[1]
        if all(fold(token) in nobodys_words() for token in tokens) or _size(family + given) < SHORTEST:
            return
        for separator in ("", " ", "^", ", ", ",", "_"):
            pairs = (family + separator + given, given + separator + family)
            self.values.update(Needle(kind, pair) for pair in pairs if _size(pair) >= SHORTEST + 1)

    def _text(self, kind: Kind, value: str) -> None:
        folded = fold(value)
        letters = _NOT_ALNUM.sub("", folded)
        if _size(letters) < SHORTEST or _is_nothing(letters) or folded in stop_words():
            return
        if all(word in stop_words() or len(word) < SHORTEST for word in _WORD.findall(folded)):
            if not any(map(str.isdecimal, letters)):
                return
        self.values.add(Needle(kind, value))

    def _raw(self, element: Element) -> bytes:
        return bytes(self._data[element.start : element.stop])


def _is_nothing(letters: str) -> bool:
    """Tell whether there is nothing, or one character over and over, as in XXXXX and 0000."""
    return not letters or (len(letters) >= SHORTEST and len(set(letters)) < 2)


def _size(text: str) -> int:
    """Return a length that counts a character of a script without spaces twice."""
    return sum(2 if ord(character) >= 0x1100 else 1 for character in text)


def _is_public(needle: Needle, public: set[str]) -> bool:
    """Tell whether a value is also, word for word, of the make or model of the machine, which stays."""
    if needle.kind not in (Kind.DEVICE, Kind.INSTITUTION):
        return False
    words = re.compile(rf"(?<![^\W_]){re.escape(fold(needle.text))}(?![^\W_])")
    return any(words.search(text) for text in public)


def _other_day(day: str, days: int) -> str:
    """Return the YYYYMMDD so many days away, empty where there is none."""
    try:
        moved = date(int(day[:4]), int(day[4:6]), int(day[6:8])) + timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    return f"{moved.year:04}{moved.month:02}{moved.day:02}"


def variants(needle: Needle) -> Iterator[str]:
    """Yield the spellings of a value that are searched for."""
    text = needle.text
    if needle.kind is Kind.DATE or (needle.kind is Kind.BIRTH and len(text) == 8 and text.isdecimal()):
        yield from date_forms(text)
        return
    yield from (text, text.upper(), text.lower(), fold(text))
    if needle.kind is Kind.UID:
        return
    spelled = text.lower().translate(_SPELLED)
    if spelled != text.lower():
        yield spelled
    digits = re.sub(r"[\s().+/-]", "", text)
    if digits.isdecimal() and len(digits) >= 7:
        yield digits


_SPELLED = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "ø": "oe", "å": "aa", "æ": "ae"})

__all__ = [
    "Kind",
    "Needle",
    "Needles",
    "SHORTEST",
    "collect",
    "date_forms",
    "fold",
    "nobodys_words",
    "searched",
    "stop_words",
    "variants",
]
