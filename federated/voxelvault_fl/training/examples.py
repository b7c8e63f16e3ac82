"""The labelled examples of a job at a site, and which of them train, choose and test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from voxelvault.errors import UsageError
from voxelvault_fl.cohorts.members import Member, members
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.job import Job, Labels

if TYPE_CHECKING:
    from voxelvault.series import Series
    from voxelvault.vault import Vault

T = TypeVar("T")

PARTS = ("train", "train", "train", "validate", "test")
"""Which part a subject falls into: in turn, positive and negative ones apart; or each by its own chance."""


@dataclass(frozen=True, slots=True)
class SiteData:
    """Where a site's data is.

    Parameters
    ----------
    vault : Vault
        Open, for the job's purpose.
    table : Path, optional
        Labels, Parquet or CSV.
    on : str
        The table's key column; see `Selection.with_labels`.
    only : set of str, optional
        Series ids of a virtual site.
    """

    vault: Vault
    table: Path | None = None
    on: str = "StudyInstanceUID"
    only: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """A series with its truth, and whose it is."""

    member: Member
    positive: bool
    part: str


def examples(data: SiteData, job: Job) -> tuple[Example, ...]:
    """Return the examples of a job: a person is in one part only, and in the same one each time.

    Under differential privacy a person's part depends on nobody else: dealt out in turn, one person more
    would move others into the training part or out of it, and the accountant counts one person's gradient.

    Raises
    ------
    JobRefused
        The rule is ``labels``: the site has no labels of that source.
    """
    chosen = members(data.vault, job.cohort, data.only)
    truth = _truth(data, job.labels, chosen)
    known = [one for one in chosen if one.series_id in truth]
    parts = _drawn(known) if job.privacy.mode == "dp-sgd" else _dealt(known, truth)
    return tuple(Example(one, truth[one.series_id], parts[one.subject_id]) for one in known)


def read(data: SiteData, found: Sequence[Example], of: Callable[[Series], T], threads: int = 4) -> list[T]:
    """Return something of each example's series, in their order: read by threads, one entry in the log."""
    if not found:
        return []
    selection = data.vault.select(uids=[one.member.series_id for one in found])
    with ThreadPoolExecutor(threads) as pool:
        made = dict(zip(selection.readable_ids(), pool.map(of, selection), strict=True))
    return [made[one.member.series_id] for one in found]


def balance(found: Sequence[Example]) -> tuple[int, int]:
    """Return how many subjects are negative and positive; a subject with any positive series is positive."""
    positive = {one.member.subject_id for one in found if one.positive}
    return len({one.member.subject_id for one in found}) - len(positive), len(positive)


def subjects(found: Iterable[Example]) -> int:
    """Return how many people are behind some examples."""
    return len({one.member.subject_id for one in found})


def _drawn(chosen: Sequence[Member]) -> dict[str, str]:
    """Draw each subject's part by the digest of its first series alone."""
    # Its last digits: the first of several digests has small first ones.
    return {one.subject_id: PARTS[int(one.order[-8:], 16) % len(PARTS)] for one in reversed(chosen)}


def _dealt(chosen: Sequence[Member], truth: dict[str, bool]) -> dict[str, str]:
    """Deal subjects out to parts, by their first series in the order: the same at any vault that has them."""
    sick = {one.subject_id for one in chosen if truth[one.series_id]}
    dealt: dict[str, str] = {}
    for positive in (False, True):
        mine = dict.fromkeys(one.subject_id for one in chosen if (one.subject_id in sick) is positive)
        dealt |= {subject: PARTS[at % len(PARTS)] for at, subject in enumerate(mine)}
    return dealt


def _truth(data: SiteData, labels: Labels, chosen: Sequence[Member]) -> dict[str, bool]:
    if not chosen:
        return {}
    selection = data.vault.select(uids=[one.series_id for one in chosen])
    if labels.source == "table":
        if data.table is None:
            raise JobRefused("labels", "this site has no table of labels; name one in its settings")
        try:
            labelled = selection.with_labels(data.table, on=data.on, columns=[labels.column])
        except UsageError as error:
            raise JobRefused(
                "labels",
                f"the job asks for the column {labels.column!r}, which this site's table of labels "
                "doesn't give; capital letters count",
            ) from error
        return _read(labelled, labels.column, bool)
    if labels.source == "SEG":
        wanted = set(labels.positive)
        found = _read(selection.with_labels(from_="SEG"), "segments", lambda names: _any(set(names), wanted))
        # A series that nobody outlined shows nothing to outline.
        return {one.series_id: found.get(one.series_id, False) for one in chosen}
    return _read(selection.with_labels(from_="SR", columns=[labels.column]), labels.column, bool)


def _any(names: set[str], wanted: set[str]) -> bool:
    return bool(names & wanted if wanted else names)


def _read(labelled: Any, column: str, of: Any) -> dict[str, bool]:
    table = labelled.arrow().select(["series_id", column]).to_pylist()
    return {row["series_id"]: of(row[column]) for row in table if row[column] is not None}


__all__ = ["PARTS", "Example", "SiteData", "balance", "examples", "read", "subjects"]
