"""A task under differential privacy: charged first, then trained with noise; nothing else is measured.

The task's own training, with its momentum, class weights and early choices, isn't used: an accountant knows
nothing of those. What is private comes in by the gradients of single subjects alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np

from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.task import Measured, Trained, Turn, Weights
from voxelvault_fl.privacy.accounting import Spent, Terms
from voxelvault_fl.privacy.dpsgd import Flat, Gradients, dp_sgd


@runtime_checkable
class Gradual(Protocol):
    """A task that can say what single subjects add."""

    def init(self, seed: int) -> Weights:
        """Return the first weights."""
        ...

    def by_subject(self) -> tuple[int, Gradients]:
        """Return the number of subjects to train on, and their gradients.

        Parameters come flat, (parameter) float64: the arrays in the order of their names, each in C order.
        """
        ...


class PrivateTask:
    """A task that trains by DP-SGD.

    Parameters
    ----------
    task : Gradual
        The model and the site's data.
    terms : Terms
        Of the job.
    charge : callable
        Charges a round, by its number, and returns what the job has cost so far; raises where it may not.
    rng : callable
        For tests; `unpredictable` otherwise.
    """

    def __init__(
        self,
        task: Gradual,
        terms: Terms,
        charge: Callable[[int], Spent],
        rng: Callable[[], np.random.Generator | None] = lambda: None,
    ) -> None:
        self._task, self._terms, self._charge, self._rng = task, terms, charge, rng

    def init(self, seed: int) -> Weights:
        """Return the first weights."""
        return self._task.init(seed)

    def train(self, weights: Weights, turn: Turn) -> Trained:
        """Charge the round, then train it.

        Raises
        ------
        JobRefused
            The budget doesn't allow it, or the job asks for what no accountant knows.
        """
        if turn.steps is not None or turn.proximal:
            raise JobRefused("privacy", "under dp-sgd there is no fine-tuning and no proximal term")
        spent = self._charge(turn.round)
        subjects, gradients = self._task.by_subject()
        flat = dp_sgd(flat_of(weights), subjects, gradients, self._terms, rng=self._rng())
        return Trained(shaped(flat, weights), subjects, {}, spent.document)

    def evaluate(self, weights: Weights, part: str = "validate") -> Measured:
        """Refuse: a figure of private data that no accountant counts.

        Raises
        ------
        JobRefused
            Always.
        """
        raise JobRefused(
            "privacy", "under dp-sgd no figure of private data is measured; set evaluate_every = 0"
        )


def flat_of(weights: Weights) -> Flat:
    """Return weights as one vector: the arrays in the order of their names, each in C order."""
    return np.concatenate([np.asarray(weights[name], np.float64).ravel() for name in sorted(weights)])


def shaped(flat: Flat, like: Weights) -> Weights:
    """Return a vector as weights again: names, shapes and dtypes of `like`."""
    found: Weights = {}
    at = 0
    for name in sorted(like):
        one = like[name]
        found[name] = flat[at : at + one.size].reshape(one.shape).astype(one.dtype)
        at += one.size
    return found


__all__ = ["Gradual", "PrivateTask", "flat_of", "shaped"]
