"""Real series as NIfTI: every voxel has the value and the place that dcm2niix gives it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dcm2niix
import nibabel
import numpy as np
import pydicom
import pytest
import zarr

import voxelvault as vv
from voxelvault.formats.report import FormatReport, LeavesTheVault

PET = "FNNDSC+data/dicom/rsna_2/PET"
PHANTOM = "neurolabusc+dcm_qa_ct/In/Philips/S21570/S2010"
HITACHI = "icometrix+dicom2nifti/tests/data/hitachi/anatomical/001"
SAGITTAL = "icometrix+dicom2nifti/tests/data/generic/compressed_rle/001"
OBLONG = "icometrix+dicom2nifti/tests/data/generic/anatomical/002_non_isotropic"
ENHANCED = "neurolabusc+dcm_qa_xa30/In/5_anat-T1w_acq-tfl"
NAMES = (PET, PHANTOM, HITACHI, SAGITTAL, OBLONG, ENHANCED)


@pytest.fixture(scope="module")
def vault(shared_dicom: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[vv.Vault]:
    root = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(root / "configuration"))
        with vv.create(root / "vault", codec="fast") as made:
            made.ingest(*(file for name in NAMES for file in files_in(shared_dicom / name)), progress=False)
            yield made


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name != "DIRFILE")


def exported(vault: vv.Vault, folder: Path, out: Path, format: str) -> Path:
    """Export the series of a folder of files; return where its one volume is."""
    uid = str(pydicom.dcmread(files_in(folder)[0]).SeriesInstanceUID)
    with pytest.warns(LeavesTheVault):
        report = vault.export(out, series=uid, format=format, progress=False)
    assert isinstance(report, FormatReport)
    (item,) = report.written
    return out / item.path


@pytest.mark.shared
@pytest.mark.parametrize("name", NAMES)
def test_every_voxel_is_where_and_what_dcm2niix_makes_it(
    vault: vv.Vault, shared_dicom: Path, tmp_path: Path, name: str
) -> None:
    path = exported(vault, shared_dicom / name, tmp_path / "ours", "nifti")
    ours: Any = nibabel.load(path)
    (tmp_path / "theirs").mkdir()
    command = [dcm2niix.bin, "-z", "n", "-b", "y", "-o", str(tmp_path / "theirs"), str(shared_dicom / name)]
    subprocess.run(command, check=False, capture_output=True, timeout=120)
    theirs: Any = nibabel.load(next((tmp_path / "theirs").glob("*.nii")))
    to_ours = np.linalg.inv(ours.affine) @ theirs.affine
    index = np.indices(theirs.shape).reshape(3, -1)
    place = (to_ours @ np.vstack([index, np.ones(index.shape[1])]))[:3]
    assert np.abs(place - place.round()).max() < 0.05
    assert sorted(ours.shape) == sorted(theirs.shape)
    found = ours.get_fdata()[tuple(place.round().astype(int))]
    np.testing.assert_allclose(found, theirs.get_fdata().reshape(-1), rtol=1e-4, atol=1e-3)
    # That one has a slope for each slice.
    assert ours.get_data_dtype().kind == ("f" if name == OBLONG else "i")
    facts = json.loads(path.with_name(path.name.removesuffix(".nii.gz") + ".json").read_text())
    known = json.loads(next((tmp_path / "theirs").glob("*.json")).read_text())
    for key in ("Modality", "EchoTime", "RepetitionTime", "FlipAngle", "SliceThickness"):
        if key in facts and key in known:
            assert facts[key] == (pytest.approx(known[key]) if isinstance(known[key], float) else known[key])


@pytest.mark.shared
@pytest.mark.parametrize("name", [PHANTOM, ENHANCED])
def test_ome_zarr_holds_what_load_gives(
    vault: vv.Vault, shared_dicom: Path, tmp_path: Path, name: str
) -> None:
    group = zarr.open_group(exported(vault, shared_dicom / name, tmp_path, "ome-zarr"), mode="r")
    uid = str(pydicom.dcmread(files_in(shared_dicom / name)[0]).SeriesInstanceUID)
    with vault.series(uid) as series:
        array: Any = group["0"]
        np.testing.assert_array_equal(array[...], series.load())
        np.testing.assert_array_equal(group.attrs.asdict()["affine_ras"], series.affine_ras)
