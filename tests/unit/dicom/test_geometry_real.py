"""Real series in space: DICOM's own equation, dcm2niix voxel for voxel, and the awkward ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from geometry_support import assert_same_in_space, files_in, niftis, read, volume_of

from voxelvault.dicom.geometry import FrameGroup, Resampled, arrange, resample_regular
from voxelvault.errors import GeometryError, StackChoiceNeeded

PET = "FNNDSC+data/dicom/rsna_2/PET"
PAPAYA = "rii-mango+Papaya/tests/data/dicom"
GE_HEAD = "neurolabusc+dcm_qa_ct/In/GE"
PHANTOM = "neurolabusc+dcm_qa_ct/In/Philips/S21570/S2010"
EPI = "neurolabusc+dcm_qa_nih/In/20180918GE/mr_0004"
TILTED = "icometrix+dicom2nifti/tests/data/failing/gantrytilting/001"
UNEVEN = "icometrix+dicom2nifti/tests/data/failing/sliceincrement/001"
HITACHI = "icometrix+dicom2nifti/tests/data/hitachi/anatomical/001"
SAGITTAL = "icometrix+dicom2nifti/tests/data/generic/compressed_rle/001"
OBLONG = "icometrix+dicom2nifti/tests/data/generic/anatomical/002_non_isotropic"
ENHANCED = "neurolabusc+dcm_qa_xa30/In/5_anat-T1w_acq-tfl"
FIELD_MAP = "neurolabusc+dcm_qa_xa30/In/8_gre_field_mapping"
MOSAIC = "neurolabusc+dcm_qa_mosaic/In/ep2d_Asc_2"


def load(root: Path, name: str) -> tuple[list[Path], np.ndarray, FrameGroup]:
    paths = files_in(root / name)
    frames = read(paths)
    group = arrange(frames).groups[0]
    return paths, volume_of(paths, frames, group), group


def equation(dataset: pydicom.Dataset, column: float, row: float) -> np.ndarray:
    """PS3.3 equation C.7.6.2.1-1, written out again from the file's own numbers."""
    position = np.array(dataset.ImagePositionPatient, dtype=float)
    along_row = np.array(dataset.ImageOrientationPatient[:3], dtype=float)
    along_column = np.array(dataset.ImageOrientationPatient[3:], dtype=float)
    between_rows, between_columns = map(float, dataset.PixelSpacing)
    return position + along_row * between_columns * column + along_column * between_rows * row


@pytest.mark.parametrize("name", [PET, PAPAYA, PHANTOM, TILTED, HITACHI, SAGITTAL, OBLONG])
def test_affine_agrees_with_the_equation_on_every_slice(shared_dicom: Path, name: str) -> None:
    paths = files_in(shared_dicom / name)
    group = arrange(read(paths)).choose()
    assert len(group) == len(paths)
    assert np.linalg.det(group.affine_lps[:3, :3]) > 0
    step = np.linalg.norm(group.affine_lps[:3, 2])
    for k, i in enumerate(group.order):
        dataset = pydicom.dcmread(paths[i], stop_before_pixels=True)
        for column, row in [(0, 0), (0, 100), (37, 0), (63, 27)]:
            point = group.affine_lps @ [column, row, k, 1]
            assert np.linalg.norm(point[:3] - equation(dataset, column, row)) < 0.02 * step


@pytest.mark.parametrize("name", [PHANTOM, HITACHI, SAGITTAL, OBLONG, ENHANCED])
def test_every_voxel_lies_where_dcm2niix_puts_it(shared_dicom: Path, tmp_path: Path, name: str) -> None:
    _, volume, group = load(shared_dicom, name)
    (image,) = niftis(shared_dicom / name, tmp_path / "nifti")
    assert_same_in_space(volume, group.affine_ras, image)


def test_whole_body_pet_like_dcm2niix(shared_dicom: Path, tmp_path: Path) -> None:
    """299 files in random order, eight bed positions with a time each: still one volume."""
    _, volume, group = load(shared_dicom, PET)
    assert volume.shape == (299, 128, 128)
    np.testing.assert_allclose(group.spacing, (3.375, 3.5378, 3.5378), rtol=1e-4)
    (image,) = niftis(shared_dicom / PET, tmp_path / "nifti")
    assert_same_in_space(volume, group.affine_ras, image, atol=0.5)


def test_a_flipped_volume_would_be_noticed(shared_dicom: Path, tmp_path: Path) -> None:
    _, volume, group = load(shared_dicom, HITACHI)
    (image,) = niftis(shared_dicom / HITACHI, tmp_path / "nifti")
    for axis in range(3):
        with pytest.raises(AssertionError):
            assert_same_in_space(np.flip(volume, axis), group.affine_ras, image)


def test_time_points_are_told_apart_like_dcm2niix(shared_dicom: Path, tmp_path: Path) -> None:
    paths = files_in(shared_dicom / EPI)
    frames = read(paths)
    arrangement = arrange(frames)
    assert [len(group) for group in arrangement.groups] == [15] * 10
    with pytest.raises(StackChoiceNeeded, match=r"10 separate stacks; pass stack="):
        arrangement.choose()
    (image,) = niftis(shared_dicom / EPI, tmp_path / "nifti")
    for time in (0, 4, 9):
        group = arrangement.choose(time)
        volume = volume_of(paths, frames, group)
        assert_same_in_space(volume, group.affine_ras, image.slicer[..., time : time + 1])


def test_two_echoes_of_an_enhanced_object(shared_dicom: Path, tmp_path: Path) -> None:
    paths = files_in(shared_dicom / FIELD_MAP)
    frames = read(paths)
    arrangement = arrange(frames)
    assert arrangement.labels == ("echo 10 ms", "echo 12.46 ms")
    images = niftis(shared_dicom / FIELD_MAP, tmp_path / "nifti")
    for label, image in zip(arrangement.labels, images, strict=True):
        group = arrangement.choose(label)
        assert_same_in_space(volume_of(paths, frames, group), group.affine_ras, image)


def test_rounded_oblique_positions_are_regular(shared_dicom: Path, tmp_path: Path) -> None:
    """Papaya's positions are rounded to 0.1 mm; dcm2niix takes the first step for all, we fit them."""
    _, volume, group = load(shared_dicom, PAPAYA)
    assert group.regular
    assert group.label == "oblique axial"
    assert not group.tilted
    (image,) = niftis(shared_dicom / PAPAYA, tmp_path / "nifti")
    for column, row in [(0, 0), (255, 0), (255, 255)]:
        ours, theirs = group.affine_ras @ [column, row, 0, 1], image.affine @ [column, 255 - row, 0, 1]
        np.testing.assert_allclose(ours, theirs, atol=0.01)
    np.testing.assert_allclose(group.affine_ras[:3, 2], image.affine[:3, 2], atol=0.08)
    np.testing.assert_array_equal(volume[:, ::-1], np.asarray(image.dataobj).T)


def test_tilted_and_uneven_head(shared_dicom: Path, tmp_path: Path) -> None:
    """GE's head CT: 18.5 degrees of tilt, steps of 4, 1.08 and 7 mm along the normal."""
    _, volume, group = load(shared_dicom, GE_HEAD)
    assert len(group) == 28
    assert not group.regular
    assert group.spacing is None
    steps = np.diff(group.positions @ group.normal)
    np.testing.assert_allclose([steps[0], steps[13], steps[14]], [4.002, 1.081, 6.999], atol=2e-3)
    with pytest.raises(GeometryError, match=r"1\.08 to 7\.00 mm apart; see `geometry\(\)\.positions`"):
        group.affine_lps
    plain, _ = niftis(shared_dicom / GE_HEAD, tmp_path / "nifti")
    for k in (0, 13, 27):
        np.testing.assert_array_equal(volume[k][::-1], np.asarray(plain.dataobj)[..., k].T)


@pytest.mark.parametrize("name", [TILTED, GE_HEAD])
def test_uprighted_head_matches_dcm2niix(shared_dicom: Path, tmp_path: Path, name: str) -> None:
    """Compare the tilt correction with dcm2niix's, at the same points in the patient."""
    _, volume, group = load(shared_dicom, name)
    upright = resample_regular(volume, group, fill=-1024.0)
    theirs = next(i for i in niftis(shared_dicom / name, tmp_path / "nifti") if "Tilt" in i.get_filename())
    direction = np.diag([-1, -1, 1]) @ upright.affine_lps[:3, 2]
    cosine = (
        direction @ theirs.affine[:3, 2] / np.linalg.norm(direction) / np.linalg.norm(theirs.affine[:3, 2])
    )
    assert cosine > 0.9999
    assert _correlation(upright, theirs) > 0.95
    along = np.array(group.orientation[3:])
    shear = np.outer((group.positions - group.positions[0]) @ along, along)
    for wrong in (replace(group, positions=group.positions - k * shear) for k in (1, 2)):
        assert _correlation(resample_regular(volume, wrong, fill=-1024.0), theirs) < 0.75


def _correlation(ours: Resampled, image: nibabel.Nifti1Image) -> float:
    """Return how well values agree at the same points in the patient."""
    volume = ours.volume
    index = np.indices(image.shape)[:, ::4, ::4, :].reshape(3, -1)
    to_ours = np.linalg.inv(np.diag([-1, -1, 1, 1]) @ ours.affine_lps) @ image.affine
    mapped = (to_ours @ np.vstack([index, np.ones(index.shape[1])]))[:3].round().astype(int)
    inside = np.all((mapped >= 0) & (mapped < np.array(volume.shape[::-1])[:, None]), axis=0)
    column, row, slice_ = mapped[:, inside]
    theirs = np.asarray(image.dataobj)[tuple(index[:, inside])]
    return float(np.corrcoef(volume[slice_, row, column], theirs)[0, 1])


def test_tilted_gantry_is_an_affine_with_shear(shared_dicom: Path) -> None:
    _, _, group = load(shared_dicom, TILTED)
    assert group.regular
    assert group.tilted
    np.testing.assert_allclose(group.spacing[0], 5 * np.cos(np.radians(14)), rtol=1e-4)
    np.testing.assert_allclose(group.tilt, (0, -5 * np.sin(np.radians(14))), atol=1e-3)


def test_missing_slice_has_no_affine_and_is_filled_on_request(shared_dicom: Path) -> None:
    _, volume, group = load(shared_dicom, UNEVEN)
    with pytest.raises(GeometryError, match=r"5.00 to 10.00 mm apart"):
        group.affine_ras
    even = resample_regular(volume, group, step=5.0)
    assert even.volume.shape == (5, 512, 512)
    for k, original in [(0, 0), (1, 1), (2, 2), (4, 3)]:
        np.testing.assert_allclose(even.volume[k], volume[original], atol=1e-3)
    np.testing.assert_allclose(even.volume[3], (volume[2] + volume[3]) / 2, atol=1e-2)


def test_mosaic_claims_no_place(shared_dicom: Path) -> None:
    group = arrange(read(files_in(shared_dicom / MOSAIC))).choose()
    assert len(group) == 3
    with pytest.raises(GeometryError, match="mosaic"):
        group.affine_lps


def test_three_plane_localizer(shared_dicom: Path) -> None:
    folder = shared_dicom / "pydicom+pydicom/src/pydicom/data/test_files/dicomdirtests/98892003/MR2"
    arrangement = arrange(read(folder / name for name in ("4950", "4981", "5011")))
    assert sorted(arrangement.labels) == ["axial", "coronal", "sagittal"]


def test_rt_dose_planes_rise_by_the_grid_offsets(shared_dicom: Path) -> None:
    (frames,) = [read([shared_dicom / "pydicom+pydicom/src/pydicom/data/test_files/rtdose.dcm"])]
    group = arrange(frames).choose()
    assert len(group) == 15
    np.testing.assert_allclose(group.spacing, (5.0, 10.0, 10.0))
    assert frames[0].slope == pytest.approx(1e-6)
    assert frames[0].rescale_type == "RELATIVE"


def test_the_order_of_the_files_does_not_matter(shared_dicom: Path) -> None:
    frames = read(files_in(shared_dicom / EPI))
    shuffled = np.random.default_rng(3).permutation(len(frames))
    straight, mixed = arrange(frames), arrange([frames[i] for i in shuffled])
    assert straight.labels == mixed.labels
    for one, other in zip(straight.groups, mixed.groups, strict=True):
        np.testing.assert_array_equal(one.order, shuffled[other.order])
