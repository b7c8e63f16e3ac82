"""What becomes of a study with a face, by the choice about faces: the slices, and what else shows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

import head_phantom as phantom
from voxelvault.errors import UsageError
from voxelvault.releasing.deidentify import Rules, release_folder
from voxelvault.releasing.originals import FolderOriginals
from voxelvault.releasing.projects import Using, create, using
from voxelvault.releasing.run import Report

CLASSES = "1.2.840.10008.5.1.4.1.1."


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Using:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
    create(tmp_path / "project")
    return using(tmp_path / "project")


def contour() -> Dataset:
    """Return a structure set whose only contour runs over the tip of the nose."""
    made = phantom.dataset(0, SOPClassUID=CLASSES + "481.3", Modality="RTSTRUCT", SOPInstanceUID="2.25.81")
    for keyword in ("PixelData", "Rows", "Columns", "ImagePositionPatient", "FrameOfReferenceUID"):
        delattr(made, keyword)
    line, region = Dataset(), Dataset()
    line.ContourData = [0, -95, -40, 5, -95, -40, 0, -95, -45]
    region.ContourSequence = Sequence([line])
    made.ROIContourSequence = Sequence([region])
    return made


def surface(sop_class: str, uid: str) -> Dataset:
    made = contour()
    made.SOPClassUID, made.SOPInstanceUID, made.Modality = CLASSES + sop_class, uid, "M3D"
    del made.ROIContourSequence
    points = Dataset()
    points.add_new(0x00660016, "OF", np.array([0, -95, -40, 5, -95, -40], "<f4").tobytes())
    shape = Dataset()
    shape.SurfacePointsSequence = Sequence([points])
    made.SurfaceSequence = Sequence([shape])
    return made


def rendering() -> Dataset:
    made = phantom.dataset(0, SOPClassUID=CLASSES + "7", SOPInstanceUID="2.25.82", Modality="OT")
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID"):
        delattr(made, keyword)
    made.PixelData = bytes(len(made.PixelData))
    return made


def released(folder: Path, mine: Using, choice: str | None) -> Report:
    others = [contour(), surface("66.5", "2.25.83"), surface("68.1", "2.25.84"), rendering()]
    (folder / "in").mkdir(exist_ok=True)
    for number, made in enumerate([*phantom.head(), *others]):
        (folder / "in" / f"{number}.dcm").write_bytes(phantom.file_of(made))
    originals = FolderOriginals(folder / "in")
    return release_folder(originals, folder / f"{choice}", Rules(faces=choice), mine).report


def test_what_shows_a_face_and_cannot_be_masked_is_left_out(tmp_path: Path, mine: Using) -> None:
    report = released(tmp_path, mine, "deface")
    assert report.refused == {"face_unmapped": 4}
    text = (tmp_path / "deface" / "receipts.jsonl").read_text().replace('\\"', '"')
    assert text.count('"faces":"removed"') == phantom.LEVELS


def test_who_refuses_faces_gets_nothing_that_shows_one(tmp_path: Path, mine: Using) -> None:
    report = released(tmp_path, mine, "refuse")
    assert report.refused == {"face_refused": phantom.LEVELS, "face_unmapped": 4}


def test_nobody_is_told_that_there_are_no_faces_where_they_are_kept(tmp_path: Path, mine: Using) -> None:
    report = released(tmp_path, mine, "keep")
    assert not report.refused
    text = (tmp_path / "keep" / "receipts.jsonl").read_text().replace('\\"', '"')
    assert text.count('"faces":"not_searched"') == phantom.LEVELS + 4


def test_without_a_choice_it_is_asked_for(tmp_path: Path, mine: Using) -> None:
    with pytest.raises(UsageError, match="faces='deface'"):
        released(tmp_path, mine, None)


def few(uid: str, **more: object) -> list[Dataset]:
    """Return three slices through the nose in another study: too few to tell a head by."""
    levels = range(18, 21)
    values = {"StudyInstanceUID": uid, "SeriesInstanceUID": uid + ".1", **more}
    return [phantom.dataset(level, SOPInstanceUID=f"{uid}.2.{level}", **values) for level in levels]


def across_studies(folder: Path, mine: Using, choice: str) -> tuple[Report, str]:
    """Release a head, the same frame of reference in another study, and a third study that has its own."""
    outline = contour()
    outline.StudyInstanceUID, outline.SeriesInstanceUID = "2.25.94", "2.25.95"
    frame = Dataset()
    frame.FrameOfReferenceUID = "2.25.4"
    outline.ReferencedFrameOfReferenceSequence = Sequence([frame])
    every = [*phantom.head(), *few("2.25.91"), *few("2.25.92", FrameOfReferenceUID="2.25.93"), outline]
    (folder / "in").mkdir()
    for number, made in enumerate(every):
        (folder / "in" / f"{number}.dcm").write_bytes(phantom.file_of(made))
    originals = FolderOriginals(folder / "in")
    report = release_folder(originals, folder / "out", Rules(faces=choice), mine).report
    return report, (folder / "out" / "receipts.jsonl").read_text().replace('\\"', '"')


def test_a_face_is_masked_in_every_study_of_its_frame_of_reference(tmp_path: Path, mine: Using) -> None:
    report, text = across_studies(tmp_path, mine, "deface")
    assert text.count('"faces":"removed"') == phantom.LEVELS + 3
    assert report.refused == {"face_unmapped": 1}  # the outline of the nose
    assert report.released == phantom.LEVELS + 6


def test_who_refuses_faces_gets_none_of_another_study_either(tmp_path: Path, mine: Using) -> None:
    report, _ = across_studies(tmp_path, mine, "refuse")
    assert report.refused == {"face_refused": phantom.LEVELS + 3, "face_unmapped": 1}
    assert report.released == 3
