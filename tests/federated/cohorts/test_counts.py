"""No count tells of one person, alone or with an earlier one."""

from __future__ import annotations

import pytest

from voxelvault_fl.cohorts.counts import Rules, count
from voxelvault_fl.errors import JobRefused

RULES = Rules(least=10, step=5, budget=3)


def people(n: int, start: int = 0) -> set[str]:
    return {f"s{at}" for at in range(start, start + n)}


def test_a_count_is_rounded_down() -> None:
    assert count("f", people(43), [], RULES).count == 40
    assert count("f", people(10), [], RULES).count == 10
    assert count("f", people(11), [], Rules(11, 5, 3)).count == 11


def test_a_small_cohort_has_no_count() -> None:
    with pytest.raises(JobRefused) as refused:
        count("f", people(9), [], RULES)
    assert refused.value.rule == "cohort-size"


@pytest.mark.parametrize("members", [people(42), people(44), people(42) | {"x"}, people(43, 4)])
def test_a_cohort_a_few_people_from_an_earlier_one_is_refused(members: set[str]) -> None:
    before = [count("f", people(43), [], RULES)]
    with pytest.raises(JobRefused) as refused:
        count("g", members, before, RULES)
    assert refused.value.rule == "count-differs"


def test_the_same_question_has_the_same_answer_while_a_few_come_and_go() -> None:
    before = [count("f", people(44), [], RULES)]
    assert count("f", people(46), before, RULES) == before[0]
    assert count("g", people(44), before, RULES) == before[0]
    assert count("f", people(60), before, RULES).count == 60


def test_the_budget_is_of_new_cohorts() -> None:
    before = [count(f"f{at}", people(20, 100 * at), [], RULES) for at in range(3)]
    assert count("again", people(20), before, RULES) == before[0]
    with pytest.raises(JobRefused) as refused:
        count("new", people(20, 900), before, RULES)
    assert refused.value.rule == "count-budget"
