"""What a federation has to be held against: each site alone, and all data in one place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from voxelvault_fl.jobs.job import Job
from voxelvault_fl.jobs.task import Task, Turn, Weights
from voxelvault_fl.rounds.site import turn_seed
from voxelvault_fl.training.examples import SiteData, examples
from voxelvault_fl.training.tasks import task_for, task_on


@dataclass(frozen=True, slots=True)
class Compared:
    """Figures on each site's test part, and over all of them: site to metric, for three ways to train."""

    alone: Mapping[str, Mapping[str, float]]
    federated: Mapping[str, Mapping[str, float]]
    pooled: Mapping[str, Mapping[str, float]]

    def rows(self, metric: str = "auc") -> list[tuple[str, str, str, str]]:
        """Return a row a site: its name and the figure of each way."""
        ways = (self.alone, self.federated, self.pooled)
        return [(name, *(f"{way[name][metric]:.4f}" for way in ways)) for name in self.alone]  # type: ignore[misc]


def compared(job: Job, data: Mapping[str, SiteData], federated: Weights) -> Compared:
    """Train at each site alone and on all data, and measure all.

    Each of these models takes as many steps of the optimiser as all sites took together in the federated run,
    and its best round is taken, as there. Parts are the same: nobody who tests there trains here.

    Parameters
    ----------
    job : Job
        Of the run.
    data : mapping of str to SiteData
        Its virtual sites, all of one vault.
    federated : mapping of str to array
        Its result.
    """
    tasks = {name: task_for(job, one) for name, one in data.items()}
    every = [example for one in data.values() for example in examples(one, job)]
    together = task_on(job, replace(next(iter(data.values())), only=None), every)
    pooled = trained(job, together, "pooled", len(tasks))
    alone = {name: trained(job, task, name, len(tasks)) for name, task in tasks.items()}
    return Compared(
        {name: dict(task.evaluate(alone[name], "test").metrics) for name, task in tasks.items()},
        {name: dict(task.evaluate(federated, "test").metrics) for name, task in tasks.items()},
        {name: dict(task.evaluate(pooled, "test").metrics) for name, task in tasks.items()},
    )


def trained(job: Job, task: Task, name: str, turns: int = 1) -> Weights:
    """Return what a task comes to by itself: its best round by the job's metric, as a run chooses.

    Parameters
    ----------
    job : Job
        Rounds, seed and metric.
    task : Task
        Model and data.
    name : str
        Its place among the seeds.
    turns : int
        A round has so many of a site's: one for each site that it is held against.
    """
    weights = best = task.init(job.seed)
    score = (float("-inf"), float("-inf"))
    sign = -1.0 if job.metric == "loss" else 1.0
    for number in range(1, job.rounds + 1):
        for turn in range(turns):
            seed = turn_seed(job.seed, number, f"{name} {turn}")
            weights = task.train(weights, Turn(number, seed)).weights
        if not job.evaluates(number):
            continue
        told = task.evaluate(weights).metrics
        found = (sign * told.get(job.metric, float("nan")), -told.get("loss", 0.0))
        # Without a figure the last round is taken, as in a run.
        if found > score or math.isnan(found[0]):
            best, score = weights, found
    return best if job.evaluate_every else weights


__all__ = ["Compared", "compared", "trained"]
