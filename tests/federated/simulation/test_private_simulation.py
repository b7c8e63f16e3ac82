"""Differential privacy and smaller updates in a run, and an attack on its model."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxelvault.storage.objects import LocalObjects
from voxelvault_fl.auditing import audit_model
from voxelvault_fl.cohorts.members import members
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.hospital import no_ledger
from voxelvault_fl.jobs.filling import filling
from voxelvault_fl.jobs.job import Job
from voxelvault_fl.jobs.strict import made
from voxelvault_fl.jobs.task import Turn
from voxelvault_fl.privacy.accounting import account, terms_of
from voxelvault_fl.privacy.ledger import Ledger
from voxelvault_fl.protection import Protection
from voxelvault_fl.simulation.simulate import Simulated, simulate
from voxelvault_fl.simulation.splitting import split
from voxelvault_fl.training.examples import SiteData
from voxelvault_fl.training.tasks import first_weights, task_for

NUMBERS = {
    "epsilon": 8.0, "delta": 1e-3, "clip": 1.0, "rate": 0.5, "steps": 10, "learning_rate": 0.5, "batch": 4,
}  # fmt: skip


def job_with(**more: Any) -> Job:
    said: dict[str, Any] = {
        "consortium": "heads", "id": "heads-2", "rounds": 2, "min_sites": 2, "max_sites": 5,
        "purpose": "IRB-1", "lawful_basis": "consent",
        "model": {"task": "numpy-logistic", "config": {"steps": 20}},
        "cohort": {"all": [{"column": "Modality", "op": "=", "value": "CT"}]},
        "labels": {"source": "table", "column": "hemorrhage"},
        **more,
    }  # fmt: skip
    fill = filling(first_weights, datetime(2030, 1, 1, tzinfo=UTC))
    return made(Job, {**fill(said), **said}, "job")


def private(**more: Any) -> Job:
    return job_with(privacy={"mode": "dp-sgd", "numbers": {**NUMBERS, **more}}, evaluate_every=0)


def simulated(data: SiteData, job: Job, folder: Path) -> Simulated:
    sites = split(data, job, "iid", 3)
    return simulate(job, {name: replace(data, only=only) for name, only in sites.items()}, folder)


def test_each_round_says_what_it_cost_and_nothing_else(three_scanners: SiteData, tmp_path: Path) -> None:
    job = private()
    done = simulated(three_scanners, job, tmp_path)
    assert not any(done.errors.values())
    assert done.outcome.status == "finished"
    terms = terms_of(NUMBERS, 2)
    for record in done.record:
        assert record.metrics == {}
        if record.kind == "round":
            costs = [one["spent"] for one in record.sites.values()]
            epsilon = account([terms.noise] * record.round, 1e-3).epsilon
            assert (
                costs
                == [{"epsilon": epsilon, "delta": 1e-3, "unit": "subject", "accountant": "RDP, Opacus"}] * 3
            )
    book = Ledger(LocalObjects(tmp_path / "site-1" / "ledger")).read()
    assert [one.round for one in book.of(job.digest)] == [1, 2]


def test_a_job_beyond_the_budget_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(LocalObjects(tmp_path))
    ledger.create(5.0, 1e-3)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    protection = Protection(lambda: ledger, None, lambda: now)
    assert protection.rule(private()) == "budget"
    assert protection.rule(private(epsilon=4.0)) == ""
    assert protection.rule(private(epsilon=0)) == "privacy"
    assert protection.rule(job_with()) == ""
    assert Protection(lambda: None, None, lambda: now).rule(private()) == "no-ledger"
    assert (no_ledger(private()), no_ledger(job_with())) == ("no-ledger", "")


@pytest.mark.parametrize("name", ["int8", "top-k"])
def test_smaller_updates_cost_little_accuracy(three_scanners: SiteData, tmp_path: Path, name: str) -> None:
    whole = simulated(three_scanners, job_with(rounds=3), tmp_path / "whole")
    small = simulated(three_scanners, job_with(rounds=3, compression=name), tmp_path / "small")
    assert not any(small.errors.values())
    assert small.record[-1].metrics["auc"] > whole.record[-1].metrics["auc"] - 0.1


def test_an_attack_is_tried_without_and_with_noise(three_scanners: SiteData) -> None:
    found = audit_model(job_with(), three_scanners, references=3)
    assert (found.without.members, found.without.strangers) == (10, 11)
    assert 0 <= found.with_noise.auc <= 1
    assert found.spent.epsilon <= 3.0
    assert audit_model(private(), three_scanners, references=1).spent.epsilon <= 8.0


def test_too_few_people_for_an_attack_are_told_before_anything_is_trained(three_scanners: SiteData) -> None:
    series = members(three_scanners.vault, job_with().cohort)[:24]
    few = replace(three_scanners, only=frozenset(one.series_id for one in series))
    with pytest.raises(JobRefused, match=r"about 34 with labels; here 1\d would train \[cohort\]"):
        audit_model(job_with(), few)


def test_a_gradient_is_of_a_person(three_scanners: SiteData) -> None:
    task: Any = task_for(job_with(), three_scanners)
    count, gradients = task.by_subject()
    assert count == task.train(task.init(0), Turn(1, 0)).examples
    assert gradients(np.zeros(7), np.array([0, 2, 5])).shape == (3, 7)
    np.testing.assert_allclose(task.losses_by_subject(np.zeros(7)), np.log(2))
