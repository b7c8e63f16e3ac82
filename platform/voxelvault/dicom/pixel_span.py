"""Where the pixels of an object lie in its bytes, and which fragments make a frame.

References
----------
DICOM PS3.5 A.4 (encapsulated pixel data, basic offset table), PS3.3 C.7.6.3.1.8 (extended
offset table), PS3.5 Annex G (RLE: one fragment a frame).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from voxelvault.errors import MalformedDicom
from voxelvault.model import Buffer

Range = tuple[int, int]

_CODESTREAM_STARTS = (
    b"\xff\xd8\xff",  # JPEG and JPEG-LS: SOI, then any marker
    b"\xff\x4f\xff\x51",  # JPEG 2000 and HTJ2K: SOC, SIZ
    b"\x00\x00\x00\x0cjP  ",  # JPEG 2000 in its file format, against the standard but met
    b"\xff\x0a",  # JPEG XL codestream
    b"\x00\x00\x00\x0cJXL ",  # JPEG XL in its container
)


@dataclass(frozen=True, slots=True)
class PixelSpan:
    """The pixel element of one object; offsets count from the start of `data`.

    Parameters
    ----------
    tag : int
        (7FE0,0010), (7FE0,0008) or (7FE0,0009).
    vr : str
        As sent, or by the dictionary (`OB or OW`) when the file says nothing.
    start, stop : int
        Value bytes; for encapsulated data from the basic offset table's item tag up to the
        sequence delimiter.
    encapsulated : bool
        The value is a sequence of fragments.
    basic_offset_table : tuple of int
        Empty when absent.
    extended_offsets, extended_lengths : tuple of int
        (7FE0,0001) and (7FE0,0002), empty when absent.
    fragments : tuple of (int, int)
        Start and stop of each fragment's bytes, item headers left out.
    end : int
        First byte after the element, sequence delimiter included.
    truncated : bool
        The file ends before the element does.
    data : Buffer
        The bytes that the offsets count in: the file, or the inflated data set.
    """

    tag: int
    vr: str
    start: int
    stop: int
    end: int
    encapsulated: bool = False
    basic_offset_table: tuple[int, ...] = ()
    extended_offsets: tuple[int, ...] = ()
    extended_lengths: tuple[int, ...] = ()
    fragments: tuple[Range, ...] = ()
    truncated: bool = False
    data: Buffer = field(default=b"", repr=False, compare=False)


def frame_fragments(span: PixelSpan, number_of_frames: int) -> list[list[Range]]:
    """Return the fragments of each frame, in order.

    The first of these that fits decides: one frame takes all; the extended, then the basic
    offset table; one fragment a frame; fragments that begin a codestream begin a frame.

    Parameters
    ----------
    span : PixelSpan
        Encapsulated pixels.
    number_of_frames : int
        As the header says; never trusted beyond the number of fragments.

    Returns
    -------
    list of list of (int, int)
        One list a frame; start and stop in `span.data`.

    Raises
    ------
    MalformedDicom
        The pixels are native, or nothing tells the frames apart.

    References
    ----------
    DICOM PS3.5 A.4, PS3.3 C.7.6.3.1.8.
    """
    fragments = span.fragments
    if not span.encapsulated or not fragments or not 0 < number_of_frames <= len(fragments):
        raise MalformedDicom(
            "the pixel data holds fewer fragments than frames; ask the sender for the file again"
        )
    if number_of_frames == 1:
        return [list(fragments)]
    by_table = _by_offsets(span, span.extended_offsets, number_of_frames) or _by_offsets(
        span, span.basic_offset_table, number_of_frames
    )
    if by_table:
        return by_table
    if len(fragments) == number_of_frames:
        return [[fragment] for fragment in fragments]
    starts = [index for index, (start, _) in enumerate(fragments) if _begins_codestream(span.data, start)]
    if len(starts) == number_of_frames and starts[0] == 0:
        return _cut(fragments, starts)
    raise MalformedDicom(
        "nothing tells which fragment belongs to which frame; ask the sender for an offset table"
    )


def _by_offsets(span: PixelSpan, offsets: Sequence[int], frames: int) -> list[list[Range]] | None:
    """Cut at the fragments that a table names; None when the table doesn't describe these fragments.

    Offsets count from the first fragment's item tag, 8 bytes before its bytes.
    """
    if len(offsets) != frames or offsets[0] != 0:
        return None
    origin = span.fragments[0][0]
    index_of = {start - origin: index for index, (start, _) in enumerate(span.fragments)}
    starts = [index_of.get(offset, -1) for offset in offsets]
    if any(later <= earlier for earlier, later in pairwise(starts)):
        return None
    return _cut(span.fragments, starts)


def _cut(fragments: Sequence[Range], starts: Sequence[int]) -> list[list[Range]]:
    stops = [*starts[1:], len(fragments)]
    return [list(fragments[start:stop]) for start, stop in zip(starts, stops, strict=True)]


def _begins_codestream(data: Buffer, start: int) -> bool:
    return bytes(data[start : start + 8]).startswith(_CODESTREAM_STARTS)


__all__ = ["PixelSpan", "frame_fragments"]
