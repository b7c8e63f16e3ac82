"""A release's closing report counts what is in it, as its card does: gone on with, or with files left out."""

from __future__ import annotations

import io
from pathlib import Path

import pydicom
import pytest

from voxelvault.releasing import hands
from voxelvault.releasing.deidentify import ReleaseReport, Rules, release_as
from voxelvault.releasing.originals import FolderOriginals
from voxelvault.releasing.projects import Using, create, using
from voxelvault.testing import synthetic


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Using:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
    create(tmp_path / "project")
    return using(tmp_path / "project")


def put(folder: Path, number: int, *, even: bool = True) -> None:
    folder.mkdir(exist_ok=True)
    for index, data in enumerate(synthetic.ct_series(3, 16, 16, seed=number)):
        header = pydicom.dcmread(io.BytesIO(data))
        header.PatientID = f"id-{number}"
        if not even:
            header.ImagePositionPatient = [0, 0, index * index * 4.0]
        header.save_as(folder / f"{number}-{index}.dcm")


def release(tmp_path: Path, mine: Using, form: str) -> ReleaseReport:
    originals = FolderOriginals(tmp_path / "in")
    return release_as(originals, tmp_path / "out", Rules(faces="keep"), mine, format=form)


def interrupted(tmp_path: Path, mine: Using, form: str) -> None:
    """Begin a release that is stopped at its second step."""
    whole, calls = hands.release, iter(range(9))

    def stopping(*given: object) -> object:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return whole(*given)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hands, "release", stopping)
        with pytest.raises(KeyboardInterrupt):
            release(tmp_path, mine, form)


@pytest.mark.parametrize("form", ["dicom", "vault", "parquet"])
def test_a_release_that_goes_on_counts_those_of_before(tmp_path: Path, mine: Using, form: str) -> None:
    for number in range(3):
        put(tmp_path / "in", number)
    interrupted(tmp_path, mine, form)
    made = release(tmp_path, mine, form)
    assert (made.report.released, made.report.patients) == (9, 3)
    assert "9 of 9 files released, 3 patients" in str(made)


def test_whose_files_all_drop_out_is_not_counted(tmp_path: Path, mine: Using) -> None:
    put(tmp_path / "in", 0)
    put(tmp_path / "in", 1, even=False)
    made = release(tmp_path, mine, "nifti")
    assert (made.report.released, made.report.patients) == (3, 1)
    # By the originals' own names: those in the receipts say nothing to whoever has to look into it.
    assert sorted(made.report.places) == [(f"1-{index}.dcm", "not_a_volume") for index in range(3)]
    assert "1-0" not in "".join(path.read_text("latin-1") for path in made.path.rglob("*") if path.is_file())
    assert "3 of 6 files released, 1 patient, 3 not_a_volume" in str(made)


@pytest.mark.parametrize("form", ["dicom", "nifti"])
def test_what_an_earlier_run_refused_is_told_again(tmp_path: Path, mine: Using, form: str) -> None:
    for number in range(2):
        put(tmp_path / "in", number)
    odd = pydicom.dcmread(tmp_path / "in" / "0-2.dcm")
    odd.SOPClassUID = odd.file_meta.MediaStorageSOPClassUID = "1.2.3.4"
    odd.save_as(tmp_path / "in" / "0-2.dcm")
    interrupted(tmp_path, mine, form)
    report = release(tmp_path, mine, form).report
    assert (report.released, report.refused) == (5, {"class_unknown": 1})
    assert report.places == [("0-2.dcm", "class_unknown")]
    assert not report.complete
