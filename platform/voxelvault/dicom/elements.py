"""The walk over the data elements of a buffer, bounded in every direction.

References
----------
DICOM PS3.5 7 (data elements, sequences), 6.2.2 (UN), A.4 (encapsulated pixel data).
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import NamedTuple

from voxelvault.dicom import vr as _vr
from voxelvault.dicom.pixel_span import PixelSpan, Range
from voxelvault.errors import MalformedDicom
from voxelvault.model import Buffer

MAX_DEPTH = 64
"""Sequences within sequences; the deepest real structured reports stay under 20."""

MAX_ELEMENTS = 1_000_000
"""Elements and items of one object, so that a file of nothing but empty ones can't fill the memory."""

PIXEL_TAGS = frozenset([0x7FE00008, 0x7FE00009, 0x7FE00010])
"""FloatPixelData, DoubleFloatPixelData, PixelData."""

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DELIMITERS = frozenset([_ITEM, _ITEM_END, _SEQUENCE_END])
_ORDERED = frozenset([*_vr.NUMBERS, "AT", "SQ", "US or SS", "US or OW", "US or SS or OW"])
_FRAGMENTED = frozenset(["OB", "OW", "OB or OW"])


class Element(NamedTuple):
    """One data element; `start` and `stop` bound its value in `Part10.data`."""

    tag: int
    vr: str
    start: int
    stop: int
    items: tuple[Mapping[int, Element], ...] | None = None
    """The items of a sequence, None for everything else."""


Dataset = Mapping[int, Element]


class Excess(MalformedDicom):
    """A bound was hit: not to be forgiven as one bad sequence."""


class TooLarge(Excess):
    """A header that would fill the memory."""


class ElementReader:
    """Walks one buffer; holds what is global to the walk: the element budget and the pixel span."""

    __slots__ = ("_big_endian", "_explicit", "_implicit", "_long", "budget", "data", "extended", "pixels")

    def __init__(self, data: Buffer, *, big_endian: bool) -> None:
        order = ">" if big_endian else "<"
        self.data = data
        self.budget = MAX_ELEMENTS
        self.pixels: PixelSpan | None = None
        self.extended: dict[int, Range] = {}
        self._big_endian = big_endian
        self._explicit = Struct(order + "HH2sH").unpack_from
        self._implicit = Struct(order + "HHI").unpack_from
        self._long = Struct(order + "I").unpack_from

    def elements(
        self,
        pos: int,
        limit: int,
        *,
        implicit: bool = False,
        depth: int = 0,
        delimited: bool = False,
        meta: bool = False,
    ) -> tuple[dict[int, Element], int]:
        """Read elements up to `limit`, the item delimiter if `delimited`, or the end of group 2 if `meta`.

        Long for this house: the walk over elements is the cost of reading a header, and one more
        call for each element would add half of it again.
        """
        found: dict[int, Element] = {}
        data, codes, publics = self.data, _vr.CODES, _vr.public_vrs()
        explicit_head, implicit_head = self._explicit, self._implicit
        made = tuple.__new__  # half the time of `Element(…)`
        while pos + 8 <= limit:
            start = pos + 8
            if implicit:
                group, number, length = implicit_head(data, pos)
                vr = ""
            else:
                group, number, code, length = explicit_head(data, pos)
                known = codes.get(code)
                if known is not None and not known.long:
                    vr = known.vr
                else:
                    vr, start, length = self._other_head(code, pos, limit, length)
            tag = group << 16 | number
            if meta and group != 2:
                break
            if group == 0xFFFE and tag in _DELIMITERS:
                if delimited:
                    # A missing item delimiter shows as the next item or as the sequence's end.
                    return found, pos + 8 if tag == _ITEM_END else pos
                if depth:
                    raise _malformed("an item of known length holds a delimiter")
                pos += 8  # at the top level a stray delimiter means nothing
                continue
            if not vr:
                vr = publics.get(tag) or self._looked_up(tag, found)
            elif vr == "UN":
                vr = self._looked_up(tag, found)
                if self._big_endian and vr in _ORDERED:
                    vr = "UN"  # its numbers are little endian (PS3.5 6.2.2), its sequences too
            self.budget -= 1
            if self.budget < 0:
                raise _too_many()
            stop = start + length
            if stop > limit or vr == "SQ" or vr == "UN":
                try:
                    found[tag], pos = self._special(tag, vr, start, length, limit, implicit, depth)
                except MalformedDicom as error:
                    if depth or self.pixels is None or isinstance(error, Excess):
                        raise
                    break  # what follows the pixels is no element: a tail of loose bytes
                continue
            found[tag] = made(Element, (tag, vr, start, stop, None))
            pos = stop
            if group == 0x7FE0 and not depth:
                self._note_pixels(tag, vr, start, stop)
        if delimited:
            raise _malformed("an item never ends")
        if depth and pos != limit:
            raise _malformed("an item's elements don't fill it")
        return found, pos

    def _spend(self) -> None:
        self.budget -= 1
        if self.budget < 0:
            raise _too_many()

    def _other_head(self, code: bytes, pos: int, limit: int, length: int) -> tuple[str, int, int]:
        """Return (VR, value start, length) of a long form, an unknown VR, or an implicit stray."""
        known = _vr.CODES.get(code)
        if known is None and not is_code(code):
            return "", pos + 8, self._implicit(self.data, pos)[2]
        fits = pos + 12 <= limit
        (long_length,) = self._long(self.data, pos + 8) if fits else (0,)
        if known is not None:
            if not fits:
                raise _malformed("an element's head is cut off")
            return known.vr, pos + 12, long_length
        if length == 0 and fits and pos + 12 + long_length <= limit:
            return "UN", pos + 12, long_length  # PS3.5 6.2: VRs to come have the long form
        return "UN", pos + 8, length

    def _looked_up(self, tag: int, found: Dataset) -> str:
        """Return the VR by dictionary; a private element's by its creator in the same data set."""
        number = tag & 0xFFFF
        if not tag & 0x10000 or number == 0:
            return _vr.public_vr(tag)
        if 0x10 <= number <= 0xFF:
            return "LO"
        creator = found.get(tag & 0xFFFF0000 | number >> 8)
        if creator is None:
            return "UN"
        name = bytes(self.data[creator.start : min(creator.stop, creator.start + 64)])
        return _vr.private_vr(tag, name.decode("latin-1").strip("\0 "))

    def _special(
        self, tag: int, vr: str, start: int, length: int, limit: int, implicit: bool, depth: int
    ) -> tuple[Element, int]:
        """Read what is no plain value: a sequence, fragments, UN, or what runs past the end."""
        stop = start + length
        if length == _UNDEFINED:
            if vr in _FRAGMENTED:
                return self._fragmented(tag, vr, start, limit, depth)
            items, stop = self._sequence(start, limit, implicit, depth, delimited=True)
            return Element(tag, "SQ", start, stop, items), stop
        if stop > limit:
            if depth == 0 and tag in PIXEL_TAGS and self.pixels is None:
                self._note_pixels(tag, vr, start, limit, truncated=True)
                return Element(tag, vr, start, limit), limit
            raise _malformed("an element is longer than what holds it")
        items_there = bytes(self.data[start : start + 4]) in (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
        if vr == "SQ" and not length:
            return Element(tag, vr, start, stop, ()), stop
        if items_there:
            try:
                items, _ = self._sequence(start, stop, implicit, depth, delimited=False)
                return Element(tag, "SQ", start, stop, items), stop
            except Excess:
                raise
            except MalformedDicom:
                pass
        return Element(tag, "UN", start, stop), stop

    def _sequence(
        self, pos: int, limit: int, implicit: bool, depth: int, *, delimited: bool
    ) -> tuple[tuple[Dataset, ...], int]:
        """Read items up to `limit`, or up to the sequence delimiter if `delimited`."""
        if depth >= MAX_DEPTH:
            raise Excess("sequences are nested deeper than in any real object; leave it out")
        items: list[Dataset] = []
        while pos + 8 <= limit:
            group, number, length = self._implicit(self.data, pos)
            tag, pos = group << 16 | number, pos + 8
            if tag == _SEQUENCE_END and delimited:
                return tuple(items), pos
            if tag != _ITEM:
                raise _malformed("a sequence holds something else than items")
            self._spend()
            # UN and private sequences may be implicit in an explicit file (PS3.5 6.2.2).
            inside = implicit or not is_code(bytes(self.data[pos + 4 : pos + 6]))
            undefined = length == _UNDEFINED
            if not undefined and pos + length > limit:
                raise _malformed("an item is longer than its sequence")
            stop = limit if undefined else pos + length
            item, pos = self.elements(pos, stop, implicit=inside, depth=depth + 1, delimited=undefined)
            items.append(item)
        if delimited or pos != limit:
            raise _malformed("a sequence never ends")
        return tuple(items), pos

    def _fragmented(self, tag: int, vr: str, start: int, limit: int, depth: int) -> tuple[Element, int]:
        """Read fragments up to the sequence delimiter (PS3.5 A.4), or as far as the file goes."""
        fragments: list[Range] = []
        pos, stop, truncated = start, -1, False
        while pos + 8 <= limit:
            group, number, length = self._implicit(self.data, pos)
            here = group << 16 | number
            if here == _SEQUENCE_END:
                stop, pos = pos, pos + 8
                break
            if here != _ITEM:
                truncated = True
                break
            truncated = pos + 8 + length > limit
            fragments.append((pos + 8, min(pos + 8 + length, limit)))
            pos = fragments[-1][1]
            self._spend()
        stop = pos if stop < 0 else stop
        if depth and truncated:
            raise _malformed("fragments within an item are cut off")
        if not depth and tag in PIXEL_TAGS and self.pixels is None:
            self._note_fragments(tag, vr, start, stop, pos, fragments, truncated)
        return Element(tag, vr, start, stop), pos

    def _note_pixels(self, tag: int, vr: str, start: int, stop: int, *, truncated: bool = False) -> None:
        if tag in PIXEL_TAGS and self.pixels is None:
            self.pixels = PixelSpan(tag, vr, start, stop, stop, truncated=truncated, data=self.data)
        elif tag in (0x7FE00001, 0x7FE00002):
            self.extended[tag] = (start, stop)

    def _note_fragments(
        self, tag: int, vr: str, start: int, stop: int, end: int, fragments: list[Range], truncated: bool
    ) -> None:
        table = fragments[0] if fragments else (0, 0)
        self.pixels = PixelSpan(
            tag,
            vr,
            start,
            stop,
            end,
            encapsulated=True,
            basic_offset_table=self._integers(table, 4),
            extended_offsets=self._integers(self.extended.get(0x7FE00001, (0, 0)), 8),
            extended_lengths=self._integers(self.extended.get(0x7FE00002, (0, 0)), 8),
            fragments=tuple(fragments[1:]),
            truncated=truncated,
            data=self.data,
        )

    def _integers(self, place: Range, size: int) -> tuple[int, ...]:
        """Unpack an offset table; one longer than any real object's is as good as none."""
        count = (place[1] - place[0]) // size
        if not 0 < count <= MAX_ELEMENTS:
            return ()
        order = ">" if self._big_endian else "<"
        return Struct(f"{order}{count}{'I' if size == 4 else 'Q'}").unpack_from(self.data, place[0])


def is_code(code: bytes) -> bool:
    """Tell whether two bytes look like a VR, known or not."""
    return len(code) == 2 and 65 <= code[0] <= 90 and 65 <= code[1] <= 90


def _too_many() -> TooLarge:
    return TooLarge("the object holds more elements than any real one; leave it out")


def _malformed(what: str) -> MalformedDicom:
    return MalformedDicom(f"{what}; ask the sender for the file again")


__all__ = [
    "Dataset",
    "Element",
    "ElementReader",
    "Excess",
    "MAX_DEPTH",
    "MAX_ELEMENTS",
    "PIXEL_TAGS",
    "TooLarge",
    "is_code",
]
