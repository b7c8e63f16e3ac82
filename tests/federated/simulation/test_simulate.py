"""Three virtual sites of one vault, three rounds, a real model: what the issue asks for first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.filling import filling
from voxelvault_fl.jobs.job import Job
from voxelvault_fl.jobs.strict import made
from voxelvault_fl.jobs.task import weights_digest
from voxelvault_fl.simulation.simulate import Simulated, simulate
from voxelvault_fl.simulation.splitting import split
from voxelvault_fl.training.examples import SiteData, examples
from voxelvault_fl.training.tasks import first_weights


def make_job(**more: Any) -> Job:
    said: dict[str, Any] = {
        "consortium": "heads", "id": "heads-1", "rounds": 3, "min_sites": 2, "max_sites": 5,
        "purpose": "IRB-1", "lawful_basis": "consent",
        "model": {"task": "numpy-logistic", "config": {"steps": 20}},
        "cohort": {"all": [{"column": "Modality", "op": "=", "value": "CT"}]},
        "labels": {"source": "table", "column": "hemorrhage"},
        **more,
    }  # fmt: skip
    fill = filling(first_weights, datetime(2030, 1, 1, tzinfo=UTC))
    return made(Job, {**fill(said), **said}, "job")


def simulated(data: SiteData, job: Job, folder: Path, how: str = "scanner") -> Simulated:
    sites = split(data, job, how, 3)
    return simulate(job, {name: replace(data, only=only) for name, only in sites.items()}, folder)


def test_three_scanners_train_three_rounds(three_scanners: SiteData, tmp_path: Path) -> None:
    done = simulated(three_scanners, make_job(), tmp_path / "a")
    assert done.outcome.status == "finished"
    assert not any(done.errors.values())
    losses = [one.metrics["loss"] for one in done.record if one.kind == "evaluation"]
    assert losses == sorted(losses, reverse=True)
    assert done.record[-1].metrics["auc"] > 0.8
    assert set(done.outcome.tested) == {"site-1", "site-2", "site-3"}
    again = simulated(three_scanners, make_job(), tmp_path / "b")
    assert weights_digest(again.outcome.weights) == weights_digest(done.outcome.weights)


def test_a_stopped_simulation_goes_on(three_scanners: SiteData, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    job = make_job()
    sites = {n: replace(three_scanners, only=o) for n, o in split(three_scanners, job, "iid", 3).items()}

    def stop(record: Any) -> None:
        if (record.kind, record.round) == ("round", 2):
            raise Stop

    with pytest.raises(Stop):
        simulate(job, sites, tmp_path / "cut", stop)
    went_on = simulate(job, sites, tmp_path / "cut")
    whole = simulate(job, sites, tmp_path / "whole")
    assert not any(went_on.errors.values())
    assert weights_digest(went_on.outcome.weights) == weights_digest(whole.outcome.weights)


@pytest.mark.parametrize("how", ["iid", "scanner", "dirichlet"])
def test_a_person_is_at_one_site_and_nobody_is_lost(three_scanners: SiteData, how: str) -> None:
    job = make_job()
    made_of = split(three_scanners, job, how, 3, alpha=2.0, seed=1)
    found = examples(three_scanners, job)
    assert sum(map(len, made_of.values())) == len(found)
    people = [{e.member.subject_id for e in found if e.member.series_id in only} for only in made_of.values()]
    assert sum(map(len, people)) == len(set.union(*people)) == 33


def test_scanners_are_kept_apart(three_scanners: SiteData) -> None:
    made_of = split(three_scanners, make_job(), "scanner", 3)
    assert [len(only) for only in made_of.values()] == [13, 10, 10]


def test_no_site_is_empty(three_scanners: SiteData) -> None:
    with pytest.raises(JobRefused, match=r"as many scanners; .* people: .* \(13\), .* \(10\)"):
        split(three_scanners, make_job(), "scanner", 4)
