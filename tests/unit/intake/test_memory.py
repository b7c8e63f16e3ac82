"""Instances that come in from memory: whole, marked, in the study that they are for, or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

import voxelvault as vv
from voxelvault.errors import IntegrityError, MalformedDicom, UnknownUID, UsageError
from voxelvault.intake import packing
from voxelvault.storage.prepare import Prepared
from voxelvault.testing import synthetic

SECRET = "Nowhere^Never^In^Clear"


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> vv.Vault:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    return vv.create(tmp_path / "vault")


def sent(vault: vv.Vault, folder: Path, name: str = "in", **options: Any) -> str:
    """Ingest two slices; return the study's opaque id."""
    files = synthetic.ct_series(2, 16, 16)
    (folder / name).mkdir(exist_ok=True)
    for number, data in enumerate(files):
        (folder / name / f"{number}.dcm").write_bytes(data)
    vault.ingest(folder / name, progress=False, **options)
    return str(vault.sql("select study_id from studies").fetchall()[0][0])


def made(instance: int = 1, **attributes: Any) -> bytes:
    """Return an instance of the same study, as a pipeline makes one."""
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    changed = {"SeriesDescription": SECRET, **attributes}
    return synthetic.image(pixels, "OT", series=77, instance=instance, attributes=changed)


def count(vault: vv.Vault) -> int:
    return int(vault.sql("select count(*) from instances").fetchall()[0][0])


def test_what_is_made_here_comes_in_whole_and_is_marked(vault: vv.Vault, tmp_path: Path) -> None:
    study_id = sent(vault, tmp_path)
    files = [made(1), made(2)]
    done = vault.store(files, study_id, origin="head-ct")
    assert done.new == 2
    rows = vault.sql(
        "select instance_id, study_id, origin, SOPInstanceUID from instances where origin is not null"
        " order by InstanceNumber"
    ).fetchall()
    assert [row[:3] for row in rows] == [(one, study_id, "head-ct") for one in done.instance_ids]
    for row, file in zip(rows, files, strict=True):
        with vault.instance(row[3]) as instance:
            assert instance.as_dicom() == file
    assert vault.sql("select count(*) from instances where origin is null").fetchall() == [(2,)]
    logged = [entry for entry in vault.audit.log() if entry.codes.get("origin")]
    assert [entry.codes["origin"] for entry in logged] == [("head-ct",)]
    assert vault.verify(progress=False).ok


def test_no_byte_of_it_lies_in_clear(vault: vv.Vault, tmp_path: Path) -> None:
    vault.store([made()], sent(vault, tmp_path), origin="head-ct")
    for path in (tmp_path / "vault").rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


def test_the_same_file_is_stored_once(vault: vv.Vault, tmp_path: Path) -> None:
    study_id = sent(vault, tmp_path)
    first = vault.store([made()], study_id, origin="head-ct")
    again = vault.store([made(), made()], study_id, origin="head-ct")
    assert (again.new, set(again.instance_ids)) == (0, set(first.instance_ids))


def test_a_sender_does_not_take_the_mark_away(vault: vv.Vault, tmp_path: Path) -> None:
    study_id = sent(vault, tmp_path)
    vault.store([made()], study_id, origin="head-ct")
    (tmp_path / "back.dcm").write_bytes(made())
    assert vault.ingest(tmp_path / "back.dcm", progress=False).duplicates == 1
    assert vault.sql("select count(origin) from instances").fetchall() == [(1,)]


UID = synthetic.uid(0, 77, 1).encode()
PATH = b"../" + UID[3:]


@pytest.mark.parametrize("broken", [b"", b"no DICOM at all", made()[:200], made().replace(UID, PATH)])
def test_what_would_be_kept_aside_is_an_error(vault: vv.Vault, tmp_path: Path, broken: bytes) -> None:
    study_id = sent(vault, tmp_path)
    with pytest.raises(MalformedDicom):
        vault.store([made(), broken], study_id, origin="head-ct")
    assert count(vault) == 2
    assert vault.quarantine() == []


def test_a_codec_that_fails_leaves_nothing(
    vault: vv.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id = sent(vault, tmp_path)
    before = {path for path in (tmp_path / "vault").rglob("*") if "packs" in path.parts}

    def fail(*_: object, **__: object) -> Prepared:
        raise IntegrityError("the frame did not come back as it went in")

    monkeypatch.setattr(packing, "prepare", fail)
    with pytest.raises(IntegrityError, match="nothing was stored"):
        vault.store([made()], study_id, origin="head-ct")
    assert {path for path in (tmp_path / "vault").rglob("*") if "packs" in path.parts} == before
    assert count(vault) == 2
    assert vault.verify(progress=False).ok


@pytest.mark.parametrize(
    "other", [{"PatientID": "somebody else"}, {"StudyInstanceUID": "1.2.3"}, {"PatientBirthDate": "19010101"}]
)
def test_a_file_of_another_study_is_refused(vault: vv.Vault, tmp_path: Path, other: dict[str, str]) -> None:
    study_id = sent(vault, tmp_path)
    with pytest.raises(UsageError, match="another patient or study"):
        vault.store([made(**other)], study_id, origin="head-ct")
    assert count(vault) == 2
    assert vault.verify(progress=False).ok


def test_of_patients_who_all_fit_it_goes_to_the_one_whose_study_it_is(
    vault: vv.Vault, tmp_path: Path
) -> None:
    study_id = sent(vault, tmp_path)
    # One PatientID, three people: another birth date, and somebody of whom none is told.
    for number, born in enumerate(("19010101", "")):
        data = synthetic.image(
            np.zeros((8, 8), np.uint16), "OT", seed=9 + number, attributes={"PatientBirthDate": born}
        )
        dataset = pydicom.dcmread(io.BytesIO(data))
        dataset.PatientID = pydicom.dcmread(io.BytesIO(made())).PatientID
        dataset.save_as(tmp_path / "other.dcm")
        vault.ingest(tmp_path / "other.dcm", progress=False)
    assert vault.sql("select count(distinct subject_id) from studies").fetchall() == [(3,)]
    done = vault.store([made(PatientBirthDate="")], study_id, origin="head-ct")
    found = vault.sql("select study_id from instances where instance_id = $i", {"i": done.instance_ids[0]})
    assert found.fetchall() == [(study_id,)]
    assert vault.verify(progress=False).ok


def test_it_goes_to_the_patient_whose_issuer_only_the_ingest_knew(vault: vv.Vault, tmp_path: Path) -> None:
    study_id = sent(vault, tmp_path, issuer="West Wing")
    vault.store([made()], study_id, origin="head-ct")
    assert vault.sql("select count(*) from studies").fetchall() == [(1,)]


def test_it_needs_a_study_and_a_name(vault: vv.Vault, tmp_path: Path) -> None:
    study_id = sent(vault, tmp_path)
    with pytest.raises(UnknownUID):
        vault.store([made()], "0" * 32, origin="head-ct")
    with pytest.raises(UsageError, match="origin="):
        vault.store([made()], study_id, origin="no such word")
