"""A site's decision on a job with its own data in view; counts a cohort once, says only what may be said."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from voxelvault_fl.cohorts.counts import Counted, Rules, count
from voxelvault_fl.cohorts.members import cohort_digest, members
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.app import app_digest
from voxelvault_fl.jobs.job import Job
from voxelvault_fl.jobs.policy import Decision, Refused, Seen, SitePolicy, decide, unmet
from voxelvault_fl.jobs.strict import canonical, plain
from voxelvault_fl.rounds import shelf
from voxelvault_fl.training.examples import SiteData, examples


class ByHand(Protocol):
    """What people at the site did with a job."""

    @property
    def approved(self) -> bool:
        """Somebody approved it."""

    @property
    def stopped(self) -> bool:
        """Somebody stopped it."""

    @property
    def other_job(self) -> bool:
        """Its id was used by another job before."""


@dataclass(frozen=True, slots=True)
class _Cohort:
    subjects: int
    count: int
    digest: str


class Decider:
    """Decides on jobs at one site.

    Parameters
    ----------
    policy : callable
        Gives the site's, as it is now.
    data : SiteData
        The site's.
    memory : Path
        File in which counted cohorts are remembered, members as salted digests.
    now : callable
        The time, UTC.
    ledger : callable
        Gives the rule that a job breaks by what it would spend; empty where it may be spent.
    log : callable
        The site's own: gets why a cohort couldn't be counted, once a job and rule.
    """

    def __init__(
        self,
        policy: Callable[[], SitePolicy],
        data: SiteData,
        memory: Path,
        now: Callable[[], datetime],
        ledger: Callable[[Job], str] = lambda job: "",
        log: Callable[[BaseException], None] = lambda error: None,
    ) -> None:
        self._policy, self._data, self._memory, self._now = policy, data, memory, now
        self._ledger, self._log = ledger, log
        self._logged: set[tuple[str, str]] = set()
        self._cohorts: dict[str, _Cohort] = {}

    def __call__(self, job: Job, by_hand: ByHand) -> Decision:
        """Decide; no cohort is counted for a job that the policy refuses, or that nobody has approved yet."""
        policy = self._policy()
        if rule := unmet(job, policy, self._now()) or self._ledger(job):
            return Refused(rule)
        # Until then no label is read, and no answer made of the data: each tells something, and costs.
        waits = policy.approval == "by-hand" and not by_hand.approved
        try:
            cohort = _Cohort(policy.min_cohort, 0, "") if waits else self._cohort(job, policy)
        except JobRefused as refused:
            self._tell(job, refused)
            return Refused(refused.rule)
        seen = Seen(
            cohort.subjects, cohort.count, cohort.digest, app_digest(),
            by_hand.approved, by_hand.stopped, by_hand.other_job,
        )  # fmt: skip
        return decide(job, policy, seen, self._now())

    def _tell(self, job: Job, refused: JobRefused) -> None:
        # The job is offered again and again.
        if (job.digest, refused.rule) not in self._logged:
            self._logged.add((job.digest, refused.rule))
            self._log(refused)

    def _cohort(self, job: Job, policy: SitePolicy) -> _Cohort:
        if job.digest not in self._cohorts:
            self._cohorts[job.digest] = self._counted(job, policy)
        return self._cohorts[job.digest]

    def _counted(self, job: Job, policy: SitePolicy) -> _Cohort:
        """Count who is trained on: those with labels, so that no label says more than a cohort may."""
        chosen = members(self._data.vault, job.cohort, self._data.only)
        people = {one.member.subject_id for one in examples(self._data, job)}
        said = self._said(job, people, policy)
        return _Cohort(len(people), said, cohort_digest(self._data.vault, chosen, job.digest))

    def _said(self, job: Job, people: set[str], policy: SitePolicy) -> int:
        kept = self._remembered()
        salt = str(kept["salt"])
        salted = {hashlib.sha256(f"{salt}{one}".encode()).hexdigest()[:32] for one in people}
        before = [Counted(one["filter"], frozenset(one["subjects"]), one["count"]) for one in kept["counted"]]
        asked = hashlib.sha256(canonical([plain(job.labels), job.cohort])).hexdigest()
        # A refusal tells on which side of the least number a cohort is: it is an answer, and costs as much.
        refused = [str(one) for one in kept.get("refused", []) if one != asked]
        rules = Rules(policy.min_cohort, policy.count_step, policy.count_queries - len(refused))
        try:
            if len(refused) >= policy.count_queries:
                raise JobRefused("count-budget", "this site has refused as many cohorts as it looks at")
            found = count(asked, salted, before, rules)
        except JobRefused as no:
            if no.rule != "count-budget":
                self._remember({**kept, "refused": [*refused, asked]})
            raise
        if found not in before:
            self._remember({**kept, "counted": [_plain(one) for one in (*before, found)]})
        return found.count

    def _remembered(self) -> dict[str, Any]:
        found = shelf.get(self._memory)
        return {"salt": secrets.token_hex(16), "counted": []} if found is None else dict(json.loads(found))

    def _remember(self, kept: dict[str, Any]) -> None:
        # On the disk before anything is said: a count that was forgotten is a budget spent twice.
        shelf.put(self._memory, canonical(kept))


def _plain(one: Counted) -> dict[str, Any]:
    return {"filter": one.filter, "subjects": sorted(one.subjects), "count": one.count}


__all__ = ["ByHand", "Decider"]
