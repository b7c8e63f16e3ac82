"""DICOM Part 10 files written: Explicit VR Little Endian, from the bytes that a parser found.

Values are passed on as they came, whatever they hold; only their order of bytes and what is asked
for changes. Text stays in its character set.

References
----------
DICOM PS3.10 7.1 (file meta information), PS3.5 7.1.2 (explicit VR), 7.5 (sequences), A.4
(encapsulation), PS3.3 C.7.6.3.1.8 (extended offset table).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from struct import pack
from typing import TypeAlias

from voxelvault.dicom.elements import PIXEL_TAGS, Dataset, Element
from voxelvault.dicom.json_model import unambiguous
from voxelvault.dicom.vr import BINARY, CODES, NUMBERS
from voxelvault.model import Buffer

Change: TypeAlias = tuple[str, bytes]
"""VR and value, little endian."""

IMPLEMENTATION = b"2.25.239815743826594837265120938475610293847"
"""Implementation Class UID (PS3.10 7.1): of this package, made of a random number (PS3.5 B.2)."""

IMPLEMENTATION_NAME = b"VOXELVAULT"

_LONGEST_SHORT = 0xFFFF
_ITEM, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_OFFSETS, _LENGTHS = 0x7FE00001, 0x7FE00002
_PIXEL_REPRESENTATION, _ICON = 0x00280103, 0x00880200
_WORDS = {**{vr: size for vr, (_, size) in NUMBERS.items()}, "AT": 2, "OW": 2, "OF": 4, "OL": 4, "OD": 8}
_WORDS["OV"] = 8


def element(tag: int, vr: str, value: Buffer) -> bytes:
    """Return one element; an odd value gets its padding, one too long for its VR becomes UN.

    References
    ----------
    DICOM PS3.5 7.1.2 and 6.2.2.
    """
    size = len(value) + len(value) % 2
    padding = (b"\0" if vr in BINARY or vr == "UI" else b" ")[: size - len(value)]
    if not CODES[vr.encode()].long and size > _LONGEST_SHORT:
        vr = "UN"
    return _head(tag, vr, size) + bytes(value) + padding


def _head(tag: int, vr: str, size: int) -> bytes:
    where = pack("<HH", tag >> 16, tag & 0xFFFF)
    if CODES[vr.encode()].long:
        return where + vr.encode() + pack("<HI", 0, size)
    return where + vr.encode() + pack("<H", size)


def sequence(tag: int, items: Iterable[bytes]) -> bytes:
    """Return a sequence of encoded items, lengths given."""
    return element(tag, "SQ", b"".join(_tagged(_ITEM, len(item)) + item for item in items))


def _tagged(tag: int, size: int) -> bytes:
    return pack("<HHI", tag >> 16, tag & 0xFFFF, size)


class Encoder:
    """Writes elements of one parsed buffer as Explicit VR Little Endian.

    Parameters
    ----------
    data : buffer
        What the elements' places count in.
    big_endian : bool
        Its numbers are.
    """

    def __init__(self, data: Buffer, *, big_endian: bool) -> None:
        self._data, self._big_endian = data, big_endian

    def item(self, elements: Dataset, signed: int = 0) -> bytes:
        """Return the elements of a data set, group lengths left out."""
        signed = self.sign(elements, signed)
        return b"".join(
            self.one(found, signed) for tag, found in sorted(elements.items()) if self.passes(tag, found)
        )

    def sign(self, elements: Dataset, inherited: int = 0) -> int:
        """Return PixelRepresentation, which decides what `US or SS` means."""
        found = elements.get(_PIXEL_REPRESENTATION)
        if found is None or found.stop - found.start != 2:
            return inherited
        return int.from_bytes(self._data[found.start : found.stop], "big" if self._big_endian else "little")

    def one(self, found: Element, signed: int = 0) -> bytes:
        """Return one element, with what is in it."""
        tag, vr, start, stop, items = found
        if items is not None:
            return sequence(tag, [self.item(inside, signed) for inside in items])
        if len(vr) != 2:
            vr = unambiguous(vr, tag, stop - start, signed)
        return element(tag, vr, self.little(vr, self._data[start:stop]))

    def little(self, vr: str, value: Buffer) -> Buffer:
        """Return a value with its numbers little endian."""
        width = _WORDS.get(vr, 1)
        if not self._big_endian or width == 1 or len(value) % width:
            return value
        return b"".join(bytes(value[at : at + width])[::-1] for at in range(0, len(value), width))

    def passes(self, tag: int, found: Element) -> bool:
        """Tell whether an element goes along: no group length, no compressed thumbnail."""
        if tag == _ICON:
            # A compressed thumbnail can't stand in an object of another transfer syntax (PS3.5 A.4).
            return not any(self._is_fragmented(inside.get(0x7FE00010)) for inside in found.items or ())
        return bool(tag & 0xFFFF)

    def _is_fragmented(self, pixels: Element | None) -> bool:
        return (
            pixels is not None and bytes(self._data[pixels.start : pixels.start + 4]) == b"\xfe\xff\x00\xe0"
        )


def dataset_bytes(
    parts: Sequence[tuple[Encoder, Dataset]],
    changes: Mapping[int, Change | bytes | None],
    leave_out: frozenset[int] = frozenset(),
) -> bytes:
    """Return a data set without its pixels, in the order of tags.

    Parameters
    ----------
    parts : sequence of (Encoder, Dataset)
        Elements, and what writes them; the first part tells the sign of the pixels.
    changes : mapping of int to (VR, value), bytes or None
        By tag, instead of what came: a value, a whole element already encoded, or nothing at all.
    leave_out : set of int
        Tags that don't go along.
    """
    signed = parts[0][0].sign(parts[0][1]) if parts else 0
    dropped = PIXEL_TAGS | {_OFFSETS, _LENGTHS} | leave_out | changes.keys()
    found: dict[int, bytes] = {}
    for encoder, elements in parts:
        for tag in elements.keys() - dropped:
            if encoder.passes(tag, elements[tag]):
                found[tag] = encoder.one(elements[tag], signed)
    for tag, change in changes.items():
        if change is not None:
            found[tag] = change if isinstance(change, bytes) else element(tag, *change)
    return b"".join(found[tag] for tag in sorted(found))


def file_head(sop_class: bytes, sop_instance: bytes, transfer_syntax: str) -> bytes:
    """Return preamble and file meta information (PS3.10 7.1)."""
    meta = b"".join(
        (
            element(0x00020001, "OB", b"\0\1"),
            element(0x00020002, "UI", sop_class),
            element(0x00020003, "UI", sop_instance),
            element(0x00020010, "UI", transfer_syntax.encode()),
            element(0x00020012, "UI", IMPLEMENTATION),
            element(0x00020013, "SH", IMPLEMENTATION_NAME),
        )
    )
    return bytes(128) + b"DICM" + element(0x00020000, "UL", pack("<I", len(meta))) + meta


def native_pixels(tag: int, vr: str, value: Buffer) -> Iterator[Buffer]:
    """Yield a native pixel element."""
    yield _head(tag, vr, len(value) + len(value) % 2)
    yield value
    yield bytes(len(value) % 2)


LONGEST_OFFSET = 0xFFFFFFFF
"""What the basic offset table can say; behind it the extended one takes over."""


def encapsulated_pixels(frames: Sequence[Buffer], longest: int = LONGEST_OFFSET) -> Iterator[Buffer]:
    """Yield encapsulated pixel data, a fragment for each frame, with an offset table.

    Parameters
    ----------
    frames : sequence of buffer
        One codestream each.
    longest : int
        Offsets beyond need the extended table.

    References
    ----------
    DICOM PS3.5 A.4; PS3.3 C.7.6.3.1.8: lengths are those before padding.
    """
    sizes = [len(frame) + len(frame) % 2 for frame in frames]
    offsets = [0, *accumulate(size + 8 for size in sizes)][: len(frames)]
    table = pack(f"<{len(offsets)}I", *offsets) if offsets[-1] <= longest else b""
    if not table:
        yield element(_OFFSETS, "OV", pack(f"<{len(offsets)}Q", *offsets))
        yield element(_LENGTHS, "OV", pack(f"<{len(frames)}Q", *(len(frame) for frame in frames)))
    yield _head(0x7FE00010, "OB", _UNDEFINED) + _tagged(_ITEM, len(table)) + table
    for frame, size in zip(frames, sizes, strict=True):
        yield _tagged(_ITEM, size)
        yield frame
        yield bytes(size - len(frame))
    yield _tagged(_SEQUENCE_END, 0)


__all__ = [
    "Change",
    "Encoder",
    "dataset_bytes",
    "element",
    "encapsulated_pixels",
    "file_head",
    "native_pixels",
    "sequence",
]
