"""Splits under random people, merges, contradictions and growth: nobody stands in two parts."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxelvault.cohorts.groups import grouped
from voxelvault.cohorts.splitting import by_dealing, by_hash, shares
from voxelvault.errors import UsageError

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
