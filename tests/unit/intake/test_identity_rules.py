"""Whose object is it: the rule itself, on people nobody thought of."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelvault.dicom.read import Header
from voxelvault.intake.identity import (
    Decision,
    KnownSubject,
    Person,
    contradiction,
    decide,
    fill_in,
    name_words,
    person_of,
    valid_uids,
)

people = st.builds(
    Person,
    issuer=st.just("house"),
    patient_id=st.just("7"),
    name=st.sampled_from(["", "Doe", "Doe^Jo", "DOE^JO^ANN", "Doe^Jane", "Roe", "Jo"]),
    birth_date=st.sampled_from(["", "1950-01-01", "1951-01-01"]),
    sex=st.sampled_from(["", "F", "M", "f"]),
)
studies = st.sampled_from(["1.1", "1.2", "1.3"])


class Registry:
    """What the directory does with decisions, in a few lines."""

    def __init__(self) -> None:
        self.known: list[KnownSubject] = []
        self.seen: dict[str, list[Person]] = {}
        self.conflicts: list[tuple[str, str]] = []

    def take(self, person: Person, study: str) -> str:
        decision = decide(person, study, self.known)
        if decision.subject_id is None:
            subject_id = f"s{len(self.known)}"
            self.known.append(KnownSubject(subject_id, person, decision.provisional, frozenset({study})))
            if decision.conflict_with:
                self.conflicts.append((subject_id, decision.conflict_with))
        else:
            subject_id = decision.subject_id
            at = next(n for n, s in enumerate(self.known) if s.subject_id == subject_id)
            old = self.known[at]
            self.known[at] = replace(old, person=fill_in(old.person, [person]), studies=old.studies | {study})
        self.seen.setdefault(subject_id, []).append(person)
        return subject_id


@given(st.lists(st.tuples(people, studies), max_size=12))
def test_nobody_shares_a_subject_with_whom_it_contradicts(arrivals: list[tuple[Person, str]]) -> None:
    registry = Registry()
    for person, study in arrivals:
        registry.take(person, study)
    for subject in registry.known:
        members = registry.seen[subject.subject_id]
        assert not any(contradiction(member, subject.person) for member in members)
        full = [p for p in members if p.birth_date and p.sex]
        assert len({(p.birth_date, p.sex.upper()) for p in full}) <= 1


@given(st.lists(st.tuples(people, studies), max_size=12))
def test_every_provisional_subject_has_a_conflict_to_resolve(arrivals: list[tuple[Person, str]]) -> None:
    registry = Registry()
    for person, study in arrivals:
        registry.take(person, study)
    provisional = {subject.subject_id for subject in registry.known if subject.provisional}
    assert provisional == {one for one, _ in registry.conflicts}
    assert sum(not subject.provisional for subject in registry.known) == (1 if registry.known else 0)


@given(st.lists(st.tuples(people, studies), max_size=10), people, studies)
def test_the_same_object_again_comes_to_the_same_subject(
    arrivals: list[tuple[Person, str]], person: Person, study: str
) -> None:
    """As long as its study hasn't been claimed by another meanwhile: right after it came."""
    registry = Registry()
    for someone, somewhere in arrivals:
        registry.take(someone, somewhere)
    assert registry.take(person, study) == registry.take(person, study)


@given(st.lists(st.tuples(people, studies), min_size=1, max_size=10), people, studies)
def test_merged_subjects_are_never_undetermined_between_themselves(
    arrivals: list[tuple[Person, str]], person: Person, study: str
) -> None:
    registry = Registry()
    for someone, somewhere in arrivals:
        registry.take(someone, somewhere)
    merged = [replace(s, merged_into="s0" if s.subject_id != "s0" else "") for s in registry.known]
    decision = decide(person, study, merged)
    fits = [s for s in merged if not contradiction(person, s.person)]
    assert (decision.subject_id is not None) is bool(fits)
    assert decision.reason != "undetermined"


@given(people, people)
def test_contradiction_is_mutual_and_none_to_oneself(one: Person, other: Person) -> None:
    assert contradiction(one, other) == contradiction(other, one)
    assert contradiction(one, one) == ""


@given(people, people)
def test_filling_in_only_adds(one: Person, other: Person) -> None:
    filled = fill_in(one, [other])
    assert name_words(filled.name) >= name_words(one.name)
    assert (filled.birth_date, filled.sex) == (one.birth_date or other.birth_date, one.sex or other.sex)


def test_two_who_fit_are_never_picked_between() -> None:
    known = [
        KnownSubject("a", Person("", "7", "Doe^Jo"), False, frozenset({"1.1"})),
        KnownSubject("b", Person("", "7", "Roe^Al"), True, frozenset({"1.2"})),
    ]
    assert decide(Person("", "7"), "1.2", known) == Decision("b")
    assert decide(Person("", "7"), "1.3", known) == Decision(None, True, "a", "undetermined")


def test_an_empty_id_is_not_picked_between_either() -> None:
    known = [
        KnownSubject("a", Person("", "", "Doe^Jo", only_study="1.1"), False, frozenset({"1.1"})),
        KnownSubject("b", Person("", "", "Roe^Al", only_study="1.1"), True, frozenset({"1.1"})),
    ]
    assert decide(Person("", "", "Roe^Al", only_study="1.1"), "1.1", known) == Decision("b")
    assert decide(Person("", "", only_study="1.1"), "1.1", known).reason == "undetermined"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("MÜLLER^ANNA", "Muller^Anna", True),
        ("Doe^Jo^^Dr.", "Doe^Jo", True),
        ("山田^太郎=Yamada^Tarou", "山田^太郎", True),
        ("O'Neil^Pat", "ONEIL^PAT", False),
        ("", "Doe", True),
        ("Doe^Jo", "Doe^Jane", False),
    ],
)
def test_spellings(one: str, other: str, same: bool) -> None:
    assert (contradiction(Person("", "1", one), Person("", "1", other)) == "") is same


def _header(**values: str) -> Header:
    tags = {"StudyInstanceUID": "0020000D", "SOPInstanceUID": "00080018", "PatientID": "00100020"}
    model = {tags[k]: {"vr": "LO" if k == "PatientID" else "UI", "Value": [v]} for k, v in values.items()}
    return Header(model)


@pytest.mark.parametrize(
    "uid", ["../1", "..1", "1.2/3", "1.2.3\n", "a", "1" * 65, "1.2.3;drop", "1 2", "<b>1"]
)
def test_uids_that_are_none(uid: str) -> None:
    assert not valid_uids(_header(StudyInstanceUID=uid))


@pytest.mark.parametrize("uid", ["1.2.840.01", "ID_0a1b2c3d", "dccc9599087131742838", "1.2.3a-b"])
def test_uids_that_will_do(uid: str) -> None:
    assert valid_uids(_header(StudyInstanceUID=uid))


def test_who_is_meant_without_an_id() -> None:
    assert person_of(_header(StudyInstanceUID="1.2"), "", "ff").only_study == "1.2"
    assert person_of(_header(SOPInstanceUID="1.3"), "", "ff").only_study == "1.3"
    assert person_of(_header(), "", "ff").only_study == "ff"
    assert person_of(_header(PatientID="7", StudyInstanceUID="1.2"), "x", "ff") == Person("x", "7")
