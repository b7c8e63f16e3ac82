"""What an RT structure set says: its regions of interest and their contours, in mm."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault.dicom.coding import Code, code_of
from voxelvault.dicom.coerce import HeaderLike, as_integer, as_text
from voxelvault.dicom.read import Header
from voxelvault.errors import MalformedDicom
from voxelvault.model import Buffer

SOP_CLASSES = ("1.2.840.10008.5.1.4.1.1.481.3",)
"""RT Structure Set Storage."""

CLOSED = frozenset(("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"))
"""Contours that enclose an area; points and lines enclose none."""

_BULK = re.compile(r"\?offset=(\d+)&length=(\d+)")


@dataclass(frozen=True, eq=False)
class Region:
    """One region of interest.

    Parameters
    ----------
    number : int
        ROINumber.
    label : str
        ROIName.
    type : Code or None
        RTROIIdentificationCode of its observation.
    interpretation : str
        RTROIInterpretedType, such as GTV or ORGAN.
    algorithm : str
        ROIGenerationAlgorithm.
    frame_of_reference : str or None
        Frame of reference of its contours.
    contours : tuple of ndarray
        Closed ones: float64, shape (point, 3), mm, patient coordinates (LPS).
    others : int
        How many points and lines it has besides.
    """

    number: int
    label: str
    type: Code | None
    interpretation: str
    algorithm: str
    frame_of_reference: str | None
    contours: tuple[npt.NDArray[np.float64], ...] = ()
    others: int = 0


@dataclass(frozen=True, eq=False)
class StructureSet:
    """A structure set, read.

    Parameters
    ----------
    regions : tuple of Region
        In the order of StructureSetROISequence.
    series : frozenset of str
        SeriesInstanceUIDs that it refers to.

    References
    ----------
    DICOM PS3.3 C.8.8.5 (structure set), C.8.8.6 (ROI contour), C.8.8.8 (observations).
    """

    regions: tuple[Region, ...]
    series: frozenset[str]


def read_structure_set(header: Header, data: Buffer = b"") -> StructureSet:
    """Read a structure set.

    Parameters
    ----------
    header : Header
        Of an RT Structure Set.
    data : bytes-like
        The data set that the header was read from; contours too long for a header's JSON are in it.

    Returns
    -------
    StructureSet
        Its regions and their contours.

    Raises
    ------
    MalformedDicom
        A closed contour's points are no triples of numbers.
    """
    contours = {
        as_integer(item.get("ReferencedROINumber")): item for item in header.items_of("ROIContourSequence")
    }
    observations = {
        as_integer(item.get("ReferencedROINumber")): item
        for item in header.items_of("RTROIObservationsSequence")
    }
    regions = []
    for item in header.items_of("StructureSetROISequence"):
        number = as_integer(item.get("ROINumber"))
        if number is not None:
            regions.append(_region(number, item, contours.get(number), observations.get(number), data))
    return StructureSet(tuple(regions), frozenset(_series(header)))


def _region(
    number: int, item: Header, contour: Header | None, observation: HeaderLike | None, data: Buffer
) -> Region:
    drawn = contour.items_of("ContourSequence") if contour is not None else []
    closed = [one for one in drawn if (as_text(one.get("ContourGeometricType")) or "").upper() in CLOSED]
    return Region(
        number,
        as_text(item.get("ROIName")) or "",
        code_of(observation, "RTROIIdentificationCodeSequence") if observation is not None else None,
        (as_text(observation.get("RTROIInterpretedType")) or "") if observation is not None else "",
        as_text(item.get("ROIGenerationAlgorithm")) or "",
        as_text(item.get("ReferencedFrameOfReferenceUID")),
        tuple(_points(one["ContourData"], data) for one in closed if "ContourData" in one),
        len(drawn) - len(closed),
    )


def _points(element: Mapping[str, Any], data: Buffer) -> npt.NDArray[np.float64]:
    """Return a contour's points, from the header or, where it is too long for one, from the data set."""
    values: list[Any] = element.get("Value", [])
    bulk = _BULK.fullmatch(element.get("BulkDataURI", ""))
    try:
        if bulk:
            start, length = int(bulk[1]), int(bulk[2])
            values = bytes(data[start : start + length]).decode("ascii").strip("\0 ").split("\\")
        points = np.array(values, dtype=np.float64).reshape(-1, 3)
    except (ValueError, TypeError):
        points = np.full((1, 3), np.nan)
    if not np.isfinite(points).all():
        raise MalformedDicom("a contour's points are no triples of numbers; ask the sender for it again")
    return points


def _series(header: HeaderLike) -> Iterator[str]:
    for frame in header.items_of("ReferencedFrameOfReferenceSequence"):
        for study in frame.items_of("RTReferencedStudySequence"):
            for item in study.items_of("RTReferencedSeriesSequence"):
                series = as_text(item.get("SeriesInstanceUID"))
                if series:
                    yield series


__all__ = ["CLOSED", "Region", "SOP_CLASSES", "StructureSet", "read_structure_set"]
