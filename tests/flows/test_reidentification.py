"""The way back from a release: asked for, approved by two, opened once; each step stands in the log."""

from __future__ import annotations

import csv
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from flow_support import person_file, rows, write

import voxelvault as vv
from voxelvault.audit.events import Outcome
from voxelvault.deid.stored_project import StoredProject
from voxelvault.errors import IntegrityError, KeyUnavailable, PolicyDenied, UsageError
from voxelvault.policy.access import Decision, Request
from voxelvault.releasing import ledgers, projects
from voxelvault.vault import Vault

IDS = ("QQ4711", "QQ4712")


@dataclass(frozen=True)
class Story:
    """A vault with a project of three approvers, and a release of two patients."""

    home: Path
    vault: Vault
    project: StoredProject
    release: Path

    def key(self, name: str) -> Path:
        """An approver's secret key."""
        return self.home / f"{name}.key"

    def ask(self, *maps: str, pseudonyms: tuple[str, ...] = ()) -> str:
        """Ask for maps, all by default; return the request's id."""
        asked = ledgers.ask(
            self.project,
            maps or ("patients", "uids", "paths"),
            purpose="IRB-7",
            pseudonyms=pseudonyms,
            resources=self.vault.resources,
        )
        return asked.request_id

    def approve(self, request_id: str, *names: str) -> None:
        """Approve as these."""
        for name in names:
            ledgers.approve(self.project, request_id, self.key(name), self.vault.resources)

    def open(self, request_id: str) -> dict[str, dict[str, str | None]]:
        """Carry a request out."""
        found = ledgers.reidentify(self.project, request_id, self.vault.resources)
        return {name: dict(pairs) for name, pairs in found.items()}

    def log(self) -> list[tuple[str, str]]:
        """What the log says of projects and ledgers."""
        entries = (entry for entry in self.vault.resources.log.entries())
        rooms = ("project", "custodian", "approver", "ledger")
        return [(e.kind, e.outcome) for e in entries if e.kind.partition(".")[0] in rooms]


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
    public = {}
    for name in ("ann", "bob", "eve", "stranger"):
        place = tmp_path / f"{name}.pub"
        projects.new_approver(tmp_path / f"{name}.key", place)
        public[name] = projects.approver_file(place)
    files = [
        person_file(IDS[number], study=number + 1, instance=instance, PatientName=f"Zyxwq^{number}")
        for number in range(2)
        for instance in (1, 2)
    ]
    with vv.create(tmp_path / "vault") as vault:
        vault.ingest(write(tmp_path / "in", files), progress=False)
        del public["stranger"]
        project = projects.create(None, vault.resources, approvers=public)
        project_id = project.read().project_id
        made = vault.select().deidentify(
            tmp_path / "out", faces="keep", format="dicom", project=project_id, progress=False
        )
        assert made.complete
        yield Story(tmp_path, vault, project, made.path)


def released(folder: Path) -> list[pydicom.Dataset]:
    places = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "DICOMDIR")
    found = [pydicom.dcmread(path) for path in places if path.read_bytes()[128:132] == b"DICM"]
    assert len(found) == 4
    return found


def originals(folder: Path) -> dict[str, pydicom.Dataset]:
    return {one.SOPInstanceUID: one for one in map(pydicom.dcmread, folder.iterdir())}


def test_two_approvals_give_back_whose_is_what(story: Story) -> None:
    request_id = story.ask()
    story.approve(request_id, "ann")
    with pytest.raises(KeyUnavailable, match="two different approvers"):
        story.open(request_id)
    story.approve(request_id, "eve")
    maps = story.open(request_id)

    sources = originals(story.home / "in")
    back = {new: old for old, new in maps["uids"].items()}
    assert len(back) == len(maps["uids"])
    assert set(maps["patients"]) == set(IDS)
    for one in released(story.release):
        source = sources[back[one.SOPInstanceUID]]
        assert maps["patients"][source.PatientID] == one.PatientID
        assert maps["uids"][source.StudyInstanceUID] == one.StudyInstanceUID
        assert maps["uids"][source.SeriesInstanceUID] == one.SeriesInstanceUID
        assert maps["uids"][source.FrameOfReferenceUID] == one.FrameOfReferenceUID
    # Within a vault a file's path is its random id.
    query = "select instance_id, SOPInstanceUID from instances"
    uids = {row["instance_id"]: row["SOPInstanceUID"] for row in rows(story.vault, query)}
    assert maps["paths"].keys() == uids.keys()
    for old, new in maps["paths"].items():
        copy = pydicom.dcmread(story.release / str(new))
        assert back[copy.SOPInstanceUID] == uids[old]


def test_a_release_that_is_a_vault_is_reversed_as_well(story: Story) -> None:
    made = story.vault.select().deidentify(story.home / "vault-out", faces="keep", progress=False)
    assert made.complete
    request_id = story.ask("patients", "uids")
    story.approve(request_id, "bob", "eve")
    maps = story.open(request_id)
    query = "select PatientID, SOPInstanceUID from patients join studies using (subject_id)"
    query += " join series using (study_id) join instances using (series_id)"
    with vv.open(made.path) as release:
        found = rows(release, query)
    whose = {one.SOPInstanceUID: one.PatientID for one in originals(story.home / "in").values()}
    back = {new: old for old, new in maps["uids"].items()}
    assert len(found) == 4
    for row in found:
        assert maps["patients"][whose[back[row["SOPInstanceUID"]]]] == row["PatientID"]


def test_only_the_pseudonym_that_was_named_comes_back(story: Story) -> None:
    patient = released(story.release)[0].PatientID
    request_id = story.ask("patients", pseudonyms=(patient,))
    story.approve(request_id, "bob", "ann")
    maps = story.open(request_id)
    assert list(maps) == ["patients"]
    assert list(maps["patients"].values()) == [patient]


def test_one_approver_counts_once(story: Story) -> None:
    request_id = story.ask("patients")
    story.approve(request_id, "ann")
    with pytest.raises(UsageError, match="already"):
        story.approve(request_id, "ann")
    with pytest.raises(KeyUnavailable):
        story.open(request_id)


def test_a_stranger_approves_nothing(story: Story) -> None:
    request_id = story.ask("patients")
    with pytest.raises(KeyUnavailable, match="no approver"):
        story.approve(request_id, "stranger")
    story.key("bob").chmod(0o644)
    with pytest.raises(KeyUnavailable, match="chmod"):
        story.approve(request_id, "bob")
    with pytest.raises(UsageError, match="no request"):
        story.approve("ab" * 16, "ann")
    assert [one.approved_by for one in ledgers.asked(story.project)] == [()]


def test_a_request_is_carried_out_once_even_with_a_copy_of_its_key(story: Story) -> None:
    request_id = story.ask("patients")
    key = ledgers.request_file(request_id)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    shutil.copy(key, story.home / "copy.key")
    story.approve(request_id, "ann", "bob")
    assert set(story.open(request_id)["patients"]) == set(IDS)
    assert not key.exists()
    with pytest.raises(UsageError, match="before"):
        story.open(request_id)
    shutil.copy(story.home / "copy.key", key)
    with pytest.raises(UsageError, match="before"):
        story.open(request_id)
    assert [one.carried_out for one in ledgers.asked(story.project)] == [True]


def test_nobody_else_carries_out_a_request(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    request_id, other = story.ask("patients"), story.ask("patients")
    story.approve(request_id, "ann", "bob")
    shutil.copy(ledgers.request_file(other), ledgers.request_file(request_id))
    with pytest.raises(IntegrityError, match="not the request's"):
        story.open(request_id)
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(story.home / "another"))
    with pytest.raises(KeyUnavailable, match="who made"):
        story.open(request_id)


def test_further_approvers_come_by_an_approved_request(story: Story) -> None:
    new = {"dan": projects.approver_key(story.key("stranger")).public()}
    with pytest.raises(UsageError, match="approved request"):
        ledgers.enrol(story.project, new, resources=story.vault.resources)
    taken = {"ann": projects.approver_key(story.key("stranger")).public()}
    with pytest.raises(UsageError, match="label"):
        ledgers.ask_for_approvers(story.project, taken, purpose="IRB-7")
    asked = ledgers.ask_for_approvers(story.project, new, purpose="IRB-7", resources=story.vault.resources)
    with pytest.raises(UsageError, match="enrol others"):
        story.approve(asked.request_id, "ann")
    for name in ("ann", "bob"):
        ledgers.approve(
            story.project, asked.request_id, story.key(name), story.vault.resources, approvers=new
        )
    ledgers.enrol(story.project, new, asked.request_id, resources=story.vault.resources)
    request_id = story.ask("patients")
    story.approve(request_id, "stranger", "ann")
    assert set(story.open(request_id)["patients"]) == set(IDS)
    assert ("approver.enrolled", Outcome.OK) in story.log()


def test_a_removed_approvers_yes_counts_no_more_and_stands_in_the_log(story: Story) -> None:
    request_id = story.ask("patients")
    story.approve(request_id, "ann", "bob")
    ledgers.remove_approver(story.project, "ann", story.vault.resources)
    assert [one.approved_by for one in ledgers.asked(story.project)] == [("bob",)]
    with pytest.raises(KeyUnavailable, match="two approvals"):
        story.open(request_id)
    request_id = story.ask("patients")
    with pytest.raises(KeyUnavailable, match="no approver"):
        story.approve(request_id, "ann")
    story.approve(request_id, "bob", "eve")
    assert set(story.open(request_id)["patients"]) == set(IDS)
    assert ("approver.removed", Outcome.OK) in story.log()


def test_maps_are_written_for_their_owner_alone(story: Story) -> None:
    request_id = story.ask("patients", "paths")
    story.approve(request_id, "ann", "bob")
    files = ledgers.map_files(story.home / "maps", ("patients", "paths"))
    ledgers.write_maps(files, {name: list(pairs.items()) for name, pairs in story.open(request_id).items()})
    for file in files.values():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with files["patients"].open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["id_old"] for row in found] == list(IDS)
    assert {row["id_new"] for row in found} == {one.PatientID for one in released(story.release)}
    with pytest.raises(UsageError, match="already"):
        ledgers.map_files(story.home / "maps", ("patients",))


def test_the_log_has_each_step_and_names_no_value(story: Story) -> None:
    request_id = story.ask()
    with pytest.raises(KeyUnavailable):
        story.open(request_id)
    story.approve(request_id, "ann", "bob")
    maps = story.open(request_id)
    intent, ok, denied = Outcome.INTENT, Outcome.OK, Outcome.DENIED
    approved = [("ledger.approved", intent), ("ledger.approved", ok)]
    assert story.log() == [
        *(("project.made", intent), ("project.made", ok)),
        *(("ledger.requested", intent), ("ledger.requested", ok)),
        ("ledger.opened", denied),
        *approved * 2,
        *(("ledger.opened", intent), ("ledger.opened", ok)),
    ]
    entries = list(story.vault.resources.log.entries())
    last = entries[-1]
    approvals = {one.digest for one in story.project.approvals(request_id)}
    assert {last.digests["statement"], last.digests["second"]} == approvals
    assert last.purpose == "IRB-7"
    assert last.counts["rows"] == sum(map(len, maps.values()))
    text = repr(entries)
    assert "ledger.opened" in text
    for pairs in maps.values():
        for value in {*pairs, *pairs.values()}:
            assert str(value) not in text


def test_what_cannot_be_logged_or_is_denied_is_not_done(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id = story.ask("patients")

    class Nobody:
        def decide(self, request: Request) -> Decision:
            return Decision(False, "nobody")

    monkeypatch.setattr(type(story.vault.resources), "policy", Nobody(), raising=False)
    with pytest.raises(PolicyDenied):
        story.approve(request_id, "ann")
    assert not story.project.approvals(request_id)
