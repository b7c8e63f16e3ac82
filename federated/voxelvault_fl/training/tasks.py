"""Which task a job's model means, on which data."""

from __future__ import annotations

from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.job import Job, Model
from voxelvault_fl.jobs.task import Task, Weights
from voxelvault_fl.training.examples import SiteData, examples


def task_for(job: Job, data: SiteData) -> Task:
    """Return the task of a job on a site's data; nothing but the catalog is read yet.

    Raises
    ------
    JobRefused
        There is no such task, or its configuration can't be.
    """
    return _task(job.model, data, job)


def first_weights(model: Model, seed: int) -> Weights:
    """Return the weights that a run of a model begins with."""
    return _task(model, None, None).init(seed)


def _task(model: Model, data: SiteData | None, job: Job | None) -> Task:
    found = examples(data, job) if data and job else ()
    if model.task == "numpy-logistic":
        from voxelvault_fl.training.logistic import Logistic

        return Logistic(model.config, data, found)
    raise JobRefused("task", "there is no such task; tasks are numpy-logistic")


__all__ = ["first_weights", "task_for"]
