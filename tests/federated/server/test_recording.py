"""The server's record of a run: nothing is missing in its log, who is revoked later stays provable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from toy_consortium import Pull, make_job

from voxelvault.errors import NoSpace
from voxelvault_fl.consortium import consortium_of
from voxelvault_fl.jobs.job import sign
from voxelvault_fl.jobs.task import weights_digest
from voxelvault_fl.provisioning.authority import deliver, read_authority, revoke
from voxelvault_fl.provisioning.kit import read_kit
from voxelvault_fl.provisioning.trial import provision
from voxelvault_fl.record.desk import desk
from voxelvault_fl.rounds.records import Record
from voxelvault_fl.rounds.run import Outcome
from voxelvault_fl.rounds.run_state import RunState
from voxelvault_fl.rounds.transport import Fault
from voxelvault_fl.server.recording import Recording

FIRST = Pull(0).init(0)
JOB = make_job()


class Nobody:
    """No site is connected."""

    def ready(self) -> tuple[str, ...]:
        return ()

    def ask(self, round: int, requests: Mapping[str, bytes]) -> Mapping[str, bytes | Fault]:
        return {}


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    said = {"id": "heads", "name": "H", "server": {"host": "localhost"}, "sites": ["east", "north"]}
    provision(consortium_of(said), tmp_path / "kits", datetime.now(UTC))
    signed = sign(JOB, read_kit(tmp_path / "kits" / "lead").keys.signing)
    state = RunState(tmp_path / "run", JOB.digest)
    with desk(tmp_path / "record", read_kit(tmp_path / "kits" / "server"), "a" * 64) as own:
        yield Recording(own, lambda: read_kit(tmp_path / "kits" / "server"), signed, state)


def started(recording: Recording) -> Record:
    record = Record("start", JOB.digest, 0, "", weights_digest(FIRST), {"east": {}, "north": {}})
    recording.state.keep(0, FIRST, {})
    recording.state.add(record)
    return record


def test_who_is_revoked_after_the_start_stays_in_the_roster_of_the_run(
    recording: Recording, tmp_path: Path
) -> None:
    recording.noted(started(recording))
    authority = read_authority(tmp_path / "kits" / "authority")
    revoke(authority, "north", datetime.now(UTC))
    deliver(authority, tmp_path / "kits" / "server")
    assert {one.name for one in recording.kit().roster.sites()} == {"east"}
    # North can't join any more; that somebody else does must not take its key out of the run.
    later = Record("joined", JOB.digest, 0, recording.state.head, weights_digest(FIRST), {"east": {}})
    recording.state.add(later)
    recording.noted(later)
    assert {one.name for one in recording._roster().open().sites()} == {"east", "north"}


def test_what_a_killed_server_did_not_enter_is_entered_at_the_next_start(recording: Recording) -> None:
    first = started(recording)
    second = Record("attempt", JOB.digest, 0, first.digest, first.aggregate)
    recording.state.add(second)
    recording.begin()
    before = recording.desk.office.log.size
    recording.begin()
    book = recording.desk.book
    assert None not in (book.find(first), book.find(second))
    assert recording.desk.office.log.size == before


def test_a_model_that_cannot_be_exported_has_no_bundle_and_the_run_still_ends(
    recording: Recording, tmp_path: Path
) -> None:
    recording.noted(started(recording))
    outcome = Outcome("finished", 0, 0, FIRST, {})
    assert recording.prove(outcome, Nobody(), tmp_path / "model") is False
    assert not (tmp_path / "model").exists()


def test_a_full_disk_is_no_reason_to_do_without_a_bundle(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object) -> None:
        raise NoSpace("the disk is full")

    recording.noted(started(recording))
    monkeypatch.setattr(Recording, "_write", full)
    with pytest.raises(NoSpace):
        recording.prove(Outcome("finished", 0, 0, FIRST, {}), Nobody(), tmp_path / "model")


def test_a_bundle_is_written_anew_where_a_killed_server_left_one(
    recording: Recording, tmp_path: Path
) -> None:
    weights = {"weight": np.zeros(6, np.float32), "bias": np.zeros(1, np.float32)}
    job = make_job(initial_weights=weights_digest(weights))
    kit = read_kit(tmp_path / "kits" / "lead").keys.signing
    state = RunState(tmp_path / "other", job.digest)
    state.keep(0, weights, {})
    state.add(Record("start", job.digest, 0, "", weights_digest(weights)))
    other = replace(recording, signed=sign(job, kit), state=state)
    for _ in range(2):
        assert other.prove(Outcome("finished", 0, 0, weights, {}), Nobody(), tmp_path / "model")
    assert sorted(one.name for one in (tmp_path / "model").iterdir()) == ["bundle", "bundle.sig", "maker.pem"]
