"""Dates and ages in text: many forms, several languages, and what must not be taken for one."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelvault.deid.text_dates import cap_ages, find_dates

MOVED = [
    ("20040119", "20031210"),
    ("20040119072731", "20031210072731"),
    ("2004-01-19T07:27", "2003-12-10T07:27"),
    ("2004/1/19", "2003/12/10"),
    ("19.01.2004", "10.12.2003"),
    ("9.1.2004", "30.11.2003"),
    ("19.01.04", "10.12.03"),
    ("01/19/2004", "12/10/2003"),
    ("19/01/04", "10/12/03"),
    ("19-01-2004", "10-12-2003"),
    ("19-JAN-2004", "10-DEC-2003"),
    ("19JAN2004", "10DEC2003"),
    ("19 Jan '04", "10 Dec '03"),
    ("January 19, 2004", "December 10, 2003"),
    ("Jan. 19th 2004", "Dec. 10 2003"),
    ("Mon Jan 19 07:27:31 2004", "Dec 10 07:27:31 2003"),
    ("Monday, 19 January 2004", "10 December 2003"),
    ("19. März 2004", "08. Februar 2004"),
    ("1er mars 2004", "21 janvier 2004"),
    ("5 de enero de 2004", "26 de noviembre de 2003"),
    ("2004年1月19日", "2003年12月10日"),
    ("２００４年１月１９日", "2003年12月10日"),
    ("2004년 1월 19일", "2003년 12월 10일"),
    ("2004-Jan-19", "2003-Dec-10"),
    ("19012004", "10122003"),
    ("01/2004", "12/2003"),
    ("2004-01", "2003-12"),
    ("January 2004", "December 2003"),
    ("19 January", "10 December"),
    ("03/03/2021", "22/01/2021"),
]


def shifted(text: str, days: int) -> str:
    """Move every date in a text; ``[date]`` stands for those that can't be moved."""
    for one in reversed(find_dates(text)):
        text = text[: one.start] + (one.moved(days) or "[date]") + text[one.stop :]
    return text


@pytest.mark.parametrize(("text", "moved"), MOVED)
def test_a_date_in_text_moves_and_keeps_its_form(text: str, moved: str) -> None:
    assert shifted(f"seen {text}, again", -40) == f"seen {moved}, again"


@pytest.mark.parametrize("text", ["99/99/2004", "2004-13-45", "30.02.2004", "31 June 2004", "03/04/2021"])
def test_what_the_calendar_lacks_or_nobody_can_tell_is_masked(text: str) -> None:
    assert shifted(f"on {text}.", -40) == "on [date]."
    assert find_dates(text)[0].moved(-40) is None


def test_both_readings_are_known() -> None:
    assert find_dates("03/04/2021")[0].days == (date(2021, 3, 4), date(2021, 4, 3))


@pytest.mark.parametrize(
    "text",
    [
        "T2 TSE 2.0mm 512x512",
        "MAR 3 recon",
        "v 1.2.04",
        "5.12.14 mm",
        "syngo MR 2004A",
        "IMA 20041350",
        "1/2 FOV",
    ],
)
def test_what_is_no_date_stays(text: str) -> None:
    assert shifted(text, -40) == text


def test_every_date_moves() -> None:
    assert shifted("20040119-20040131 and 8/2004", -40) == "20031210-20031222 and 7/2004"


@given(
    st.dates(date(1901, 1, 1), date(2099, 12, 31)),
    st.sampled_from(["%Y%m%d", "%Y-%m-%d", "%d.%m.%Y", "%d %B %Y", "%b %d, %Y", "%d-%b-%Y", "%Y/%m/%d"]),
    st.integers(-365, -1),
)
def test_any_day_in_any_form(day: date, form: str, days: int) -> None:
    to = day + timedelta(days=days)
    if to.year < 1900 or (day.month == 5 and "%b" in form):  # "May" is its own abbreviation
        return
    expected = to.strftime(form)
    assert shifted(f"DATE {day.strftime(form)} x", days) == f"DATE {expected} x"


@given(st.text(max_size=40))
def test_no_text_makes_it_fail(text: str) -> None:
    shifted(cap_ages(text), -365)


@pytest.mark.parametrize(
    ("text", "capped"),
    [
        ("92-year-old man", "90-year-old man"),
        ("aged 104", "aged 90"),
        ("93 y.o.", "90 y.o."),
        ("101 ans", "90 ans"),
        ("95 Jahre", "90 Jahre"),
        ("88 y.o.", "88 y.o."),
        ("120 kV, 95 mA", "120 kV, 95 mA"),
    ],
)
def test_ages_over_89_in_text(text: str, capped: str) -> None:
    assert cap_ages(text) == capped
