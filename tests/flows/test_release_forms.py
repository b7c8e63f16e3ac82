"""A vault's series leave as volumes and tables: searched, signed for, and telling nothing of the vault."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import nibabel
import pyarrow.parquet
import pydicom
import pytest
import zarr

import voxelvault as vv
from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.app import main
from voxelvault.releasing import forms
from voxelvault.releasing.proving import verify_folder
from voxelvault.testing import synthetic

SECRETS = ("Zyxwqtop", "QQ4711XX", "Elsewhere Clinic", "19610213")


def put(folder: Path, number: int, **values: object) -> None:
    folder.mkdir(exist_ok=True)
    for index, data in enumerate(synthetic.ct_series(3, 16, 16, seed=number)):
        header = pydicom.dcmread(io.BytesIO(data))
        header.PatientName, header.PatientID = f"{SECRETS[0]}^{number}", f"{SECRETS[1]}{number}"
        header.InstitutionName, header.PatientBirthDate = SECRETS[2], SECRETS[3]
        for name, value in values.items():
            setattr(header, name, value)
        header.save_as(folder / f"{number}-{index}.dcm")


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[vv.Vault]:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
    put(tmp_path / "in", 0)
    put(tmp_path / "in", 1)
    with vv.create(tmp_path / "vault") as made:
        made.ingest(tmp_path / "in", progress=False)
        yield made


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def released(vault: vv.Vault, out: Path, **how: object) -> dict[str, bytes]:
    made = vault.select().deidentify(out, faces="keep", progress=False, **how)  # type: ignore[arg-type]
    assert made.complete
    assert verify_folder(out, bytes.fromhex(made.signer)).ok
    return files(out)


def readable(name: str, data: bytes) -> bytes:
    if not name.endswith(".parquet"):
        return data
    table = pyarrow.parquet.read_table(io.BytesIO(data))
    return data + json.dumps(table.to_pylist()).encode()


@pytest.mark.parametrize("form", ["nifti", "ome-zarr", "parquet"])
def test_a_form_holds_everything_and_nothing_of_its_source(
    vault: vv.Vault, tmp_path: Path, form: str
) -> None:
    found = released(vault, tmp_path / "out", format=form)
    everything = b"\0".join([*(readable(*one) for one in found.items()), "\0".join(found).encode()])
    own = (vault.resources.keys.vault_id, str(tmp_path), os.environ.get("USER", "nobody-here"))
    rows = vault.resources.catalog.query(
        "select SOPInstanceUID, series_id, study_id from instances"
    ).to_pylist()
    for secret in (*SECRETS, *own, *(one for row in rows for one in row.values())):
        assert secret.encode() not in everything
    assert {path.stat().st_mtime for path in (tmp_path / "out").rglob("*")} == {315532800}
    assert not list((tmp_path / "out").glob(".*"))
    assert f'"{form}"'.encode() in found["receipts.jsonl"]
    assert {"card.md", "croissant.json"} <= set(found)


def test_volumes_lie_by_patient_and_study(vault: vv.Vault, tmp_path: Path) -> None:
    released(vault, tmp_path / "nifti", format="nifti")
    images = sorted((tmp_path / "nifti" / "volumes").glob("*/*/*.nii.gz"))
    assert [nibabel.load(path).shape for path in images] == [(16, 16, 3)] * 2
    assert all(path.with_name(path.name.replace(".nii.gz", ".json")).exists() for path in images)
    released(vault, tmp_path / "zarr", format="ome-zarr")
    arrays = sorted((tmp_path / "zarr" / "volumes").glob("*/*/*.ome.zarr"))
    assert [zarr.open_group(path, mode="r")["0"].shape for path in arrays] == [(3, 16, 16)] * 2


def test_tables_join(vault: vv.Vault, tmp_path: Path) -> None:
    released(vault, tmp_path / "out", format="parquet")
    tables = {
        name: pyarrow.parquet.read_table(tmp_path / "out" / "tables" / f"{name}.parquet").to_pylist()
        for name in ("patients", "studies", "series", "instances")
    }
    assert {name: len(rows) for name, rows in tables.items()} == {
        "patients": 2, "studies": 2, "series": 2, "instances": 6,
    }  # fmt: skip
    assert {row["PatientID"] for row in tables["instances"]} == {
        row["PatientID"] for row in tables["patients"]
    }
    assert all(json.loads(row["header"])["00080060"]["Value"] == ["CT"] for row in tables["instances"])


def test_a_leak_in_what_was_made_takes_its_study_out(
    vault: vv.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = forms.FORMATS["nifti"].write

    def leaking(volume: object, path: Path) -> int:
        size = whole(volume, path)  # type: ignore[arg-type]
        sidecar = path.with_name(path.name.replace(".nii.gz", ".json"))
        told = json.loads(sidecar.read_text())
        sidecar.write_text(json.dumps({**told, "Operator": f"{SECRETS[0]}^0"}))
        return size

    for name, one in (("nifti", forms.FORMATS["nifti"]),):
        monkeypatch.setitem(forms.FORMATS, name, type(one)(*(
            leaking if field == "write" else getattr(one, field) for field in one.__slots__
        )))  # fmt: skip
    made = vault.select().deidentify(tmp_path / "out", faces="keep", format="nifti", progress=False)
    assert not made.complete
    assert made.report.refused["leak_found"] == 6
    assert not list((tmp_path / "out").rglob("*.nii.gz"))
    told = verify_folder(tmp_path / "out")
    assert (told.ok, told.files, told.refused) == (True, 0, 6)


def test_what_is_no_volume_is_told(vault: vv.Vault, tmp_path: Path) -> None:
    uneven = tmp_path / "more"
    put(uneven, 2)
    for index, path in enumerate(sorted(uneven.iterdir())):
        header = pydicom.dcmread(path)
        header.ImagePositionPatient = [0, 0, index * index * 4.0]
        header.save_as(path)
    vault.ingest(uneven, progress=False)
    made = vault.select().deidentify(tmp_path / "out", faces="keep", format="nifti", progress=False)
    assert (made.complete, made.report.released, made.report.refused) == (False, 6, {"not_a_volume": 3})
    assert len(list((tmp_path / "out").rglob("*.nii.gz"))) == 2
    rows = vault.resources.catalog.query("select instance_id from instances where not superseded").to_pylist()
    assert {place for place, _ in made.report.places} < {row["instance_id"] for row in rows}
    again = released(vault, tmp_path / "even", format="nifti", resample=True)
    assert sum(name.endswith(".nii.gz") for name in again) == 3
    assert b'"resampled"' in again["receipts.jsonl"]


def test_an_interrupted_one_goes_on_by_the_same_rules_alone(
    vault: vv.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(forms, "export_volumes", lambda *given, **more: [][1])
        with pytest.raises(IndexError):
            released(vault, tmp_path / "out", format="nifti")
    assert (tmp_path / "out" / ".release").stat().st_mode & 0o777 == 0o700
    with pytest.raises(UsageError, match="other rules"):
        released(vault, tmp_path / "out", format="dicom")
    assert sum(name.endswith(".nii.gz") for name in released(vault, tmp_path / "out", format="nifti")) == 2


def test_a_folder_becomes_volumes_without_a_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
    put(tmp_path / "in", 0)
    given = ["deidentify", str(tmp_path / "in"), "--to", str(tmp_path / "out"), "--format", "nifti"]
    assert main([*given, "--map", str(tmp_path / "map.json")]) == 2
    assert main(given) == 0
    assert main(["deidentify", "verify", str(tmp_path / "out")]) == 0
    assert main(["deidentify", str(tmp_path / "in"), "--to", str(tmp_path / "tables"), "--resample"]) == 2
