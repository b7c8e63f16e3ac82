"""The consortium's terms on a job, at the lead, the server and each site: pure decisions."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from voxelvault_fl.cohorts.filter import parsed
from voxelvault_fl.consortium import Consortium, Terms
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.job import METRICS, Job
from voxelvault_fl.jobs.policy import SitePolicy

LEAST_POOLED = 2
"""A mean over fewer sites is a figure of a single one."""


def require_within(job: Job, consortium: Consortium) -> None:
    """Require a job within the terms of a consortium.

    Parameters
    ----------
    job : Job
        Signed or not.
    consortium : Consortium
        As its authority signed it.

    Raises
    ------
    JobRefused
        The rule is ``consortium``, ``purpose``, ``lawful-basis``, ``rounds`` or ``sites``.
    """
    terms = consortium.terms
    rules = (
        ("consortium", job.consortium == consortium.id, f"are of {consortium.id}"),
        ("purpose", _listed(job.purpose, terms.purposes), f"allow {_list(terms.purposes)}"),
        ("lawful-basis", _listed(job.lawful_basis, terms.lawful_bases), f"allow {_list(terms.lawful_bases)}"),
        ("rounds", job.rounds <= terms.maximum_rounds, f"allow {terms.maximum_rounds} rounds"),
        ("sites", job.min_sites >= terms.minimum_sites, f"ask for min_sites of {terms.minimum_sites}"),
    )
    for rule, holds, said in rules:
        if not holds:
            raise JobRefused(rule, f"the job is outside of the consortium's terms, which {said}")


def require_runnable(job: Job, now: datetime) -> None:
    """Require a job that a site could run, whatever its policy: it is refused before the lead signs it.

    Raises
    ------
    JobRefused
        The rule is ``expired``, ``metric``, ``filter`` or ``filter-column``.
    """
    parsed(job.cohort)
    if job.expires <= now:
        raise JobRefused("expired", "the job has expired before it is signed; give a later `expires`")
    if job.evaluate_every and job.metric not in METRICS:
        raise JobRefused("metric", f"the best round is chosen by one of {', '.join(METRICS)}")


def bounded(policy: SitePolicy, terms: Terms) -> SitePolicy:
    """Return a site's policy, made as strict as the consortium's terms where it is laxer."""
    return replace(
        policy,
        purposes=_both(policy.purposes, terms.purposes),
        lawful_bases=_both(policy.lawful_bases, terms.lawful_bases),
        min_cohort=max(policy.min_cohort, terms.minimum_cohort),
        min_sites=max(policy.min_sites, terms.minimum_sites),
        max_rounds=min(policy.max_rounds, terms.maximum_rounds),
    )


def lines(terms: Terms) -> tuple[str, ...]:
    """Return the terms as text, a line each."""
    return (
        f"purposes: {_list(terms.purposes)}",
        f"lawful bases: {_list(terms.lawful_bases)}",
        f"at least {terms.minimum_sites} sites a round and {terms.minimum_cohort} subjects at each; "
        f"at most {terms.maximum_rounds} rounds",
        "metrics of single sites are recorded" if terms.site_metrics else "metrics are recorded pooled only",
    )


def _listed(one: str, allowed: tuple[str, ...]) -> bool:
    return not allowed or one in allowed


def _both(mine: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(one for one in mine if _listed(one, theirs))


def _list(allowed: tuple[str, ...]) -> str:
    return ", ".join(allowed) or "any"


__all__ = ["LEAST_POOLED", "bounded", "lines", "require_runnable", "require_within"]
