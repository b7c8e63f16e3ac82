"""What is written into the source study: valid, whole, readable by others, and read back as it was."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from triage_results_support import (
    MODEL,
    MODEL_NAME,
    PIPELINE,
    REASONS,
    analysis_of,
    dumped,
    errors_of,
    file_of,
    files_of,
    filled,
    read,
    study_of,
)

import voxelvault as vv
from voxelvault.testing import synthetic
from voxelvault_triage.model import Verdict
from voxelvault_triage.results import Recorded, read_result, write_results

KEPT = "PatientID PatientName PatientBirthDate PatientSex StudyInstanceUID StudyID AccessionNumber".split()

REAL = {
    "tilted and uneven": "neurolabusc+dcm_qa_ct/In/GE",
    "no frame of reference, no thickness": "icometrix+dicom2nifti/tests/data/failing/gantrytilting/001",
    "multi-frame": "pydicom+pydicom-data/data_store/data/eCT_Supplemental.dcm",
    "legacy converted": "QIICR+dcmqi/data/segmentations/23x38x3/multiframe",
}


def first_file(vault: vv.Vault) -> bytes:
    rows = vault.sql("select instance_id from instances where origin is null order by 1 limit 1").fetchall()
    return file_of(vault, rows[0][0])


def written_and_read(vault: vv.Vault) -> Recorded:
    found = read_result(vault, study_of(vault)[0])
    assert found is not None
    return found


@pytest.mark.parametrize("place", REAL.values(), ids=REAL.keys())
def test_every_object_is_valid_and_comes_back(shared_dicom: Path, tmp_path: Path, place: str) -> None:
    vault = filled(tmp_path, shared_dicom / place)
    analysis = analysis_of(vault)
    with vault.series(analysis.gated.SeriesInstanceUID or "") as series:
        written = write_results(vault, series, analysis)
    source = first_file(vault)
    theirs = errors_of(source, tmp_path)
    for file in files_of(vault, written):
        assert errors_of(file, tmp_path) <= theirs
        for keyword in KEPT:
            assert read(file).get(keyword, "") == read(source).get(keyword, ""), keyword
    found = written_and_read(vault)
    assert (found.verdict, found.pipeline, found.version) == (Verdict.POSITIVE, PIPELINE, "1.2")
    assert (found.score, found.threshold, found.uncertainty) == (0.8125, 0.5, 0.03125)
    assert (found.model, found.model_name) == (MODEL, MODEL_NAME)
    assert found.types == {"subdural": 0.75, "subarachnoid": 0.1}
    assert analysis.finding is not None
    assert found.volume_ml == pytest.approx(analysis.finding.volume_ml, abs=0.00051)
    assert found.key_frame == analysis.finding.key_frame
    mask = found.mask(vault)
    assert mask is not None
    assert np.array_equal(mask, analysis.finding.mask)
    assert vault.verify(progress=False).ok


def test_other_software_reads_them(head_ct: Path, tmp_path: Path) -> None:
    vault = filled(tmp_path, head_ct)
    analysis = analysis_of(vault)
    with vault.series(analysis.gated.SeriesInstanceUID or "") as series:
        written = write_results(vault, series, analysis)
    report, mask, key = files_of(vault, written)
    text = dumped(report, tmp_path)
    for said in (
        "Demonstration model trained on synthetic data; not a medical device.",
        f"model-sha256={MODEL}",
        '"Certainty of Finding")="81.25" (%,UCUM',
        '"Threshold Value")="50.0" (%,UCUM',
        "(mL,UCUM",
        "(1386000,SCT,",
        "(121053,DCM,",
        "PRELIMINARY",
        "UNVERIFIED",
    ):
        assert said in text, said
    measured = hd.sr.srread(io.BytesIO(report)).content
    (group,) = measured.get_volumetric_roi_measurement_groups()
    assert group.referenced_segment.referenced_sop_instance_uid == read(mask).SOPInstanceUID
    assert len(measured.get_image_measurement_groups()) == 3
    segmentation = hd.seg.segread(io.BytesIO(mask))
    assert segmentation.get_segment_description(1).segment_label == "hemorrhage"
    finding = analysis.finding
    assert finding is not None
    with vault.series(analysis.gated.SeriesInstanceUID or "") as series:
        by_id = {one.instance_id: one.uid for one in series.instances}
        uids = [by_id[instance_id] for instance_id, _ in series.members(0)]
    near = [number for number in range(len(uids)) if finding.mask[max(0, number - 1) : number + 2].any()]
    laid = segmentation.get_pixels_by_source_instance([uids[number] for number in near])
    assert np.array_equal(laid[..., 0] > 0, finding.mask[near])
    picture = read(key)
    assert picture.Modality == "OT"
    assert picture.BurnedInAnnotation == "NO"
    assert picture.pixel_array.shape == (512 + 512 // 14, 512, 3)
    assert picture.SourceImageSequence[0].ReferencedSOPClassUID == pydicom.uid.CTImageStorage


def test_a_negative_study_has_a_report_and_no_mask(tmp_path: Path) -> None:
    vault = filled(tmp_path, synthetic.ct_series(4, 32, 32))
    analysis = analysis_of(vault, score=0.1, mask=np.zeros((4, 32, 32), bool))
    with vault.series(analysis.gated.SeriesInstanceUID or "") as series:
        written = write_results(vault, series, analysis)
    assert (written.segmentations, written.key_image) == ((), None)
    assert "(121054,DCM," in dumped(file_of(vault, written.report), tmp_path)
    found = written_and_read(vault)
    assert (found.verdict, found.score, found.volume_ml) == (Verdict.NEGATIVE, 0.1, 0.0)
    assert found.mask(vault) is None


def test_a_flagged_study_without_mask_still_shows_its_slice(tmp_path: Path) -> None:
    vault = filled(tmp_path, synthetic.ct_series(4, 32, 32))
    analysis = analysis_of(vault, mask=np.zeros((4, 32, 32), bool))
    with vault.series(analysis.gated.SeriesInstanceUID or "") as series:
        written = write_results(vault, series, analysis)
    assert written.segmentations == ()
    assert written.key_image is not None


def test_a_study_that_is_not_analysed_says_why(tmp_path: Path) -> None:
    vault = filled(tmp_path, synthetic.ct_series(4, 32, 32))
    written = write_results(vault, None, analysis_of(vault, fit=False))
    report = file_of(vault, written.report)
    assert written.instance_ids == (written.report,)
    assert errors_of(report, tmp_path) <= errors_of(first_file(vault), tmp_path)
    text = dumped(report, tmp_path)
    assert "(121059,DCM," in text
    assert all(reason.sentence in text for reason in REASONS)
    found = written_and_read(vault)
    assert (found.verdict, found.score, found.reasons) == (Verdict.NOT_ANALYSED, None, REASONS)
    assert found.verdict is not Verdict.NEGATIVE


def test_a_sites_own_model_is_no_demonstration(tmp_path: Path) -> None:
    vault = filled(tmp_path, synthetic.ct_series(4, 32, 32))
    write_results(vault, None, analysis_of(vault, fit=False), demonstration=False)
    (comment,) = written_and_read(vault).comments
    assert "not a medical device" in comment
    assert "emonstration" not in comment


def test_a_check_of_images_says_severity_and_not_certainty(tmp_path: Path) -> None:
    vault = filled(tmp_path, synthetic.ct_series(4, 32, 32))
    analysis = analysis_of(vault, pipeline="ct-geometry-check", model="")
    with vault.series(analysis.gated.SeriesInstanceUID or "") as series:
        written = write_results(vault, series, analysis, demonstration=False)
    for file in files_of(vault, written):
        assert errors_of(file, tmp_path) <= errors_of(first_file(vault), tmp_path)
    text = dumped(file_of(vault, written.report), tmp_path)
    assert "(severity,99VOXELVAULT," in text or '"Severity, 0 to 1")="81.25"' in text
    assert "Certainty of Finding" not in text
    found = written_and_read(vault)
    assert (found.score, found.uncertainty, found.probability) == (0.8125, 0.03125, False)
    assert found.types["subdural"] == 0.75


def test_a_pipeline_of_ones_own_has_words_of_ours(tmp_path: Path) -> None:
    vault = filled(tmp_path, synthetic.ct_series(4, 32, 32))
    analysis = analysis_of(vault, pipeline="mean-hu", model="")
    with vault.series(analysis.gated.SeriesInstanceUID or "") as series:
        written = write_results(vault, series, analysis)
    for file in files_of(vault, written):
        assert errors_of(file, tmp_path) <= errors_of(first_file(vault), tmp_path)
    found = written_and_read(vault)
    assert (found.pipeline, found.model) == ("mean-hu", "")
    assert found.mask(vault) is not None


@pytest.mark.parametrize("zone", ["+1345", "-0330", "CET", ""])
def test_times_of_a_result_are_in_the_zone_of_its_study(tmp_path: Path, zone: str) -> None:
    files = synthetic.ct_series(3, 16, 16, attributes={"TimezoneOffsetFromUTC": zone} if zone else {})
    vault = filled(tmp_path, files)
    analysis = analysis_of(vault)
    with vault.series(study_of(vault)[1]) as series:
        made = write_results(vault, series, analysis)
    for file in files_of(vault, made):
        found = read(file)
        told = datetime.strptime(found.ContentDate + found.ContentTime, "%Y%m%d%H%M%S.%f")
        by = str(found.ContributingEquipmentSequence[0].ContributionDateTime)
        exact = datetime.strptime(by, "%Y%m%d%H%M%S.%f%z")
        assert abs(datetime.now(UTC) - exact) < timedelta(minutes=5)
        assert exact.replace(tzinfo=None) == told
        if zone[:1] in ("+", "-"):
            assert by.endswith(zone)
