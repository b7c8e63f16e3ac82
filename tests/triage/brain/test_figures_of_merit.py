"""Areas, intervals and calibration against cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from voxelvault_triage.training import metrics


def test_area_of_known_orders() -> None:
    assert metrics.auc([1, 2, 3, 4], [0, 0, 1, 1]) == 1
    assert metrics.auc([1, 2, 3, 4], [1, 1, 0, 0]) == 0
    assert metrics.auc([1, 1, 1, 1], [1, 0, 1, 0]) == 0.5
    assert metrics.auc([1, 3, 2, 4], [0, 0, 1, 1]) == 0.75
    assert np.isnan(metrics.auc([1, 2], [1, 1]))


def test_the_interval_holds_the_area_and_is_the_same_again() -> None:
    rng = np.random.default_rng(0)
    flags = np.arange(100) % 2 == 1
    scores = rng.normal(flags * 1.5)
    found = metrics.auc_interval(scores, flags, draws=300)
    assert found.low < found.value < found.high
    assert found == metrics.auc_interval(scores, flags, draws=300)


def test_wilson_against_the_published_example() -> None:
    # Newcombe 1998, Stat Med 17:857-872, table I: 81 of 263, score method.
    found = metrics.wilson(81, 263)
    assert found.value == pytest.approx(0.3080, abs=1e-4)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert metrics.wilson(0, 0).high == 1


def test_predictive_value_falls_with_prevalence() -> None:
    assert metrics.predictive(0.9, 0.8, 0.1) == pytest.approx(1 / 3)
    assert metrics.predictive(0.9, 0.8, 0.05) < metrics.predictive(0.9, 0.8, 0.2)


def test_calibration_of_honest_and_of_boastful_probabilities() -> None:
    flags = np.array([0, 0, 0, 1] * 20)
    assert metrics.calibration_error(metrics.calibration(np.full(80, 0.25), flags)) == pytest.approx(0)
    assert metrics.calibration_error(metrics.calibration(np.full(80, 0.95), flags)) == pytest.approx(0.7)
    assert metrics.brier([0, 1], [0, 1]) == 0
