"""Sources that no one would send on purpose: the result is written all the same, or nothing is."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from triage_results_support import analysis_of, dumped, errors_of, file_of, files_of, filled, read, study_of

import voxelvault as vv
from voxelvault.dicom.read import Header
from voxelvault.errors import UsageError
from voxelvault.testing import synthetic
from voxelvault.testing.synthetic_segmentation import measurement_report
from voxelvault_triage.model import Analysis, Finding, Gated, Reason, Study
from voxelvault_triage.results import Written, read_result, read_results, write_results
from voxelvault_triage.results.source import identity_of


def written_for(vault: vv.Vault, **options: Any) -> Written:
    analysis = analysis_of(vault, **options)
    study = analysis.study
    with vault.series(analysis.gated.SeriesInstanceUID or "", study=study.StudyInstanceUID) as series:
        return write_results(vault, series, analysis)


NOBODY: dict[str, object] = dict.fromkeys(
    "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime StudyID AccessionNumber"
    " ReferringPhysicianName StudyDescription SeriesNumber".split()
)


def test_a_source_without_patient_keeps_its_result(tmp_path: Path) -> None:
    vault = filled(tmp_path, synthetic.ct_series(3, 32, 32, attributes=NOBODY))
    written = written_for(vault)
    assert vault.sql("select count(*) from studies").fetchall() == [(1,)]
    for file in files_of(vault, written):
        assert read(file).PatientID in ("", None)


def broken(file: bytes) -> bytes:
    """Give a file values that break their type, as senders do."""
    dataset = read(file)
    for keyword, vr, value in (
        ("PatientSex", "CS", "unknown"),
        ("PatientBirthDate", "DA", "19501399"),
        ("PatientAge", "AS", "0Y"),
        ("StudyTime", "TM", "99:99"),
        ("PatientName", "PN", "N" * 90),
        ("AccessionNumber", "SH", "A" * 40),
    ):
        tag = pydicom.datadict.tag_for_keyword(keyword)
        dataset[keyword] = pydicom.DataElement(tag, vr, value, validation_mode=pydicom.config.IGNORE)
    return saved(dataset)


def saved(dataset: pydicom.Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def test_a_source_whose_values_break_the_standard_keeps_its_result(tmp_path: Path) -> None:
    files = [broken(file) for file in synthetic.ct_series(3, 32, 32)]
    vault = filled(tmp_path, files)
    for file in files_of(vault, written_for(vault)):
        assert read(file).PatientSex == "unknown"
        assert errors_of(file, tmp_path) <= errors_of(files[0], tmp_path)


def nowhere(file: bytes) -> bytes:
    """Take an image's place in the patient away."""
    dataset = read(file)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID"):
        del dataset[keyword]
    return saved(dataset)


def test_a_source_without_geometry_is_reported_without_mask(tmp_path: Path) -> None:
    vault = filled(tmp_path, [nowhere(file) for file in synthetic.ct_series(3, 32, 32)])
    written = written_for(vault)
    assert (written.segmentations, written.key_image is not None) == ((), True)
    found = read_result(vault, study_of(vault)[0])
    assert found is not None
    assert found.score == 0.8125
    assert any("no place in the patient" in comment for comment in found.comments)


NAMES = {
    "chrH31": "Japanese, two sets",
    "chrRuss": "Russian",
    "chrX1": "Chinese, UTF-8",
}


@pytest.mark.parametrize("name", NAMES, ids=NAMES.values())
def test_real_names_stay_in_their_character_set(shared_dicom: Path, tmp_path: Path, name: str) -> None:
    folder = shared_dicom / "pydicom+pydicom" / "src" / "pydicom" / "data" / "charset_files"
    there = pydicom.dcmread(folder / f"{name}.dcm")
    files = []
    for file in synthetic.ct_series(2, 16, 16):
        dataset = read(file)
        dataset.SpecificCharacterSet, dataset.PatientName = there.SpecificCharacterSet, there.PatientName
        files.append(saved(dataset))
    vault = filled(tmp_path, files)
    written = write_results(vault, None, analysis_of(vault, fit=False))
    result = read(file_of(vault, written.report))
    assert result.PatientName == read(files[0]).PatientName
    assert result["PatientName"].value.original_string == read(files[0])["PatientName"].value.original_string
    assert result.SpecificCharacterSet == read(files[0]).SpecificCharacterSet
    assert vault.sql("select count(*) from patients").fetchall() == [(1,)]


def test_a_character_set_that_cannot_hold_the_name_is_replaced() -> None:
    header = Header(
        {
            "00080005": {"vr": "CS", "Value": ["ISO_IR 100"]},
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Люксембург"}]},
        }
    )
    assert identity_of(header).SpecificCharacterSet == "ISO_IR 192"


@pytest.mark.parametrize("kind", ["1.2.840.10008.5.1.4.1.1.6", "1.3.12.2.1107.5.9.1"])
def test_an_image_of_a_retired_or_private_class_is_named_as_it_is(tmp_path: Path, kind: str) -> None:
    dataset = read(synthetic.image(np.zeros((8, 8), np.uint16), "US"))
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = kind
    vault = filled(tmp_path, [saved(dataset)])
    gated = Gated(None, reasons=(Reason("no-ct", "the study has no CT images"),))
    written = write_results(
        vault, None, Analysis(study_of(vault, modality="US")[0], "head-ct", "1", "", gated)
    )
    report = read(file_of(vault, written.report))
    named = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    image = named.ReferencedSOPSequence[0]
    assert (image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID) == (kind, dataset.SOPInstanceUID)


def test_a_study_without_any_image_gets_a_report_that_others_read(tmp_path: Path) -> None:
    vault = filled(tmp_path, [measurement_report(synthetic.ct_series(3, 16, 16))])
    gated = Gated(None, reasons=(Reason("no-ct", "the study has no CT images"),))
    study, _ = study_of(vault, modality="SR")
    written = write_results(vault, None, Analysis(study, "head-ct", "1", "", gated))
    assert "no CT images" in dumped(file_of(vault, written.report), tmp_path)
    assert read_result(vault, study.StudyInstanceUID).reasons == gated.reasons


def test_frames_of_a_multi_frame_image_keep_their_places(tmp_path: Path) -> None:
    # Its frames stand in reverse order of position.
    vault = filled(tmp_path, [synthetic.enhanced(5, 24, 20)])
    analysis = analysis_of(vault)
    written = written_for(vault)
    assert len(written.segmentations) == 1
    found = read_result(vault, analysis.study)
    assert found is not None
    assert analysis.finding is not None
    mask = found.mask(vault)
    assert mask is not None
    assert np.array_equal(mask, analysis.finding.mask)


def test_a_series_that_two_studies_have_is_told_apart(tmp_path: Path) -> None:
    shared = {"SeriesInstanceUID": "1.2.3.4"}
    files = [
        *synthetic.ct_series(2, 16, 16, seed=1, attributes=shared),
        *synthetic.ct_series(3, 16, 16, seed=2, attributes=shared),
    ]
    vault = filled(tmp_path, files)
    written_for(vault)
    study, _ = study_of(vault)
    rows = vault.sql("select distinct study_id from instances where origin is not null").fetchall()
    assert rows == [(study.study_id,)]


def test_another_studys_series_is_refused(tmp_path: Path) -> None:
    files = [*synthetic.ct_series(2, 16, 16, seed=1), *synthetic.ct_series(3, 16, 16, seed=2)]
    vault = filled(tmp_path, files)
    analysis = analysis_of(vault)
    other = vault.sql(
        "select SeriesInstanceUID, study_id, subject_id, StudyInstanceUID from series where study_id != $id",
        {"id": analysis.study.study_id},
    ).fetchall()[0]
    wrong = Study(other[1], other[2], other[3], "d" * 64)
    moved = type(analysis)(wrong, "demo", "1", "", Gated(None, reasons=analysis.gated.reasons))
    with (
        vault.series(analysis.gated.SeriesInstanceUID or "") as series,
        pytest.raises(UsageError, match="another patient or study"),
    ):
        write_results(vault, series, moved)
    assert vault.sql("select count(origin) from instances").fetchall() == [(0,)]


@pytest.mark.parametrize("score", [float("nan"), -0.1, 1.5, float("inf")])
def test_a_score_that_is_no_probability_is_refused(tmp_path: Path, score: float) -> None:
    finding = Finding(score, 0.5, {}, np.zeros((0, 0, 0), bool), 0.0)
    nowhere = Study("0" * 32, "0" * 32, "1.2", "c" * 64)
    with pytest.raises(UsageError, match="above 1"):
        write_results(None, None, Analysis(nowhere, "demo", "1", "", Gated("1.2"), finding))  # type: ignore[arg-type]


def test_what_a_pipeline_says_is_written_whatever_the_sources_character_set(tmp_path: Path) -> None:
    vault = filled(tmp_path, synthetic.ct_series(2, 16, 16))
    said = (
        Reason(
            "schichtdicke-größer-als-erlaubt",
            "Die Schichten sind dicker, als das Modell erlaubt: „größer 6 mm“.",
        ),
        Reason("short", ""),
    )
    analysis = replace(analysis_of(vault, fit=False), gated=Gated(None, reasons=said))
    written = write_results(vault, None, analysis)
    found = read_result(vault, analysis.study)
    assert found is not None
    assert found.reasons == (said[0], Reason("short", "short"))
    assert not errors_of(file_of(vault, written.report), tmp_path)


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    vault = filled(tmp_path, synthetic.ct_series(3, 16, 16))
    for shape in ((2, 16, 16), (3, 16, 8), (3, 8, 16)):
        with pytest.raises(UsageError, match="not on the grid"):
            written_for(vault, mask=np.ones(shape, bool))
    assert read_results(vault, study_of(vault)[0]) == []
