"""What a card counts and warns of."""

from __future__ import annotations

import pytest

from voxelvault.deid.card import markdown
from voxelvault.deid.model import Option
from voxelvault.deid.profile import profile
from voxelvault.deid.receipt import Terms
from voxelvault.dicom.read import Header
from voxelvault.releasing.facts import Tally

KEEPS = "--option retain_patient_characteristics"


def card(*series: dict[str, object], options: tuple[Option, ...] = ()) -> str:
    tally = Tally(profile("research", options))
    for number, said in enumerate(series):
        for _ in range(2):  # files of one series
            tally.add(_header({"PatientID": "P1", "SeriesInstanceUID": f"1.2.{number}", **said}))
    terms = Terms("0" * 32, "research", "ab" * 32, "2026d", ("113100",), "0.1.0")
    return markdown(tally.facts(terms, refused=0, faces="", pattern=""))


def _header(said: dict[str, object]) -> Header:
    return said  # type: ignore[return-value]  # all that is asked of it is get


def test_a_pet_without_weight_is_told_with_the_option_that_keeps_it() -> None:
    text = card({"Modality": "PT"}, {"Modality": "PT", "PatientWeight": ""}, {"Modality": "CT"})
    assert "2 PET series have no PatientWeight" in text
    assert KEEPS in text


@pytest.mark.parametrize("said", [{"Modality": "PT", "PatientWeight": 70.0}, {"Modality": "CT"}, {}])
def test_nothing_is_told_where_nothing_is_missing(said: dict[str, object]) -> None:
    assert "no PatientWeight" not in card(said)


def test_an_option_in_force_is_not_offered() -> None:
    text = card({"Modality": "PT"}, options=(Option.RETAIN_PATIENT_CHARACTERISTICS,))
    assert "1 PET series has no PatientWeight" in text
    assert KEEPS not in text
