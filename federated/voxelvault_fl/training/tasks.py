"""Which task a job's model means, on which data."""

from __future__ import annotations

from collections.abc import Sequence

from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.job import TASKS, Job, Model
from voxelvault_fl.jobs.task import Task, Weights
from voxelvault_fl.training.examples import Example, SiteData, examples


def task_for(job: Job, data: SiteData) -> Task:
    """Return the task of a job on a site's data; nothing but the catalog is read yet.

    Raises
    ------
    JobRefused
        There is no such task, its configuration can't be, or the site has no such labels.
    """
    return task_on(job, data, examples(data, job))


def task_on(job: Job, data: SiteData, found: Sequence[Example]) -> Task:
    """Return the task of a job on some examples."""
    if job.model.task == "hemorrhage":
        from voxelvault_fl.training.hemorrhage import Hemorrhage, reader

        return Hemorrhage(job.model.config, reader(data, job), found)
    return _small(job.model, data, found)


def first_weights(model: Model, seed: int) -> Weights:
    """Return the weights that a run of a model begins with."""
    if model.task == "hemorrhage":
        from voxelvault_fl.training.hemorrhage import Hemorrhage

        return Hemorrhage(model.config, lambda found: [], ()).init(seed)
    return _small(model, None, ()).init(seed)


def _small(model: Model, data: SiteData | None, found: Sequence[Example]) -> Task:
    if model.task == "numpy-logistic":
        from voxelvault_fl.training.logistic import Logistic

        return Logistic(model.config, data, found)
    raise JobRefused("task", f"there is no such task; tasks are {', '.join(TASKS)}")


__all__ = ["first_weights", "task_for", "task_on"]
