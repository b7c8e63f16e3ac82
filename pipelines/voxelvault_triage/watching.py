"""New studies are scheduled by themselves, as soon as they are there.

What there is to do follows from the catalog and the list of tasks alone, so a watcher that was killed
goes on where it was; the log tells when it is worth looking. Results of pipelines are never looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime

from voxelvault import Vault
from voxelvault.audit.events import Kind, Outcome
from voxelvault.errors import UsageError
from voxelvault.tasks import now
from voxelvault_triage.ready import Patience, is_ready
from voxelvault_triage.studies import changed, missing_slices, read_studies
from voxelvault_triage.worklist import store
from voxelvault_triage.worklist.store import Wanted

EVENTS = frozenset(
    {Kind.INGEST, Kind.INSTANCE_REMOVED, Kind.SUBJECT_MERGED, Kind.STUDY_MOVED, Kind.CATALOG_REBUILT}
)
"""Entries of the log after which a study may be another one."""
MODELS = frozenset({Kind.DOCUMENT_STORED, Kind.DOCUMENT_REMOVED})
"""Entries after which another model may be the one in use."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """How a study looked, and since when it has looked so."""

    count: int
    last: datetime
    since: datetime
    gaps: int


@dataclass(slots=True)
class Watcher:
    """Looks for studies that are ready, and schedules them.

    Parameters
    ----------
    vault : Vault
        Open for writing.
    pipeline, version, model : str
        For whom; `model` is a digest, or empty.
    newest : callable, optional
        Returns the digest of the model that is in use now; asked when one came or went. What it refuses by
        `UsageError` isn't used: the one of before stays.
    patience : Patience
        When a study is ready.
    every : float
        Seconds between looks.
    stop : callable
        Tells whether to stop; asked at each tick.
    clock : callable
        Returns the time, UTC.
    tell : callable
        Takes a line when another model is in use.
    listed : bool
        Studies get a place on the reading list.
    among : callable, optional
        Returns the opaque ids of the studies that may be scheduled, as they are now; by default every study.
    """

    vault: Vault
    pipeline: str
    version: str
    model: str
    newest: Callable[[], str] | None = None
    patience: Patience = field(default_factory=Patience)
    every: float = 1.0
    stop: Callable[[], bool] = lambda: False
    clock: Callable[[], datetime] = now
    tell: Callable[[str], object] = lambda _text: None
    listed: bool = True
    among: Callable[[], Collection[str]] | None = None
    _read: int = -1
    _looked: float = -1e9
    _seen: dict[str, _Seen] = field(default_factory=dict)

    @property
    def idle(self) -> bool:
        """True where nothing is waited for, as of the last look."""
        return self._read >= 0 and not self._seen

    def tick(self) -> bool:
        """Look, unless that was just done; tell whether to stop."""
        if time.monotonic() - self._looked >= self.every:
            self._looked = time.monotonic()
            self.look()
        return self.stop()

    def look(self) -> list[str]:
        """Schedule what is ready; return the new tasks' ids."""
        if self._news():
            self._note()
        at = self.clock()
        ready = [
            study_id
            for study_id, seen in self._seen.items()
            if is_ready(at, seen.since, seen.gaps, self.patience)
        ]
        if not ready:
            return []
        found = {one.study.study_id: one for one in read_studies(self.vault, ready)}
        # Images may have come in since it was noted: then it is not quiet.
        wanted = [
            Wanted(one.study, one.last)
            for study_id, one in found.items()
            if (one.instances, one.last) == (self._seen[study_id].count, self._seen[study_id].last)
        ]
        for study_id in ready:
            del self._seen[study_id]
        if len(wanted) < len(ready):
            self._read = -1
        if not wanted:
            return []
        by = self.pipeline, self.version, self.model
        return store.schedule(self.vault, wanted, *by, listed=self.listed)

    def _news(self) -> bool:
        """Tell whether the log has something new about images or models; true at first."""
        log, first = self.vault.resources.log, self._read < 0
        size = log.size
        if size == self._read:
            return False
        fresh = () if first else log.entries(self._read, size)
        kinds = {entry.kind for entry in fresh if entry.outcome != Outcome.INTENT}
        before = self.model
        if kinds & MODELS:
            self._follow()
        self._read = size
        return first or self.model != before or bool(kinds & EVENTS)

    def _follow(self) -> None:
        """Go over to the model that is in use now."""
        if self.newest is None:
            return
        try:
            newest = self.newest()
        except UsageError as error:
            self.tell(f"{error}; the model of before stays in use")
            return
        if newest != self.model:
            self.model = newest
            self.tell(f"another model is in use from now on: {newest[:12]}")

    def _note(self) -> None:
        """Note how studies look that have images nobody was asked about yet."""
        at = self.clock()
        there = changed(self.vault, self.pipeline, self.model)
        if there and self.among is not None:
            chosen = set(self.among())
            there = {study_id: one for study_id, one in there.items() if study_id in chosen}
        seen: dict[str, _Seen] = {}
        for study_id, (last, count) in there.items():
            known = self._seen.get(study_id)
            if known is not None and (known.count, known.last) == (count, last):
                seen[study_id] = known
                continue
            # The time of receipt is that of an ingest's beginning: what is seen to grow, is quiet from now.
            since = at if known is not None or at - last < self.patience.quiet else last
            seen[study_id] = _Seen(count, last, since, missing_slices(self.vault, study_id))
        self._seen = seen


__all__ = ["Watcher"]
