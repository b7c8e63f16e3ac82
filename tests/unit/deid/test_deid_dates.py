"""DA, DT and AS: every component kept, whole days only, nothing unread passes."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelvault.deid.dates import cap_age, shift_date, shift_datetime

DAYS = st.integers(-365, -1)


@given(st.dates(date(1850, 1, 1), date(2100, 1, 1)), DAYS)
def test_a_date_moves_by_whole_days_and_keeps_its_form(day: date, days: int) -> None:
    to = day + timedelta(days=days)
    assert shift_date(f"{day:%Y%m%d} ", days) == f"{to:%Y%m%d}"
    assert shift_date(f"{day:%Y.%m.%d}", days) == f"{to:%Y.%m.%d}"


@given(st.dates(date(1850, 1, 1), date(2100, 1, 1)), st.dates(date(1850, 1, 1), date(2100, 1, 1)), DAYS)
def test_intervals_stay(one: date, other: date, days: int) -> None:
    moved = [shift_date(f"{day:%Y%m%d}", days) for day in (one, other)]
    start, end = (date.fromisoformat(day or "") for day in moved)
    assert end - start == other - one


@pytest.mark.parametrize(
    ("value", "moved"),
    [
        ("20040119", "20031210"),
        ("20040119072731.123456+0130", "20031210072731.123456+0130"),
        ("20040119072731.1-0500", "20031210072731.1-0500"),
        ("2004011907", "2003121007"),
        ("200401190727", "200312100727"),
        ("20040119072760", "20031210072760"),
        ("200401", "200312"),
        ("2004", "2004"),
        ("2004+0100", "2004+0100"),
        ("", ""),
        (" ", ""),
    ],
)
def test_a_date_time_keeps_all_components(value: str, moved: str) -> None:
    assert shift_datetime(value, -40) == moved


@pytest.mark.parametrize(
    "value",
    [
        "20040230",
        "20041301",
        "20040119-20040131",
        "2004011",
        "19 JAN 2004",
        "20040119\\20040120",
        "00000000",
        "*",
    ],
)
def test_what_is_no_date_gives_none(value: str) -> None:
    assert shift_date(value, -1) is None
    assert shift_datetime(value, -1) is None


@pytest.mark.parametrize(
    "value", ["2004011925", "20040119-", "20040119+9900", "200401190727611", "2004011907.5"]
)
def test_what_is_no_date_time_gives_none(value: str) -> None:
    assert shift_datetime(value, -1) is None


def test_there_is_no_day_before_the_first() -> None:
    assert shift_date("00010101", -1) is None


@pytest.mark.parametrize(
    ("value", "capped"),
    [
        ("089Y", "089Y"),
        ("090Y", "090Y"),
        ("104Y", "090Y"),
        ("45y ", "045Y"),
        ("012M", "012M"),
        ("100D", "100D"),
        ("", ""),
        ("45", None),
        ("ninety", None),
        ("090Y\\091Y", None),
    ],
)
def test_ages_over_89_are_told_as_90(value: str, capped: str | None) -> None:
    assert cap_age(value) == capped
