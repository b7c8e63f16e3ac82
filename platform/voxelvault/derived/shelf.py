"""What derived copies there are: found by series and recipe, fresh or stale, used, evicted, swept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.catalog.catalog import CommitInfo
from voxelvault.derived.bricks import BrickLayout
from voxelvault.derived.entry import Entry
from voxelvault.derived.recipe import recipe_of
from voxelvault.errors import UsageError
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


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """Copies by one recipe, for people to look at."""

    recipe: str
    recipe_sha256: str
    series: int
    bytes: int
    stale: int
    created: datetime
    used: datetime

    def __repr__(self) -> str:
        stale = f", {self.stale} stale" if self.stale else ""
        return (
            f"<cache {self.recipe_sha256[:12]}: {self.series} series, {self.recipe},"
            f" {self.bytes / 1e6:,.0f} MB{stale}, used {self.used:%Y-%m-%d}>"
        )


@dataclass(frozen=True, slots=True)
class EvictReport:
    """What was evicted: copies, and bytes set free."""

    copies: int
    bytes: int
    dry_run: bool = False

    def __repr__(self) -> str:
        done = "would evict" if self.dry_run else "evicted"
        return f"<{done} {self.copies} copies, {self.bytes / 1e6:,.0f} MB>"


def derived_objects(resources: Resources) -> SealedObjects:
    """Return the area where copies lie."""
    return SealedObjects(resources.objects, resources.settings.vault_id, DERIVED)


def entries(
    resources: Resources, recipe_sha256: str | None = None, series_ids: Collection[str] | None = None
) -> list[Entry]:
    """Return the copies there are, the latest first."""
    rows = resources.catalog.query(
        "select * from derived where ($recipe is null or recipe_sha256 = $recipe)"
        " order by created desc, derived_id",
        {"recipe": recipe_sha256},
    ).to_pylist()
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


def caches(resources: Resources) -> list[CacheInfo]:
    """Return what is cached, by recipe, the last used first; nothing that names anybody."""
    present, groups = members(resources), dict[str, list[Entry]]()
    for entry in entries(resources):
        groups.setdefault(entry.recipe_sha256, []).append(entry)
    found = [
        CacheInfo(
            str(recipe_of(group[0].recipe)),
            sha256,
            len({entry.series_id for entry in group}),
            sum(entry.ref.length for entry in group),
            len({entry.series_id for entry in group if is_stale(entry, present)}),
            max(entry.created for entry in group),
            max(entry.used for entry in group),
        )
        for sha256, group in groups.items()
    ]
    return sorted(found, key=lambda info: info.used, reverse=True)


def is_stale(entry: Entry, present: Mapping[str, str]) -> bool:
    """Tell whether a series has other instances than when the copy was made.

    A mask's digest is of the segmentations as well: that it is as old as its image is all that
    can be told without looking for them.
    """
    return entry.kind != "masks" and present.get(entry.series_id) != entry.source_sha256


def evict(
    resources: Resources,
    cache: str | None = None,
    *,
    stale: bool = False,
    limit_bytes: int | None = None,
    everything: bool = False,
    dry_run: bool = False,
) -> EvictReport:
    """Remove copies; they can be built anew.

    Parameters
    ----------
    resources : Resources
        The open vault.
    cache : str, optional
        First digits of the recipe's digest, as `caches` shows it.
    stale : bool
        Only what was made of other instances than there are now.
    limit_bytes : int, optional
        The least recently used, until no more than so many bytes are left.
    everything : bool
        All there are.
    dry_run : bool
        Only say what would go.

    Raises
    ------
    UsageError
        Nothing was named, or the digits name no cache or several.
    """
    if cache is None and not stale and limit_bytes is None and not everything:
        raise UsageError("say what to evict: a cache of `caches()`, stale=, limit_bytes= or everything=")
    found = entries(resources)
    if cache is not None:
        named = {entry.recipe_sha256 for entry in found if entry.recipe_sha256.startswith(cache)}
        if len(named) != 1 or len(cache) < 6:
            raise UsageError("cache= is the first six or more digits of one of `caches()`")
        found = [entry for entry in found if entry.recipe_sha256 in named]
    if stale:
        present = members(resources)
        gone = {(e.series_id, e.recipe_sha256) for e in found if is_stale(e, present)}
        found = [entry for entry in found if (entry.series_id, entry.recipe_sha256) in gone]
    if limit_bytes is not None:
        found = least_used(found, sum(entry.ref.length for entry in found) - limit_bytes)
    report = EvictReport(len(found), sum(entry.ref.length for entry in found), dry_run)
    if found and not dry_run:
        remove(resources, found)
    return report


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
    """Remove copies: entered in the log, rows first, then objects."""
    require(resources.policy, Request(Kind.DERIVED_REMOVED, (), resources.purpose, resources.who))
    require_writable(resources)
    action, size = new_id(), sum(entry.ref.length for entry in found)
    counts = {"derived": len(found), "bytes": size}
    log(resources, Kind.DERIVED_REMOVED, action, Outcome.INTENT, counts, cohort_id)
    rows = [{"derived_id": entry.derived_id} for entry in found]
    info = resources.catalog.commit(changes("derived", rows, "delete"))
    sealed = derived_objects(resources)
    for entry in found:
        sealed.delete(entry.ref.object_id)
    log(resources, Kind.DERIVED_REMOVED, action, Outcome.OK, counts, cohort_id, info)


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
    """Note that copies were asked for now; a vault that can't be written stays as it is."""
    if found and not resources.read_only:
        rows = [{"derived_id": entry.derived_id, "used": utc_now()} for entry in found]
        resources.catalog.commit(changes("derived", rows, "merge"))


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
    "CacheInfo",
    "Entry",
    "EvictReport",
    "caches",
    "derived_objects",
    "entries",
    "evict",
    "members",
    "remove",
    "sweep",
    "touch",
]
