"""The queue on Dask workers that are lent one study at a time and have no key of the vault."""

from __future__ import annotations

from pathlib import Path

import pytest
from mean_hu import DIES, HANGS, RAISES, MeanHU, Threshold
from runner_support import ct, reports, runner, schedule, take

import voxelvault as vv
from voxelvault.cluster.local import LocalWorkers
from voxelvault.tasks import now
from voxelvault_triage.running.session import Hands, work_through
from voxelvault_triage.worklist.listing import listing


def test_workers_analyse_what_they_are_lent(vault: vv.Vault, tmp_path: Path) -> None:
    take(vault, tmp_path / "in", *ct(1, -50), *ct(2, 60), *ct(3, first=RAISES))
    pipeline, model = MeanHU(), Threshold(10)
    schedule(vault, pipeline, model.digest)
    report = work_through(vault, runner(vault, pipeline, model), Hands(workers=1))
    assert (report.studies, report.given_up) == (2, {"failed": 1})
    assert [item.verdict for item in listing(vault, now())] == ["positive", None, "negative"]
    assert set(reports(vault).values()) == {1}


@pytest.mark.long
def test_studies_that_kill_or_hang_their_workers_end_alone(vault: vv.Vault, tmp_path: Path) -> None:
    good = [data for study in range(10, 16) for data in ct(study)]
    take(vault, tmp_path / "in", *ct(1, first=DIES), *ct(2, first=HANGS), *good)
    schedule(vault, MeanHU())
    with LocalWorkers(2) as workers:
        work = runner(vault, MeanHU(), seconds=60.0, tries=1)
        report = work_through(vault, work, Hands(workers))
    assert (report.studies, report.given_up) == (6, {"worker-lost": 2})
    lost = [item for item in listing(vault, now()) if item.verdict is None]
    assert {(item.priority, item.task_state) for item in lost} == {("MEDIUM", "CANCELED")}
