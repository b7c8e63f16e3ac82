"""Figures with their intervals: area under the curve, rates, predictive value, calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and its 95 % interval; `count` is what it rests on."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f}, n={self.count})"


def auc(scores: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Return the area under the ROC curve; equal scores count half; nan where a class is missing."""
    values, flags = np.asarray(scores, float), np.asarray(positive, bool)
    ones, noughts = values[flags], values[~flags]
    if not len(ones) or not len(noughts):
        return float("nan")
    differences = ones[:, None] - noughts[None, :]
    return float(((differences > 0) + 0.5 * (differences == 0)).mean())


def auc_interval(scores: npt.ArrayLike, positive: npt.ArrayLike, seed: int = 0, draws: int = 2000) -> Figure:
    """Return the area with its bootstrap interval: studies drawn again, each class by itself."""
    values, flags = np.asarray(scores, float), np.asarray(positive, bool)
    rng = np.random.default_rng(seed)
    ones, noughts = np.flatnonzero(flags), np.flatnonzero(~flags)
    areas = []
    for _ in range(draws):
        drawn = np.concatenate([rng.choice(ones, len(ones)), rng.choice(noughts, len(noughts))])
        areas.append(auc(values[drawn], flags[drawn]))
    low, high = np.quantile(areas, [0.025, 0.975])
    return Figure(auc(values, flags), float(low), float(high), len(values))


def wilson(hits: int, count: int) -> Figure:
    """Return a proportion with its Wilson interval; 0 to 1 where there is nothing to count.

    References
    ----------
    Wilson 1927, J Am Stat Assoc 22:209-212.
    """
    if count == 0:
        return Figure(float("nan"), 0.0, 1.0, 0)
    share, square = hits / count, Z95**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = Z95 / (1 + square / count) * np.sqrt(share * (1 - share) / count + square / (4 * count**2))
    return Figure(share, max(0.0, float(middle - half)), min(1.0, float(middle + half)), count)


def predictive(sensitivity: float, specificity: float, prevalence: float) -> float:
    """Return the share of flagged studies that bleed, at a prevalence."""
    true, false = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    return true / (true + false) if true + false else float("nan")


def brier(probabilities: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Return the mean squared error of probabilities."""
    return float(np.mean((np.asarray(probabilities, float) - np.asarray(positive, float)) ** 2))


@dataclass(frozen=True, slots=True)
class Bin:
    """Studies of similar probability: the mean that was said, the share that bled, how many."""

    said: float
    seen: float
    count: int


def calibration(probabilities: npt.ArrayLike, positive: npt.ArrayLike, bins: int = 5) -> tuple[Bin, ...]:
    """Return the reliability table over equally wide bins; empty ones are left out."""
    said, seen = np.asarray(probabilities, float), np.asarray(positive, float)
    which = np.minimum((said * bins).astype(int), bins - 1)
    return tuple(
        Bin(float(said[which == k].mean()), float(seen[which == k].mean()), int((which == k).sum()))
        for k in range(bins)
        if (which == k).any()
    )


def calibration_error(table: tuple[Bin, ...]) -> float:
    """Return the expected calibration error of a reliability table."""
    total = sum(one.count for one in table)
    return sum(abs(one.said - one.seen) * one.count for one in table) / total
