"""What an action makes of one value: bytes in, bytes out, none where nothing may stay.

Values are little endian and, where they are text, come in the source's character set and leave in
UTF-8. A value that isn't what its VR promises never passes.

References
----------
DICOM PS3.5 6.2 (value representations), PS3.15 Table E.1-1a (action codes).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from hashlib import sha256
from struct import unpack
from typing import TypeAlias
from weakref import WeakKeyDictionary

from voxelvault.deid import tables
from voxelvault.deid.dates import cap_age, shift_date, shift_datetime
from voxelvault.deid.model import Action, Cleaner, Context, Decision
from voxelvault.deid.normal import TEXTS, WORDS
from voxelvault.deid.palettes import LETTERS_OF_TABLES, spells
from voxelvault.dicom.charset import decode
from voxelvault.dicom.vr import NUMBERS, SINGLE

Value: TypeAlias = bytes | None

DUMMIES = {
    "AE": b"ANONYMOUS",
    "AS": b"000D",
    "CS": b"OTHER",
    "DA": b"19000101",
    "DS": b"0",
    "DT": b"19000101000000",
    "IS": b"1",
    "PN": b"ANONYMOUS",
    "TM": b"000000",
    "UR": b"about:blank",
}
"""Values of a VR that say nothing; other text reads ANONYMIZED, whole numbers are one, others zero."""

_WHOLE = frozenset(["SL", "SS", "SV", "UL", "US", "UV"])
_LONGEST = {"SH": 16, "LO": 64, "ST": 1024, "LT": 10240}
_NUMBER = rb" *(?:[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)? *"
_NUMBERS_TEXT = re.compile(rb"%b(?:\\%b)*[ \0]*" % (_NUMBER, _NUMBER))
_LONG = {"IS": re.compile(rb"(?<!\d)0*[1-9]\d{5}"), "DS": re.compile(rb"(?<![\d.])0*[1-9]\d{6}")}
"""Whole numbers that are long enough to be somebody's: counts and lengths in mm are shorter."""

_NUMBERING = frozenset([0x00200011, 0x00200012, 0x00200013])
"""Numbers of series, acquisition and instance, which tell what belongs together."""

_OWN_DIGITS = 4
"""Identifiers of fewer digits are counts, too."""

_MACHINES = frozenset([0x00081090, 0x00181020])
"""What a machine and its software are called."""

_ONE_NUMBER = frozenset([0x54000110, 0x54000112])
"""Least and greatest sample of a channel, as bytes."""

_TIME = re.compile(r"(?:[01]\d|2[0-3])(?::?[0-5]\d(?::?(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?")
_ZONE = re.compile(r"[+-](?:0\d|1[0-4])[0-5]\d")
_ZONE_TAG = 0x00080201
_DATES_OF_REPORTS = frozenset([0x0040A120, 0x0040A121])
_UID = re.compile(r"[0-9.]{1,64}")
_TOKENS = re.compile(r"[ _/-]+")
_LETTER = rb"[A-Za-z0-9 ^.,_=\\-]"
_SPELT = re.compile(rb"\A(?:%b{6,}|(?:%b\0){6,})\0*\Z|%b{12}|(?:%b\0){8}" % ((_LETTER,) * 4))
"""Bytes of numbers that are letters throughout, or many in a row, as text or UTF-16: no numbers."""

_SPELT_MOST = 256
"""Longer values are tables, in which letters have to be many more to tell something."""


_MOST_TEXTS = 5000
_TEXTS: WeakKeyDictionary[Cleaner, dict[str, str]] = WeakKeyDictionary()
"""Texts cleaned, by the cleaner of a patient, whose files say the same again and again."""


class Values:
    """Makes values for one instance, with one patient's pseudonyms and dates."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._days = context.pseudonyms.days(context.person.subject)
        self._patient = context.pseudonyms.patient(context.person.subject)
        self._texts = _TEXTS.setdefault(context.cleaner, {})
        if len(self._texts) > _MOST_TEXTS:
            self._texts.clear()
        self._uids: dict[str, str] = {}
        self._births = context.person.dates
        self._own = frozenset(_numbers_of(context.person.ids))
        self._actions: dict[Action, Callable[[bytes, str, int, tuple[str, ...]], Value]] = {
            Action.KEEP: self._keep,
            Action.CLEAN: self._clean,
            Action.SHIFT: self._shift,
            Action.UID: self._uid,
            Action.HASH: self._hash,
            Action.ZERO: self._zero,
            Action.DUMMY: self._dummy,
        }

    def make(
        self,
        decision: Decision,
        value: bytes,
        vr: str,
        tag: int,
        encodings: tuple[str, ...],
        wanted: bool = False,
    ) -> Value:
        """Return what becomes of a value.

        Parameters
        ----------
        decision : Decision
            Of the policy.
        value : bytes
            As found, little endian, in the VR that it ought to have.
        vr : str
            That VR.
        tag : int
            Group and element.
        encodings : tuple of str
            Python codecs of the data set (`voxelvault.dicom.charset`).
        wanted : bool
            The class wants a value, so that a dummy stands in for one that may not stay.

        Returns
        -------
        bytes or None
            In UTF-8 where it is text; None removes the element.
        """
        if decision.action is Action.REPLACE:
            return (decision.value or "").encode() if vr in TEXTS else None
        made = self._actions[decision.action](value, vr, tag, encodings)
        if not made and wanted and value.strip(b"\0 "):
            return dummy(vr, value)
        return made

    def _zero(self, value: bytes, vr: str, tag: int, encodings: tuple[str, ...]) -> Value:
        return self._pseudonym(value, vr, tag, encodings) or b""

    def _dummy(self, value: bytes, vr: str, tag: int, encodings: tuple[str, ...]) -> Value:
        if vr == "UI":
            return self._uid(value, vr, tag, encodings)
        return self._pseudonym(value, vr, tag, encodings) or dummy(vr, value)

    def _pseudonym(self, value: bytes, vr: str, tag: int, encodings: tuple[str, ...]) -> Value:
        domain = tables.pseudonymous().get(tag)
        if domain is None:
            return None
        if domain == "patient":
            return self._patient.encode()
        text = decode(value, encodings).strip("\0 ")
        made = self._context.pseudonyms
        how = {
            "accession": made.accession,
            "study": made.study_id,
            "device": made.device,
            "other": made.other,
        }
        return how[domain](text).encode() if text else None

    def _keep(self, value: bytes, vr: str, tag: int, encodings: tuple[str, ...]) -> Value:
        if vr in ("DS", "IS"):
            return self._number(value, vr, tag)
        if vr in TEXTS:
            return self._kept_text(value, vr, tag, encodings)
        value = value[:8] if tag in _ONE_NUMBER else value
        if _SPELT.search(value) if len(value) <= _SPELT_MOST else spells(value, LETTERS_OF_TABLES):
            return None
        return None if self._own and vr in NUMBERS and self._holds_own(value, vr) else value

    def _kept_text(self, value: bytes, vr: str, tag: int, encodings: tuple[str, ...]) -> Value:
        how = self._kept_uid if vr == "UI" else zone if tag == _ZONE_TAG else _PLAIN.get(vr)
        if how is None:
            if value.isascii() and b"\x1b" not in value:
                return value
            return text_of(value, vr, encodings).encode()
        return self._each(value, vr, encodings, how)

    def _number(self, value: bytes, vr: str, tag: int) -> Value:
        if not _NUMBERS_TEXT.fullmatch(value):
            return None
        long = _LONG[vr].search(value) and not tables.public_tag(tag)
        if long or (self._own and self._own.intersection(_whole(value))):
            return self._renumbered(value) if tag in _NUMBERING else None
        return value

    def _renumbered(self, value: bytes) -> bytes:
        """Return a number of five digits that stands for a longer one, wherever that stands."""
        keyed = self._context.pseudonyms.other(value.strip(b"\0 ").decode("ascii"))
        return str(10000 + int.from_bytes(sha256(keyed.encode()).digest()[:8], "big") % 90000).encode()

    def _holds_own(self, value: bytes, vr: str) -> bool:
        """Tell whether one of a few binary numbers is an identifier too long for a count of pixels."""
        code, size = NUMBERS[vr]
        few = value[: _SPELT_MOST // size * size]
        found = unpack(f"<{len(few) // size}{code}", few[: len(few) // size * size])
        return any(number > 0xFFFF and number in self._own for number in found)

    def _clean(self, value: bytes, vr: str, tag: int, encodings: tuple[str, ...]) -> Value:
        if vr == "CS":
            return self._terms(text_of(value, vr, encodings).strip("\0 "))
        if vr == "UI":
            return self._uid(value, vr, tag, encodings)
        if vr in ("DA", "DT", "TM"):
            return self._shift(value, vr, tag, encodings)
        if vr not in TEXTS or vr in ("DS", "IS"):
            return self._keep(value, vr, tag, encodings)
        if vr == "AE":
            return self._each(value, vr, encodings, self._context.pseudonyms.device)
        how = self._context.cleaner.machine if tag in _MACHINES else self.text
        return dummy(vr, value) if vr in ("PN", "UR") else self._each(value, vr, encodings, how)

    def text(self, value: str) -> str:
        """Return one text cleaned; the same text is cleaned once."""
        made = self._texts.get(value)
        if made is None:
            made = self._texts[value] = self._context.cleaner.text(value)
        return made

    def _own_term(self, text: str) -> bool:
        return bool(self._own) and any(
            token.isdigit() and int(token) in self._own for token in _TOKENS.split(text)
        )

    def _terms(self, text: str) -> Value:
        parts = [part.strip() for part in text.split("\\")]
        kept = [part if is_term(part) and not self._own_term(part) else "OTHER" for part in parts]
        if kept == ["OTHER"] != parts:
            return b""
        return "\\".join(kept).encode()

    def _shift(self, value: bytes, vr: str, tag: int, encodings: tuple[str, ...]) -> Value:
        how: dict[str, Callable[[str], str | None]] = {
            "DA": lambda text: None if self._is_birth(text, tag) else shift_date(text, self._days),
            "DT": lambda text: None if self._is_birth(text, tag) else shift_datetime(text, self._days),
            "TM": time,
            "SH": zone,
        }
        if vr == "UI":
            return self._uid(value, vr, tag, encodings)
        if vr not in TEXTS or vr in ("AE", "PN", "UR"):
            return None
        return self._each(value, vr, encodings, how.get(vr, self.text))

    def _is_birth(self, text: str, tag: int) -> bool:
        """Tell whether it may be meant as the day of birth, which would give the shift away.

        The table's own dates are of studies and their like, which may be of that day, too.
        """
        free = tag in _DATES_OF_REPORTS or tables.listed(tag) is None
        return free and re.sub(r"[.\-/]", "", text)[:8] in self._births

    def _uid(self, value: bytes, vr: str, tag: int, encodings: tuple[str, ...]) -> Value:
        return self._each(value, "UI", encodings, self.uid) if vr in TEXTS else None

    def uid(self, value: str) -> str:
        """Return the UID that stands for one; the same one is looked up once."""
        made = self._uids.get(value)
        if made is None:
            made = self._uids[value] = self._context.pseudonyms.uid(value)
        return made

    def _kept_uid(self, value: str) -> str:
        """Return a UID as it is; what is none, as it may be a name, is mapped."""
        return value if _UID.fullmatch(value) else self.uid(value)

    def _hash(self, value: bytes, vr: str, tag: int, encodings: tuple[str, ...]) -> Value:
        if vr == "UI":
            return self._uid(value, vr, tag, encodings)
        if vr in TEXTS - {"AS", "DA", "DS", "DT", "IS", "TM"}:
            return self._each(value, vr, encodings, self._context.pseudonyms.other)
        return dummy(vr, value)

    def _each(
        self, value: bytes, vr: str, encodings: tuple[str, ...], how: Callable[[str], str | None]
    ) -> Value:
        """Apply a function to each value of a text element; one unreadable value removes all."""
        made = []
        text = text_of(value, vr, encodings)
        for part in [text] if vr in SINGLE else text.split("\\"):
            part = part.rstrip("\0 ") if vr in SINGLE else part.strip("\0 ")
            new = how(part) if part else ""
            if new is None:
                return None
            made.append(new[: _LONGEST.get(vr)] if new != part else new)
        return "\\".join(made).encode()


def _numbers_of(ids: Iterable[str]) -> Iterator[int]:
    """Yield the numbers that identifiers are, or hold, long enough to be told from counts."""
    for own in ids:
        found = [own] if own.isascii() and own.isdigit() else re.findall(r"[0-9]{5,}", own)
        yield from (number for number in map(int, found) if number >= 10 ** (_OWN_DIGITS - 1))


def _whole(value: bytes) -> Iterator[int]:
    """Yield the whole numbers of an IS or DS value, in whatever way they are written."""
    numbers = (float(part.strip(b"\0 ") or b"nan") for part in value.split(b"\\"))
    return (int(number) for number in numbers if number.is_integer())


def text_of(value: bytes, vr: str, encodings: tuple[str, ...]) -> str:
    """Return text in the character set that it claims, or in UTF-8 where it claims none and is that."""
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii")
    if encodings[0] in ("iso8859", "latin_1", "ascii") and b"\x1b" not in value:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            pass
    return decode(value, encodings, name=vr == "PN")


def dummy(vr: str, value: bytes = b"") -> bytes:
    """Return a value of a VR that says nothing; binary ones keep their length."""
    if vr in DUMMIES:
        return DUMMIES[vr]
    if vr in ("OB", "UN"):
        return bytes(2)
    if vr in TEXTS:
        return b"ANONYMIZED"
    size = WORDS.get(vr, 8)  # one, not zero, which no frame or channel is
    one = b"\1" + bytes(size - 1) if vr in _WHOLE else bytes(size)
    return one * (len(value) // size or 1)


@cache
def is_term(value: str) -> bool:
    """Tell whether a CS value says nothing of a person: a known term, or put together from such."""
    if value in tables.terms() or not value:
        return True
    tokens = [token for token in _TOKENS.split(value) if token]
    return all(token in tables.terms() or (token.isdigit() and len(token) < 5) for token in tokens)


def time(text: str) -> str | None:
    """Return a TM value as it is, None for what is no time."""
    return text if _TIME.fullmatch(text) else None


def zone(text: str) -> str | None:
    """Return an offset from UTC as it is, None for what is none."""
    return text if _ZONE.fullmatch(text) else None


def _date(text: str) -> str | None:
    return shift_date(text, 0)


def _datetime(text: str) -> str | None:
    return shift_datetime(text, 0)


_PLAIN: dict[str, Callable[[str], str | None]] = {
    "AS": cap_age,
    "DA": _date,
    "DT": _datetime,
    "TM": time,
}

__all__ = ["DUMMIES", "Value", "Values", "dummy", "is_term", "text_of", "time", "zone"]
