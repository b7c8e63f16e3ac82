"""k-anonymity: counted by people, for one series and for all series of a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hypothesis import given
from hypothesis import strategies as st

from voxelvault.deid.k_anonymity import KAnonymity, Report, quasi_identifiers
from voxelvault.deid.model import Option

ROWS: list[tuple[str, dict[str, object]]] = [
    ("P1", {"PatientSex": "F", "PatientAge": "045Y", "Modality": "CT"}),
    ("P1", {"PatientSex": "F", "PatientAge": "045Y", "Modality": "CT"}),
    ("P2", {"PatientSex": "F", "PatientAge": "045Y", "Modality": "CT"}),
    ("P2", {"PatientSex": "F", "PatientAge": "045Y", "Modality": "MR"}),
    ("P3", {"PatientSex": "M", "PatientAge": None, "Modality": "MR"}),
]


def k_anonymity(rows: Iterable[tuple[str, Mapping[str, object]]], columns: Iterable[str]) -> Report:
    counted = KAnonymity(columns)
    for person, values in rows:
        counted.add(person, values)
    return counted.report()


def test_classes_count_people_not_rows() -> None:
    report = k_anonymity(ROWS, quasi_identifiers([]))
    assert (report.rows, report.people) == (5, 3)
    assert report.columns == ("PatientSex", "PatientAge", "Modality")
    assert (report.by_row.smallest, report.by_row.unique, report.by_row.people_alone) == (1, 2, 2)
    assert report.by_row.histogram == {"1": 2, "2": 1}
    assert (report.by_person.smallest, report.by_person.unique) == (1, 3)


def test_rows_that_all_share_are_one_class() -> None:
    report = k_anonymity(((str(number), {"Modality": "CT"}) for number in range(60)), ["Modality"])
    assert (report.by_row.smallest, report.by_row.unique) == (60, 0)
    assert report.by_person.histogram == {"50 and more": 1}


def test_no_rows_have_no_class() -> None:
    report = k_anonymity([], quasi_identifiers([]))
    assert (report.by_row.smallest, report.people, report.columns) == (0, 0, ())


def test_options_say_what_may_point_at_somebody() -> None:
    assert "StudyDate" not in quasi_identifiers([Option.RETAIN_MODIFIED_DATES])
    assert "StudyDate" in quasi_identifiers([Option.RETAIN_FULL_DATES])
    assert "InstitutionName" in quasi_identifiers([Option.RETAIN_INSTITUTION])
    kept = quasi_identifiers([], ["PatientName", "Modality"])
    assert kept == (*quasi_identifiers([]), "PatientName")
    assert "PatientWeight" in quasi_identifiers([Option.RETAIN_PATIENT_CHARACTERISTICS])


@given(st.lists(st.tuples(st.sampled_from("ABCDE"), st.sampled_from("xyz"))))
def test_the_smallest_class_is_the_smallest(pairs: list[tuple[str, str]]) -> None:
    report = k_anonymity(((person, {"Modality": value}) for person, value in pairs), ["Modality"])
    people = {value: {p for p, v in pairs if v == value} for _, value in pairs}
    assert report.by_row.smallest == min(map(len, people.values()), default=0)
    assert sum(report.by_row.histogram.values()) == len(people)
    alone = set().union(*(who for who in people.values() if len(who) == 1))
    assert (report.by_row.people_alone, report.people) == (len(alone), len({p for p, _ in pairs}))
    told = {person: frozenset(v for p, v in pairs if p == person) for person, _ in pairs}
    alike = [sum(one == other for other in told.values()) for one in set(told.values())]
    assert report.by_person.smallest == min(alike, default=0)
    assert report.by_person.unique == alike.count(1)
