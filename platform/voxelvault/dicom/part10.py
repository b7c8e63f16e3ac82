"""Part 10 files taken apart: every element's place, and head | pixels | tail.

The parser trusts no length. Each is checked against what the file holds before it is followed,
nothing is allocated by a claim, nesting and the number of elements are bounded, and only
`NotDicom` and `MalformedDicom` come out. It is lenient where real files are wrong and the meaning
is still plain, as pydicom is with `force=True`: no preamble, no meta, implicit elements in explicit
data sets, UN for a known tag, missing delimiters. A sequence of known length whose inside makes no
sense is kept as opaque bytes.

References
----------
DICOM PS3.10 7 (file format), PS3.5 7 (data elements), A (transfer syntaxes), 6.2.2 (UN).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from struct import Struct

from voxelvault.dicom import vr as _vr
from voxelvault.dicom.elements import (
    MAX_DEPTH,
    MAX_ELEMENTS,
    PIXEL_TAGS,
    Dataset,
    Element,
    ElementReader,
    is_code,
)
from voxelvault.dicom.pixel_span import PixelSpan, frame_fragments
from voxelvault.errors import MalformedDicom, NotDicom
from voxelvault.model import Buffer

INFLATED_RATIO = 32
INFLATED_EXTRA = 64 << 20
"""A deflated data set may inflate to `INFLATED_RATIO` times its file and this many bytes more."""

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
_DEFLATED = frozenset(["1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"])


@dataclass(frozen=True, slots=True)
class Part10:
    """One parsed object.

    Parameters
    ----------
    length : int
        Of the file, in bytes.
    has_preamble, has_meta : bool
        128 bytes and `DICM` stand in front; a group 0002 follows.
    transfer_syntax : str
        From the meta, or guessed from the first element when that is silent.
    implicit, big_endian, deflated : bool
        How the data set is really encoded, which isn't always what the meta says.
    meta, dataset : mapping of int to Element
        By tag, in file order.
    pixels : PixelSpan or None
        The pixel element of the top level.
    data : Buffer
        What offsets count in: the file, or the inflated data set if `deflated`.
    dataset_start, end : int
        Bounds of the data set in `data`; what follows `end` is no element.
    """

    length: int
    has_preamble: bool
    has_meta: bool
    transfer_syntax: str
    implicit: bool
    big_endian: bool
    deflated: bool
    meta: Dataset
    dataset: Dataset
    pixels: PixelSpan | None
    dataset_start: int
    end: int
    data: Buffer = field(repr=False, compare=False)
    meta_data: Buffer = field(repr=False, compare=False)
    """What the offsets of `meta` count in: always the file."""

    def value(self, tag: int) -> bytes:
        """Return the bytes of a top-level or meta element, empty when absent."""
        dataset, data = (self.meta, self.meta_data) if tag >> 16 == 2 else (self.dataset, self.data)
        found = dataset.get(tag)
        return bytes(data[found.start : found.stop]) if found else b""

    def without_elements(self) -> Part10:
        """Return what is known of the file and its pixels alone: a hundredth of the memory."""
        return replace(self, meta={}, dataset={})


def parse(data: Buffer) -> Part10:
    """Take a Part 10 file apart.

    Parameters
    ----------
    data : Buffer
        The whole file: bytes, or a memoryview of a memory map.

    Returns
    -------
    Part10
        Element places, transfer syntax and pixel span; `pixels.truncated` if the file ends early.

    Raises
    ------
    NotDicom
        Neither `DICM` nor a plausible first element.
    MalformedDicom
        The bytes contradict themselves, or exceed `MAX_DEPTH` or `MAX_ELEMENTS`.

    References
    ----------
    DICOM PS3.10 7, PS3.5 7.
    """
    if isinstance(data, memoryview) and data.format != "B":
        data = data.cast("B")
    has_preamble = bytes(data[128:132]) == b"DICM"
    start = 132 if has_preamble else 0
    if not has_preamble:
        _require_plausible(data)
    reader = ElementReader(data, big_endian=False)
    meta, start = reader.elements(start, len(data), meta=True) if _group(data, start) == 2 else ({}, start)
    syntax = _transfer_syntax(data, meta)
    deflated = syntax in _DEFLATED
    content, content_start = (_inflate(data, start), 0) if deflated else (data, start)
    implicit, big_endian = _encoding(content, content_start, syntax)
    reader = ElementReader(content, big_endian=big_endian)
    dataset, end = reader.elements(content_start, len(content), implicit=implicit)
    if not dataset:
        raise MalformedDicom("the file holds no elements; ask the sender for it again")
    return Part10(
        length=len(data),
        has_preamble=has_preamble,
        has_meta=bool(meta),
        transfer_syntax=syntax or _guessed(implicit, big_endian),
        implicit=implicit,
        big_endian=big_endian,
        deflated=deflated,
        meta=meta,
        dataset=dataset,
        pixels=reader.pixels,
        dataset_start=content_start,
        end=end,
        data=content,
        meta_data=data,
    )


def _group(data: Buffer, start: int) -> int:
    return int.from_bytes(data[start : start + 2], "little")


def _require_plausible(data: Buffer) -> None:
    """Refuse what doesn't begin as a data set does: a known element of group 2 or 8 that fits."""
    head = bytes(data[:8])
    little = Struct("<HH").unpack_from(head.ljust(8, b"\0"))
    big = Struct(">HH").unpack_from(head.ljust(8, b"\0"))
    explicit = head[4:6] in _vr.CODES
    fits = explicit or int.from_bytes(head[4:8], "little") <= len(data) - 8
    known = any(
        group in (0x0002, 0x0008) and (group << 16 | element in _vr.public_vrs() or element == 0)
        for group, element in ((little, big) if explicit else (little,))
    )
    if len(data) < 16 or not (known and fits):
        raise NotDicom("the file is not a DICOM object; leave it out, or check that it arrived whole")


def _transfer_syntax(data: Buffer, meta: Dataset) -> str:
    element = meta.get(0x00020010)
    if element is None:
        return ""
    value = bytes(data[element.start : min(element.stop, element.start + 64)])
    return value.decode("ascii", "replace").strip("\0 ")


def _encoding(data: Buffer, start: int, syntax: str) -> tuple[bool, bool]:
    """Return (implicit, big endian); the first element decides where it contradicts the meta."""
    if not is_code(bytes(data[start + 4 : start + 6])):
        return True, False
    # A group such as 0008 read in the wrong order is 0800: no data set begins there.
    return False, syntax == EXPLICIT_BIG or (not syntax and _group(data, start) >= 0x0400)


def _guessed(implicit: bool, big_endian: bool) -> str:
    if implicit:
        return IMPLICIT_LITTLE
    return EXPLICIT_BIG if big_endian else EXPLICIT_LITTLE


def _inflate(data: Buffer, start: int) -> bytes:
    """Inflate a deflated data set, bounded by the size of the file (PS3.5 A.5)."""
    limit = INFLATED_RATIO * len(data) + INFLATED_EXTRA
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(data[start:], limit)
    except zlib.error:
        raise MalformedDicom("the deflated data set is damaged; ask the sender for the file again") from None
    if inflater.unconsumed_tail or not inflater.eof:
        raise MalformedDicom(
            "the deflated data set is cut short or inflates without end; ask the sender for it again"
        )
    return inflated


__all__ = [
    "Dataset",
    "Element",
    "MAX_DEPTH",
    "MAX_ELEMENTS",
    "PIXEL_TAGS",
    "Part10",
    "PixelSpan",
    "frame_fragments",
    "parse",
]
