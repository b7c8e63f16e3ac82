"""The second reader: searches a written file, byte by byte, for the patient's own values.

It shares no code with the rewriting. What it finds stops the study: the caller quarantines it.
All values are searched for at once (Aho-Corasick), as they stand and folded, in UTF-8, UTF-16 and
the source's character sets; in what streams inflate to, in base64 and hexadecimal at every
alignment, and within one another up to three deep.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from ahocorasick_rs import BytesAhoCorasick

from voxelvault.deid import leak_views
from voxelvault.deid.leak_charset import codecs_of
from voxelvault.deid.needles import Kind, Needle, Needles, fold, variants
from voxelvault.dicom.part10 import Element, Part10, parse
from voxelvault.errors import MalformedDicom
from voxelvault.model import Buffer

DEEPEST = 3
"""Encodings within encodings that are still opened."""

_MADE_UID_DIGITS = 44
"""Digits of a UID below 2.25, and its root (PS3.5 B.2)."""

_WINDOW, _OVERLAP = 4 << 20, 4096
_SHORTEST_PIXELS = 8
_FOLDED_MOST = 256 << 10
# In bytes: sixteen-bit pixels of low value read as UTF-16 letters.
_SHORTEST_WIDE = 16
_WIDE = re.compile(r"[^\x00-\x7f]")
_WORD = re.compile(r"\w+")
_SINGLES = re.compile(r"(?<![^\W_])[^\W\d_](?:[\W_]{1,3}[^\W\d_](?![^\W_])){2,}")
"""Letters one by one, as in S.M.I.T.H."""
_SEPARATORS = re.compile(r"[\s().+/-]+")
_NUMBERS = frozenset(["DS", "IS", "TM", "DT", "DA", "AS", "UI", "CS"])
_TIMES = frozenset(["TM", "DT", "UI"])


@dataclass(frozen=True)
class Hit:
    """A value of the patient in a file: what kind it is and where, never the value.

    Attributes
    ----------
    kind : Kind
        Whose value.
    view : str
        How it was found: `raw`, `text`, `short`, or encodings from the outside in, joined by `>`.
    tag : int or None
        The element that holds it, where one does.
    """

    kind: Kind
    view: str
    tag: int | None = None


class _Pattern(NamedTuple):
    needle: Needle
    wide: int
    """Bytes per character: the neighbours that tell whether the value ends there."""


@dataclass(frozen=True)
class Searcher:
    """The values of one patient, made ready; keep it for all files of the patient.

    Parameters
    ----------
    needles : Needles
        What must not be found.
    """

    needles: Needles

    def file(self, data: Buffer) -> tuple[Hit, ...]:
        """Search a DICOM file.

        Parameters
        ----------
        data : bytes-like
            The whole file, as read back from where it was written.

        Returns
        -------
        tuple of Hit
            Empty when nothing was found.

        Raises
        ------
        MalformedDicom, NotDicom
            The file can't be read to its end, so it can't be vouched for.
        """
        part10 = parse(data)
        if part10.pixels is not None and part10.pixels.truncated:
            raise MalformedDicom("the written file ends within its pixels; write it again")
        budget = leak_views.Budget()
        found = set(self._regions(part10, budget))
        if part10.deflated:
            found |= set(self._text(bytes(data[:_WINDOW]), "raw", 0, budget))
        found |= set(self._texts(part10))
        return tuple(sorted(found, key=lambda hit: (hit.kind, hit.view, hit.tag or 0)))

    def other_file(self, data: Buffer, *, pixels: bool = False) -> tuple[Hit, ...]:
        """Search a file of any other kind: JSON, Parquet, NIfTI, a chunk of Zarr, names of files.

        Parameters
        ----------
        data : bytes-like
            The whole file; one in gzip is read inflated.
        pixels : bool
            Most of it is pixels: then only its first 4 KiB are searched as text.

        Raises
        ------
        MalformedDicom
            It is damaged, or holds more compressed data than can be searched.
        """
        budget, found = leak_views.Budget(), set[Hit]()
        for index, piece in enumerate(leak_views.windows(data, _WINDOW, _OVERLAP)):
            if not pixels:
                found |= set(self._text(piece, "raw", 0, budget))
                continue
            hits = self._matches(piece, _SHORTEST_PIXELS)
            found |= {Hit(pattern.needle.kind, "raw") for at, pattern in hits}
            if index == 0:
                found |= set(self._text(piece[:_OVERLAP], "raw", 0, budget))
        return tuple(sorted(found, key=lambda hit: (hit.kind, hit.view)))

    def _regions(self, part10: Part10, budget: leak_views.Budget) -> Iterator[Hit]:
        places = _Places(part10)
        view = memoryview(part10.data)
        for region in leak_views.regions(part10, *_pixels(part10)):
            pixels = _is_pixels(part10, region)
            for start in range(region.start, region.stop, _WINDOW):
                # Windows overlap, so that no value is cut in two.
                stop = min(region.stop, start + _WINDOW + _OVERLAP)
                piece = bytes(view[start:stop])
                for at, pattern in self._matches(piece, region.shortest):
                    element = places.at(start + at)
                    if _counts(pattern.needle, element, piece, at):
                        yield Hit(pattern.needle.kind, "raw", element and element.tag)
                for inner in leak_views.inflated(view, start, stop, budget, noise=pixels):
                    yield from self._text(inner, "inflated", 1, budget)
                if not region.shortest:
                    yield from self._decoded(piece, "", 1, budget)
                elif not pixels:
                    yield from self._text(leak_views.printable_runs(piece), "raw", 0, budget)

    def _text(self, data: bytes, view: str, depth: int, budget: leak_views.Budget) -> Iterator[Hit]:
        """Search bytes that are no data set, and what they decode to."""
        for at, pattern in self._matches(data, 0):
            if _counts(pattern.needle, None, data, at):
                yield Hit(pattern.needle.kind, view)
        if not data.isascii() and len(data) <= _FOLDED_MOST:
            yield from self._folded(data.decode("utf-8", "replace"), view, None)
        if depth < DEEPEST:
            yield from self._inner(data, "" if view == "raw" else view, depth + 1, budget)

    def _inner(self, data: bytes, outer: str, depth: int, budget: leak_views.Budget) -> Iterator[Hit]:
        for inner in leak_views.inflated(data, 0, len(data), budget):
            yield from self._text(inner, f"{outer}>inflated".lstrip(">"), depth, budget)
        yield from self._decoded(data, outer, depth, budget)

    def _decoded(self, data: bytes, outer: str, depth: int, budget: leak_views.Budget) -> Iterator[Hit]:
        for name, inner in leak_views.decoded(data):
            yield from self._text(inner, f"{outer}>{name}".lstrip(">"), depth, budget)

    def _texts(self, part10: Part10) -> Iterator[Hit]:
        """Search the text of the data set as it reads: folded, squeezed, and by whole words."""
        for element, text in leak_views.texts(part10.data, part10.dataset, codecs_of(b"")):
            if not text.isascii():
                yield from self._folded(text, "text", element.tag)
            yield from self._squeezed(text, element.tag)
            for run in _SINGLES.findall(text):
                yield from self._folded("".join(filter(str.isalpha, run)), "text", element.tag)
            if self.needles.short and not self.needles.short.isdisjoint(_words(text, element.vr)):
                yield Hit(Kind.NAME, "short", element.tag)

    def _folded(self, text: str, view: str, tag: int | None) -> Iterator[Hit]:
        data = fold(text).encode()
        for at, pattern in self._matches(data, 0):
            if _counts(pattern.needle, None, data, at):
                yield Hit(pattern.needle.kind, view, tag)

    def _squeezed(self, text: str, tag: int) -> Iterator[Hit]:
        """Search numbers that were written in groups: telephones, ids."""
        if sum(map(str.isdigit, text)) < 7 or not _SEPARATORS.search(text):
            return
        data = _SEPARATORS.sub("", fold(text)).encode()
        for at, pattern in self._matches(data, 7):
            needle = pattern.needle
            if needle.kind not in (Kind.UID, Kind.DATE, Kind.BIRTH) and _counts(needle, None, data, at):
                yield Hit(needle.kind, "text", tag)

    def _matches(self, data: bytes, shortest: int) -> Iterator[tuple[int, _Pattern]]:
        """Yield each place where a pattern of at least `shortest` bytes ends where a value may."""
        automaton, patterns = self._long if shortest else self._all
        if automaton is None:
            return
        lowered = data.lower()
        for index, start, stop in automaton.find_matches_as_indexes(lowered, overlapping=True):
            pattern = patterns[index]
            needed = shortest if pattern.wide == 1 else shortest and _SHORTEST_WIDE
            if stop - start >= needed and _stands_alone(pattern, lowered, start, stop):
                yield start, pattern

    @cached_property
    def _all(self) -> tuple[BytesAhoCorasick | None, list[_Pattern]]:
        return _automaton(self._patterns)

    @cached_property
    def _long(self) -> tuple[BytesAhoCorasick | None, list[_Pattern]]:
        return _automaton({data: one for data, one in self._patterns.items() if len(data) >= 6})

    @cached_property
    def _patterns(self) -> dict[bytes, _Pattern]:
        codecs = ["utf-8", *sorted(self.needles.charsets)]
        patterns: dict[bytes, _Pattern] = {}
        for needle in sorted(self.needles.values):
            for text in set(variants(needle)):
                for data, wide in _encoded(text, codecs if _WIDE.search(text) else codecs[:1]):
                    patterns.setdefault(data.lower(), _Pattern(needle, wide))
        return patterns


class _Places:
    """Which element holds an offset."""

    def __init__(self, part10: Part10) -> None:
        self._part10 = part10

    @cached_property
    def _elements(self) -> list[Element]:
        return sorted(leak_views.leaves(self._part10.dataset), key=lambda element: element.start)

    def at(self, offset: int) -> Element | None:
        index = bisect_right(self._elements, offset, key=lambda element: element.start) - 1
        element = self._elements[index] if index >= 0 else None
        return element if element is not None and offset < element.stop else None


def _automaton(patterns: dict[bytes, _Pattern]) -> tuple[BytesAhoCorasick | None, list[_Pattern]]:
    return (BytesAhoCorasick(list(patterns)) if patterns else None), list(patterns.values())


def _encoded(text: str, codecs: list[str]) -> Iterator[tuple[bytes, int]]:
    for codec in codecs:
        try:
            yield text.encode(codec), 1
        except (UnicodeEncodeError, LookupError):
            continue
    for codec in ("utf-16-le", "utf-16-be"):
        yield text.encode(codec, "surrogatepass"), 2


def _stands_alone(pattern: _Pattern, data: bytes, start: int, stop: int) -> bool:
    """Tell whether a match is a value and no part of a longer number or word.

    UIDs and short numbers end where digits end, on both sides; long numbers on one; short words
    where letters end, on one side. Anything else counts wherever it stands.
    """
    needle, wide = pattern
    text = needle.text
    digit = needle.kind in (Kind.DATE, Kind.BIRTH, Kind.UID) or not any(map(str.isalpha, text))
    if not digit and len(text) > 5:
        return True
    inside = _is_digit if digit else _is_letter
    left = not inside(data[start - wide : start] if start >= wide else b"", wide)
    right = not inside(data[stop : stop + wide], wide)
    if needle.kind is Kind.UID or (digit and len(text) < 8):
        return left and right
    return left or right


def _is_digit(data: bytes, wide: int) -> bool:
    return len(data.strip(b"\0")) == 1 and data.strip(b"\0").isdigit()


def _is_letter(data: bytes, wide: int) -> bool:
    return len(data.strip(b"\0")) == 1 and data.strip(b"\0").isalpha()


def _counts(needle: Needle, element: Element | None, data: bytes, at: int) -> bool:
    """Leave out what numbers, times and codes hold by chance."""
    text = needle.text
    if text.isdigit() and _is_in_made_uid(data, at):
        return False
    if element is None or needle.kind in (Kind.UID, Kind.DATE, Kind.BIRTH) or not text.isdigit():
        return True
    if len(text) < 6:
        return element.vr not in _NUMBERS
    if len(text) < 8:
        return element.vr not in _TIMES and not (element.vr == "DS" and data[at - 1 : at] == b".")
    return True


def _is_in_made_uid(data: bytes, at: int) -> bool:
    """Tell whether digits lie in a UID made of a random number, whose 39 digits hold dates by chance."""
    before = data[max(0, at - _MADE_UID_DIGITS) : at]
    head = before.rstrip(b"0123456789")
    return len(before) - len(head) > 0 and before[: len(head)].endswith(b"2.25.")


def _words(text: str, vr: str) -> Iterator[str]:
    """Yield the words of a text, folded; a lone Latin letter only where it is a part of a name."""
    for word in _WORD.findall(fold(text)):
        if vr == "PN" or len(word) > 1 or not word.isascii():
            yield word


def _pixels(part10: Part10) -> tuple[int, int]:
    """Return the length of the native pixels in bytes, and the bits of one."""
    order: Literal["big", "little"] = "big" if part10.big_endian else "little"
    rows, columns, samples, bits = (
        int.from_bytes(part10.value(tag), order) for tag in (0x00280010, 0x00280011, 0x00280002, 0x00280100)
    )
    frames = part10.value(0x00280008).strip(b"\0 ") or b"1"
    count = int(frames) if frames.isdigit() else 1
    return (count * rows * columns * samples * bits + 7) // 8, bits


def _is_pixels(part10: Part10, region: leak_views.Region) -> bool:
    span = part10.pixels
    return span is not None and span.start <= region.start and region.stop <= span.stop


__all__ = ["DEEPEST", "Hit", "Searcher"]
