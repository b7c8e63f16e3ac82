"""Copies become part of the vault: in groups, each one commit and one entry in the log."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from voxelvault.audit.events import Kind, Outcome
from voxelvault.catalog.catalog import Lease
from voxelvault.derived.cache import MaskPlans, SortedOut, fresh
from voxelvault.derived.entry import Entry
from voxelvault.derived.making import MASKS, Job, Made
from voxelvault.derived.recipe import AnyRecipe
from voxelvault.derived.shelf import derived_objects, entries, least_used, log, remove
from voxelvault.intake.directory import utc_now
from voxelvault.model import new_id
from voxelvault.resources import Resources
from voxelvault.rows import changes

GROUP_SERIES = 16
GROUP_SECONDS = 5.0
"""A commit is made after so many series or seconds: that much work is lost when the power fails."""
FULL = "limit_bytes= is reached; raise it, or choose a smaller dtype"


@dataclass(frozen=True, slots=True)
class Finished:
    """A job that is done, what it made, and the keys of that."""

    job: Job
    made: tuple[Made, ...]
    keys: Mapping[str, bytes] = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(copy.ref.length for copy in self.made)


class Committer:
    """Collects what workers made, and commits it.

    Parameters
    ----------
    resources : Resources
        The open vault.
    recipe : Recipe or FrameRecipe
        What the copies are.
    sorted_out, plans
        What was there before: copies that are replaced go once the new ones count.
    cohort_id : str or None
        For the log.
    limit_bytes : int or None
        Most bytes that all copies may take.

    Attributes
    ----------
    made : set of str
        Series committed; not those that another build at the same time committed first.
    refused : dict of str to str
        Series that are not, and why.
    full : bool
        Nothing more fits under the limit.
    evicted, evicted_bytes : int
        Copies of other caches that made room, and their bytes.
    """

    def __init__(
        self,
        resources: Resources,
        recipe: AnyRecipe,
        sorted_out: SortedOut,
        plans: MaskPlans,
        cohort_id: str | None,
        limit_bytes: int | None,
    ) -> None:
        self._resources, self._recipe, self._plans = resources, recipe, plans
        self._digests, self._old = sorted_out.digests, dict(sorted_out.old)
        self._cohort_id, self._limit = cohort_id, limit_bytes
        self._own = {entry.derived_id for several in sorted_out.kept.values() for entry in several}
        self._action, self._recipe_sha256 = new_id(), recipe.sha256
        self._waiting: list[Finished] = []
        self._since = time.monotonic()
        self.made: set[str] = set()
        self.full = False
        self.evicted = self.evicted_bytes = 0
        self.refused: dict[str, str] = dict(plans.refused)

    def begin(self, series: int) -> None:
        """Enter the intent in the log."""
        self._log(Outcome.INTENT, {"series": series})

    def add(self, finished: Finished) -> None:
        """Take what one job made; commits when there is enough."""
        self._waiting.append(finished)
        if len(self._waiting) >= GROUP_SERIES or time.monotonic() - self._since > GROUP_SECONDS:
            self.commit()

    def end(self, outcome: Outcome) -> None:
        """Commit the rest, and enter how it ended."""
        try:
            self.commit()
        finally:
            self._log(outcome, {"series": len(self.made)})

    def commit(self) -> None:
        """Commit what waits: all of it or nothing."""
        waiting, self._waiting = self._fitting(self._waiting), []
        self._since = time.monotonic()
        if not waiting:
            return
        with self._resources.catalog.lease() as lease:
            series = lease.query(
                "select s.series_id, s.study_id, s.subject_id, t.key_id from series s"
                " join studies t using (study_id) where s.series_id in (select unnest($ids))",
                {"ids": [item.job.series_id for item in waiting]},
            ).to_pylist()
            known = {row["series_id"]: row for row in series}
            # One erased meanwhile has no key to put its copy under.
            there = [item for item in waiting if item.job.series_id in known]
            elsewhere = self._made_elsewhere(lease, known)
            there = [item for item in there if item.job.series_id not in elsewhere]
            rows = [row for item in there for row in self._rows(item, known[item.job.series_id])]
            info = lease.commit(changes("derived", rows, "insert")) if rows else None
        counted = {item.job.series_id for item in there}
        self.discard([item for item in waiting if item.job.series_id not in counted])
        if info is None:
            return
        counts = {"series": len(there), "derived": len(rows), "bytes": sum(item.nbytes for item in there)}
        log(
            self._resources,
            Kind.DERIVED_BUILT,
            self._action,
            Outcome.OK,
            counts,
            self._cohort_id,
            info,
            self._recipe_sha256,
        )
        self.made |= counted
        self._own |= {row["derived_id"] for row in rows}
        old = [entry for item in there for entry in self._old.pop(item.job.series_id, ())]
        if old:
            remove(self._resources, old, self._cohort_id)

    def _made_elsewhere(self, lease: Lease, series_ids: Collection[str]) -> set[str]:
        """Return the series that another build committed since this one looked: its copies count."""
        shelf: dict[str, list[Entry]] = {}
        for entry in entries(self._resources, self._recipe_sha256, series_ids, lease):
            shelf.setdefault(entry.series_id, []).append(entry)
        images, masks = self._digests, self._plans.digests
        return {found for found, there in shelf.items() if fresh(there, images.get(found), masks.get(found))}

    def _fitting(self, waiting: list[Finished]) -> list[Finished]:
        """Make room under the limit, and return what fits; what doesn't is refused."""
        if self._limit is None or not waiting:
            return waiting
        shelf = entries(self._resources)
        taken = sum(entry.ref.length for entry in shelf)
        replaced = {e.derived_id for item in waiting for e in self._old.get(item.job.series_id, ())}
        others = [e for e in shelf if e.derived_id not in self._own | replaced]
        taken -= sum(e.ref.length for e in shelf if e.derived_id in replaced)
        room = self._limit - taken + sum(entry.ref.length for entry in others)
        fitting: list[Finished] = []
        for item in waiting:
            if item.nbytes <= room and not self.full:
                room -= item.nbytes
                fitting.append(item)
                continue
            self.full = True
            self.refused[item.job.series_id] = self._over(item)
        self.discard([item for item in waiting if item not in fitting])
        # What fits nowhere makes nobody go.
        if fitting:
            self._evict(least_used(others, taken + sum(item.nbytes for item in fitting) - self._limit))
        return fitting

    def _over(self, item: Finished) -> str:
        """Return why the limit refuses one."""
        if self._limit is not None and item.nbytes > self._limit:
            return (
                f"its copy alone takes {item.nbytes:,} bytes, more than limit_bytes=;"
                " raise it, or choose a smaller dtype"
            )
        return FULL

    def _evict(self, victims: list[Entry]) -> None:
        if victims:
            remove(self._resources, victims, self._cohort_id)
            self.evicted += len(victims)
            self.evicted_bytes += sum(entry.ref.length for entry in victims)

    def _rows(self, item: Finished, series: Mapping[str, Any]) -> list[dict[str, Any]]:
        wrap, now = self._resources.keys.wrap_dek, utc_now()
        series_id, key_id = item.job.series_id, series["key_id"]
        return [
            {
                "derived_id": made.derived_id,
                "series_id": series_id,
                "study_id": series["study_id"],
                "subject_id": series["subject_id"],
                "key_id": key_id,
                "object_id": made.ref.object_id,
                "kind": made.kind,
                "recipe": self._recipe.to_json(),
                "recipe_sha256": self._recipe_sha256,
                "source_sha256": (self._plans.digests if made.kind == MASKS else self._digests)[series_id],
                "description": made.description,
                "wrapped_dek": wrap(key_id, made.derived_id, item.keys[made.derived_id]),
                "object_kind": made.ref.kind,
                "object_length": made.ref.length,
                "object_sha256": made.ref.sha256,
                "created": now,
                "used": now,
            }
            for made in item.made
        ]

    def discard(self, items: list[Finished]) -> None:
        """Remove what was made and is not to be committed."""
        sealed = derived_objects(self._resources)
        for item in items:
            for made in item.made:
                sealed.delete(made.ref.object_id)

    def _log(self, outcome: Outcome, counts: Mapping[str, int]) -> None:
        log(
            self._resources,
            Kind.DERIVED_BUILT,
            self._action,
            outcome,
            counts,
            self._cohort_id,
            recipe_sha256=self._recipe_sha256,
        )


__all__ = ["FULL", "Committer", "Finished"]
