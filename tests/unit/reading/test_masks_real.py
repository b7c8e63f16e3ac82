"""Masks of the real segmentations on their real images, against highdicom."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

import voxelvault as vv
from voxelvault.reading.segments import findings_in_vault, labels_in_vault
from voxelvault.series import Series
from voxelvault.testing.synthetic import ct_series

HIGHDICOM = "ImagingDataCommons+highdicom/data/test_files/"
DCMQI = "QIICR+dcmqi/data/segmentations/"
LIVER = "pydicom+pydicom-data/data_store/data/"
PET = "FNNDSC+data/dicom/rsna_2/SEG/3DSlicer/tumor_User1_Manual_Trial1.dcm"
PET_SLICES = "FNNDSC+data/dicom/rsna_2/PET/"
ABOUT_THE_TUMOUR = tuple("099 190 153 207 015 291 238 203 268 061 284 049 112 009 269 028 197".split())
"""PET slices from -446 to -392 mm; files are in no order of space."""

BY_INSTANCE = (
    PET,
    f"{HIGHDICOM}seg_image_cr_binary.dcm",
    f"{HIGHDICOM}seg_image_ct_binary.dcm",
    f"{HIGHDICOM}seg_image_ct_binary_fractional.dcm",
    f"{HIGHDICOM}seg_image_ct_binary_overlap.dcm",
    f"{HIGHDICOM}seg_image_ct_binary_single_frame.dcm",
    f"{HIGHDICOM}seg_image_ct_true_fractional.dcm",
    f"{DCMQI}23x38x3/seg/label.seg",
    f"{DCMQI}24x38x3/seg/label.seg",
    f"{DCMQI}partial_overlaps.dcm",
    f"{DCMQI}sparse-labelmap-ppv5.dcm",
    f"{LIVER}liver.dcm",
)
BY_FRAME = (
    f"{HIGHDICOM}seg_image_sm_control.dcm",
    f"{HIGHDICOM}seg_image_sm_control_labelmap.dcm",
    f"{HIGHDICOM}seg_image_sm_dots.dcm",
)
LIVERS = tuple(f"{LIVER}liver_{name}.dcm" for name in ("deflate", "j2k", "rle", "nonbyte_aligned_rle"))
STRUCTURES = "pydicom+pydicom/src/pydicom/data/test_files/rtstruct.dcm"
SOURCES = ("CT2/", "CR1/6154", "CT_small.dcm", "sm_image_control.dcm", "ct-3slice/", "/image/IMG")


def is_source(row: Mapping[str, str]) -> bool:
    if row["path"].startswith(PET_SLICES):
        return row["path"].removesuffix(".dcm").endswith(ABOUT_THE_TUMOUR)
    return row["modality"] not in ("SEG", "SR") and any(part in row["path"] for part in SOURCES)


@pytest.fixture(scope="module")
def vault(
    shared_dicom: Path, tmp_path_factory: pytest.TempPathFactory, exercised: Callable[[int], None]
) -> Iterator[vv.Vault]:
    folder = tmp_path_factory.mktemp("masks")
    with (shared_dicom / "MANIFEST.csv").open(newline="") as file:
        sources = [row["path"] for row in csv.DictReader(file) if is_source(row)]
    # What was known before counts as superseded by what comes later: versions of one instance stay out.
    paths = [shared_dicom / name for name in dict.fromkeys([*sources, *BY_INSTANCE, *BY_FRAME, *LIVERS])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(folder / "configuration"))
        made = vv.create(folder / "vault")
        report = made.ingest(*paths, progress=False)
        assert report.stored == len(paths)
        exercised(len(paths))
        yield made
        made.close()


def opened(vault: vv.Vault, segmentation: pydicom.Dataset) -> Series:
    return vault.series(str(segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID))


def instance_id(vault: vv.Vault, path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    rows = vault.resources.catalog.query(
        "select instance_id from instances where sha256 = $digest", {"digest": digest}
    )
    return str(rows.to_pylist()[0]["instance_id"])


def shown(series: Series) -> list[str]:
    """SOPInstanceUID of each slice."""
    rows = series._resources.catalog.query("select instance_id, SOPInstanceUID from instances").to_pylist()
    uids = {row["instance_id"]: row["SOPInstanceUID"] for row in rows}
    return [uids[instance_id] for instance_id, _ in series.members()]


@pytest.mark.parametrize("name", BY_INSTANCE)
def test_slices_are_those_that_highdicom_gives(vault: vv.Vault, shared_dicom: Path, name: str) -> None:
    theirs = highdicom.seg.segread(shared_dicom / name)
    source = instance_id(vault, shared_dicom / name)
    fractional = theirs.segmentation_type.value == "FRACTIONAL"
    with opened(vault, theirs) as series:
        listed = {info.number: info for info in series.segmentations if info.instance_id == source}
        assert sorted(listed) == sorted(number for number in theirs.segment_numbers if number)
        for number, info in listed.items():
            assert info.refers
            wanted = theirs.get_pixels_by_source_instance(
                shown(series),
                segment_numbers=[number],
                assert_missing_frames_are_empty=True,
                ignore_spatial_locations=True,
            )[..., 0]
            got = series.mask(number, source=source, fractional=fractional)
            assert got.any()
            np.testing.assert_allclose(got, wanted, atol=1e-6)
            if fractional:
                np.testing.assert_array_equal(series.mask(number, source=source), wanted >= 0.5)


@pytest.mark.parametrize("name", BY_FRAME)
def test_tiles_of_a_slide_are_those_that_highdicom_gives(
    vault: vv.Vault, shared_dicom: Path, name: str
) -> None:
    theirs = highdicom.seg.segread(shared_dicom / name)
    source = instance_id(vault, shared_dicom / name)
    with opened(vault, theirs) as series:
        members = series.members()
        numbers = [number for number in theirs.segment_numbers if number][:6]
        wanted = theirs.get_pixels_by_source_frame(
            shown(series)[0],
            [number for _, number in members],
            segment_numbers=numbers,
            assert_missing_frames_are_empty=True,
            ignore_spatial_locations=True,
        )
        assert wanted.any()
        for at, number in enumerate(numbers):
            np.testing.assert_array_equal(series.mask(number, source=source), wanted[..., at])


@pytest.mark.parametrize("name", [PET, f"{DCMQI}23x38x3/seg/label.seg", f"{LIVER}liver.dcm"])
def test_masks_lie_where_highdicom_s_volumes_do(vault: vv.Vault, shared_dicom: Path, name: str) -> None:
    theirs = highdicom.seg.segread(shared_dicom / name)
    source = instance_id(vault, shared_dicom / name)
    with opened(vault, theirs) as series:
        group = series.geometry()
        for number in theirs.segment_numbers:
            volume = theirs.get_volume(segment_numbers=[number], combine_segments=True, relabel=True)
            there = volume.affine[:3, :3] @ np.argwhere(volume.array).mean(axis=0) + volume.affine[:3, 3]
            mask = series.mask(number, source=source)
            k, row, column = np.nonzero(mask)
            points = group.positions[k] + np.outer(row * group.pixel_spacing[0], group.orientation[3:])
            points += np.outer(column * group.pixel_spacing[1], group.orientation[:3])
            here = points.mean(axis=0)
            np.testing.assert_allclose(here, there, atol=0.02)


def test_compressed_segmentations_give_the_same_liver(vault: vv.Vault, shared_dicom: Path) -> None:
    plain = shared_dicom / f"{LIVER}liver.dcm"
    with opened(vault, pydicom.dcmread(plain, stop_before_pixels=True)) as series:
        wanted = series.mask("Liver", source=instance_id(vault, plain))
        assert wanted.sum() == 107098
        for name in LIVERS:
            np.testing.assert_array_equal(
                series.mask("liver", source=instance_id(vault, shared_dicom / name)), wanted
            )
        with pytest.raises(vv.errors.UsageError, match="source="):
            series.mask("Liver")


def test_the_real_structure_set_lies_on_a_ct_of_its_frame_of_reference(
    shared_dicom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data has a structure set with contours, a box in three planes, and not the CT it was drawn on."""
    structures = pydicom.dcmread(shared_dicom / STRUCTURES, force=True)
    person = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID")
    series = structures.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    attributes = {keyword: structures[keyword].value for keyword in person} | {
        "FrameOfReferenceUID": structures.StructureSetROISequence[0].ReferencedFrameOfReferenceUID,
        "SeriesInstanceUID": series.RTReferencedSeriesSequence[0].SeriesInstanceUID,
    }
    origin = (-249.0, -199.0, -220.0)
    files = ct_series(6, 80, 100, spacing=(5, 5), origin=origin, step=10.0, attributes=attributes)
    for number, file in enumerate(files):
        (tmp_path / f"{number}.dcm").write_bytes(file)
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    with vv.create(tmp_path / "vault") as vault:
        vault.ingest(*tmp_path.glob("*.dcm"), shared_dicom / STRUCTURES, progress=False)
        with vault.series(str(attributes["SeriesInstanceUID"])) as opened:
            listed = {info.label: info.frames for info in opened.segmentations}
            assert listed == {"patient": 3, "Isocenter 1": 0, "Isocenter 2": 0}
            mask = opened.mask("patient")
            with pytest.raises(vv.errors.GeometryError, match="points or lines"):
                opened.mask("Isocenter 1")
    # -200, -190 and -180 mm; x -200 to 200 from pixel 10 (-199) to 89 (196), y -150 to 150 from 10 to 69.
    wanted = np.zeros((6, 80, 100), np.uint8)
    wanted[2:5, 10:70, 10:90] = 1
    np.testing.assert_array_equal(mask, wanted)


def test_labels_of_every_series_at_once(vault: vv.Vault) -> None:
    rows = vault.resources.catalog.query("select series_id, Modality from series").to_pylist()
    found = labels_in_vault(vault.resources, [row["series_id"] for row in rows])
    by_kind = {row["Modality"]: found[row["series_id"]] for row in rows}
    assert by_kind["PT"] == ["Neoplasm, Primary", "Neoplasm, Secondary"]
    assert by_kind["CR"] == ["first segment"]
    assert len(by_kind["SM"]) > 20
    assert not any(findings_in_vault(vault.resources, list(found)).values())
