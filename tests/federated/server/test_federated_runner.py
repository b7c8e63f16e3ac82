from __future__ import annotations

import errno
import itertools
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import save
from toy_consortium import NOW, Pull, make_job

from voxelvault_fl.cli import federated
from voxelvault_fl.cli.status import read_status
from voxelvault_fl.consortium import consortium_of
from voxelvault_fl.errors import KitRefused
from voxelvault_fl.jobs.job import sign
from voxelvault_fl.provisioning.authority import amend, deliver, read_authority, revoke
from voxelvault_fl.provisioning.files import read_json, write
from voxelvault_fl.provisioning.kit import read_kit
from voxelvault_fl.provisioning.newest import NewestKit
from voxelvault_fl.provisioning.trial import provision
from voxelvault_fl.record.desk import desk
from voxelvault_fl.server import runner as module
from voxelvault_fl.server.folder import ServerFolder
from voxelvault_fl.server.runner import Runner

HEADS: dict[str, Any] = {
    "id": "heads", "name": "H", "server": {"host": "localhost"}, "sites": ["east", "north"],
    "terms": {"purposes": ["IRB-1"], "lawful_bases": ["consent"], "maximum_rounds": 10},
}  # fmt: skip


class NoSites:
    """A SuperLink whose sites never sign on."""

    def __init__(self) -> None:
        self.registered: list[list[str]] = []

    def check(self) -> None:
        pass

    def end_runs(self) -> None:
        pass

    def register(self, sites: Any) -> None:
        self.registered.append([site.name for site in sites])

    def nodes(self) -> dict[str, Any]:
        return {}

    @contextmanager
    def run(self) -> Iterator[None]:
        yield None


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    provision(consortium_of(HEADS), tmp_path / "kits", datetime.now(UTC))
    return tmp_path


def _runner(place: Path) -> tuple[Runner, NoSites]:
    link, kit = NoSites(), read_kit(place / "kits" / "server")
    folder = ServerFolder(place / "state")
    newest = NewestKit(kit, folder.path, print)
    with desk(folder.record, kit, "a" * 64) as own:
        return Runner(folder, newest, link, own, 1.0, lambda: NOW), link  # type: ignore[arg-type]


def _resting(runner: Runner) -> dict[str, str]:
    said = read_json(runner.folder.standing).items()
    return {job: one["rule"] for job, one in said if one["status"] == "rests"}


def _turns(count: int) -> Any:
    turns = itertools.count()
    return lambda: next(turns) < count


def test_a_job_that_the_lead_did_not_sign_is_refused(place: Path) -> None:
    runner, _ = _runner(place)
    job = make_job()
    runner.folder.submit(job.digest, sign(job, Ed25519PrivateKey.generate()).dumps(), save(Pull(0).init(0)))
    runner.serve(_turns(2))
    assert runner.folder.outcome(job.digest) == {"status": "refused", "rule": "signature"}


def test_a_job_under_another_name_is_refused(place: Path) -> None:
    runner, _ = _runner(place)
    job = make_job()
    signed = sign(job, read_kit(place / "kits" / "lead").keys.signing)
    runner.folder.submit("0" * 64, signed.dumps(), save(Pull(0).init(0)))
    runner.serve(_turns(2))
    assert runner.folder.outcome("0" * 64) == {"status": "refused", "rule": "malformed"}


def test_a_job_that_nobody_answers_rests_and_lets_others_pass(place: Path) -> None:
    runner, _ = _runner(place)
    lead = read_kit(place / "kits" / "lead").keys.signing
    first, second = make_job(id="heads-1"), make_job(id="heads-2", initial_weights="b" * 64)
    for job in (first, second):
        runner.folder.submit(job.digest, sign(job, lead).dumps(), save(Pull(0).init(0)))
    runner.serve(_turns(4))
    assert runner.folder.outcome(first.digest) == {}
    assert runner.folder.outcome(second.digest) == {"status": "refused", "rule": "initial-weights"}
    assert _resting(runner) == {first.digest: "too-few-sites"}


def test_jobs_that_cannot_run_take_turns_also_where_a_try_takes_longer_than_a_rest(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, _ = _runner(place)
    jobs, tried = [_submitted(runner, place, id=f"heads-{number}") for number in range(3)], list[str]()
    monkeypatch.setattr(module, "_REST", 0.0)
    monkeypatch.setattr(Runner, "_worked", lambda self, job: tried.append(job.name) or "too-few-sites")
    runner.serve(_turns(4))
    late = _submitted(runner, place, id="heads-late")
    runner.serve(_turns(4))
    assert tried == [*jobs, jobs[0], late, *jobs[1:], jobs[0]]


def test_a_job_that_nobody_answers_any_more_is_concluded_as_expired(place: Path) -> None:
    runner, _ = _runner(place)
    job = _submitted(runner, place, expires=NOW + timedelta(hours=1))
    runner.serve(_turns(2))
    assert _resting(runner) == {job: "too-few-sites"}
    runner._resting.clear()
    runner.now = lambda: NOW + timedelta(hours=2)
    runner.serve(_turns(2))
    assert runner.folder.outcome(job) == {"status": "expired", "rule": "expired"}
    assert runner.folder.waiting() == []
    assert _resting(runner) == {}


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ({"east": "job-id", "north": "stopped"}, "job-id"),
        ({"east": "job-id"}, ""),
        ({"east": "job-id", "north": "labels"}, ""),
    ],
)
def test_a_job_that_every_site_refused_for_good_is_refused_and_others_rest_with_what_sites_say(
    place: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, str], rule: str
) -> None:
    runner, _ = _runner(place)
    job = _submitted(runner, place)
    monkeypatch.setattr(module.Run, "decisions", said)
    runner.serve(_turns(1))
    write(runner.folder.about, b'{"role": "server"}')
    shown = read_status(runner.folder.path)["jobs"][job]
    everyone = {"north": "no-answer", **said}
    if rule:
        assert shown == {"id": "heads-1", "status": "refused", "rule": rule, "decisions": everyone}
    else:
        assert shown["rule"] == "too-few-sites"
        assert shown["sites"] == everyone


def test_a_withdrawn_job_is_said_to_be_and_concluded_at_its_next_turn(place: Path) -> None:
    runner, _ = _runner(place)
    job, state = _submitted(runner, place), str(runner.folder.path)
    runner.serve(_turns(1))
    assert _resting(runner) == {job: "too-few-sites"}
    call = lambda: CliRunner().invoke(federated, ["withdraw", job[:8], "--state", state])  # noqa: E731
    assert call().exit_code == 0
    write(runner.folder.about, b'{"role": "server"}')
    assert read_status(runner.folder.path)["jobs"][job] == {"id": "heads-1", "status": "withdrawn"}
    runner._resting.clear()
    runner.serve(_turns(2))
    assert runner.folder.outcome(job) == {"status": "withdrawn", "rule": "withdrawn"}
    assert _resting(runner) == {}
    assert "the job has ended: withdrawn" in str(call().exception)


def test_a_job_whose_folder_vanished_is_no_failure_and_no_job_any_more(
    place: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, _ = _runner(place)
    job = _submitted(runner, place)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: shutil.rmtree(runner.folder.jobs, True))
    runner.serve(_turns(2))
    assert (runner.folder.outcome(job), read_json(runner.folder.standing)) == ({}, {})
    assert "its folder is gone" in caplog.text
    assert "Traceback" not in caplog.text


def _submitted(runner: Runner, place: Path, first: bytes = b"", **more: Any) -> str:
    job = make_job(**more)
    signed = sign(job, read_kit(place / "kits" / "lead").keys.signing).dumps()
    runner.folder.submit(job.digest, signed, first or save(Pull(0).init(0)))
    return job.digest


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"purpose": "marketing"}, "purpose"),
        ({"lawful_basis": "none"}, "lawful-basis"),
        ({"rounds": 500}, "rounds"),
        ({"min_sites": 1}, "sites"),
        ({"consortium": "others"}, "consortium"),
    ],
)
def test_a_job_outside_of_the_terms_is_settled_with_the_rule(
    place: Path, more: dict[str, Any], rule: str
) -> None:
    runner, _ = _runner(place)
    job = _submitted(runner, place, **more)
    runner.serve(_turns(2))
    assert runner.folder.outcome(job) == {"status": "refused", "rule": rule}


def test_a_job_is_refused_once_the_terms_are_amended(place: Path) -> None:
    runner, _ = _runner(place)
    job = _submitted(runner, place)
    runner.serve(_turns(2))
    assert runner.folder.outcome(job) == {}
    authority = read_authority(place / "kits" / "authority")
    amend(authority, consortium_of({**HEADS, "terms": {"maximum_rounds": 2}}), datetime.now(UTC))
    deliver(authority, place / "kits" / "server")
    runner._resting.clear()
    runner.serve(_turns(2))
    assert runner.folder.outcome(job) == {"status": "refused", "rule": "rounds"}


def test_a_revoked_leads_job_does_not_run(place: Path) -> None:
    runner, _ = _runner(place)
    job = _submitted(runner, place)
    runner.serve(_turns(2))
    authority = read_authority(place / "kits" / "authority")
    revoke(authority, "lead", datetime.now(UTC))
    deliver(authority, place / "kits" / "server")
    runner._resting.clear()
    runner.serve(_turns(2))
    assert _resting(runner) == {job: "no-lead"}
    with pytest.raises(KitRefused):
        runner._terms(runner.folder.jobs / job)


def test_first_weights_that_are_none_settle_the_job(place: Path) -> None:
    runner, _ = _runner(place)
    job = _submitted(runner, place, b"no safetensors")
    runner.serve(_turns(2))
    assert runner.folder.outcome(job) == {"status": "refused", "rule": "initial-weights"}
    assert _resting(runner) == {}


def _damaged(runner: Runner, job: str) -> None:
    journal = runner.folder.runs / job / "journal"
    journal.parent.mkdir(parents=True)
    journal.write_bytes(b"torn\n")


def _silent(runner: Runner, job: str) -> None:
    def down() -> None:
        raise httpx.ConnectError("no SuperLink")

    runner.superlink.run = down  # type: ignore[method-assign, assignment]


def _full(runner: Runner, job: str) -> None:
    def full(*given: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    # The job's own folder: whatever is written there finds no room.
    (runner.folder.jobs / job / "first.safetensors").write_bytes(save(Pull(1).init(0)) + b"?")
    object.__setattr__(runner.folder, "settle", full)


@pytest.mark.parametrize(
    ("breaks", "why"), [(_damaged, "damaged"), (_silent, "superlink"), (_full, "no-room")]
)
def test_what_this_machine_fails_at_rests_unsettled_and_is_said(
    place: Path, breaks: Callable[[Runner, str], None], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    runner, _ = _runner(place)
    job = _submitted(runner, place)
    breaks(runner, job)
    runner.serve(_turns(3))
    assert runner.folder.outcome(job) == {}
    assert _resting(runner) == {job: why}
    assert job[:12] in caplog.text
    assert [one.name for one in runner.folder.waiting()] == [job]


def test_a_damaged_run_keeps_no_other_job_from_its_turn_and_goes_on_once_restored(place: Path) -> None:
    runner, _ = _runner(place)
    first, second = _submitted(runner, place), _submitted(runner, place, b"?", id="heads-2")
    _damaged(runner, first)
    runner.serve(_turns(4))
    assert runner.folder.outcome(second)["rule"] == "initial-weights"
    (runner.folder.runs / first / "journal").unlink()
    runner._resting.clear()
    runner.serve(_turns(2))
    assert _resting(runner) == {first: "too-few-sites"}


def test_status_says_which_jobs_rest_and_why(place: Path) -> None:
    runner, _ = _runner(place)
    job = _submitted(runner, place)
    _damaged(runner, job)
    refused = _submitted(runner, place, b"?", id="heads-2")
    runner.serve(_turns(4))
    state = runner.folder.path
    write(state / "status.json", b'{"role": "server"}')
    write(state / "processes.json", b"{}")
    jobs = read_status(state)["jobs"]
    assert jobs[job] == {"id": "heads-1", "status": "rests", "rule": "damaged"}
    assert jobs[refused]["rule"] == "initial-weights"
    out = CliRunner().invoke(federated, ["status", "--state", str(state)], catch_exceptions=False).output
    assert re.search(rf"{job[:12]} +rests +damaged", out)


def test_whom_the_roster_drops_in_the_middle_of_a_run_the_superlink_forgets_at_once(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, link = _runner(place)
    _submitted(runner, place)
    authority, during = read_authority(place / "kits" / "authority"), list[list[list[str]]]()

    def pause(seconds: float) -> None:
        if not during:
            revoke(authority, "north", datetime.now(UTC))
            deliver(authority, place / "kits" / "server")
        during.append(list(link.registered))

    monkeypatch.setattr(module.time, "sleep", pause)
    runner.serve(_turns(1))
    assert during[0] == [["east", "north"]]
    assert during[-1] == [["east", "north"], ["east"]]


def test_whom_the_roster_drops_the_superlink_forgets(place: Path) -> None:
    runner, link = _runner(place)
    runner.serve(_turns(1))
    authority = read_authority(place / "kits" / "authority")
    revoke(authority, "north", datetime.now(UTC))
    deliver(authority, place / "kits" / "server")
    runner.serve(_turns(1))
    assert link.registered == [["east", "north"], ["east"]]


def test_a_job_that_runs_is_shown_while_it_runs_with_what_sites_say(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, _ = _runner(place)
    job, during = _submitted(runner, place), list[Any]()
    write(runner.folder.path / "status.json", b'{"role": "server"}')
    write(runner.folder.path / "processes.json", b"{}")
    assert read_status(runner.folder.path)["jobs"][job] == {"id": "heads-1", "status": "submitted"}
    monkeypatch.setattr(module.Run, "decisions", {"east": "waiting"})
    look = lambda seconds: during.append(read_status(runner.folder.path)["jobs"][job])  # noqa: E731
    monkeypatch.setattr(module.time, "sleep", look)
    for _ in range(2):
        runner._resting.clear()
        runner.serve(_turns(1))
    # Also when it goes on after a rest.
    assert {one["status"] for one in during} == {"runs"}
    # Who isn't there doesn't vanish.
    assert during[-1]["sites"] == {"east": "waiting", "north": "no-answer"}
    assert read_status(runner.folder.path)["jobs"][job]["rule"] == "too-few-sites"
