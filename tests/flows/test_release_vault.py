"""A vault's series become a vault of their own, which tells nothing of the first; also on workers."""

from __future__ import annotations

import getpass
import io
from collections.abc import Mapping
from pathlib import Path

import pydicom
import pytest

import voxelvault as vv
from voxelvault.cluster.local import LocalWorkers
from voxelvault.releasing.projects import create
from voxelvault.releasing.proving import verify_vault
from voxelvault.testing import synthetic


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> vv.Vault:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
    inbox = tmp_path / "in"
    inbox.mkdir()
    for number in range(3):
        for index, data in enumerate(synthetic.ct_series(3, 16, 16, seed=number)):
            (inbox / f"{number}-{index}.dcm").write_bytes(data)
    made = vv.create(tmp_path / "vault")
    made.ingest(inbox, progress=False)
    return made


def digests(path: Path) -> set[str]:
    with vv.open(path) as release:
        assert verify_vault(release.resources).ok
        rows = release.resources.catalog.query("select sha256 from instances").to_pylist()
    return {row["sha256"] for row in rows}


def test_workers_make_the_same_release(vault: vv.Vault, tmp_path: Path) -> None:
    everything = vault.select()
    with vault:
        here = everything.deidentify(tmp_path / "here", faces="keep", progress=False)
        with LocalWorkers(2) as workers:
            there = everything.deidentify(tmp_path / "there", faces="keep", progress=False, client=workers)
    assert here.complete
    assert there.complete
    assert here.report.released == there.report.released == 9
    assert digests(here.path) == digests(there.path)


SECRETS = ("Zyxwqtop", "QQ4711XX")


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> vv.Vault:
    """Two patients with values that can be looked for."""
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
    inbox = tmp_path / "in"
    inbox.mkdir()
    for number in range(2):
        for index, data in enumerate(synthetic.ct_series(2, 16, 16, seed=number)):
            header = pydicom.dcmread(io.BytesIO(data))
            header.PatientName, header.PatientID = f"{SECRETS[0]}^{number}", f"{SECRETS[1]}{number}"
            header.save_as(inbox / f"{SECRETS[0]}-{number}-{index}.dcm")
    made = vv.create(tmp_path / "vault")
    made.ingest(inbox, progress=False)
    return made


def pseudonyms(path: Path) -> Mapping[str, str]:
    """Return the patient's pseudonym by the new StudyInstanceUID."""
    with vv.open(path) as release:
        assert verify_vault(release.resources).ok
        rows = release.resources.catalog.query(
            "select StudyInstanceUID, PatientID from studies join patients using (subject_id)"
        ).to_pylist()
    return {row["StudyInstanceUID"]: row["PatientID"] for row in rows}


def test_a_release_tells_nothing_of_its_source_and_the_source_has_it_in_its_log(
    people: vv.Vault, tmp_path: Path
) -> None:
    with people:
        made = people.select().deidentify(tmp_path / "out", faces="keep", progress=False)
        entries = [one for one in people.resources.log.entries() if one.kind == "release.made"]
        ids = people.resources.catalog.query(
            "select SOPInstanceUID, instance_id, series_id, study_id, subject_id from instances"
        ).to_pylist()
        own = [people.resources.keys.vault_id, *{one for row in ids for one in row.values()}]
    assert [one.outcome for one in entries] == ["intent", "ok"]
    with vv.open(made.path) as release:
        entries = list(release.resources.log.entries())
        tables = [
            release.resources.catalog.query(f"select * from {name}") for name in ("series", "instances")
        ]
        headers = [str(table.to_pylist()) for table in tables]
    # Whoever opens the release comes into its log, after all that its making left there.
    made_by = [one.who for one in entries]
    made_of = made_by.count("release")
    assert made_by[:made_of] == ["release"] * made_of
    assert made_of > 2
    told = [str(one) for one in entries[:made_of]]
    lying = [path.relative_to(made.path).as_posix() for path in made.path.rglob("*")]
    raw = [path.read_bytes().decode("latin-1") for path in made.path.rglob("*") if path.is_file()]
    everything = "\n".join([*told, *headers, *lying, *raw])
    for secret in (*SECRETS, *own, str(tmp_path), f"'{getpass.getuser()}'"):
        assert secret not in everything


def test_a_pseudonym_is_one_within_a_project_and_another_in_another(people: vv.Vault, tmp_path: Path) -> None:
    create(tmp_path / "first")
    create(tmp_path / "second")
    found = []
    with people:
        for number, project in enumerate(["first", "first", "second"]):
            place = tmp_path / f"out{number}"
            people.select().deidentify(place, faces="keep", project=tmp_path / project, progress=False)
            found.append(pseudonyms(place))
    assert found[0] == found[1]
    assert len(set(found[0].values())) == 2
    assert not set(found[0]) & set(found[2])
    assert not set(found[0].values()) & set(found[2].values())


def test_a_merged_subject_has_one_pseudonym(people: vv.Vault, tmp_path: Path) -> None:
    with people:
        rows = people.resources.catalog.query("select subject_id from patients order by 1").to_pylist()
        people.merge_subjects(rows[0]["subject_id"], rows[1]["subject_id"])
        people.select().deidentify(tmp_path / "out", faces="keep", progress=False)
    found = pseudonyms(tmp_path / "out")
    assert (len(found), len(set(found.values()))) == (2, 1)
