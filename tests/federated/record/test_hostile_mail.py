"""Letters of a party that means ill: they end no process and touch nobody else's log."""

from __future__ import annotations

import pytest
from whole_consortium import Whole

from voxelvault_fl.errors import MessageRefused
from voxelvault_fl.record.office import Letter, unpack_letters

LETTER = '{"body":"%s","kind":"request","sender":"a","status":0,"to":"b"}'


@pytest.mark.parametrize("letter", [LETTER % "\\ud800", LETTER.replace(":0", ":NaN"), LETTER + " "])
def test_a_bag_that_could_not_be_passed_on_is_refused(letter: str) -> None:
    assert unpack_letters(f"vvmail1\n[{LETTER % 'x'}]".encode())
    with pytest.raises(MessageRefused):
        unpack_letters(f"vvmail1\n[{letter}]".encode())


@pytest.mark.parametrize("size", ["9" * 5000, "1e3", "\N{ARABIC-INDIC DIGIT FIVE}", "-1"])
def test_a_size_that_is_none_asks_for_nothing(whole: Whole, size: str) -> None:
    office = whole.parties["north"].office
    office._request("west", 0)
    before = len(office.alarms)
    assert office.receive([Letter("west", "north", "answer", size, 409)]) == []
    assert len(office.alarms) == before + 1
    del office.alarms[before:]


def test_nobody_takes_the_name_of_anothers_log(whole: Whole) -> None:
    office = whole.parties["north"].office
    for owner in ("east", "north"):
        told = str(whole.parties[owner].office.log.key)
        before, known = len(office.alarms), office.log_key_of("west")
        office.receive([Letter("west", "north", "key", told)])
        assert "log of another" in str(office.alarms[before])
        assert office.log_key_of("west") == known
        del office.alarms[before:]
