"""DP-SGD over subjects: each is in a step by its own coin, adds one clipped gradient, and noise hides it.

Neither noise nor coins come from a job's seed: who knew them could take them off again.

References
----------
Abadi et al. 2016, Deep learning with differential privacy, algorithm 1.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from voxelvault_fl.privacy.accounting import Terms

Flat = npt.NDArray[np.float64]
Indexes = npt.NDArray[np.intp]
Gradients = Callable[[Flat, Indexes], npt.NDArray[np.floating]]
"""From parameters and subjects to gradients, (subject, parameter): a row for each subject, of all its images
that count, and of no other subject's."""


_ROOM = 128 << 20


def unpredictable() -> np.random.Generator:
    """Return a generator with a key of the operating system's, for noise and for coins."""
    return np.random.Generator(np.random.Philox(key=secrets.randbits(128)))


def dp_sgd(
    start: Flat,
    subjects: int,
    gradients: Gradients,
    terms: Terms,
    *,
    chunk: int | None = None,
    rng: np.random.Generator | None = None,
) -> Flat:
    """Train one round with differential privacy; `Terms.noise` says what it costs.

    Parameters
    ----------
    start : array
        (parameter) float64.
    subjects : int
        How many there are.
    gradients : callable
        Of the loss, a row a subject.
    terms : Terms
        Of the job.
    chunk : int, optional
        Subjects whose gradients are in memory at once; by default as many as fit into 128 MiB, at most 256.
    rng : Generator, optional
        For tests; `unpredictable` otherwise.

    Returns
    -------
    array
        (parameter) float64.
    """
    rng = rng or unpredictable()
    weights = np.array(start, dtype=np.float64)
    chunk = chunk or max(1, min(256, _ROOM // max(weights.nbytes, 1)))
    deviation = terms.noise.multiplier * terms.clip
    for _ in range(terms.noise.steps):
        chosen = np.flatnonzero(rng.random(subjects) < terms.noise.rate)
        total = _clipped_sum(weights, chosen, gradients, terms.clip, chunk)
        total += rng.normal(0.0, deviation, total.shape)
        weights -= terms.learning_rate * total / terms.batch
    return weights


def _clipped_sum(weights: Flat, chosen: Indexes, gradients: Gradients, clip: float, chunk: int) -> Flat:
    total = np.zeros_like(weights)
    for start in range(0, len(chosen), chunk):
        rows = np.asarray(gradients(weights, chosen[start : start + chunk]), dtype=np.float64)
        # A row that is no number would make the sum none, and the sum would tell that it was there.
        rows[~np.isfinite(rows).all(axis=1)] = 0.0
        norms = np.linalg.norm(rows, axis=1)
        total += np.minimum(1.0, clip / np.maximum(norms, 1e-300)) @ rows
    return total


def logistic_gradients(
    features: npt.NDArray[np.floating], labels: npt.NDArray[np.number], decay: float = 0.0
) -> Gradients:
    """Return the gradients of logistic regression.

    Parameters
    ----------
    features : array
        (subject, feature).
    labels : array
        (subject) 0 or 1.
    decay : float
        L2 penalty of each subject's loss, on all but the intercept.

    Returns
    -------
    callable
        For parameters (feature, then the intercept).
    """
    inputs = np.hstack([np.asarray(features, np.float64), np.ones((len(features), 1))])
    truth = np.asarray(labels, np.float64)

    def gradients(weights: Flat, chosen: Indexes) -> Flat:
        rows = inputs[chosen]
        with np.errstate(over="ignore"):
            error = 1.0 / (1.0 + np.exp(-(rows @ weights))) - truth[chosen]
        penalty = decay * np.append(weights[:-1], 0.0)
        return error[:, None] * rows + penalty

    return gradients


__all__ = ["Flat", "Gradients", "Indexes", "dp_sgd", "logistic_gradients", "unpredictable"]
