"""Segmentations, structure sets and measurement reports on synthetic series, every pixel of them known."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from voxelvault.testing.synthetic_object import Pixels, header, put_pixels, to_bytes

SEGMENTATION, LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
COMPREHENSIVE_REPORT = "1.2.840.10008.5.1.4.1.1.88.33"

CodeTriple = tuple[str, str, str]

TUMOUR: CodeTriple = ("108369006", "SCT", "Tumor")
ABNORMAL: CodeTriple = ("49755003", "SCT", "Morphologically abnormal structure")


def segmentation_of(
    pixels: Pixels,
    positions: npt.NDArray[np.float64] | Sequence[Sequence[float]],
    numbers: Sequence[int] | None = None,
    *,
    orientation: Sequence[float],
    spacing: Sequence[float],
    thickness: float | None = None,
    step: float | None = None,
    labels: Mapping[int, str] | None = None,
    kind: str = "BINARY",
    on: Sequence[bytes] = (),
    sources: Sequence[bytes | None] = (),
    **begun: Any,
) -> bytes:
    """Return a segmentation whose frames lie where they are told to.

    Parameters
    ----------
    pixels : ndarray
        (frame, row, column): bool for BINARY, uint8 fractions of 255 for FRACTIONAL, segment
        numbers for LABELMAP.
    positions : ndarray
        (frame, 3): centre of each frame's first pixel, mm, LPS; None entries leave it out.
    numbers : sequence of int, optional
        SegmentNumber of each frame; 1 by default, none in a label map.
    orientation, spacing : sequence of float
        Row and column cosines; spacing (row, column) in mm.
    thickness, step : float, optional
        SliceThickness and SpacingBetweenSlices in mm; left out by default.
    labels : mapping of int to str, optional
        SegmentLabel by number.
    kind : {"BINARY", "FRACTIONAL", "LABELMAP"}
        SegmentationType.
    on : sequence of bytes
        Files of the series that it names; none by default.
    sources : sequence of bytes or None
        File that each frame was drawn on.
    **begun
        As for `header`; `frame_of_reference` replaces the study's own, None leaves it out.

    Returns
    -------
    bytes
        The file.

    References
    ----------
    DICOM PS3.3 C.8.20.2 and C.8.20.3.
    """
    attributes = {"SegmentationType": kind, **_space(begun), **begun.pop("attributes", {})}
    sop_class = LABEL_MAP if kind == "LABELMAP" else SEGMENTATION
    made = header("SEG", sop_class=sop_class, **{"series": 50, **begun}, attributes=attributes)
    if kind == "FRACTIONAL":
        made.SegmentationFractionalType, made.MaximumFractionalValue = "PROBABILITY", 255
    made.SegmentSequence = Items(
        [
            _item(
                SegmentNumber=number,
                SegmentLabel=label,
                SegmentAlgorithmType="MANUAL",
                SegmentedPropertyCategoryCodeSequence=_code(ABNORMAL),
                SegmentedPropertyTypeCodeSequence=_code(TUMOUR),
            )
            for number, label in (labels or {1: "lesion"}).items()
        ]
    )
    if on:
        made.ReferencedSeriesSequence = Items([_series(on)])
    measures = _item(PixelSpacing=list(spacing))
    if thickness is not None:
        measures.SliceThickness = thickness
    if step is not None:
        measures.SpacingBetweenSlices = step
    shared = _item(
        PixelMeasuresSequence=Items([measures]),
        PlaneOrientationSequence=Items([_item(ImageOrientationPatient=list(orientation))]),
    )
    made.SharedFunctionalGroupsSequence = Items([shared])
    made.PerFrameFunctionalGroupsSequence = Items(
        [
            _group(
                position,
                None if kind == "LABELMAP" else (numbers[at] if numbers else 1),
                sources[at] if sources else None,
            )
            for at, position in enumerate(positions)
        ]
    )
    put_pixels(made, pixels)
    made.NumberOfFrames = len(pixels)
    return to_bytes(made)


def structure_set(
    regions: Mapping[str, Sequence[npt.NDArray[np.float64]]],
    *,
    on: Sequence[bytes] = (),
    closed: bool = True,
    **begun: Any,
) -> bytes:
    """Return an RT structure set.

    Parameters
    ----------
    regions : mapping of str to sequence of ndarray
        ROIName to its contours: float64, shape (point, 3), mm, LPS.
    on : sequence of bytes
        Files of the series that it names.
    closed : bool
        CLOSED_PLANAR contours; else POINT.
    **begun
        As for `header`; `frame_of_reference` replaces the study's own.

    Returns
    -------
    bytes
        The file.

    References
    ----------
    DICOM PS3.3 C.8.8.5 and C.8.8.6.
    """
    space = _space(begun)
    made = header("RTSTRUCT", sop_class=STRUCTURE_SET, **{"series": 60, **begun})
    uid = space.get("FrameOfReferenceUID", made.FrameOfReferenceUID)
    del made.FrameOfReferenceUID
    frame = _item(FrameOfReferenceUID=uid)
    if on:
        study = _item(RTReferencedSeriesSequence=Items([_series(on)]))
        frame.RTReferencedStudySequence = Items([study])
    made.ReferencedFrameOfReferenceSequence = Items([frame])
    made.StructureSetLabel = "structures"
    made.StructureSetROISequence = Items(
        [
            _item(
                ROINumber=number,
                ROIName=name,
                ReferencedFrameOfReferenceUID=uid,
                ROIGenerationAlgorithm="MANUAL",
            )
            for number, name in enumerate(regions, 1)
        ]
    )
    made.ROIContourSequence = Items(
        [
            _item(ReferencedROINumber=number, ContourSequence=Items([_contour(c, closed) for c in contours]))
            for number, contours in enumerate(regions.values(), 1)
        ]
    )
    return to_bytes(made)


def measurement_report(on: Sequence[bytes], segmentation: bytes | None = None, **begun: Any) -> bytes:
    """Return a TID 1500 report of one lesion: its site, a volume of 12.5 ml and a free sentence.

    Parameters
    ----------
    on : sequence of bytes
        Files of the series that it is about.
    segmentation : bytes, optional
        Segmentation whose segment 1 was measured.
    **begun
        As for `header`.

    Returns
    -------
    bytes
        The file.

    References
    ----------
    DICOM PS3.16 TID 1500, 1411.
    """
    made = header("SR", sop_class=COMPREHENSIVE_REPORT, **{"series": 70, **begun})
    made.CurrentRequestedProcedureEvidenceSequence = Items(
        [_item(StudyInstanceUID=made.StudyInstanceUID, ReferencedSeriesSequence=Items([_series(on)]))]
    )
    volume = _content("CONTAINS", "NUM", ("118565006", "SCT", "Volume"))
    measured = _item(NumericValue="12.5", MeasurementUnitsCodeSequence=_code(("ml", "UCUM", "milliliter")))
    volume.MeasuredValueSequence = Items([measured])
    group = [
        _content("HAS OBS CONTEXT", "TEXT", ("112039", "DCM", "Tracking Identifier"), TextValue="lesion 1"),
        _content("CONTAINS", "CODE", ("121071", "DCM", "Finding"), ConceptCodeSequence=_code(TUMOUR)),
        _content(
            "HAS CONCEPT MOD",
            "CODE",
            ("363698007", "SCT", "Finding Site"),
            ConceptCodeSequence=_code(("10200004", "SCT", "Liver")),
        ),
        volume,
    ]
    if segmentation is not None:
        named = pydicom.dcmread(_open(segmentation), stop_before_pixels=True)
        image = _content("CONTAINS", "IMAGE", ("121191", "DCM", "Referenced Segment"))
        image.ReferencedSOPSequence = Items([_named(named)])
        image.ReferencedSOPSequence[0].ReferencedSegmentNumber = 1
        group.append(image)
    sentence = _content("CONTAINS", "TEXT", ("121106", "DCM", "Comment"), TextValue="as before")
    measurements = _content("CONTAINS", "CONTAINER", ("126010", "DCM", "Imaging Measurements"))
    holder = _content("CONTAINS", "CONTAINER", ("125007", "DCM", "Measurement Group"))
    holder.ContentSequence = Items(group)
    measurements.ContentSequence = Items([holder])
    made.ValueType = "CONTAINER"
    made.ConceptNameCodeSequence = _code(("126000", "DCM", "Imaging Measurement Report"))
    made.ContentSequence = Items([measurements, sentence])
    return to_bytes(made)


def circle(
    centre: Sequence[float], radius: float, orientation: Sequence[float], points: int = 360
) -> npt.NDArray[np.float64]:
    """Return a circle as a polygon.

    Parameters
    ----------
    centre : sequence of float
        mm, LPS.
    radius : float
        mm.
    orientation : sequence of float
        Two perpendicular directions of its plane.
    points : int
        Corners.

    Returns
    -------
    ndarray
        float64, shape (point, 3).
    """
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    across, down = np.array(orientation[:3], float), np.array(orientation[3:], float)
    return np.asarray(
        np.array(centre, float) + radius * (np.cos(angles)[:, None] * across + np.sin(angles)[:, None] * down)
    )


def _space(begun: dict[str, Any]) -> dict[str, object]:
    return {"FrameOfReferenceUID": begun.pop("frame_of_reference")} if "frame_of_reference" in begun else {}


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _code(code: CodeTriple) -> Items:
    value, scheme, meaning = code
    return Items([_item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)])


def _content(relation: str, kind: str, concept: CodeTriple, **attributes: Any) -> Dataset:
    return _item(
        RelationshipType=relation, ValueType=kind, ConceptNameCodeSequence=_code(concept), **attributes
    )


def _group(position: Sequence[float] | None, number: int | None, source: bytes | None) -> Dataset:
    group = Dataset()
    if position is not None:
        place = _item(ImagePositionPatient=[round(float(value), 6) for value in position])
        group.PlanePositionSequence = Items([place])
    if number is not None:
        group.SegmentIdentificationSequence = Items([_item(ReferencedSegmentNumber=number)])
    if source is not None:
        named = _named(pydicom.dcmread(_open(source), stop_before_pixels=True))
        group.DerivationImageSequence = Items([_item(SourceImageSequence=Items([named]))])
    return group


def _contour(points: npt.NDArray[np.float64], closed: bool) -> Dataset:
    return _item(
        ContourGeometricType="CLOSED_PLANAR" if closed else "POINT",
        NumberOfContourPoints=len(points),
        ContourData=[f"{value:.6g}" for value in points.reshape(-1)],
    )


def _series(files: Sequence[bytes]) -> Dataset:
    datasets = [pydicom.dcmread(_open(file), stop_before_pixels=True) for file in files]
    return _item(
        SeriesInstanceUID=datasets[0].SeriesInstanceUID,
        ReferencedInstanceSequence=Items([_named(dataset) for dataset in datasets]),
    )


def _named(dataset: Dataset) -> Dataset:
    return _item(ReferencedSOPClassUID=dataset.SOPClassUID, ReferencedSOPInstanceUID=dataset.SOPInstanceUID)


def _open(file: bytes) -> io.BytesIO:
    return io.BytesIO(file)


__all__ = ["circle", "measurement_report", "segmentation_of", "structure_set"]
