"""Several at once on one vault: one result for each study, pipeline and model, and nothing left lying."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mean_hu import MeanHU
from runner_support import ct, reports, rows, runner, schedule, take

import voxelvault as vv
from s3_servers import Server
from voxelvault.crew import Crew
from voxelvault.storage.leases import Pace
from voxelvault_triage.results.reading import read_results
from voxelvault_triage.running import session
from voxelvault_triage.running.queue_lock import AtWorkElsewhere, queue_of
from voxelvault_triage.running.session import HERE, Hands, work_through

STUDIES = 4


@contextmanager
def child(path: str) -> Iterator[subprocess.Popen[str]]:
    """Run a runner of its own process, until it is ready."""
    here = str(Path(__file__).parent)
    with subprocess.Popen(
        [sys.executable, str(Path(here) / "run_child.py"), path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([here, *filter(None, sys.path)])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def told(process: subprocess.Popen[str]) -> tuple[int, int, bool]:
    out, _ = process.communicate(timeout=240)
    scheduled, studies, elsewhere = json.loads(out)
    return scheduled, studies, elsewhere


@pytest.mark.long
def test_the_lease_of_a_killed_runner_runs_out(
    s3_server: Server, tmp_path: Path, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    place = f"{s3_server.place()}/vault"
    with vv.create(place, codec="fast") as vault:
        take(vault, tmp_path / "in", *(data for study in range(STUDIES) for data in ct(study)))
        with child(place) as killed:
            go(killed)
            until = time.monotonic() + 120
            in_hand = "select 1 from tasks where state = 'IN PROGRESS'"
            while not rows(vault, in_hand) and time.monotonic() < until:
                time.sleep(0.1)
            killed.kill()
        with child(place) as second:
            go(second)
            assert told(second)[2] is False
    with vv.open(place) as vault:
        assert sorted(reports(vault).values()) == [1] * STUDIES


def test_a_lease_is_watched_until_it_has_run_out(vault: vv.Vault) -> None:
    asked: list[float] = []

    class Elsewhere:
        @contextmanager
        def lock(self, _name: str, timeout: float) -> Iterator[None]:
            asked.append(timeout)
            yield

    with queue_of(vault, "mean-hu"), pytest.raises(AtWorkElsewhere), queue_of(vault, "mean-hu"):
        pass
    far: Any = SimpleNamespace(resources=SimpleNamespace(objects=Elsewhere()))
    with queue_of(far, "mean-hu"):
        pass
    assert asked[0] > Pace().lasts


@pytest.mark.parametrize("where", ["folder", "object store"])
def test_two_runners_do_each_study_once(
    where: str,
    tmp_path: Path,
    configuration: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    place = str(tmp_path / "vault")
    if where == "object store":
        server: Server = request.getfixturevalue("s3_server")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        place = f"{server.place()}/vault"
    with vv.create(place, codec="fast") as vault:
        take(vault, tmp_path / "in", *(data for study in range(STUDIES) for data in ct(study)))
        with child(place) as one, child(place) as other:
            go(one)
            go(other)
            found = [told(one), told(other)]
    with vv.open(place) as vault:
        assert sum(scheduled for scheduled, _, _ in found) == STUDIES
        assert sum(studies for _, studies, _ in found) == STUDIES
        ids = [row["study_id"] for row in rows(vault, "select study_id from studies")]
        assert reports(vault) == dict.fromkeys(ids, 1)
        assert all(not one.superseded for study_id in ids for one in read_results(vault, study_id))
        states = rows(vault, "select state, superseded from tasks")
        assert states == [{"state": "COMPLETED", "superseded": False}] * STUDIES
        assert vault.verify(progress=False, quick=True).ok


def test_what_is_scheduled_while_a_runner_leaves_is_done(
    vault: vv.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who meets the lock just then goes away and counts on it."""
    late, whole = [ct(2)], session.crew_for

    @contextmanager
    def leaving(*given: object) -> Iterator[Crew]:
        with whole(*given) as crew:  # type: ignore[arg-type]
            yield crew
        if late:
            take(vault, tmp_path / "late", *late.pop())
            assert len(schedule(vault, MeanHU())) == 1

    monkeypatch.setattr(session, "crew_for", leaving)
    take(vault, tmp_path / "in", *ct(1))
    schedule(vault, MeanHU())
    assert work_through(vault, runner(vault, MeanHU()), Hands(HERE)).studies == 2
    assert set(reports(vault).values()) == {1}
