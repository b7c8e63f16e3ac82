"""The simulated list against closed formulas of queueing theory."""

from __future__ import annotations

import math

import numpy as np
import pytest

from voxelvault_triage.simulation.arrivals import Poisson
from voxelvault_triage.simulation.compare import Department, Waiting, compare
from voxelvault_triage.simulation.flags import OperatingPoint
from voxelvault_triage.simulation.queueing import FIRST_COME, Order
from voxelvault_triage.simulation.readers import Reading, Shift

PER_HOUR = 9.0
MEAN = 5.0
PREVALENCE = 0.2
MODEL = OperatingPoint(0.9, 0.9)
FLAGGED = PREVALENCE * 0.9 + (1 - PREVALENCE) * 0.1


def department(readers: int = 1, order: Order = FIRST_COME, reading: Reading | None = None) -> Department:
    return Department(
        Poisson.steady(PER_HOUR * readers),
        (Shift(),) * readers,
        reading or Reading(MEAN),
        PREVALENCE,
        MODEL,
        order,
    )


def erlang_c(readers: int, load: float) -> float:
    """Probability that a study waits at all, M/M/c."""
    offered = readers * load
    some = sum(offered**n / math.factorial(n) for n in range(readers))
    all_busy = offered**readers / math.factorial(readers) / (1 - load)
    return all_busy / (some + all_busy)


def classes(readers: int, load: float) -> tuple[float, float]:
    """Mean waits of flagged and other studies, non-preemptive M/M/c (Cobham; Kella and Yechiali)."""
    first = erlang_c(readers, load) * MEAN / readers
    high = first / (1 - load * FLAGGED)
    return high, high / (1 - load)


def near(found: object, expected: float, most: float = 0.08) -> None:
    """The interval is narrow, and the formula's value lies within half as much again."""
    half = found.high - found.mean  # type: ignore[attr-defined]
    assert half < most * expected
    assert abs(found.mean - expected) < 1.5 * half  # type: ignore[attr-defined]


def simulated(readers: int, order: Order, reading: Reading | None = None) -> dict[str, Waiting]:
    return compare(department(readers, order, reading), days=15, warm_up=2, repeats=40, seed=3)


@pytest.mark.parametrize("readers", [1, 3])
def test_exponential_reading_with_priorities(readers: int) -> None:
    found = simulated(readers, Order(ageing=0))
    load = department(readers).load
    assert load == pytest.approx(0.75)
    near(found["all"].before["mean"], erlang_c(readers, load) * MEAN / readers / (1 - load))
    high, low = classes(readers, load)
    near(found["flagged"].after["mean"], high)
    near(found["not flagged"].after["mean"], low)
    # What a patient meets: positives are flagged with the sensitivity, negatives without the specificity.
    near(found["positive"].after["mean"], 0.9 * high + 0.1 * low)
    near(found["negative"].after["mean"], 0.1 * high + 0.9 * low)


@pytest.mark.parametrize("deviation", [0.0, 4.0])
def test_other_reading_times_by_pollaczek_and_khinchine(deviation: float) -> None:
    found = simulated(1, Order(ageing=0), Reading(MEAN, deviation))
    rate = PER_HOUR / 60
    residual = rate * (MEAN**2 + deviation**2) / 2
    near(found["all"].before["mean"], residual / (1 - 0.75))
    near(found["flagged"].after["mean"], residual / (1 - 0.75 * FLAGGED))


def test_whom_the_order_helps_others_pay_for() -> None:
    """Where reading takes the same, flagged or not, the mean over all stays (Kleinrock's law)."""
    saved = simulated(1, Order(ageing=0))["all"].saved
    assert saved.low - 0.05 < 0 < saved.high + 0.05
    assert abs(saved.mean) < 0.1


def test_the_published_direction() -> None:
    """Flagged 12.02, others 15.45 minutes with re-ordering; no effect of a flag alone (PMC8043365).

    The article tells neither load nor reading times; these assumptions are chosen so that both means
    come out near: one reader busy 75 % of the time, exponential reading of 5 minutes, 10 % positives,
    sensitivity 0.90 and specificity 0.95, and 15 of 100 reads that take the top of the list.
    """
    assumed = Department(
        Poisson.steady(9), (Shift(),), Reading(5.0), 0.1, OperatingPoint(0.9, 0.95), Order(0, 0.15)
    )
    found = compare(assumed, days=14, warm_up=2, repeats=100, seed=1)
    flagged, other = found["flagged"].after["mean"], found["not flagged"].after["mean"]
    assert flagged.mean == pytest.approx(12.02, abs=0.6)
    assert other.mean == pytest.approx(15.45, abs=0.6)
    assert flagged.high < other.low
    assert found["flagged"].saved.low > 2
    alone = Department(assumed.arrivals, assumed.shifts, assumed.reading, 0.1, assumed.model, Order(0, 0))
    unchanged = compare(alone, days=14, warm_up=2, repeats=3, seed=1)
    assert unchanged["flagged"].before == unchanged["flagged"].after
    assert unchanged["flagged"].saved.mean == 0


def test_binormal_curve_has_its_area() -> None:
    specificities = np.linspace(0, 1, 2001)
    sensitivities = [OperatingPoint.on_curve(0.93, float(one)).sensitivity for one in specificities]
    assert float(np.trapezoid(sensitivities, specificities)) == pytest.approx(0.93, abs=1e-3)
