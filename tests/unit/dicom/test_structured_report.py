"""Findings of reports: the seven real ones, and a made one of which everything is known."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import highdicom
import pydicom
import pytest

from voxelvault.dicom.coding import Code
from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header
from voxelvault.dicom.structured_report import Finding, findings, referenced_series
from voxelvault.testing.synthetic import ct_series
from voxelvault.testing.synthetic_segmentation import measurement_report

REAL = {
    "ImagingDataCommons+highdicom/data/test_files/sr_document.dcm": 1,
    "QIICR+dcmqi/data/sr-example/sr.dcm": 1,
    "cornerstonejs+cornerstoneWADOImageLoader/testImages/no-pixel-data.dcm": 0,
    "neurolabusc+dcm_qa_xa30/In/99_Phoenix_Document/"
    "0001_1.3.12.2.1107.5.2.43.67093.2022071112050461360434354.dcm": 0,
    "pydicom+pydicom/src/pydicom/data/test_files/reportsi.dcm": 0,
    "pydicom+pydicom/src/pydicom/data/test_files/reportsi_with_empty_number_tags.dcm": 0,
    "pydicom+pydicom/src/pydicom/data/test_files/test-SR.dcm": 0,
}
"""Path to the number of measurement groups."""


def read(data: bytes) -> list[Finding]:
    return findings(Header.from_part10(parse(data)))


@pytest.mark.parametrize("name", REAL)
def test_real_ones(shared_dicom: Path, name: str) -> None:
    found, dataset = (
        read((shared_dicom / name).read_bytes()),
        pydicom.dcmread(shared_dicom / name, force=True),
    )
    assert [one.kind for one in found] == list(said(dataset))
    assert len({one.group for one in found} - {None}) == REAL[name]
    assert any(one.value is not None for one in found)


def said(item: pydicom.Dataset) -> Iterator[str]:
    for child in item.get("ContentSequence", ()):
        name = child.ConceptNameCodeSequence[0] if child.get("ConceptNameCodeSequence") else None
        about = child.RelationshipType in ("HAS OBS CONTEXT", "HAS CONCEPT MOD", "HAS ACQ CONTEXT")
        if not about and (name is None or name.CodeMeaning != "Image Library"):
            yield from [child.ValueType] if child.get("ValueType") in ("NUM", "CODE", "TEXT") else []
            yield from said(child)


@pytest.mark.parametrize("name", list(REAL)[:2])
def test_measurements_are_those_that_highdicom_finds(shared_dicom: Path, name: str) -> None:
    dataset = pydicom.dcmread(shared_dicom / name)
    theirs = [
        item
        for container in dataset.ContentSequence
        if container.ConceptNameCodeSequence[0].CodeValue == "126010"
        for group in container.ContentSequence
        for item in group.ContentSequence
        if item.ValueType == "NUM"
    ]
    items = [highdicom.sr.NumContentItem.from_dataset(item) for item in theirs]
    ours = [one for one in read((shared_dicom / name).read_bytes()) if one.kind == "NUM"]
    assert [one.value for one in ours] == [float(item.value) for item in items]
    assert [one.concept.value for one in ours if one.concept] == [item.name.value for item in items]
    assert [one.unit.value for one in ours if one.unit] == [item.unit.value for item in items]
    assert all(one.finding and one.site and one.tracking for one in ours)


def test_a_measured_segment_is_named(shared_dicom: Path) -> None:
    found = read((shared_dicom / "QIICR+dcmqi/data/sr-example/sr.dcm").read_bytes())
    segmentation = pydicom.dcmread(
        shared_dicom / "QIICR+dcmqi/data/sr-example/seg.dcm", stop_before_pixels=True
    )
    named = [one for one in found if any(reference.segments for reference in one.references)]
    assert named
    assert named[0].references[0].segments == (1,)
    assert named[0].references[0].sop_class == segmentation.SOPClassUID


def test_a_made_report() -> None:
    files = ct_series(2, 8, 8)
    data = measurement_report(files)
    tumour, volume, comment = read(data)
    assert (tumour.kind, tumour.group, tumour.tracking) == ("CODE", 0, "lesion 1")
    assert tumour.value == Code("108369006", "SCT", "Tumor")
    assert (volume.value, str(volume.unit), str(volume.concept)) == (12.5, "milliliter", "Volume")
    assert volume.finding == tumour.value
    assert str(volume.site) == "Liver"
    assert volume.headings == ("Imaging Measurements", "Measurement Group")
    assert (comment.kind, comment.value, comment.group) == ("TEXT", "as before", None)
    assert "as before" not in repr(comment)
    series = pydicom.dcmread(io.BytesIO(files[0])).SeriesInstanceUID
    assert referenced_series(Header.from_part10(parse(data))) == {series}
