"""`audit-model`: an attack on a job's model, trained here without and with differential privacy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.job import Job
from voxelvault_fl.privacy.accounting import Noise, Spent, Terms, account, terms_of
from voxelvault_fl.privacy.dpsgd import Flat, Gradients, dp_sgd
from voxelvault_fl.privacy.membership import LEAST, Attacked, Losses, Trainer, attack
from voxelvault_fl.privacy.private import Gradual, flat_of
from voxelvault_fl.training.examples import SiteData, examples
from voxelvault_fl.training.examples import subjects as people
from voxelvault_fl.training.tasks import task_for

_NUMBERS: Mapping[str, Any] = {"delta": 1e-5, "clip": 1.0, "rate": 0.1, "steps": 20, "learning_rate": 0.5}
"""What is tried where the job itself asks for no differential privacy."""


@runtime_checkable
class Attackable(Gradual, Protocol):
    """A task that also says how well a model knows single subjects."""

    def losses_by_subject(self, flat: Flat) -> Losses:
        """Return the loss of each subject of `by_subject`, (subject) float64."""
        ...


@dataclass(frozen=True)
class Audit:
    """What attacks found.

    Parameters
    ----------
    without, with_noise : Attacked
        On the model without and with differential privacy.
    spent : Spent
        What the noise is worth, as the accountant says.
    """

    without: Attacked
    with_noise: Attacked
    spent: Spent


def audit_model(
    job: Job, data: SiteData, *, epsilon: float = 3.0, references: int = 8, seed: int = 0
) -> Audit:
    """Attack a job's model on a site's own data; nothing leaves, and nothing is charged.

    Parameters
    ----------
    job : Job
        What would be trained; of its rounds all are trained here.
    data : SiteData
        The site's.
    epsilon : float
        Of the model with noise, where the job says none.
    references : int
        Models that the attacker trains.
    seed : int
        Of everything drawn.

    Raises
    ------
    JobRefused
        The task can't say what single subjects add, or there are too few subjects.
    """
    _require_many(data, job)
    task = task_for(job, data)
    if not isinstance(task, Attackable):
        raise JobRefused("privacy", "this task can't be attacked yet: it can't say what single subjects add")
    subjects, gradients = task.by_subject()
    start = flat_of(task.init(job.seed))
    private = _terms(job, subjects, epsilon)
    steps = private.noise.steps
    # Whole batches, hardly clipped, no noise to speak of: the same descent as without privacy.
    open_terms = replace(private, clip=1e6, noise=Noise(1e-12, 1.0, steps), batch=subjects / 2)

    def trainer(terms: Terms) -> Trainer:
        def train(members: npt.NDArray[np.intp], number: int) -> Losses:
            rng = np.random.default_rng([number, len(members)])
            of = _of(gradients, members)
            return task.losses_by_subject(dp_sgd(start, len(members), of, terms, rng=rng))

        return train

    return Audit(
        without=attack(trainer(open_terms), subjects, references=references, seed=seed),
        with_noise=attack(trainer(private), subjects, references=references, seed=seed),
        spent=account([private.noise], private.delta),
    )


def _require_many(data: SiteData, job: Job) -> None:
    """Require enough people to train on, before anything is read of their images."""
    many = people(one for one in examples(data, job) if one.part == "train")
    if many < LEAST:
        raise JobRefused(
            "cohort",
            f"an attack needs {LEAST} people to train on, and three fifths of those with labels train: "
            f"about {LEAST * 5 // 3 + 1} with labels; here {many} would train",
        )


def _terms(job: Job, subjects: int, epsilon: float) -> Terms:
    """Return the terms of all rounds together."""
    own = {"batch": max(1.0, _NUMBERS["rate"] * subjects / 2), "epsilon": epsilon}
    numbers = job.privacy.numbers if job.privacy.mode == "dp-sgd" else {**_NUMBERS, **own}
    terms = terms_of(numbers, job.rounds)
    return replace(terms, noise=replace(terms.noise, steps=terms.noise.steps * job.rounds))


def _of(gradients: Gradients, members: npt.NDArray[np.intp]) -> Gradients:
    return lambda flat, chosen: gradients(flat, members[chosen])


__all__ = ["Attackable", "Audit", "audit_model"]
