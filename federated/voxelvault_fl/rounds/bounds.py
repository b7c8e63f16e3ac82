"""What an update must be before anyone adds it to a model. No weights are trusted, whoever sent them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from voxelvault_fl.errors import SetAside
from voxelvault_fl.jobs.task import Array, Weights

SLACK = 1.001
"""Sites clip in their own precision; beyond this share of the bound an update is refused."""


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


__all__ = ["SLACK", "clipped", "counted", "difference", "norm", "require_alike", "require_norm"]
