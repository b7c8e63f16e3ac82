"""Areas, intervals and calibration against cases that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, mannwhitneyu

from voxelvault_triage import merit
from voxelvault_triage.merit import Proportion


def test_area_of_known_orders() -> None:
    assert merit.auc([1, 2, 3, 4], [0, 0, 1, 1]) == 1
    assert merit.auc([1, 2, 3, 4], [1, 1, 0, 0]) == 0
    assert merit.auc([1, 1, 1, 1], [1, 0, 1, 0]) == 0.5
    assert merit.auc([1, 3, 2, 4], [0, 0, 1, 1]) == 0.75
    assert np.isnan(merit.auc([1, 2], [1, 1]))


def test_the_interval_holds_the_area_and_is_the_same_again() -> None:
    rng = np.random.default_rng(0)
    flags = np.arange(100) % 2 == 1
    scores = rng.normal(flags * 1.5)
    found = merit.auc_interval(scores, flags, draws=300)
    assert found.low < found.value < found.high
    assert found == merit.auc_interval(scores, flags, draws=300)


@pytest.mark.parametrize(("hits", "cases"), [(0, 10), (1, 10), (15, 148), (81, 263), (10, 10)])
def test_wilson_as_scipy_has_it(hits: int, cases: int) -> None:
    expected = binomtest(hits, cases).proportion_ci(method="wilson")
    assert Proportion(hits, cases).interval == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_newcombes_table() -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3.
    assert Proportion(81, 263).interval == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert math.isnan(Proportion(0, 0).rate)
    assert math.isnan(Proportion(0, 0).figure.high)
    assert str(Proportion(0, 0).figure) == "- (n=0)"
    assert not Proportion(0, 0).apart(Proportion(5, 10))
    assert Proportion(10, 100).apart(Proportion(40, 100))
    assert not Proportion(10, 100).apart(Proportion(15, 100))


def test_predictive_value_falls_with_prevalence() -> None:
    assert merit.predictive_value(0.9, 0.8, 0.1) == pytest.approx(1 / 3)
    assert merit.predictive_value(0.9, 0.8, 0.05) < merit.predictive_value(0.9, 0.8, 0.2)


def test_area_as_scipy_has_it() -> None:
    rng = np.random.default_rng(5)
    scores, flags = rng.integers(0, 9, 200), rng.random(200) < 0.3
    expected = mannwhitneyu(scores[flags], scores[~flags]).statistic / (flags.sum() * (~flags).sum())
    assert merit.auc(scores, flags) == pytest.approx(expected)


def test_calibration_of_honest_and_of_boastful_probabilities() -> None:
    flags = np.array([0, 0, 0, 1] * 20)
    assert merit.expected_error(merit.reliability(np.full(80, 0.25), flags)) == pytest.approx(0)
    assert merit.expected_error(merit.reliability(np.full(80, 0.95), flags)) == pytest.approx(0.7)
    assert merit.brier([0, 1], [0, 1]) == 0
