"""A patient's own values are collected from every depth of every header."""

from __future__ import annotations

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from voxelvault.deid.person import MAX_DEPTH, collect, name_words


def _dataset(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def test_names_come_with_every_component_group_and_of_everybody() -> None:
    first = _dataset(PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう", OperatorsName=["Smith^Ann", "Li^Wu"])
    person = collect([first, _dataset(PatientName="Tanaka")], "subject")
    assert person.names == {"Yamada^Tarou", "山田^太郎", "やまだ^たろう", "Smith^Ann", "Li^Wu", "Tanaka"}
    assert person.subject == "subject"


def test_nested_values_are_found() -> None:
    inner = _dataset(AccessionNumber="ACC-1", PersonName="Deep^Down")
    for _ in range(4):
        inner = _dataset(RequestAttributesSequence=Sequence([inner]))
    person = collect([inner], "s")
    assert person.ids == {"ACC-1"}
    assert person.names == {"Deep^Down"}


def test_nesting_without_end_is_not_followed() -> None:
    inner = _dataset(PatientID="X")
    for _ in range(MAX_DEPTH + 5):
        inner = _dataset(RequestAttributesSequence=Sequence([inner]))
    assert collect([inner], "s").ids == frozenset()


def test_ids_addresses_places_and_dates_of_birth_are_kept_apart() -> None:
    dataset = _dataset(
        PatientID="123 ",
        OtherPatientIDs=["A1", "B2"],
        PatientAddress="12 Main Street",
        InstitutionName="St. Elsewhere",
        InstitutionalDepartmentName="Radiology",
        PatientBirthDate="19450612",
        StudyDate="20200101",
        PatientTelephoneNumbers="555 1234",
    )
    person = collect([dataset], "s")
    assert person.ids == {"123", "A1", "B2"}
    assert person.texts == {"12 Main Street", "St. Elsewhere", "555 1234"}
    assert person.dates == {"19450612"}


def test_a_name_counts_under_whatever_vr_it_stands() -> None:
    elements = [
        (0x00100010, "LO", b"Okonkwo^Chidi "),
        (0x00081070, "UT", b"Smith^Ann\\Li^Wu "),
        (0x00100020, "OB", b"4711-08 "),
    ]
    raw = {
        Tag(tag): RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)
        for tag, vr, value in elements
    }
    person = collect([Dataset(raw)], "s")
    assert person.names == {"Okonkwo^Chidi", "Smith^Ann", "Li^Wu"}
    assert person.ids == {"4711-08"}


def test_titles_are_no_names() -> None:
    assert name_words("Müller-Lüdenscheidt^Karl J^^Dr.^MD") == ["muller", "ludenscheidt", "karl", "j"]
