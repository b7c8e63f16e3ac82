"""What a site lets in: its own policy, a TOML file, and the decision on one job. Reads no clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from voxelvault_fl.cohorts.filter import columns_in, parsed
from voxelvault_fl.cohorts.view import COLUMNS
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.job import COMPRESSION, METRICS, PRIVACY, STRATEGIES, TASKS, Job, Plain
from voxelvault_fl.jobs.strict import made, toml_of
from voxelvault_fl.provisioning.files import version

_DIGEST = re.compile("[0-9a-f]{64}")
_KNOWN = {
    "tasks": TASKS,
    "privacy": PRIVACY,
    "strategies": STRATEGIES,
    "compression": COMPRESSION,
    "columns": tuple(COLUMNS),
    "metrics": METRICS,
}
"""Lists of a policy whose words are known here; others are refused."""


@dataclass(frozen=True, slots=True)
class SitePolicy:
    """A site's policy.

    Parameters
    ----------
    consortium : str
        The one that it belongs to.
    app_digests : tuple of str
        Code that may run here; nothing else does.
    purposes, lawful_bases, deid_profiles, tasks : tuple of str
        What a job may give.
    approval : str
        ``by-hand``: somebody approves each job with `federated approve`; ``by-policy``: this file does.
    min_cohort : int
        Fewest subjects with labels that a job's cohort may have, and least number that leaves.
    min_sites : int
        A job whose rounds may be made of fewer is refused.
    max_rounds, max_days : int
        Most rounds; most days that a job may stay valid.
    max_update_norm : float
        Largest bound on an update.
    privacy : tuple of str
        Modes that are let in; leave ``none`` out where updates must be protected.
    max_epsilon : float
        Of one job under dp-sgd; the ledger adds jobs up.
    strategies, compression, columns : tuple of str
        Of rounds; of updates; of cohort filters.
    metrics : tuple of str
        Figures that may leave.
    decimals : int
        To which they are rounded.
    min_measured : int
        Fewest subjects behind any figure, and any update, that leaves.
    personalise : bool
        Whether fine-tuning here may be asked for; its result stays here in any case.
    count_step : int
        Counts that leave are rounded down to multiples of it.
    count_queries : int
        New cohorts that may be counted, or refused for their size, for a consortium; the same filter
        again is free.
    """

    consortium: str
    app_digests: tuple[str, ...]
    purposes: tuple[str, ...]
    lawful_bases: tuple[str, ...]
    approval: str = "by-hand"
    deid_profiles: tuple[str, ...] = ("vault",)
    tasks: tuple[str, ...] = TASKS
    min_cohort: int = 10
    min_sites: int = 2
    max_rounds: int = 200
    max_days: int = 366
    max_update_norm: float = 100.0
    privacy: tuple[str, ...] = PRIVACY
    max_epsilon: float = 8.0
    strategies: tuple[str, ...] = STRATEGIES
    compression: tuple[str, ...] = COMPRESSION
    columns: tuple[str, ...] = tuple(COLUMNS)
    metrics: tuple[str, ...] = METRICS
    decimals: int = 4
    min_measured: int = 5
    personalise: bool = True
    count_step: int = 5
    count_queries: int = 20

    def __post_init__(self) -> None:
        if self.approval not in ("by-hand", "by-policy"):
            raise JobRefused("policy", "approval is by-hand or by-policy")
        if min(self.min_cohort, self.min_sites, self.count_step, self.count_queries) < 1:
            raise JobRefused("policy", "the least numbers of the policy are 1")
        for name, known in _KNOWN.items():
            if strange := set(getattr(self, name)) - set(known):
                raise JobRefused(
                    "policy", f"{name} knows no {min(strange)[:40]!r}; it knows {', '.join(known)}"
                )
        if not all(_DIGEST.fullmatch(one) for one in self.app_digests):
            raise JobRefused(
                "policy", "app_digests are 64 hexadecimal digits each; `federated policy` prints that of here"
            )


@dataclass(frozen=True, slots=True)
class Approved:
    """The job may run: `count` is what may be said of the cohort, `cohort` a digest of its members."""

    count: int
    cohort: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The job may not run; `rule` names why."""

    rule: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Somebody has to approve it by hand."""


Decision = Approved | Refused | Waiting


@dataclass(frozen=True, slots=True)
class Seen:
    """What a site knows of a job's cohort and history, for the decision.

    Parameters
    ----------
    subjects : int
        Exact; never leaves.
    count : int
        What may leave.
    cohort : str
        Digest of the members.
    app_digest : str
        Of the code that runs here.
    approved, stopped : bool
        By hand.
    other_job : bool
        The id was used by another job before.
    """

    subjects: int
    count: int
    cohort: str
    app_digest: str
    approved: bool = False
    stopped: bool = False
    other_job: bool = False


def read_policy(path: Path) -> SitePolicy:
    """Read a policy file.

    Raises
    ------
    JobRefused
        It can't be read, is no TOML, or says something that can't be; the rule is ``malformed`` or
        ``policy``.
    """
    try:
        said = toml_of(path.read_text("utf-8"), "policy", "the policy")
    except (OSError, UnicodeDecodeError):
        raise JobRefused("policy", "the policy can't be read; nothing is let in without it") from None
    return made(SitePolicy, said, "policy")


class PolicyFile:
    """A site's policy as it is now: the file is read again when it changes.

    Parameters
    ----------
    path : Path
        The file. While it can't be read, nothing is let in.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._version = path, version()
        self._policy: SitePolicy | None = None

    def __call__(self) -> SitePolicy:
        """Return the policy; raises as `read_policy` does."""
        found = version(self._path)
        if self._policy is None or found != self._version:
            self._policy = None
            self._policy, self._version = read_policy(self._path), found
        return self._policy


def unmet(job: Job, policy: SitePolicy, now: datetime) -> str:
    """Return the first rule that a job breaks, without looking at any data; empty where there is none."""
    try:
        used = columns_in(parsed(job.cohort))
    except JobRefused as refused:
        return refused.rule
    rules = {
        "consortium": job.consortium == policy.consortium,
        "expired": now < job.expires,
        "expires-late": job.expires <= now + timedelta(days=policy.max_days),
        "app-digest": job.app_digest in policy.app_digests,
        "task": job.model.task in policy.tasks,
        "purpose": job.purpose in policy.purposes,
        "lawful-basis": job.lawful_basis in policy.lawful_bases,
        "deid-profile": job.deid_profile in policy.deid_profiles,
        "filter-column": used <= set(policy.columns),
        "rounds": job.rounds <= policy.max_rounds,
        "sites": job.min_sites >= policy.min_sites,
        "update-norm": job.update_norm <= policy.max_update_norm,
        "privacy": job.privacy.mode in policy.privacy,
        "epsilon": job.privacy.mode != "dp-sgd" or _epsilon(job.privacy.numbers) <= policy.max_epsilon,
        "strategy": job.strategy.name in policy.strategies,
        "compression": job.compression in policy.compression,
        "personalise": policy.personalise or not job.personalise,
    }
    return next((rule for rule, met in rules.items() if not met), "")


def _epsilon(numbers: Plain) -> float:
    found = numbers.get("epsilon")
    return float(found) if isinstance(found, int | float) else float("inf")


def decide(job: Job, policy: SitePolicy, seen: Seen, now: datetime) -> Decision:
    """Decide on a job.

    Parameters
    ----------
    job : Job
        Signed by the lead, which was checked before.
    policy : SitePolicy
        The site's.
    seen : Seen
        What the site knows.
    now : datetime
        UTC.
    """
    if rule := unmet(job, policy, now):
        return Refused(rule)
    here = {
        "stopped": not seen.stopped,
        "job-id": not seen.other_job,
        "app-running": seen.app_digest == job.app_digest,
        "cohort-size": seen.subjects >= policy.min_cohort,
    }
    if rule := next((rule for rule, met in here.items() if not met), ""):
        return Refused(rule)
    if policy.approval == "by-hand" and not seen.approved:
        return Waiting()
    return Approved(seen.count, seen.cohort)


def what_leaves(job: Job, policy: SitePolicy, site_metrics: bool = True) -> tuple[str, ...]:
    """Return, line by line, what leaves the site if this job is approved.

    Parameters
    ----------
    job : Job
        As it was offered.
    policy : SitePolicy
        The site's, never laxer than the terms.
    site_metrics : bool
        Whether the terms let figures of this site alone be recorded.
    """
    figures = [name for name in policy.metrics if job.evaluate_every or (name == "loss" and site_metrics)]
    lines = [
        f"one update of the model a round, {job.rounds} at most, its norm at most {job.update_norm:g}",
        f"the number of subjects with labels, the same in each message, rounded down to a multiple of "
        f"{policy.count_step}, at least {policy.min_cohort}",
        "a digest of the cohort, which names nobody",
    ]
    if job.privacy.mode == "dp-sgd":
        lines.append("what the accountant says was spent; no figure of private data")
    elif figures:
        behind = f"of {policy.min_measured} subjects or more"
        said = "" if site_metrics else ", which the server records pooled with those of other sites"
        lines.append(f"{', '.join(figures)}, rounded to {policy.decimals} decimals, {behind}{said}")
    return (*lines, *((f"warning: {job.warning}",) if job.warning else ()))


__all__ = [
    "Approved", "Decision", "PolicyFile", "Refused", "Seen", "SitePolicy", "Waiting", "decide", "read_policy",
    "unmet", "what_leaves",
]  # fmt: skip
