"""The members of a job's cohort at a site: read from the catalog, in an order that no other site changes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxelvault_fl.cohorts.filter import compiled, parsed
from voxelvault_fl.cohorts.view import view_sql

if TYPE_CHECKING:
    from voxelvault.vault import Vault


@dataclass(frozen=True, slots=True)
class Member:
    """A series of the cohort: opaque ids of this vault, and where it stands in the order.

    Parameters
    ----------
    series_id, subject_id : str
        Opaque.
    order : str
        SHA-256 of the Series Instance UID: the same in every vault that holds the series. Never leaves.
    """

    series_id: str
    subject_id: str
    order: str


def members(vault: Vault, cohort: Any, only: frozenset[str] | None = None) -> tuple[Member, ...]:
    """Return the series that a filter chooses, in order.

    Parameters
    ----------
    vault : Vault
        Of the site.
    cohort : mapping
        The job's filter, plain data.
    only : set of str, optional
        Series ids that the site is made of, where it isn't the whole vault.

    Raises
    ------
    JobRefused
        The filter isn't of the grammar.
    """
    condition, values = compiled(parsed(cohort))
    rows = vault.sql(
        # No word of the job stands in this text; its literals are parameters.
        'SELECT chosen.series_id, chosen.subject_id, series."SeriesInstanceUID" '  # noqa: S608
        f"FROM (SELECT series_id, subject_id FROM ({view_sql()}) AS view WHERE {condition}) AS chosen "
        "JOIN series ON series.series_id = chosen.series_id",
        values,
    )
    found = (
        Member(series, subject, hashlib.sha256(uid.encode()).hexdigest()) for series, subject, uid in rows
    )
    chosen = (one for one in found if only is None or one.series_id in only)
    return tuple(sorted(chosen, key=lambda one: one.order))


def cohort_digest(vault: Vault, chosen: Iterable[Member], job: str) -> str:
    """Return the SHA-256 that a site attests as its cohort's: of the job and of each instance's bytes.

    It names nobody, and differs from job to job.
    """
    ids = {one.series_id for one in chosen}
    rows = vault.sql("SELECT series_id, sha256 FROM instances WHERE NOT coalesce(superseded, false)")
    digests = sorted(sha256 for series, sha256 in rows if series in ids)
    return hashlib.sha256("\n".join([job, *digests]).encode()).hexdigest()


__all__ = ["Member", "cohort_digest", "members"]
