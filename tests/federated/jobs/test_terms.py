"""What the consortium's terms refuse, and that a site's policy can only be stricter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from toy_consortium import POLICY, make_job

from voxelvault_fl.consortium import Consortium, Server, Site, Terms
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.terms import bounded, lines, require_within

TERMS = Terms(("IRB-1", "IRB-2"), ("consent",), 2, 20, 10)
HEADS = Consortium("heads", "Heads", "lead", Server("localhost"), (Site("east"), Site("west")), TERMS)


def test_a_job_within_the_terms_passes() -> None:
    require_within(make_job(), HEADS)
    require_within(make_job(rounds=10), HEADS)
    require_within(make_job(purpose="anything"), replace(HEADS, terms=replace(TERMS, purposes=())))


@pytest.mark.parametrize(
    ("job", "rule"),
    [
        ({"consortium": "others"}, "consortium"),
        ({"purpose": "marketing"}, "purpose"),
        ({"lawful_basis": "none"}, "lawful-basis"),
        ({"rounds": 11}, "rounds"),
        ({"min_sites": 1}, "sites"),
    ],
)
def test_a_job_outside_of_the_terms_is_refused_with_the_rule(job: dict[str, Any], rule: str) -> None:
    with pytest.raises(JobRefused, match="outside of the consortium's terms") as refused:
        require_within(make_job(**job), HEADS)
    assert refused.value.rule == rule
    assert "\n" not in str(refused.value)


def test_a_lax_policy_is_as_strict_as_the_terms() -> None:
    lax = replace(POLICY, purposes=("IRB-1", "marketing"), min_cohort=1, min_sites=1, max_rounds=500)
    found = bounded(lax, TERMS)
    assert (found.purposes, found.lawful_bases) == (("IRB-1",), ("consent",))
    assert (found.min_cohort, found.min_sites, found.max_rounds) == (20, 2, 10)


def test_a_strict_policy_stays() -> None:
    strict = replace(POLICY, min_cohort=50, min_sites=3, max_rounds=5)
    assert bounded(strict, TERMS) == strict
    assert bounded(strict, replace(TERMS, purposes=(), lawful_bases=())) == strict


def test_terms_are_told_as_text() -> None:
    assert any("IRB-1, IRB-2" in line for line in lines(TERMS))
    assert any("pooled only" in line for line in lines(replace(TERMS, site_metrics=False)))
