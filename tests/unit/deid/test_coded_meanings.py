"""The meaning of a code that a dictionary knows is the dictionary's, whatever the sender wrote."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from deid_support import Hashes, image, reread, rewritten


def released(value: str, scheme: str, text: str = "Secret") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, text
    source = image()
    source.AnatomicRegionSequence = Sequence([item])
    found = rewritten(reread(source)).dataset.AnatomicRegionSequence[0]
    assert isinstance(found, Dataset)
    return found


@pytest.mark.parametrize(
    ("value", "scheme", "meaning"),
    [
        ("121008", "DCM", "Person Observer Name"),
        ("ms", "UCUM", "millisecond"),
        ("38266002", "SCT", "Entire body"),
        ("T-B7000", "SRT", "Parathyroid"),
        ("en", "ISO639_1", "English"),
        ("en-US", "RFC5646", "English (United States)"),
        ("de", "RFC3066", "German"),
        ("AT", "ISO3166_1", "Austria"),
        ("5.6.3-9-2", "SCPECG", "Lead II"),
    ],
)
@pytest.mark.parametrize("text", ["Secret", "Person Observer Name", "milliseconds", "Secret" * 10])
def test_what_the_sender_wrote_makes_no_difference(value: str, scheme: str, meaning: str, text: str) -> None:
    made = released(value, scheme, text)
    assert str(made.CodeMeaning).casefold().startswith(meaning.casefold())
    assert (made.CodeValue, made.CodingSchemeDesignator) == (value, scheme)


@pytest.mark.parametrize(
    ("value", "scheme"),
    [("121999999", "DCM"), ("121008", "99LOCAL"), ("121008", "SCT"), ("en-XQ", "RFC5646"), ("ms", "")],
)
def test_a_code_of_no_dictionary_has_a_cleaned_meaning(value: str, scheme: str) -> None:
    assert str(released(value, scheme).CodeMeaning) == "XXX"


def test_a_meaning_is_not_made_where_there_was_none() -> None:
    assert str(released("121008", "DCM", "").CodeMeaning) == ""


def test_leads_are_of_a_scheme_that_the_standard_names() -> None:
    made = released("5.6.3-9-8", "SCPECG")
    assert (made.CodeValue, made.CodingSchemeDesignator) == ("5.6.3-9-8", "SCPECG")
    assert released("5.6.3-4711", "SCPECG").CodeValue == Hashes().other("5.6.3-4711")
