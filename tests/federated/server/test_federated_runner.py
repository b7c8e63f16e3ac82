from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import save
from toy_consortium import Pull, make_job

from voxelvault_fl.consortium import consortium_of
from voxelvault_fl.jobs.job import sign
from voxelvault_fl.provisioning.authority import deliver, revoke
from voxelvault_fl.provisioning.kit import read_kit
from voxelvault_fl.provisioning.trial import provision
from voxelvault_fl.record.desk import desk
from voxelvault_fl.server import runner as module
from voxelvault_fl.server.folder import ServerFolder
from voxelvault_fl.server.runner import Runner


class NoSites:
    """A SuperLink whose sites never sign on."""

    def __init__(self) -> None:
        self.registered: list[list[str]] = []

    def check(self) -> None:
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
    said = {"id": "heads", "name": "H", "server": {"host": "localhost"}, "sites": ["east", "north"]}
    provision(consortium_of(said), tmp_path / "kits", datetime.now(UTC))
    return tmp_path


def _runner(place: Path) -> tuple[Runner, NoSites]:
    link, kit = NoSites(), read_kit(place / "kits" / "server")
    folder = ServerFolder(place / "state")
    with desk(folder.record, kit, "a" * 64) as own:
        return Runner(folder, kit, link, own, 1.0), link  # type: ignore[arg-type]


def _turns(count: int) -> Any:
    turns = itertools.count()
    return lambda: next(turns) < count


def test_a_job_that_the_lead_did_not_sign_is_refused(place: Path) -> None:
    runner, _ = _runner(place)
    job = make_job()
    runner.folder.submit(job.digest, sign(job, Ed25519PrivateKey.generate()).dumps(), save(Pull(0).init(0)))
    runner.serve(_turns(2))
    assert runner.folder.outcome(job.digest) == {"status": "refused"}


def test_a_job_under_another_name_is_refused(place: Path) -> None:
    runner, _ = _runner(place)
    job = make_job()
    signed = sign(job, read_kit(place / "kits" / "lead").keys.signing)
    runner.folder.submit("0" * 64, signed.dumps(), save(Pull(0).init(0)))
    runner.serve(_turns(2))
    assert runner.folder.outcome("0" * 64) == {"status": "refused"}


def test_a_job_that_nobody_answers_rests_and_lets_others_pass(place: Path) -> None:
    runner, _ = _runner(place)
    lead = read_kit(place / "kits" / "lead").keys.signing
    first, second = make_job(id="heads-1"), make_job(id="heads-2", initial_weights="b" * 64)
    for job in (first, second):
        runner.folder.submit(job.digest, sign(job, lead).dumps(), save(Pull(0).init(0)))
    runner.serve(_turns(4))
    assert runner.folder.outcome(first.digest) == {}
    assert runner.folder.outcome(second.digest) == {"status": "failed", "rule": "initial-weights"}


def test_whom_the_roster_drops_the_superlink_forgets(place: Path) -> None:
    from voxelvault_fl.provisioning.authority import read_authority

    runner, link = _runner(place)
    runner.serve(_turns(1))
    authority = read_authority(place / "kits" / "authority")
    revoke(authority, "north", datetime.now(UTC))
    deliver(authority, place / "kits" / "server")
    runner.serve(_turns(1))
    assert link.registered == [["east", "north"], ["east"]]
