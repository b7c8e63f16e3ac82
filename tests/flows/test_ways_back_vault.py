"""A vault's release under a site's own rule for patients' ids: on workers as here, and with its way back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flow_support import person_file, write

import voxelvault as vv
from voxelvault.cluster.local import LocalWorkers
from voxelvault.deid.site_rules import read_toml
from voxelvault.deid.stored_project import StoredProject
from voxelvault.releasing import ledgers, projects
from voxelvault.releasing.deidentify import Rules
from voxelvault.releasing.proving import vault_card, verify_vault

IDS = ("QQ4711XX", "QQ4712XX")
STUDIES = (
    "select distinct StudyInstanceUID as uid, PatientID as id from studies join patients using (subject_id)"
)
RULES = {"hash": 'action = "hash"', "keep": 'action = "keep"', "one": 'action = "replace"\nvalue = "STUDY"'}


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[vv.Vault]:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("ann", "bob"):
        projects.new_approver(tmp_path / f"{name}.key", tmp_path / f"{name}.pub")
    files = [person_file(IDS[number], study=number + 1, PatientName="Zyxwq^J") for number in range(2)]
    write(tmp_path / "in", files)
    with vv.create(tmp_path / "vault") as made:
        made.ingest(tmp_path / "in", progress=False)
        yield made


def ids(vault: vv.Vault) -> dict[str, str]:
    """Return patient ids by studies."""
    return {row["uid"]: row["id"] or "" for row in vault.resources.catalog.query(STUDIES).to_pylist()}


def ways_back(home: Path, project: StoredProject) -> dict[str, dict[str, str | None]]:
    asked = ledgers.ask(project, ("patients", "uids"), purpose="IRB-7")
    for name in ("ann", "bob"):
        ledgers.approve(project, asked.request_id, home / f"{name}.key")
    return {name: dict(pairs) for name, pairs in ledgers.reidentify(project, asked.request_id).items()}


@pytest.mark.timeout(900)
def test_a_sites_rule_for_ids_holds_on_workers_and_in_the_ledger(vault: vv.Vault, tmp_path: Path) -> None:
    approvers = {name: projects.approver_file(tmp_path / f"{name}.pub") for name in ("ann", "bob")}
    old = ids(vault)
    with LocalWorkers(2) as workers:
        for name, words in RULES.items():
            project = projects.create(tmp_path / name, approvers=approvers)
            rules = Rules(site=read_toml(f'[[rule]]\ntag = "PatientID"\n{words}'), faces="keep")
            found = []
            for number, client in enumerate((None, workers)):
                place = tmp_path / f"{name}{number}"
                made = vault.select().release(
                    place, rules, project=tmp_path / name, progress=False, client=client
                )
                assert made.complete
                with vv.open(place) as release:
                    assert verify_vault(release.resources).ok
                    assert "A site's rule" in vault_card(release.resources)
                    found.append(ids(release))
            assert found[0] == found[1]
            maps = ways_back(tmp_path, project)
            carried = {patient: found[0][str(maps["uids"][uid])] for uid, patient in old.items()}
            assert maps["patients"] == carried
            assert len(set(carried.values())) == (1 if name == "one" else 2)
            assert (carried == {one: one for one in IDS}) is (name == "keep")
