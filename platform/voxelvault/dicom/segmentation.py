"""What a segmentation says: its segments, and which segment each frame is of, drawn on what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from voxelvault.dicom.coding import Code, code_of
from voxelvault.dicom.coerce import HeaderLike, as_integer, as_length, as_number, as_text, first_item
from voxelvault.dicom.frames import FrameAttributes, frame_attributes
from voxelvault.dicom.functional_groups import Lookup
from voxelvault.errors import MalformedDicom

SOP_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage, Label Map Segmentation Storage."""

KINDS = ("BINARY", "FRACTIONAL", "LABELMAP")


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment, as its author described it.

    Parameters
    ----------
    number : int
        SegmentNumber, by which frames or label map pixels refer to it.
    label : str
        SegmentLabel.
    category, type : Code or None
        Property category and type, such as "Morphologically abnormal structure" and "Neoplasm".
    algorithm : str
        AUTOMATIC, SEMIAUTOMATIC or MANUAL.
    """

    number: int
    label: str
    category: Code | None = None
    type: Code | None = None
    algorithm: str = ""


@dataclass(frozen=True, slots=True)
class SegmentFrame:
    """One frame: of which segment, where, and drawn on which image.

    Parameters
    ----------
    segment : int or None
        Its SegmentNumber; None in a label map, whose pixels are the numbers.
    place : FrameAttributes
        Position, orientation and pixel spacing, as far as given; `frame` is its index from 0.
    sources : tuple of (str, int or None)
        SOPInstanceUID and FrameNumber (None: all frames) of the images it was derived from.
    same_pixels : bool
        The header does not deny that its pixels lie where those of its source do.
    """

    segment: int | None
    place: FrameAttributes
    sources: tuple[tuple[str, int | None], ...] = ()
    same_pixels: bool = True


@dataclass(frozen=True, slots=True)
class Segmentation:
    """A segmentation's header, read.

    Parameters
    ----------
    kind : str
        BINARY, FRACTIONAL or LABELMAP.
    segments : tuple of Segment
        Without a label map's background (number 0).
    frames : tuple of SegmentFrame
        In stored order.
    full : int
        Stored value that means 1.0: MaximumFractionalValue of a fractional one, else 1.
    step : float or None
        mm between neighbouring planes, where the header says so; frames may be left out between.
    frame_of_reference : str or None
        FrameOfReferenceUID.
    series : frozenset of str
        SeriesInstanceUIDs that it refers to.

    References
    ----------
    DICOM PS3.3 C.8.20.2 (segmentation image), C.8.20.3 (macros), C.7.6.16.2.1 (pixel measures).
    """

    kind: str
    segments: tuple[Segment, ...]
    frames: tuple[SegmentFrame, ...]
    full: int
    step: float | None
    frame_of_reference: str | None
    series: frozenset[str]


def read_segmentation(header: HeaderLike) -> Segmentation:
    """Read a segmentation's header.

    Parameters
    ----------
    header : HeaderLike
        Of an object of one of `SOP_CLASSES`.

    Returns
    -------
    Segmentation
        Its segments and frames.

    Raises
    ------
    MalformedDicom
        SegmentationType is none that the standard knows, a frame belongs to no segment, or there
        are more frames than per-frame functional groups (PS3.3 C.7.6.16).
    """
    kind = (as_text(header.get("SegmentationType")) or "").upper()
    if kind not in KINDS:
        raise MalformedDicom("the segmentation does not say which type it is; ask its sender to mend it")
    segments = segments_of(header)
    frames = tuple(_frames(header, None if kind == "LABELMAP" else segments))
    return Segmentation(
        kind,
        tuple(segment for segment in segments if segment.number or kind != "LABELMAP"),
        frames,
        (as_integer(header.get("MaximumFractionalValue")) or 255) if kind == "FRACTIONAL" else 1,
        _step(header),
        as_text(header.get("FrameOfReferenceUID")),
        referenced_series(header),
    )


def segments_of(header: HeaderLike) -> tuple[Segment, ...]:
    """Return what SegmentSequence describes; items without a number are left out.

    Parameters
    ----------
    header : HeaderLike
        A header, or as much of one as has the sequence.
    """
    found = [(as_integer(item.get("SegmentNumber")), item) for item in header.items_of("SegmentSequence")]
    return tuple(
        Segment(
            number,
            as_text(item.get("SegmentLabel")) or "",
            code_of(item, "SegmentedPropertyCategoryCodeSequence"),
            code_of(item, "SegmentedPropertyTypeCodeSequence"),
            as_text(item.get("SegmentAlgorithmType")) or "",
        )
        for number, item in found
        if number is not None
    )


def referenced_series(header: HeaderLike) -> frozenset[str]:
    """Return SeriesInstanceUIDs that a segmentation names, in its own study and in others.

    Parameters
    ----------
    header : HeaderLike
        A header, or as much of one as has the sequences.
    """
    elsewhere = header.items_of("StudiesContainingOtherReferencedInstancesSequence")
    items = [item for place in (header, *elsewhere) for item in place.items_of("ReferencedSeriesSequence")]
    uids = (as_text(item.get("SeriesInstanceUID")) for item in items)
    return frozenset(uid for uid in uids if uid)


def _frames(header: HeaderLike, segments: tuple[Segment, ...] | None) -> Iterator[SegmentFrame]:
    shared = first_item(header, "SharedFunctionalGroupsSequence")
    groups = header.items_of("PerFrameFunctionalGroupsSequence")
    if (as_integer(header.get("NumberOfFrames")) or 1) > max(len(groups), 1):
        # A small header may claim any number, and each frame is described in memory.
        raise MalformedDicom("the segmentation describes fewer frames than it has; ask its sender to mend it")
    for place in frame_attributes(header):
        own = groups[place.frame] if place.frame < len(groups) else None
        look = Lookup(own, shared, header)
        number = None if segments is None else _segment(look, segments)
        sources, same = _sources(own if own is not None else shared)
        yield SegmentFrame(number, place, sources, same)


def _segment(look: Lookup, segments: tuple[Segment, ...]) -> int:
    number = as_integer(look.group_value("SegmentIdentificationSequence", "ReferencedSegmentNumber"))
    if number is None and len(segments) == 1:
        return segments[0].number
    if number is None:
        raise MalformedDicom("a frame of the segmentation names no segment; ask its sender to mend it")
    return number


def _sources(group: HeaderLike | None) -> tuple[tuple[tuple[str, int | None], ...], bool]:
    """Return the images that a frame was derived from, and whether its pixels lie on theirs."""
    found: list[tuple[str, int | None]] = []
    same = True
    for derivation in group.items_of("DerivationImageSequence") if group is not None else ():
        for item in derivation.items_of("SourceImageSequence"):
            same &= (as_text(item.get("SpatialLocationsPreserved")) or "").upper() != "NO"
            instance = as_text(item.get("ReferencedSOPInstanceUID"))
            numbers = [as_integer(value) for value in item.values("ReferencedFrameNumber")] or [None]
            found += [(instance, number) for number in numbers if instance]
    return tuple(found), same


def _step(header: HeaderLike) -> float | None:
    """Return mm between planes, as the shared measures give it; some writers sign it."""
    shared = first_item(header, "SharedFunctionalGroupsSequence")
    groups = [shared, next(iter(header.items_of("PerFrameFunctionalGroupsSequence")), None)]
    for group in groups:
        measures = first_item(group, "PixelMeasuresSequence") if group is not None else None
        step = as_number(measures.get("SpacingBetweenSlices")) if measures is not None else None
        if step is not None:
            return as_length(abs(step))
    return None


__all__ = [
    "SOP_CLASSES",
    "Segment",
    "SegmentFrame",
    "Segmentation",
    "read_segmentation",
    "referenced_series",
    "segments_of",
]
