"""Figures of merit: rates, area under the curve, predictive value and calibration, with 95 % intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and its 95 % interval; `count` is what it rests on."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        if math.isnan(self.value):
            return f"- (n={self.count})"
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f}, n={self.count})"


@dataclass(frozen=True, slots=True)
class Proportion:
    """Hits of a number of cases, with Wilson's 95 % interval; nan without cases.

    Parameters
    ----------
    hits, cases : int
        Counts.
    """

    hits: int
    cases: int

    @classmethod
    def of(cls, flags: npt.ArrayLike) -> Proportion:
        """Count what is true."""
        values = np.asarray(flags, bool)
        return cls(int(values.sum()), len(values))

    @property
    def rate(self) -> float:
        """Share of hits."""
        return self.hits / self.cases if self.cases else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends.

        References
        ----------
        Wilson, JASA 22 (1927) 209.
        """
        if not self.cases:
            return math.nan, math.nan
        n, rate = self.cases, self.rate
        middle = (rate + Z**2 / (2 * n)) / (1 + Z**2 / n)
        half = Z / (1 + Z**2 / n) * math.sqrt(rate * (1 - rate) / n + Z**2 / (4 * n**2))
        return max(0.0, middle - half), min(1.0, middle + half)

    @property
    def figure(self) -> Figure:
        """The share with its interval."""
        return Figure(self.rate, *self.interval, self.cases)

    def apart(self, other: Proportion) -> bool:
        """Tell whether both are known and their intervals don't meet."""
        (low, high), (low_other, high_other) = self.interval, other.interval
        return low > high_other or high < low_other


def auc(scores: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Return the area under the ROC curve; equal scores count half; nan where a class is missing."""
    values, flags = np.asarray(scores, float), np.asarray(positive, bool)
    ones, noughts = values[flags], np.sort(values[~flags])
    if not len(ones) or not len(noughts):
        return math.nan
    below, not_above = np.searchsorted(noughts, ones, "left"), np.searchsorted(noughts, ones, "right")
    return float(np.mean(below + not_above) / (2 * len(noughts)))


def drawn_again(positive: npt.NDArray[np.bool_], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Return places of a bootstrap sample: with replacement, each class by itself."""
    classes = [np.flatnonzero(positive == one) for one in (True, False)]
    return np.concatenate([rng.choice(places, len(places)) for places in classes])


def auc_interval(scores: npt.ArrayLike, positive: npt.ArrayLike, seed: int = 0, draws: int = 2000) -> Figure:
    """Return the area with its bootstrap interval."""
    values, flags = np.asarray(scores, float), np.asarray(positive, bool)
    rng = np.random.default_rng(seed)
    samples = [drawn_again(flags, rng) for _ in range(draws)]
    low, high = np.quantile([auc(values[one], flags[one]) for one in samples], [0.025, 0.975])
    return Figure(auc(values, flags), float(low), float(high), len(values))


def predictive_value(sensitivity: float, specificity: float, prevalence: float) -> float:
    """Return the share of flagged studies that are positive, at a prevalence; nan where it isn't known."""
    true, false = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    return true / (true + false) if true + false else math.nan


def brier(probabilities: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Return the mean squared distance of probability and outcome.

    0 is perfect; always saying the prevalence p gives p (1 - p).
    """
    return float(np.mean((np.asarray(probabilities, float) - np.asarray(positive, float)) ** 2))


@dataclass(frozen=True, slots=True)
class Bin:
    """Cases of about one score: their mean score, and how many were positive."""

    score: float
    positive: Proportion


def reliability(probabilities: npt.ArrayLike, positive: npt.ArrayLike, bins: int = 10) -> tuple[Bin, ...]:
    """Return the bins of a reliability diagram: of equal width, empty ones left out."""
    said, seen = np.asarray(probabilities, float), np.asarray(positive, bool)
    place = np.minimum((said * bins).astype(int), bins - 1)
    filled = (place == one for one in np.unique(place))
    return tuple(Bin(float(said[here].mean()), Proportion.of(seen[here])) for here in filled)


def expected_error(bins: tuple[Bin, ...]) -> float:
    """Return the expected calibration error: mean distance of score and observed share over the bins."""
    total = sum(one.positive.cases for one in bins)
    return sum(abs(one.score - one.positive.rate) * one.positive.cases for one in bins) / total
