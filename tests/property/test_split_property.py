"""Splits under random people, merges, contradictions and growth: nobody stands in two parts."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import sqrt
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxelvault.catalog.engine import bound
from voxelvault.cohorts.groups import grouped
from voxelvault.cohorts.labels import Labels
from voxelvault.cohorts.parts import Recipe, assign, check
from voxelvault.cohorts.splitting import by_dealing, by_hash, shares
from voxelvault.errors import SplitViolation, UsageError

PARTS = st.lists(st.integers(0, 20), min_size=1, max_size=5).filter(any)
SUBJECTS = st.integers(1, 60)


def fractions(weights: list[int]) -> dict[str, Fraction]:
    return {f"part{at}": Fraction(weight, sum(weights)) for at, weight in enumerate(weights)}


@given(PARTS, st.lists(st.sampled_from("abc"), max_size=120), st.integers(0, 5))
def test_dealing_keeps_every_stratum_within_one_of_its_share_all_along(
    weights: list[int], strata: list[str], seed: int
) -> None:
    parts = fractions(weights)
    arrivals = [(f"group {at}", stratum) for at, stratum in enumerate(strata)]
    found = by_dealing(arrivals, parts, seed)
    counts: dict[str, Counter[str]] = {}
    for group, stratum in arrivals:
        count = counts.setdefault(stratum, Counter())
        count[found[group]] += 1
        for name, share in parts.items():
            assert abs(count[name] - share * count.total()) < 1


@given(PARTS, st.lists(st.sampled_from("abc"), max_size=60), st.lists(st.sampled_from("abcd"), max_size=60))
def test_who_comes_later_moves_nobody_who_was_dealt(
    weights: list[int], strata: list[str], more: list[str]
) -> None:
    parts = fractions(weights)
    arrivals = [(f"group {at}", stratum) for at, stratum in enumerate([*strata, *more])]
    before, after = by_dealing(arrivals[: len(strata)], parts, 0), by_dealing(arrivals, parts, 0)
    assert after | before == after


@given(PARTS, st.sets(st.uuids(), max_size=50), st.sets(st.uuids(), max_size=50))
def test_a_hash_places_each_alone(weights: list[int], some: set[object], more: set[object]) -> None:
    parts = fractions(weights)
    one = by_hash(map(str, some), parts, 0)
    both = by_hash(map(str, some | more), parts, 0)
    assert both | one == both
    assert all(parts[name] > 0 for name in both.values())


@given(PARTS)
@settings(max_examples=10)
def test_a_hash_gives_each_part_its_share(weights: list[int]) -> None:
    parts, n = fractions(weights), 3000
    counts = Counter(by_hash((f"subject {at}" for at in range(n)), parts, 7).values())
    for name, share in parts.items():
        assert abs(counts[name] - n * share) <= 5 * sqrt(n * share * (1 - share)) + 1e-9


@given(
    SUBJECTS.flatmap(
        lambda n: st.tuples(
            st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=80)
        )
    )
)
def test_groups_are_the_closure_of_the_pairs(case: tuple[int, list[tuple[int, int]]]) -> None:
    n, pairs = case
    subjects = [f"{at:03}" for at in range(n)]
    group = grouped(subjects, [(subjects[one], subjects[other]) for one, other in pairs])
    for one, other in pairs:
        assert group[subjects[one]] == group[subjects[other]]
    # And no more than that: as many groups as a search that spreads by steps finds.
    left, components = set(range(n)), 0
    near: dict[int, set[int]] = {at: set() for at in range(n)}
    for one, other in pairs:
        near[one].add(other)
        near[other].add(one)
    while left:
        components += 1
        edge = {left.pop()}
        while edge:
            edge = {other for one in edge for other in near[one]} & left
            left -= edge
    assert len(set(group.values())) == components
    assert all(group[name] in subjects for name in subjects)


def test_shares_are_exact_and_add_up() -> None:
    assert shares({"train": 0.7, "val": 0.15, "test": 0.15})["val"] == Fraction(3, 20)
    third = shares(dict.fromkeys("abc", 1 / 3))
    assert sum(third.values()) == 1
    assert set(third.values()) == {Fraction(1, 3)}
    for wrong in ({}, {"a": 0.5}, {"a": 0.7, "b": 0.7}, {"a": -0.5, "b": 1.5}, {"a": float("nan")}):
        with pytest.raises(UsageError):
            shares(wrong)


class People:
    """The tables that a split looks at, with nothing behind them."""

    def __init__(self) -> None:
        self.connection = duckdb.connect()
        for table, columns in (
            ("patients", "subject_id, merged_into"),
            ("conflicts", "kind, resolved boolean, subject_id, other_subject_id"),
            ("studies", "study_id, subject_id, StudyInstanceUID"),
            ("packs", "series_id, subject_id, created timestamp"),
        ):
            typed = [part if " " in part.strip() else f"{part} varchar" for part in columns.split(",")]
            self.connection.execute(f"create table {table} ({', '.join(typed)})")
        self.labels: dict[str, dict[str, Any]] = {}
        self.subjects: list[str] = []

    def query(self, sql: str, params: dict[str, Any] | None = None) -> Any:
        return self.connection.execute(bound(sql, params)).to_arrow_table()

    def run(self, sql: str, *values: object) -> None:
        self.connection.execute(sql, values)

    def person(self, strata: list[str], study: str = "") -> str:
        """One more person, whose series of these strata come now."""
        # Ids are random in life: here they neither grow nor fall with time.
        subject = f"{hash((7, len(self.subjects))) & 0xFFFFFFFF:08x}-{len(self.subjects)}"
        self.subjects.append(subject)
        self.run("insert into patients values (?, null)", subject)
        self.run("insert into studies values (?, ?, ?)", subject, subject, study)
        for stratum in strata:
            self.series(subject, stratum)
        return subject

    def series(self, subject: str, stratum: str) -> None:
        number = len(self.labels)
        series_id = f"{hash((number, 5)) & 0xFFFFFFFF:08x}-{number}"
        self.labels[series_id] = {"y": stratum}
        self.run(
            "insert into packs values (?, ?, timestamp '2026-01-01' + to_seconds(?))",
            series_id,
            subject,
            number,
        )

    def conflict(self, one: str, other: str) -> None:
        self.run("insert into conflicts values ('subject', false, ?, ?)", one, other)

    def merge(self, one: str, into: str) -> None:
        one, into = self.final(one), self.final(into)
        if one != into:
            self.run("update patients set merged_into = ? where subject_id = ?", into, one)
            self.run("update studies set subject_id = ? where subject_id = ?", into, one)
            self.run("update packs set subject_id = ? where subject_id = ?", into, one)
            self.run(
                "update conflicts set resolved = true"
                " where (subject_id, other_subject_id) in ((?, ?), (?, ?))",
                one,
                into,
                into,
                one,
            )

    def final(self, subject: str) -> str:
        while found := self.connection.execute(
            "select merged_into from patients where subject_id = ? and merged_into is not null", [subject]
        ).fetchone():
            subject = found[0]
        return subject

    def split(self, how: Recipe) -> dict[str, str]:
        chosen = SimpleNamespace(
            resources=SimpleNamespace(catalog=self), labels=Labels(("y",), dict(self.labels)), salt=""
        )
        return dict(assign(chosen, sorted(self.labels), how).part_of)  # type: ignore[arg-type]

    def check(self, part_of: dict[str, str]) -> None:
        check(SimpleNamespace(catalog=self), part_of)  # type: ignore[arg-type]

    def parts(self, part_of: dict[str, str]) -> dict[str, set[str]]:
        """Return who stands in which parts, by a walk of its own over all that ties people together."""
        near: dict[str, set[str]] = {subject: {subject} for subject in self.subjects}
        ties = self.connection.execute(
            "select subject_id, merged_into from patients where merged_into is not null union all"
            " select subject_id, other_subject_id from conflicts where not resolved union all"
            " select a.subject_id, b.subject_id from studies a join studies b using (StudyInstanceUID)"
            " where StudyInstanceUID != ''"
        ).fetchall()
        for _ in self.subjects:
            for one, other in ties:
                near[one] = near[other] = near[one] | near[other]
        owners = dict(self.connection.execute("select series_id, subject_id from packs").fetchall())
        return {
            subject: {
                part_of[one] for one, owner in owners.items() if owner in near[subject] and one in part_of
            }
            for subject in self.subjects
        }


STRATA = st.lists(st.sampled_from("ab"), min_size=1, max_size=3)
STUDY = st.sampled_from(["", "", "", "1.2.3", "1.2.4"])
ARRIVALS = st.lists(st.tuples(STRATA, STUDY), min_size=2, max_size=14)
HOW = st.sampled_from(
    [
        Recipe({"train": 0.5, "test": 0.5}, seed, stratify)
        for seed in (0, 1)
        for stratify in (None, ("y",), ())
    ]
)
PAIRS = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.booleans()), max_size=5)


def tie(people: People, pairs: list[tuple[int, int, bool]]) -> None:
    for one, other, merged in pairs:
        pair = [people.subjects[at % len(people.subjects)] for at in (one, other)]
        if pair[0] != pair[1]:
            (people.merge if merged else people.conflict)(*pair)


@given(ARRIVALS, PAIRS, HOW)
@settings(max_examples=30, deadline=None)
def test_nobody_stands_in_two_parts(
    arrivals: list[tuple[list[str], str]], pairs: list[tuple[int, int, bool]], how: Recipe
) -> None:
    people = People()
    for strata, study in arrivals:
        people.person(strata, study)
    tie(people, pairs)
    try:
        part_of = people.split(how)
    except UsageError:
        return
    assert part_of.keys() == people.labels.keys()
    assert all(len(parts) <= 1 for parts in people.parts(part_of).values())
    people.check(part_of)


@given(ARRIVALS, PAIRS, ARRIVALS, st.integers(0, 99), HOW)
@settings(max_examples=30, deadline=None)
def test_growth_moves_nobody(
    arrivals: list[tuple[list[str], str]],
    pairs: list[tuple[int, int, bool]],
    more: list[tuple[list[str], str]],
    known: int,
    how: Recipe,
) -> None:
    people = People()
    for strata, study in arrivals:
        people.person(strata, study)
    tie(people, pairs)
    try:
        before = people.split(how)
    except UsageError:
        return
    old = people.final(people.subjects[known % len(people.subjects)])
    for strata, _ in more:
        people.person(strata)
    # A known person's next series, and somebody new who contradicts him.
    people.series(old, "b")
    people.conflict(people.person(["a"]), old)
    after = people.split(how)
    assert after | before == after
    assert all(len(parts) <= 1 for parts in people.parts(after).values())


@given(ARRIVALS, PAIRS, PAIRS, HOW)
@settings(max_examples=30, deadline=None)
def test_a_later_tie_across_parts_is_a_violation_and_no_other_is(
    arrivals: list[tuple[list[str], str]],
    pairs: list[tuple[int, int, bool]],
    later: list[tuple[int, int, bool]],
    how: Recipe,
) -> None:
    people = People()
    for strata, study in arrivals:
        people.person(strata, study)
    tie(people, pairs)
    try:
        part_of = people.split(how)
    except UsageError:
        return
    tie(people, later)
    violated = any(len(parts) > 1 for parts in people.parts(part_of).values())
    if violated:
        with pytest.raises(SplitViolation):
            people.check(part_of)
    else:
        people.check(part_of)
