"""A site's executor goes by policy and roster as they are now, not as they were when it started."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from voxelvault_fl.consortium import consortium_of
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.app import app_digest
from voxelvault_fl.jobs.job import Job, Labels, Model, sign
from voxelvault_fl.jobs.policy import PolicyFile
from voxelvault_fl.jobs.task import weights_digest
from voxelvault_fl.processes.lifetime import LONG
from voxelvault_fl.provisioning.authority import Authority, amend, deliver, revoke
from voxelvault_fl.provisioning.files import write
from voxelvault_fl.provisioning.kit import read_kit
from voxelvault_fl.provisioning.newest import NewestKit
from voxelvault_fl.provisioning.trial import provision
from voxelvault_fl.record.desk import Desk, desk
from voxelvault_fl.rounds.messages import SERVER, Message, pack, unpack
from voxelvault_fl.site.answering import answers, detail
from voxelvault_fl.site.clock import LATEST
from voxelvault_fl.site.running import SiteFolder
from voxelvault_fl.training.examples import SiteData
from voxelvault_fl.training.tasks import first_weights

MODEL = Model("numpy-logistic")
HEADS: dict[str, Any] = {
    "id": "heads", "name": "H", "server": {"host": "localhost"}, "sites": ["east", "north"],
    "terms": {"minimum_cohort": 5},
}  # fmt: skip
POLICY = (
    f'consortium = "heads"\napp_digests = ["{app_digest()}"]\npurposes = ["IRB-1"]\n'
    'lawful_bases = ["consent"]\napproval = "by-policy"\nmin_cohort = 5\n'
)


@dataclass
class East:
    """A site's executor without its SuperNode, and the server that asks it."""

    place: Path
    authority: Authority
    data: SiteData
    desk: Desk
    logged: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.policy = self.place / "policy.toml"
        self.policy.write_text(POLICY)
        self.kit = self.place / "kits" / "east"
        state, turns = SiteFolder(self.place / "state"), itertools.count(1)
        newest = NewestKit(read_kit(self.kit), state.path, lambda why: None)
        self.answer = answers(
            newest, state, PolicyFile(self.policy), self.data, self.desk, self.logged.append
        )
        self._turns = turns

    def ask(self, job: Job) -> dict[str, Any]:
        """Offer a job, as the server does, and return what is said to it."""
        signed = sign(job, read_kit(self.place / "kits" / "lead").keys.signing)
        document = {"job": signed.dumps().decode()}
        message = Message("offer", job.digest, 0, "east", next(self._turns), SERVER, document)
        server, own = (read_kit(self.place / "kits" / one).keys.signing for one in ("server", "east"))
        return dict(unpack(self.answer(pack(message, server)), own.public_key(), 1 << 20).said)


@pytest.fixture
def east(tmp_path: Path, three_scanners: SiteData, monkeypatch: pytest.MonkeyPatch) -> Iterator[East]:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    authority = provision(consortium_of(HEADS), tmp_path / "kits", datetime.now(UTC))
    with desk(tmp_path / "state" / "record", read_kit(tmp_path / "kits" / "east"), app_digest()) as own:
        yield East(tmp_path, authority, three_scanners, own)


def _job(**more: Any) -> Job:
    said: dict[str, Any] = {
        "consortium": "heads", "id": "heads-1", "expires": datetime.now(UTC) + timedelta(days=1),
        "app_digest": app_digest(), "initial_weights": weights_digest(first_weights(MODEL, 0)),
        "model": MODEL, "cohort": {"column": "Modality", "op": "=", "value": "CT"},
        "labels": Labels("table", "hemorrhage"), "rounds": 3, "min_sites": 2, "max_sites": 2,
        "purpose": "IRB-1", "lawful_basis": "consent",
    }  # fmt: skip
    return Job(**{**said, **more})


def test_a_stricter_policy_counts_with_the_next_message(east: East) -> None:
    job = _job()
    assert east.ask(job)["decision"] == "approved"
    east.policy.write_text(POLICY.replace("IRB-1", "IRB-2"))
    assert east.ask(job) == {"decision": "refused", "rule": "purpose"}
    east.policy.write_text(POLICY.replace("min_cohort = 5", "min_cohort = 500"))
    assert east.ask(job) == {"decision": "refused", "rule": "cohort-size"}
    east.policy.write_text(POLICY)
    assert east.ask(job)["decision"] == "approved"


@pytest.mark.parametrize("text", ["purposes = [", "", None])
def test_nothing_is_let_in_while_the_policy_cannot_be_read(east: East, text: str | None) -> None:
    job = _job()
    assert east.ask(job)["decision"] == "approved"
    if text is None:
        east.policy.unlink()
    else:
        east.policy.write_text(text)
    with pytest.raises(JobRefused):
        east.ask(job)
    east.policy.write_text(POLICY)
    assert east.ask(job)["decision"] == "approved"


def test_a_revoked_leads_job_is_refused_with_the_next_message(east: East) -> None:
    job = _job()
    assert east.ask(job)["decision"] == "approved"
    revoke(east.authority, "lead", datetime.now(UTC))
    deliver(east.authority, east.kit)
    with pytest.raises(JobRefused) as refused:
        east.ask(job)
    assert refused.value.rule == "not-in-roster"
    assert "lacks lead:" in str(refused.value)


def test_amended_terms_count_with_the_next_message_whatever_the_policy_says(east: East) -> None:
    job = _job()
    assert east.ask(job)["decision"] == "approved"
    terms = {"purposes": ["IRB-9"], "minimum_cohort": 5}
    amend(east.authority, consortium_of({**HEADS, "terms": terms}), datetime.now(UTC))
    deliver(east.authority, east.kit)
    assert east.ask(job) == {"decision": "refused", "rule": "purpose"}


def test_the_least_cohort_is_the_larger_one_of_policy_and_terms(east: East) -> None:
    job = _job()
    terms = {"minimum_cohort": 500}
    amend(east.authority, consortium_of({**HEADS, "terms": terms}), datetime.now(UTC))
    deliver(east.authority, east.kit)
    assert east.ask(job) == {"decision": "refused", "rule": "cohort-size"}


def test_a_clock_that_is_set_back_revives_no_job(east: East, monkeypatch: pytest.MonkeyPatch) -> None:
    job = _job(expires=datetime.now(UTC) + timedelta(seconds=1))
    later = datetime.now(UTC) + timedelta(hours=1)
    write(east.place / "state" / LATEST, later.isoformat().encode())
    assert East(east.place, east.authority, east.data, east.desk).ask(job)["rule"] == "expired"


def test_letters_go_to_those_of_the_newest_roster(east: East) -> None:
    job = _job()
    east.ask(job)
    assert set(east.desk.office.peers) == {"server", "north"}
    revoke(east.authority, "north", datetime.now(UTC))
    deliver(east.authority, east.kit)
    east.ask(job)
    assert set(east.desk.office.peers) == {"server"}


def test_what_may_name_patients_is_kept_short_and_its_owners_alone(tmp_path: Path) -> None:
    log = detail(tmp_path)
    place = tmp_path / "log" / "detail.log"
    for _ in range(3):
        log(ValueError("x" * (LONG + 1)))
    log(ValueError("the last"))
    files = sorted(place.parent.iterdir())
    assert [one.name for one in files] == ["detail.log", "detail.log.1"]
    assert "the last" in place.read_text()
    assert place.stat().st_size < 1000
    assert {one.stat().st_mode & 0o777 for one in files} == {0o600}
