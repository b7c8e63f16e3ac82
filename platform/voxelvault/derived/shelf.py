"""What derived copies there are: rows of the catalog and objects, found, used, removed, swept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.catalog.catalog import CommitInfo, Lease
from voxelvault.derived.bricks import BrickLayout
from voxelvault.derived.entry import Entry
from voxelvault.errors import LockTimeout, NoSpace
from voxelvault.intake.directory import utc_now
from voxelvault.model import SealedRef, new_id
from voxelvault.policy.access import Request, require
from voxelvault.readonly import require_writable
from voxelvault.resources import Resources
from voxelvault.rows import changes
from voxelvault.storage.layout import DERIVED, object_id_of
from voxelvault.storage.sealed_objects import SealedObjects

GRACE = 86_400.0
"""Seconds before an object without a row counts as left behind: a builder may be at work."""
TOUCHED_EVERY = timedelta(minutes=5)
"""How finely uses are told apart; each that is noted is a commit."""
TOUCH_SECONDS = 0.5
"""How long noting a use waits for whoever writes to the catalog."""


def derived_objects(resources: Resources) -> SealedObjects:
    """Return the area where copies lie."""
    return SealedObjects(resources.objects, resources.settings.vault_id, DERIVED)


def entries(
    resources: Resources,
    recipe_sha256: str | None = None,
    series_ids: Collection[str] | None = None,
    lease: Lease | None = None,
) -> list[Entry]:
    """Return the copies there are, the latest first; under a lease, those there are until it ends."""
    rows = (
        (lease or resources.catalog)
        .query(
            "select * from derived where ($recipe is null or recipe_sha256 = $recipe)"
            " and object_id is not null order by created desc, derived_id",
            {"recipe": recipe_sha256},
        )
        .to_pylist()
    )
    wanted = None if series_ids is None else set(series_ids)
    return [_entry(row) for row in rows if wanted is None or row["series_id"] in wanted]


def members(resources: Resources, series_ids: Collection[str] | None = None) -> dict[str, str]:
    """Return the digest of each series' present instances: what a fresh copy was made of."""
    rows = resources.catalog.query(
        "select series_id, list(sha256 order by sha256) as shas from instances where not superseded"
        " group by series_id"
    ).to_pylist()
    wanted = None if series_ids is None else set(series_ids)
    kept = [row for row in rows if wanted is None or row["series_id"] in wanted]
    return {row["series_id"]: digest_of(row["shas"]) for row in kept}


def digest_of(parts: Iterable[str]) -> str:
    """Return one digest of several."""
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def least_used(found: Sequence[Entry], excess: int) -> list[Entry]:
    """Return the copies whose removal frees so many bytes, the longest unused first."""
    chosen: list[Entry] = []
    for entry in sorted(found, key=lambda entry: (entry.used, entry.series_id)):
        if excess <= 0:
            break
        chosen.append(entry)
        excess -= entry.ref.length
    return chosen


def remove(resources: Resources, found: Sequence[Entry], cohort_id: str | None = None) -> None:
    """Remove copies, and rows that have lost theirs: entered in the log, rows first, then objects."""
    require(resources.policy, Request(Kind.DERIVED_REMOVED, (), resources.purpose, resources.who))
    require_writable(resources)
    action, size = new_id(), sum(entry.ref.length for entry in found)
    counts = {"derived": len(found), "bytes": size}
    log(resources, Kind.DERIVED_REMOVED, action, Outcome.INTENT, counts, cohort_id)
    ids = [*(entry.derived_id for entry in found), *hollow(resources)]
    rows = [{"derived_id": derived_id} for derived_id in ids]
    info = resources.catalog.commit(changes("derived", rows, "delete"))
    sealed = derived_objects(resources)
    for entry in found:
        sealed.delete(entry.ref.object_id)
    log(resources, Kind.DERIVED_REMOVED, action, Outcome.OK, counts, cohort_id, info)


def hollow(resources: Resources) -> list[str]:
    """Return ids of rows that name no object: nothing can be read or removed by them."""
    rows = resources.catalog.query("select derived_id from derived where object_id is null").to_pylist()
    return [row["derived_id"] for row in rows]


def log(
    resources: Resources,
    kind: Kind,
    action: str,
    outcome: Outcome,
    counts: Mapping[str, int],
    cohort_id: str | None,
    info: CommitInfo | None = None,
    recipe_sha256: str | None = None,
) -> None:
    """Enter what is done with copies in the log."""
    digests = {"catalog": info.digest} if info else {}
    event = Event(
        kind=kind,
        who=resources.who,
        purpose=resources.purpose,
        outcome=outcome,
        action=action,
        ids={"cohort": (cohort_id,)} if cohort_id else {},
        counts={**counts, **({"snapshot": info.snapshot} if info else {})},
        digests={**digests, **({"recipe": recipe_sha256} if recipe_sha256 else {})},
    )
    resources.audit.append([event])


def touch(resources: Resources, found: Sequence[Entry]) -> None:
    """Note that copies were asked for, to five minutes; left out where the catalog can't be written now.

    Reading must neither wait for a writer nor fail for want of room.
    """
    now = utc_now()
    due = [entry.derived_id for entry in found if now - entry.used >= TOUCHED_EVERY]
    if due and not resources.read_only:
        with suppress(LockTimeout, NoSpace):
            _note_use(resources, due, now)


def _note_use(resources: Resources, due: Sequence[str], now: datetime) -> None:
    with resources.catalog.lease(TOUCH_SECONDS) as lease:
        # A merge would give those evicted meanwhile a row again, and no object.
        there = lease.query(
            "select derived_id from derived where derived_id in (select unnest($ids))", {"ids": due}
        ).to_pylist()
        if not there:
            return
        info = lease.commit(changes("derived", [{**row, "used": now} for row in there], "merge"))
    event = Event(
        kind=Kind.CATALOG_CHANGED,
        who=resources.who,
        purpose=resources.purpose,
        counts={"rows": len(there), "snapshot": info.snapshot},
        digests={"catalog": info.digest},
    )
    resources.audit.append([event])


def sweep(resources: Resources, grace: float = GRACE) -> int:
    """Remove objects without a row, left by a builder that was killed; return how many."""
    sealed, before = derived_objects(resources), time.time() - grace
    old = [info.name for info in resources.objects.list(f"{DERIVED}/") if info.modified < before]
    if not old:
        return 0
    # Rows are read after the listing: what a builder commits meanwhile is known.
    rows = resources.catalog.query("select object_id from derived").to_pylist()
    known = {row["object_id"] for row in rows}
    left = [found for found in map(object_id_of, old) if found and found not in known]
    for object_id in left:
        sealed.delete(object_id)
    return len(left)


def _entry(row: Mapping[str, Any]) -> Entry:
    ref = SealedRef(
        row["object_id"], row["derived_id"], row["object_kind"], row["object_length"], row["object_sha256"]
    )
    return Entry(
        row["derived_id"],
        row["series_id"],
        row["key_id"],
        row["kind"],
        row["recipe"],
        row["recipe_sha256"],
        row["source_sha256"],
        ref,
        BrickLayout.from_json(row["description"]),
        row["wrapped_dek"],
        row["created"],
        row["used"],
    )


__all__ = [
    "Entry",
    "derived_objects",
    "entries",
    "hollow",
    "least_used",
    "members",
    "remove",
    "sweep",
    "touch",
]
