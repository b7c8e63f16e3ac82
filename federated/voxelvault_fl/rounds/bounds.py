"""What an update must be before anyone adds it to a model. No weights are trusted, whoever sent them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from voxelvault_fl.errors import SetAside
from voxelvault_fl.jobs.task import Array, Weights

SLACK = 1.001
"""Sites clip in their own precision; beyond this share of the bound an update is refused."""
MOST_SUBJECTS, MOST_FIGURES, LARGEST_FIGURE = 10_000_000, 16, 1e6
"""No hospital has more people, no task more figures, and none that means anything is larger."""

_SPENT = {"epsilon", "delta", "unit", "accountant"}
_SHA256 = re.compile(r"[0-9a-f]{64}")


def require_alike(weights: Mapping[str, Array], like: Mapping[str, Array]) -> None:
    """Require the names, shapes and dtypes of `like`, and finite values.

    Raises
    ------
    SetAside
        The rule is ``keys``, ``shape``, ``dtype`` or ``finite``.
    """
    if set(weights) != set(like):
        raise SetAside("keys", "the arrays aren't named as the job's model names them")
    for name, values in weights.items():
        if values.shape != like[name].shape:
            raise SetAside("shape", "an array hasn't the shape that the job's model has")
        if values.dtype != like[name].dtype:
            raise SetAside("dtype", "an array hasn't the dtype that the job's model has")
        if not np.isfinite(values).all():
            raise SetAside("finite", "an array holds values that are no numbers")


def require_norm(update: Mapping[str, Array], most: float) -> None:
    """Require an update within the job's bound.

    Raises
    ------
    SetAside
        The rule is ``norm``.
    """
    if not norm(update) <= most * SLACK:
        raise SetAside("norm", "the update is larger than the job allows")


def require_near(weights: Weights, known: Weights, rounds: int, step: float) -> None:
    """Require a model that so many rounds can have made of a known one.

    Parameters
    ----------
    weights, known : mapping of str to array
        The model, and that of an earlier or later round.
    rounds : int
        Between the two.
    step : float
        How far a round can move it; see `voxelvault_fl.rounds.strategies.reach`.

    Raises
    ------
    SetAside
        The rule is ``norm``.
    """
    # Each round rounds the model to its own precision.
    if not norm(difference(weights, known)) <= rounds * (step * SLACK * SLACK + 1e-6 * norm(weights)):
        raise SetAside("norm", "the model moved further than the job's rounds can move it")


def norm(update: Mapping[str, Array]) -> float:
    """Return the Euclidean norm over all arrays."""
    return float(np.sqrt(sum(float(np.square(one, dtype=np.float64).sum()) for one in update.values())))


def clipped(update: Weights, most: float) -> Weights:
    """Return the update, scaled down to the bound where it is larger."""
    size = norm(update)
    if size <= most:
        return update
    return {name: (one * (most / size)).astype(one.dtype) for name, one in update.items()}


def difference(new: Mapping[str, Array], old: Mapping[str, Array]) -> Weights:
    """Return what training added."""
    return {name: new[name] - old[name] for name in old}


def moved(old: Mapping[str, Array], step: Mapping[str, Array]) -> Weights:
    """Return a model after a step, in its own dtypes: the same bytes wherever it is computed."""
    return {name: (one + step[name]).astype(one.dtype) for name, one in old.items()}


def counted(examples: Any, registered: int) -> int:
    """Return how many subjects an update may stand for: what the site says, at most its registered cohort.

    Raises
    ------
    SetAside
        The rule is ``count``: it says no number above 0.
    """
    if not isinstance(examples, int) or isinstance(examples, bool) or examples < 1:
        raise SetAside("count", "the update says no number of subjects")
    return min(examples, registered)


def joined(said: Mapping[str, Any]) -> tuple[int, str]:
    """Return count and digest of the cohort with which a site joins.

    Raises
    ------
    SetAside
        The rule is ``malformed``: one isn't what a site says.
    """
    count, cohort = said.get("count"), said.get("cohort")
    whole = isinstance(count, int) and not isinstance(count, bool) and 1 <= count <= MOST_SUBJECTS
    if not whole or not isinstance(cohort, str) or not _SHA256.fullmatch(cohort):
        raise SetAside("malformed", "a site joins with a count and the digest of its cohort")
    return int(said["count"]), cohort


def figures(told: Any) -> dict[str, float]:
    """Return the figures that can be: finite, of a sensible size, an AUC between 0 and 1."""
    if not isinstance(told, Mapping) or len(told) > MOST_FIGURES:
        return {}
    return {name[:40]: float(one) for name, one in told.items() if _is_figure(name, one)}


def _is_figure(name: str, value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    low, high = (0.0, 1.0) if name == "auc" else (-LARGEST_FIGURE, LARGEST_FIGURE)
    return low <= value <= high


def spent(told: Any) -> dict[str, Any]:
    """Return what privacy cost, as a site's accountant says it; empty where it says nothing.

    Raises
    ------
    SetAside
        The rule is ``spent``: it says something else, which would stand in everybody's record.
    """
    if isinstance(told, dict) and not told:
        return {}
    if not isinstance(told, dict) or set(told) != _SPENT:
        raise SetAside("spent", "the update doesn't say what privacy cost as an accountant does")
    numbers, words = (told["epsilon"], told["delta"]), (told["unit"], told["accountant"])
    fits = all(_is_figure("", one) and one >= 0 for one in numbers)
    if not fits or not all(isinstance(one, str) and len(one) <= 40 for one in words):
        raise SetAside("spent", "the update doesn't say what privacy cost as an accountant does")
    return dict(told)


__all__ = [
    "SLACK", "clipped", "counted", "difference", "figures", "joined", "moved", "norm",
    "require_alike", "require_near", "require_norm", "spent",
]  # fmt: skip
