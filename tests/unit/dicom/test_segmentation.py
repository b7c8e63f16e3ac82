"""Headers of segmentations, against highdicom on the real ones."""

from __future__ import annotations

import io
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header
from voxelvault.dicom.segmentation import SOP_CLASSES, Segmentation, read_segmentation
from voxelvault.errors import MalformedDicom
from voxelvault.testing.synthetic import AXIAL, ct_series
from voxelvault.testing.synthetic_segmentation import segmentation_of

REAL = (
    "FNNDSC+data/dicom/rsna_2/SEG/3DSlicer/tumor_User1_Manual_Trial1.dcm",
    "ImagingDataCommons+highdicom/data/test_files/seg_image_cr_binary.dcm",
    "ImagingDataCommons+highdicom/data/test_files/seg_image_ct_binary.dcm",
    "ImagingDataCommons+highdicom/data/test_files/seg_image_ct_binary_fractional.dcm",
    "ImagingDataCommons+highdicom/data/test_files/seg_image_ct_binary_overlap.dcm",
    "ImagingDataCommons+highdicom/data/test_files/seg_image_ct_true_fractional.dcm",
    "ImagingDataCommons+highdicom/data/test_files/seg_image_sm_control_labelmap.dcm",
    "ImagingDataCommons+highdicom/data/test_files/seg_image_sm_dots.dcm",
    "QIICR+dcmqi/data/segmentations/partial_overlaps.dcm",
    "QIICR+dcmqi/data/segmentations/sparse-labelmap-ppv5.dcm",
    "QIICR+dcmqi/data/sr-example/seg.dcm",
    "pydicom+pydicom-data/data_store/data/liver.dcm",
)


def read(data: bytes) -> Segmentation:
    return read_segmentation(Header.from_part10(parse(data)))


@pytest.mark.parametrize("name", REAL)
def test_real_ones_say_what_highdicom_says(shared_dicom: Path, name: str) -> None:
    ours, theirs = read((shared_dicom / name).read_bytes()), highdicom.seg.segread(shared_dicom / name)
    assert ours.kind == theirs.segmentation_type.value
    described = {n: theirs.get_segment_description(n) for n in theirs.segment_numbers if n}
    assert {s.number: s.label for s in ours.segments} == {n: d.segment_label for n, d in described.items()}
    assert {s.number: s.type.value if s.type else None for s in ours.segments} == {
        n: d.segmented_property_type.value for n, d in described.items()
    }
    assert len(ours.frames) == theirs.number_of_frames
    assert ours.frame_of_reference == theirs.get("FrameOfReferenceUID")
    sources = {uid for _, _, uid in theirs.get_source_image_uids()}
    assert {uid for frame in ours.frames for uid, _ in frame.sources} <= sources
    assert ours.series == {str(item.SeriesInstanceUID) for item in theirs.ReferencedSeriesSequence}
    for frame, item in zip(ours.frames, theirs.PerFrameFunctionalGroupsSequence, strict=True):
        if "PlanePositionSequence" in item:
            assert frame.place.position == tuple(item.PlanePositionSequence[0].ImagePositionPatient)
        if ours.kind != "LABELMAP":
            named = item.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            assert frame.segment == named


def test_every_real_segmentation_is_read(shared_dicom: Path) -> None:
    count = 0
    for path in sorted(shared_dicom.rglob("*")):
        if not path.is_file() or not any(word in str(path).lower() for word in ("seg", "liver")):
            continue
        head = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=["SOPClassUID"])
        if head.get("SOPClassUID") in SOP_CLASSES:
            count += 1
            assert read(path.read_bytes()).segments
    assert count == 28


def test_a_frame_without_a_segment_is_refused() -> None:
    files = ct_series(1, 8, 8)
    made = segmentation_of(
        np.ones((1, 8, 8), bool),
        [(0, 0, 0)],
        orientation=AXIAL,
        spacing=(1, 1),
        labels={1: "a", 2: "b"},
        on=files,
    )
    dataset = pydicom.dcmread(io.BytesIO(made))
    del dataset.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence
    with pytest.raises(MalformedDicom, match="names no segment"):
        read_segmentation(Header.from_json(dataset.to_json()))
    del dataset.SegmentSequence[1]
    only = read_segmentation(Header.from_json(dataset.to_json()))
    assert [frame.segment for frame in only.frames] == [1]
    dataset.SegmentationType = "SURFACE"
    with pytest.raises(MalformedDicom, match="which type"):
        read_segmentation(Header.from_json(dataset.to_json()))
