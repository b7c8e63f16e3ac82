"""A marker at a known point of the patient comes out at that point: xarray, nibabel, dcm2niix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from geometry_support import assert_same_in_space, niftis
from material import Filled, write_all

import voxelvault as vv
from voxelvault.errors import GeometryError
from voxelvault.series import Series
from voxelvault.testing.synthetic import AXIAL, CORONAL, MARKER, SAGITTAL, ct_series

OBLIQUE = (0.98, 0.12, 0.1587450786638754, -0.09761870601839527, 0.9859, -0.13605442)
FEET_UP = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)


def _unit(orientation: tuple[float, ...]) -> tuple[float, ...]:
    """Make row and column unit and at right angles, as a header must have them."""
    row = np.array(orientation[:3]) / np.linalg.norm(orientation[:3])
    column = np.array(orientation[3:]) - row * (row @ np.array(orientation[3:]))
    return (*row, *(column / np.linalg.norm(column)))


PLANES = {
    "axial": (AXIAL, 0.0),
    "coronal": (CORONAL, 0.0),
    "sagittal": (SAGITTAL, 0.0),
    "oblique": (_unit(OBLIQUE), 0.0),
    "feet up": (FEET_UP, 0.0),
    "tilted": (AXIAL, 14.0),
}
ORIGIN, SPACING, STEP = np.array([-20.0, -15.0, 5.0]), (0.8, 0.6), 2.0
AT = (6, 31, 9)
"""Slice, row and column of the marker: no two alike, none in the middle."""


def point_of(orientation: tuple[float, ...], tilt: float) -> np.ndarray:
    """Return the marker's place in mm, LPS, worked out here (PS3.3 equation C.7.6.2.1-1)."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    advance = np.cross(row, column) + np.tan(np.deg2rad(tilt)) * column
    slice_, down, across = AT
    return ORIGIN + slice_ * STEP * advance + row * SPACING[1] * across + column * SPACING[0] * down


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Series]]]:
    """Give a vault with one marked CT for each plane, and the folder of files."""
    folder = tmp_path_factory.mktemp("planes")
    for number, (name, (orientation, tilt)) in enumerate(PLANES.items()):
        files = ct_series(
            marker=point_of(orientation, tilt),
            orientation=orientation,
            tilt=tilt,
            seed=number,
            series=number + 1,
            shuffled=True,
        )
        write_all(folder / name, {str(at): data for at, data in enumerate(files)})
    with vv.create(tmp_path_factory.mktemp("marker") / "vault") as vault:
        vault.ingest(folder, progress=False)
        rows = vault.sql("select SeriesNumber, SeriesInstanceUID from series order by 1").fetchall()
        yield folder, {list(PLANES)[number - 1]: vault.series(uid) for number, uid in rows}


def found_in(values: np.ndarray) -> tuple[int, ...]:
    """Return the index of the marker; there must be one."""
    assert (values == MARKER).sum() == 1
    return tuple(int(i) for i in np.argwhere(values == MARKER)[0])


@pytest.mark.parametrize("name", PLANES)
def test_through_xarray(planes: tuple[Path, dict[str, Series]], name: str) -> None:
    array = planes[1][name].to_xarray().compute()
    assert array.dims == ("slice", "row", "column")
    assert array.attrs["units"] == "HU"
    point = point_of(*PLANES[name])
    slice_, row, column = found_in(array.values)
    affine = np.array(array.attrs["affine_lps"])
    np.testing.assert_allclose((affine @ [column, row, slice_, 1])[:3], point, atol=1e-4)
    if name not in ("oblique", "tilted"):
        marked = array.where(array == MARKER, drop=True)
        np.testing.assert_allclose([float(marked[axis].item()) for axis in "xyz"], point, atol=1e-4)
        assert float(array.sel(x=point[0], y=point[1], z=point[2], method="nearest")) == MARKER
    else:
        assert "x" not in array.coords


@pytest.mark.parametrize("name", PLANES)
def test_through_nibabel(planes: tuple[Path, dict[str, Series]], name: str, tmp_path: Path) -> None:
    """The RAS affine of (column, row, slice), saved and read again as NIfTI."""
    series = planes[1][name]
    image = nibabel.Nifti1Image(series.load().T, series.affine_ras)
    nibabel.save(image, tmp_path / "marker.nii")
    again = nibabel.load(tmp_path / "marker.nii")
    place = nibabel.affines.apply_affine(again.affine, found_in(np.asarray(again.dataobj)))
    np.testing.assert_allclose(place, point_of(*PLANES[name]) * [-1, -1, 1], atol=1e-3)


@pytest.mark.parametrize("name", [name for name in PLANES if name != "tilted"])
def test_where_dcm2niix_puts_it(planes: tuple[Path, dict[str, Series]], name: str, tmp_path: Path) -> None:
    folder, series = planes
    (image,) = niftis(folder / name, tmp_path / "nifti")
    theirs = np.asarray(image.dataobj)
    place = nibabel.affines.apply_affine(image.affine, found_in(theirs))
    np.testing.assert_allclose(place, point_of(*PLANES[name]) * [-1, -1, 1], atol=1e-2)
    assert_same_in_space(series[name].load(), series[name].affine_ras, image)


def test_tilted_gantry_agrees_with_dcm2niix_before_its_correction(
    planes: tuple[Path, dict[str, Series]], tmp_path: Path
) -> None:
    """dcm2niix drops the shear from the header of a tilted volume: slices are compared one by one."""
    folder, series = planes
    plain = next(
        i for i in niftis(folder / "tilted", tmp_path / "nifti") if "Tilt" not in str(i.get_filename())
    )
    theirs = np.asarray(plain.dataobj).T[:, ::-1]
    np.testing.assert_array_equal(series["tilted"].load(), theirs)
    assert series["tilted"].geometry().tilted


def test_resampling_moves_the_marker_nowhere(planes: tuple[Path, dict[str, Series]]) -> None:
    """An upright grid: the tilted slices are shifted back, the brightest voxel stays in place."""
    array = planes[1]["tilted"].to_xarray(resample=True)
    values = np.nan_to_num(array.values, nan=-2000)
    slice_, row, column = np.unravel_index(np.argmax(values), values.shape)
    place = (np.array(array.attrs["affine_lps"]) @ [column, row, slice_, 1])[:3]
    np.testing.assert_allclose(place, point_of(*PLANES["tilted"]), atol=max(SPACING))
    assert "x" in array.coords


def test_uneven_slices_have_positions_and_no_affine(tmp_path: Path) -> None:
    files = ct_series(n=5, uneven=[2.0, 2.0, 5.0, 2.0])
    with vv.create(tmp_path / "vault") as vault:
        vault.ingest(write_all(tmp_path / "in", {str(n): f for n, f in enumerate(files)}), progress=False)
        series = vault.series(vault.sql("select SeriesInstanceUID from series").fetchall()[0][0])
        for affine in ("affine_lps", "affine_ras"):
            with pytest.raises(GeometryError, match=r"2\.00 to 5\.00 mm apart"):
                getattr(series, affine)
        array = series.to_xarray()
        assert "affine_lps" not in array.attrs
        np.testing.assert_allclose(series.geometry().positions[:, 2], [5, 7, 9, 14, 16])
        even = series.to_xarray(resample=True)
        assert "affine_lps" in even.attrs
        assert even.shape[1:] == array.shape[1:]


REAL = [
    "neurolabusc+dcm_qa_ct/In/Philips/S21570/S2010",
    "icometrix+dicom2nifti/tests/data/hitachi/anatomical/001",
    "icometrix+dicom2nifti/tests/data/generic/compressed_rle/001",
    "neurolabusc+dcm_qa_xa30/In/5_anat-T1w_acq-tfl",
    "FNNDSC+data/dicom/rsna_2/PET",
]


@pytest.mark.parametrize("name", REAL)
def test_real_series_lie_where_dcm2niix_puts_them(filled: Filled, name: str, tmp_path: Path) -> None:
    if not filled.material.manifest:
        pytest.skip("whole real series are in the shared files only")
    folder = filled.material.folders[0] / name
    digests = {filled.material.files[path] for path in folder.iterdir() if path in filled.material.manifest}
    rows = filled.vault.sql("select series_id, sha256 from instances").fetchall()
    found = {series_id for series_id, digest in rows if digest in digests}
    (series,) = [filled.series[series_id] for series_id in found if filled.series[series_id].stacks]
    volume = series.load(padding="keep")
    assert len(volume) == sum(1 for _ in series.members())
    (image,) = niftis(folder, tmp_path / "nifti")
    assert_same_in_space(volume, series.affine_ras, image, atol=0.5 if series.modality == "PT" else 1e-3)
    array = series.to_xarray()
    np.testing.assert_allclose(array.attrs["affine_ras"], series.affine_ras)
