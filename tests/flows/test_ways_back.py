"""What a map and a ledger hold is what the files carry, whatever a site's rules say of patients' ids."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from flow_support import person_file, write

from voxelvault.deid.recipes_ctp import read_ctp
from voxelvault.deid.site_rules import SiteRules, read_toml
from voxelvault.deid.stored_project import StoredProject
from voxelvault.errors import UsageError
from voxelvault.releasing import ledgers, projects
from voxelvault.releasing.deidentify import Extras, ReleaseReport, Rules, release_folder
from voxelvault.releasing.originals import FolderOriginals

IDS = ("QQ4711XX", "QQ4712XX")
CTP = '<script><e en="T" t="00100020" n="PatientID">@hashptid(@SITEID,PatientID)</e></script>'


def toml(words: str) -> SiteRules:
    return read_toml(f'[[rule]]\ntag = "PatientID"\n{words}')


@dataclass(frozen=True)
class Place:
    """Two patients in a folder, and a project of two approvers."""

    home: Path
    project: StoredProject

    def release(self, site: SiteRules | None, name: str = "out") -> ReleaseReport:
        mine = projects.using(self.home / "project")
        extras = Extras(map_file=self.home / f"{name}.json")
        rules = Rules(site=site, faces="keep")
        return release_folder(FolderOriginals(self.home / "in"), self.home / name, rules, mine, extras)

    def carried(self, name: str = "out") -> dict[str, str]:
        """New patient id by old, as the files have it."""
        paths = json.loads((self.home / f"{name}.json").read_text())["paths"]
        read = {
            old: (pydicom.dcmread(self.home / "in" / old), pydicom.dcmread(self.home / name / new))
            for old, new in paths.items()
        }
        return {str(old.PatientID): str(new.get("PatientID") or "") for old, new in read.values()}

    def open(self, *pseudonyms: str) -> dict[str, str | None]:
        """Ask for patients, approve and open."""
        asked = ledgers.ask(self.project, ("patients",), purpose="IRB-7", pseudonyms=pseudonyms)
        for name in ("ann", "bob"):
            ledgers.approve(self.project, asked.request_id, self.home / f"{name}.key")
        return dict(ledgers.reidentify(self.project, asked.request_id)["patients"])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
    public = {}
    for name in ("ann", "bob"):
        projects.new_approver(tmp_path / f"{name}.key", tmp_path / f"{name}.pub")
        public[name] = projects.approver_file(tmp_path / f"{name}.pub")
    files = [person_file(IDS[number], study=number + 1, PatientName="Zyxwq^J") for number in range(2)]
    write(tmp_path / "in", files)
    return Place(tmp_path, projects.create(tmp_path / "project", approvers=public))


@pytest.mark.parametrize(
    "site",
    [
        None,
        *map(toml, (f'action = "{word}"' for word in ("hash", "empty", "keep", "clean", "remove"))),
        toml('action = "replace"\nvalue = "STUDY"'),
        read_ctp(CTP),
        read_toml('rest = "remove"'),
    ],
    ids=["none", "hash", "empty", "keep", "clean", "remove", "replace", "ctp", "rest"],
)
def test_map_and_ledger_hold_the_ids_that_the_files_carry(place: Place, site: SiteRules | None) -> None:
    assert place.release(site).complete
    carried = place.carried()
    assert carried.keys() == set(IDS)
    assert json.loads((place.home / "out.json").read_text())["patients"] == carried
    assert place.open() == carried


@pytest.mark.parametrize(
    ("site", "said"),
    [
        (toml('action = "replace"\nvalue = "STUDY"'), "one PatientID or none to all"),
        (toml('action = "remove"'), "one PatientID or none to all"),
        (read_toml('rest = "remove"'), "one PatientID or none to all"),
        (toml('action = "hash"'), "made PatientID from the source's alone"),
        (toml('action = "empty"'), ""),
        (None, ""),
    ],
    ids=["replace", "remove", "rest", "hash", "empty", "none"],
)
def test_card_and_report_say_where_patients_cannot_be_told_apart(
    place: Place, site: SiteRules | None, said: str
) -> None:
    made = place.release(site)
    card, for_programs = ((made.path / name).read_text() for name in ("card.md", "croissant.json"))
    assert ("A site's rule" in card) is ("A site's rule" in for_programs) is bool(said)
    assert said in card
    assert ("one PatientID" in str(made)) is made.one_id is ("to all" in said)


def test_a_pseudonym_that_the_ledger_lacks_is_refused_before_anybody_approves(place: Place) -> None:
    place.release(toml('action = "hash"'))
    carried = place.carried()
    known = carried[IDS[0]]
    with pytest.raises(UsageError, match="doesn't hold 2 of the pseudonyms") as refused:
        place.open(known, "XNOTTHERE", IDS[1])
    assert "NOTTHERE" not in str(refused.value)
    with pytest.raises(UsageError, match="doesn't hold 1"):
        ledgers.ask(place.project, ("uids", "paths"), purpose="IRB-7", pseudonyms=(known,))
    assert not place.project.requests()
    assert not list((place.home / "config" / "requests").glob("*"))
    assert place.open(known) == {IDS[0]: known}


def test_an_id_that_was_kept_is_no_pseudonym_and_one_for_all_gives_them_all_back(place: Place) -> None:
    place.release(toml('action = "keep"'), "kept")
    with pytest.raises(UsageError, match="doesn't hold"):
        place.open(IDS[0])
    place.release(toml('action = "replace"\nvalue = "STUDY"'))
    assert place.open("STUDY") == dict.fromkeys(IDS, "STUDY")
