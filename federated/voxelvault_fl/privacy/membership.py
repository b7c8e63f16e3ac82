"""A membership inference attack: it tries to tell from a model who was in its training data.

The attack compares the model's loss on a subject with the losses of reference models that never saw it, so
that subjects who are hard for everybody are not taken for strangers. It is a test, no proof: a better one
may find more. Only an accountant's epsilon bounds all of them.

References
----------
Yeom et al. 2018 (loss); Watson et al. 2022 and Carlini et al. 2022 (calibration by reference models).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voxelvault_fl.errors import JobRefused

Losses = npt.NDArray[np.float64]
Trainer = Callable[[npt.NDArray[np.intp], int], Losses]
"""From the subjects that a model is trained on, and a seed, to its loss on every subject, (subject)."""

LEAST = 20
"""Subjects below which no attack is tried."""


@dataclass(frozen=True, slots=True)
class Attacked:
    """How an attack did.

    Parameters
    ----------
    auc : float
        Probability that a subject of the training data looks more like one than a stranger does; 0.5 is
        chance.
    low, high : float
        95 % interval of it, by bootstrap over subjects.
    caught : float
        Share of the trained subjects that it finds while it accuses one stranger in ten.
    members, strangers : int
        Subjects that it was tried on.
    """

    auc: float
    low: float
    high: float
    caught: float
    members: int
    strangers: int

    def __str__(self) -> str:
        """Return figure and interval."""
        return (
            f"attack AUC {self.auc:.3f} (95 % {self.low:.3f} to {self.high:.3f}; 0.5 is chance), "
            f"{self.caught:.0%} found at one false accusation in ten; "
            f"{self.members} trained, {self.strangers} not"
        )


def attack(train: Trainer, subjects: int, *, references: int = 8, seed: int = 0) -> Attacked:
    """Train a model on half of the subjects and attack it.

    Parameters
    ----------
    train : callable
        Trains as the job does, and measures.
    subjects : int
        How many there are.
    references : int
        Models that the attacker trains on halves of the subjects.
    seed : int
        Of halves and bootstrap.

    Raises
    ------
    JobRefused
        The rule is ``cohort``: too few subjects for any figure.
    """
    if subjects < LEAST:
        raise JobRefused("cohort", f"an attack on fewer than {LEAST} subjects says nothing")
    rng = np.random.default_rng(seed)
    halves = [_half(subjects, rng) for _ in range(references + 1)]
    target, *others = (train(np.flatnonzero(half), seed + number) for number, half in enumerate(halves))
    scores = _expected(others, halves[1:], subjects) - target
    inside = halves[0]
    low, high = _interval(scores[inside], scores[~inside], rng)
    return Attacked(
        auc=area(scores[inside], scores[~inside]),
        low=low,
        high=high,
        caught=float(np.mean(scores[inside] > np.quantile(scores[~inside], 0.9))),
        members=int(inside.sum()),
        strangers=int((~inside).sum()),
    )


def area(inside: Losses, outside: Losses) -> float:
    """Return the area under the ROC curve; ties count half."""
    order = np.sort(outside)
    below = np.searchsorted(order, inside, "left") + np.searchsorted(order, inside, "right")
    return float(below.mean() / (2 * len(outside)))


def _half(subjects: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    half = np.zeros(subjects, bool)
    half[rng.permutation(subjects)[: subjects // 2]] = True
    return half


def _expected(losses: list[Losses], halves: list[npt.NDArray[np.bool_]], subjects: int) -> Losses:
    """Return the mean loss over the models that never saw the subject; over all where each one did."""
    if not losses:
        return np.zeros(subjects)
    table, unseen = np.stack(losses), ~np.stack(halves)
    count = unseen.sum(axis=0)
    mean = (table * unseen).sum(axis=0) / np.maximum(count, 1)
    return np.asarray(np.where(count > 0, mean, table.mean(axis=0)), np.float64)


def _interval(inside: Losses, outside: Losses, rng: np.random.Generator) -> tuple[float, float]:
    drawn = [area(rng.choice(inside, len(inside)), rng.choice(outside, len(outside))) for _ in range(500)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


__all__ = ["LEAST", "Attacked", "Losses", "Trainer", "area", "attack"]
