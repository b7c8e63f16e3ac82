"""Small lists whose order can be told by hand; schedules, arrivals and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from voxelvault.errors import UsageError
from voxelvault_triage.simulation.arrivals import Measured, Poisson
from voxelvault_triage.simulation.compare import Department, compare, estimate
from voxelvault_triage.simulation.flags import OperatingPoint
from voxelvault_triage.simulation.queueing import FIRST_COME, FLAGGED, OTHER, UNKNOWN, Day, Order, waits
from voxelvault_triage.simulation.readers import Reading, Shift
from voxelvault_triage.worklist.order import Rules, ordered
from voxelvault_triage.worklist.states import Priority


def day(arrival: list[float], flagged: list[bool], reading: float = 10.0) -> Day:
    count = len(arrival)
    marks = np.array(flagged)
    level = np.where(marks, FLAGGED, OTHER)
    return Day(np.array(arrival, float), np.full(count, reading), marks, level, np.full(count, 0.5))


ROUND_THE_CLOCK = (Shift(),)


def begins(given: Day, order: Order, shifts: tuple[Shift, ...] = ROUND_THE_CLOCK) -> list[float]:
    return (waits(given, shifts, order) + given.arrival).tolist()


def test_first_come_first_read() -> None:
    assert begins(day([0, 1, 2], [False, False, True]), FIRST_COME) == [0, 10, 20]


def test_the_flagged_one_goes_first_but_interrupts_nobody() -> None:
    assert begins(day([0, 1, 2], [False, False, True]), Order()) == [0, 20, 10]


def test_among_flagged_ones_the_older_goes_first() -> None:
    assert begins(day([0, 1, 2, 3], [False, False, True, True]), Order()) == [0, 30, 10, 20]


def test_a_result_that_comes_late_changes_nothing_before_it_comes() -> None:
    given = day([0, 1, 2, 3], [False, False, False, True])
    assert begins(given, Order(delay=7)) == [0, 20, 30, 10]
    assert begins(given, Order(delay=1000)) == [0, 10, 20, 30]


def test_what_nobody_knows_goes_between() -> None:
    # At 10 the results of two are there, and that of the third is still to come.
    given = day([0, 1, 2, 3], [False] * 4)
    assert begins(given, Order(delay=7.5)) == [0, 20, 30, 10]
    never = replace(
        day([0, 1, 2, 3], [False, False, False, True]), level=np.array([OTHER, OTHER, UNKNOWN, FLAGGED])
    )
    assert begins(never, Order()) == [0, 30, 20, 10]


def test_who_waited_long_enough_stands_level_again() -> None:
    given = day([0, 1, 5, 15], [False, False, True, True])
    # Two steps from LOW to HIGH.
    assert begins(given, Order(ageing=8)) == [0, 20, 10, 30]
    assert begins(given, Order(ageing=4)) == [0, 10, 20, 30]
    assert begins(given, Order(ageing=50)) == [0, 30, 10, 20]
    assert begins(given, Order(ageing=0)) == begins(given, Order(ageing=50))


@dataclass
class Item:
    """As the worklist sees it."""

    priority: Priority
    arrived: datetime
    state: str = "waiting"


def test_the_order_is_that_of_the_worklist() -> None:
    chance = np.random.default_rng(6)
    begin, ageing = datetime(2026, 1, 1), 60
    for _ in range(50):
        now, arrivals = 300.0, chance.integers(0, 300, 12)
        levels = chance.integers(0, 3, 12)
        items = [
            Item(list(Priority)[level], begin + timedelta(minutes=int(arrival)))
            for level, arrival in zip(levels, arrivals, strict=True)
        ]
        places = [
            Order(ageing).place(now, int(*pair[:1]), float(pair[1]))
            for pair in zip(levels, arrivals, strict=True)
        ]
        expected = ordered(items, begin + timedelta(minutes=now), Rules(ageing=timedelta(minutes=ageing)))
        assert [items[at] for at in sorted(range(12), key=places.__getitem__)] == expected


def test_a_list_that_is_not_heeded_is_first_come() -> None:
    given = day([0, 1, 2], [False, False, True])
    assert begins(given, Order(heeded=0.4)) == begins(given, FIRST_COME)
    assert begins(given, Order(heeded=0.6)) == begins(given, Order())


def test_two_readers_share_the_list() -> None:
    assert begins(day([0, 0, 1, 2], [False] * 4), FIRST_COME, (Shift(), Shift())) == [0, 0, 10, 10]


def test_nobody_reads_off_duty_and_a_read_begun_is_finished() -> None:
    shifts = (Shift.parse("8-9"),)
    # The one at 8:55 is read to its end, the one at 9:01 waits for the next morning.
    assert begins(day([0, 535, 541], [False] * 3), FIRST_COME, shifts) == [480, 535, 1440 + 480]


def test_a_night_shift_goes_past_midnight() -> None:
    night = Shift.parse("20:30-7")
    assert night == Shift(1230, 630)
    assert [night.on_duty(at) for at in (0, 419, 420, 1230, 1440)] == [0, 419, 1230, 1230, 1440]
    assert Shift.parse("0-24") == Shift()
    assert Shift.parse("22-24") == Shift(1320, 120)


def test_everybody_is_read_once_whatever_the_order() -> None:
    chance = np.random.default_rng(5)
    arrival = Poisson.steady(5).draw(3, chance)
    marks = chance.random(len(arrival)) < 0.3
    level = chance.integers(0, 3, len(arrival))
    given = Day(arrival, chance.exponential(9, len(arrival)), marks, level, chance.random(len(arrival)))
    shifts = (Shift.parse("8-18"), Shift.parse("12-22"))
    for order in (FIRST_COME, Order(), Order(60, 0.5, 3)):
        found = waits(given, shifts, order)
        assert np.isfinite(found).all()
        assert (found >= 0).all()
        assert len(np.unique(found + arrival)) == len(arrival)


def test_arrivals_by_the_hour() -> None:
    rates = tuple(10.0 if hour in (8, 9) else 0.0 for hour in range(24))
    drawn = Poisson(rates).draw(400, np.random.default_rng(1))
    assert set((drawn % 1440 // 60).astype(int)) == {8, 9}
    assert (np.diff(drawn) >= 0).all()
    assert len(drawn) / 400 == pytest.approx(20, rel=0.05)


def test_measured_days_are_drawn_whole() -> None:
    times = np.array(
        ["2026-03-01T23:00", "2026-03-02T08:00", "2026-03-02T08:01", "2026-03-04T12:00", "2026-03-05T01:00"],
        "datetime64[s]",
    )
    measured = Measured.of(times[[2, 0, 1, 4, 3]])
    # The record begins and ends within a day; the quiet day between counts.
    assert [part.tolist() for part in measured.days] == [[480, 481], [], [720]]
    assert measured.per_day == 1
    drawn = measured.draw(50, np.random.default_rng(0))
    assert set(drawn % 1440) == {480.0, 481.0, 720.0}
    assert (np.diff(drawn) > 0).all()


def test_a_record_of_one_day_is_that_day() -> None:
    assert Measured.of(np.array(["2026-03-01T10:30"], "datetime64[s]")).days[0].tolist() == [630]


def test_the_same_seed_gives_the_same() -> None:
    assumed = Department(
        Poisson.steady(4), ROUND_THE_CLOCK, Reading(9, 5), 0.15, OperatingPoint(0.8, 0.9), Order(60, 0.9, 2)
    )
    first, again, other = (compare(assumed, days=2, repeats=4, seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_an_interval_needs_two_repeats_with_a_value() -> None:
    found = estimate(np.array([1.0, np.nan]))
    assert found.mean == 1.0
    assert np.isnan([found.low, found.high]).all()
    assert estimate(np.array([1.0, 3.0, np.nan])).mean == 2.0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Poisson((1.0,)),
        lambda: Poisson.steady(0),
        lambda: Poisson.steady(-1),
        lambda: Measured.of(np.array([], "datetime64[s]")),
        lambda: Shift.parse("8"),
        lambda: Shift.parse("8-25"),
        lambda: Shift(0, 0),
        lambda: Reading(0),
        lambda: Reading(5, -1),
        lambda: OperatingPoint(1.2, 0.5),
        lambda: OperatingPoint.on_curve(1.0, 0.5),
        lambda: Order(heeded=2),
        lambda: Order(ageing=-1),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: object) -> None:
    with pytest.raises(UsageError):
        wrong()  # type: ignore[operator]


def test_ends_of_the_curve() -> None:
    assert OperatingPoint.on_curve(0.9, 0.0).sensitivity == 1
    assert OperatingPoint.on_curve(0.9, 1.0).sensitivity == 0
    assert OperatingPoint.on_curve(0.5, 0.7).sensitivity == pytest.approx(0.3)
    assert OperatingPoint(0.9, 0.9).positive_predictive_value(0.1) == pytest.approx(0.5)
