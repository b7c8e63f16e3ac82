"""A hemorrhage job on virtual sites of a vault of head CTs with outlines: read, trained, chosen, tested."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from outlined_heads import COARSE, outlined_head

import voxelvault
from voxelvault_fl.jobs.filling import filling
from voxelvault_fl.jobs.job import Job
from voxelvault_fl.jobs.strict import made
from voxelvault_fl.simulation.simulate import simulate
from voxelvault_fl.simulation.splitting import split
from voxelvault_fl.training.examples import SiteData, balance, examples
from voxelvault_fl.training.tasks import first_weights

PEOPLE = 6
THICK = replace(COARSE, scanners=replace(COARSE.scanners, thickness=(14.0,), tilt=(0.0, 0.0)))


def job_with(**more: Any) -> Job:
    said: dict[str, Any] = {
        "consortium": "heads", "id": "blood-1", "rounds": 1, "min_sites": 2, "max_sites": 2,
        "purpose": "IRB-1", "lawful_basis": "consent", "labels": {"source": "SEG"},
        "model": {"task": "hemorrhage", "config": {"steps": 1, "planes": 2, "features": [4] * 6}},
        "cohort": {"column": "Modality", "op": "=", "value": "CT"},
        **more,
    }  # fmt: skip
    return made(Job, {**filling(first_weights, datetime(2030, 1, 1, tzinfo=UTC))(said), **said}, "job")


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteData]:
    folder = tmp_path_factory.mktemp("outlined")
    for person in range(PEOPLE):
        outlined_head(folder / "in", 9100 + person, person % 2 == 1, THICK)
    with voxelvault.create(folder / "vault", purpose="IRB-1", key_file=folder / "key") as vault:
        vault.ingest(folder / "in", progress=False)
        yield SiteData(vault)


def sites_of(heads: SiteData, job: Job) -> dict[str, SiteData]:
    assert balance(examples(heads, job)) == (PEOPLE // 2, PEOPLE // 2)
    return {name: replace(heads, only=only) for name, only in split(heads, job, "iid", 2).items()}


def test_a_run_on_outlines_of_the_vault(heads: SiteData, tmp_path: Path) -> None:
    job = job_with()
    sites = sites_of(heads, job)
    done = simulate(job, sites, tmp_path / "run")
    assert done.errors == {name: [] for name in sites}
    assert done.outcome.status == "finished"
    (round_record,) = [one for one in done.record if one.kind == "round"]
    assert set(round_record.sites) == set(sites)
    first = first_weights(job.model, job.seed)
    assert any((done.outcome.weights[name] != one).any() for name, one in first.items())


def test_a_run_under_differential_privacy(heads: SiteData, tmp_path: Path) -> None:
    numbers = {
        "epsilon": 8.0, "delta": 1e-3, "clip": 1.0, "rate": 0.5, "steps": 1, "learning_rate": 0.1, "batch": 2,
    }  # fmt: skip
    job = job_with(privacy={"mode": "dp-sgd", "numbers": numbers}, evaluate_every=0)
    done = simulate(job, sites_of(heads, job), tmp_path / "run")
    assert not any(done.errors.values())
    (round_record,) = [one for one in done.record if one.kind == "round"]
    spent = [one["spent"] for one in round_record.sites.values()]
    assert len(spent) == 2
    assert all(0 < one["epsilon"] <= 8.0 and one["unit"] == "subject" for one in spent)
