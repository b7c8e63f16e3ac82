"""Figures of monitoring, each with what chance alone would give."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voxelvault.errors import UsageError
from voxelvault_triage.merit import (
    Bin,
    Figure,
    Proportion,
    brier,
    expected_error,
    predictive_value,
    reliability,
)
from voxelvault_triage.monitoring.rows import Input


@dataclass(frozen=True, slots=True)
class Stability:
    """Population stability index of one quantity.

    Parameters
    ----------
    index : float
        0 for the same distribution; by custom 0.1 is a small change, 0.25 a large one.
    chance : float
        What samples of this size from one distribution exceed once in a hundred times.
    reference, current : int
        Sizes of both samples.

    References
    ----------
    Yurdakul, Statistical Properties of Population Stability Index, Western Michigan University, 2018:
    index / (1/n + 1/m) follows χ² with one degree less than there are bins.
    """

    index: float
    chance: float
    reference: int
    current: int


def stability(reference: Sequence[Input], current: Sequence[Input], bins: int = 10) -> Stability | None:
    """Return how far a quantity has moved; None where either sample is empty.

    Numbers are put between the reference's quantiles; words, and numbers of few values, are bins
    themselves.

    Parameters
    ----------
    reference, current : sequence of float or str
        The quantity before and now.
    bins : int
        At most, for numbers; fewer where values repeat.
    """
    from scipy.stats import chi2

    if not reference or not current:
        return None
    before, now = _binned(reference, current, bins)
    sizes = len(reference), len(current)
    # Half a case in each empty bin: its logarithm would be infinite.
    shares = [np.maximum(counts, 0.5) / size for counts, size in zip((before, now), sizes, strict=True)]
    index = float(np.sum((shares[1] - shares[0]) * np.log(shares[1] / shares[0])))
    freedom = max(len(before) - 1, 1)
    return Stability(index, float(chi2.ppf(0.99, freedom)) * (1 / sizes[0] + 1 / sizes[1]), *sizes)


def _binned(
    reference: Sequence[Input], current: Sequence[Input], bins: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return how many cases of each sample are in each bin."""
    values = {*reference, *current}
    if len(values) <= bins or any(isinstance(value, str) for value in values):
        told = [Counter(sample) for sample in (reference, current)]
        before, now = (np.array([counts[value] for value in values], float) for counts in told)
        return before, now
    inner = np.unique(np.quantile(np.array(reference, float), np.linspace(0, 1, bins + 1)[1:-1]))
    # What equals the last edge belongs below it: a reference of one value is a bin of its own.
    edges = np.concatenate(([-np.inf], inner, [np.nextafter(inner[-1], np.inf), np.inf]))
    before, now = (np.histogram(np.array(sample, float), edges)[0] for sample in (reference, current))
    filled = before + now > 0
    return before[filled].astype(float), now[filled].astype(float)


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far scores can be taken as probabilities.

    Parameters
    ----------
    brier : float
        Mean squared distance of score and outcome.
    ece : float
        Expected calibration error.
    z : float
        Spiegelhalter's; beyond 2.58 either way, chance explains it once in a hundred times.
    bins : tuple of Bin
        For a reliability diagram; equal widths, empty ones left out.

    References
    ----------
    Spiegelhalter, Statistics in Medicine 5 (1986) 421.
    """

    brier: float
    ece: float
    z: float
    bins: tuple[Bin, ...]


def calibration(scores: Sequence[float], labels: Sequence[bool], bins: int = 10) -> Calibration | None:
    """Return the calibration of scores whose outcome is known; None where there are none.

    Parameters
    ----------
    scores : sequence of float
        0 to 1.
    labels : sequence of bool
        One a score.
    bins : int
        Of equal width.

    Raises
    ------
    UsageError
        A score is no probability.
    """
    score, label = np.array(scores, float), np.array(labels, float)
    if not len(score):
        return None
    if np.min(score) < 0 or np.max(score) > 1:
        raise UsageError("calibration needs scores between 0 and 1; calibrate the model first")
    told = reliability(score, label, bins)
    return Calibration(brier(score, label), expected_error(told), _spiegelhalter(score, label), told)


def _spiegelhalter(score: npt.NDArray[np.float64], label: npt.NDArray[np.float64]) -> float:
    weight = 1 - 2 * score
    spread = math.sqrt(float(np.sum(weight**2 * score * (1 - score))))
    return float(np.sum((label - score) * weight)) / spread if spread else 0.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from arrival to listed.

    Parameters
    ----------
    p50, p95 : float
        Median and 95th percentile.
    low : float
        Lower end of the 95 % interval of the latter, by order statistics.
    count : int
        Of how many.
    """

    p50: float
    p95: float
    low: float
    count: int


def latency(seconds: Sequence[float]) -> Latency | None:
    """Return the percentiles; None without a value."""
    from scipy.stats import binom

    if not seconds:
        return None
    # So many of them lie below the true percentile at least, but for one sample in forty.
    below = int(binom.ppf(0.025, len(seconds), 0.95))
    p50, p95 = np.percentile(seconds, (50, 95))
    return Latency(float(p50), float(p95), float(sorted(seconds)[max(below, 1) - 1]), len(seconds))


@dataclass(frozen=True, slots=True)
class Agreement:
    """Flags against what studies turned out to be."""

    sensitivity: Proportion
    specificity: Proportion

    @property
    def observed(self) -> Proportion:
        """Positive predictive value among these cases, which holds for their prevalence alone."""
        true = self.sensitivity.hits
        return Proportion(true, true + self.specificity.cases - self.specificity.hits)

    def predictive_value(self, prevalence: float) -> Figure:
        """Return the positive predictive value at a prevalence; nan where it isn't known.

        Its interval takes both lower ends and both upper ends of the intervals of sensitivity and
        specificity together: at least 95 %.

        Parameters
        ----------
        prevalence : float
            0 to 1.
        """
        one, other = self.sensitivity, self.specificity
        (low, high), (below, above) = one.interval, other.interval
        return Figure(
            predictive_value(one.rate, other.rate, prevalence),
            predictive_value(low, below, prevalence),
            predictive_value(high, above, prevalence),
            one.cases + other.cases,
        )


def agreement(flagged: Sequence[bool], labels: Sequence[bool]) -> Agreement | None:
    """Return sensitivity and specificity; None where no outcome is known.

    Parameters
    ----------
    flagged, labels : sequence of bool
        One a study.
    """
    if not labels:
        return None
    pairs = Counter(zip(flagged, labels, strict=True))
    return Agreement(
        Proportion(pairs[True, True], pairs[True, True] + pairs[False, True]),
        Proportion(pairs[False, False], pairs[False, False] + pairs[True, False]),
    )
