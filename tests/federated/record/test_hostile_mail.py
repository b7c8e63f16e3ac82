"""Letters of a party that means ill: they end no process and touch nobody else's log."""

from __future__ import annotations

from base64 import b64encode

import pytest
from whole_consortium import Whole

from voxelvault_fl.errors import MessageRefused
from voxelvault_fl.record.office import Letter, _key_of, unpack_letters

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
        told = signed(whole, "west", str(whole.parties[owner].office.log.key))
        before, known = len(office.alarms), office.log_key_of("west")
        office.receive([Letter("west", "north", "key", told)])
        assert "log of another" in str(office.alarms[before])
        assert office.log_key_of("west") == known
        del office.alarms[before:]


def signed(whole: Whole, party: str, key: str) -> str:
    mark = whole.parties[party].office.key.sign(_key_of(party, key))
    return f"{key}\n{b64encode(mark).decode()}"


@pytest.mark.parametrize("mark", ["", "\nx", "\n" + "A" * 88])
def test_who_passes_letters_on_tells_no_log_of_another_party(whole: Whole, mark: str) -> None:
    """The first key that is told stays: a false one would shut the party's true log out for good."""
    office = whole.parties["north"].office
    told = str(whole.parties["west"].office.log.key)
    office.kept.delete("logs/west")
    before = len(office.alarms)
    office.receive([Letter("west", "north", "key", told + mark)])
    assert "isn't signed by the party" in str(office.alarms[before])
    del office.alarms[before:]
    assert office.log_key_of("west") is None
    office.receive([Letter("west", "north", "key", signed(whole, "east", told))])
    assert office.log_key_of("west") is None
    del office.alarms[before:]
    office.receive([Letter("west", "north", "key", whole.parties["west"].office.key_told())])
    assert str(office.log_key_of("west")) == told
