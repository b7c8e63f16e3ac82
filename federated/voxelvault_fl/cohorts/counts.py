"""What may be said of a cohort's size: rounded, at least k, budgeted, and never twice a person apart.

Two true counts whose cohorts differ by a single person say something about that person. So a site remembers
the members of every cohort that it counted, and refuses one that differs from an earlier one by fewer
than k people.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from voxelvault_fl.errors import JobRefused


@dataclass(frozen=True, slots=True)
class Counted:
    """An answered query.

    Parameters
    ----------
    filter : str
        Digest of what was asked: filter and labels.
    subjects : frozenset of str
        The members, opaque ids; stays sealed at the site.
    count : int
        What was said.
    """

    filter: str
    subjects: frozenset[str]
    count: int


@dataclass(frozen=True, slots=True)
class Rules:
    """`least` people behind a count and between two cohorts; `step` of rounding; `budget` of queries."""

    least: int
    step: int
    budget: int


def count(filter_digest: str, subjects: Iterable[str], before: Sequence[Counted], rules: Rules) -> Counted:
    """Return what may be said of a cohort; the earlier answer, where little has changed since.

    Parameters
    ----------
    filter_digest : str
        Of filter and labels in canonical form.
    subjects : iterable of str
        Its members now.
    before : sequence of Counted
        All that was answered to the consortium.
    rules : Rules
        Of the site.

    Raises
    ------
    JobRefused
        The rule is ``cohort-size``, ``count-differs`` (by too few people from an earlier one) or
        ``count-budget``.
    """
    members = frozenset(subjects)
    if len(members) < rules.least:
        raise JobRefused("cohort-size", "the cohort has fewer subjects than this site lets out")
    for one in before:
        apart = len(one.subjects ^ members)
        # The same people, or the same question while a few came and went: the same answer tells nothing new.
        if apart == 0 or (apart < rules.least and one.filter == filter_digest):
            return Counted(one.filter, one.subjects, one.count)
        if apart < rules.least:
            raise JobRefused("count-differs", "the cohort differs from an earlier one by a few people only")
    if len(before) >= rules.budget:
        raise JobRefused("count-budget", "this site has counted as many cohorts as it does for a consortium")
    rounded = len(members) // rules.step * rules.step
    return Counted(filter_digest, members, max(rounded, rules.least))


__all__ = ["Counted", "Rules", "count"]
