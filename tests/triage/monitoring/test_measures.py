"""Figures against published values, other libraries and what can be told by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from voxelvault.errors import UsageError
from voxelvault_triage.merit import Proportion
from voxelvault_triage.monitoring.measures import (
    agreement,
    calibration,
    latency,
    stability,
)


def test_stability_by_hand() -> None:
    found = stability(["a"] * 50 + ["b"] * 50, ["a"] * 30 + ["b"] * 70)
    assert found is not None
    assert found.index == pytest.approx(-0.2 * math.log(0.3 / 0.5) + 0.2 * math.log(0.7 / 0.5))
    assert (found.reference, found.current) == (100, 100)


def test_same_distribution_stays_within_chance() -> None:
    """One sample in a hundred may exceed it, not one in twenty."""
    chance = np.random.default_rng(2)
    beyond = 0
    for _ in range(400):
        found = stability(chance.normal(size=300).tolist(), chance.normal(size=120).tolist())
        assert found is not None
        beyond += found.index > found.chance
    assert beyond < 400 * 0.03


@pytest.mark.parametrize("change", [lambda x: x + 1, lambda x: x * 3])
def test_another_distribution_does_not(change: object) -> None:
    chance = np.random.default_rng(3)
    before, now = chance.normal(size=500), change(chance.normal(size=200))  # type: ignore[operator]
    found = stability(before.tolist(), now.tolist())
    assert found is not None
    assert found.index > max(0.25, found.chance)


def test_numbers_of_few_values_are_told_apart() -> None:
    same = stability([5.0] * 80, [5.0] * 40)
    moved = stability([5.0] * 80, [1.25] * 40)
    spread = stability([5.0] * 80, np.linspace(1, 9, 40).tolist())
    assert same is not None
    assert moved is not None
    assert spread is not None
    assert same.index == 0
    assert moved.index > moved.chance > 0
    assert spread.index > spread.chance
    assert stability([], [1.0]) is None
    assert stability([1.0], []) is None


def test_calibrated_scores_and_others() -> None:
    chance = np.random.default_rng(4)
    scores = chance.beta(1, 4, 4000)
    labels = (chance.random(4000) < scores).tolist()
    good = calibration(scores.tolist(), labels)
    bad = calibration(np.sqrt(scores).tolist(), labels)
    assert good is not None
    assert bad is not None
    assert good.ece < 0.03
    assert abs(good.z) < 2.58
    assert bad.ece > 0.15
    assert abs(bad.z) > 10
    assert good.brier < bad.brier
    assert sum(one.positive.cases for one in good.bins) == 4000


def test_calibration_by_hand() -> None:
    found = calibration([0.0, 0.1, 0.9, 1.0], [False, False, True, True], bins=2)
    assert found is not None
    assert found.brier == pytest.approx((0.01 + 0.01) / 4)
    assert found.ece == pytest.approx(0.05)
    assert [(one.score, one.positive.hits) for one in found.bins] == [
        (pytest.approx(0.05), 0),
        (pytest.approx(0.95), 2),
    ]
    assert calibration([], []) is None
    with pytest.raises(UsageError):
        calibration([1.5], [True])


def test_agreement_and_predictive_values() -> None:
    flagged = [True] * 9 + [False] + [True] * 20 + [False] * 70
    labels = [True] * 10 + [False] * 90
    found = agreement(flagged, labels)
    assert found is not None
    assert (found.sensitivity, found.specificity) == (Proportion(9, 10), Proportion(70, 90))
    assert found.observed == Proportion(9, 29)
    assert found.predictive_value(0.1).value == pytest.approx(9 / 29)
    even = found.predictive_value(0.5)
    assert even.value == pytest.approx(0.9 / (0.9 + 20 / 90))
    (low, high), (below, above) = found.sensitivity.interval, found.specificity.interval
    assert even.low == pytest.approx(low / (low + 1 - below))
    assert even.high == pytest.approx(high / (high + 1 - above))
    assert agreement([], []) is None
    none = agreement([False], [False])
    assert none is not None
    assert math.isnan(none.predictive_value(0.1).value)


def test_latency() -> None:
    found = latency([float(value) for value in range(101)])
    assert found is not None
    assert (found.p50, found.p95, found.count) == (50, 95, 101)
    assert latency([]) is None
