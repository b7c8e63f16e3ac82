"""Caches as people see them: listed by recipe, with what is stale, and evicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from voxelvault.derived.cache import Cache, mask_plans, sort_out
from voxelvault.derived.entry import Entry
from voxelvault.derived.recipe import recipe_of
from voxelvault.derived.shelf import entries, hollow, least_used, members, remove
from voxelvault.errors import UsageError
from voxelvault.resources import Resources


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


def caches(resources: Resources) -> list[CacheInfo]:
    """Return what is cached, by recipe, the last used first; nothing that names anybody.

    Whether masks are stale takes a look at the segmentations there are, which is entered in the log.
    """
    found = []
    for sha256, group in _by_recipe(entries(resources)).items():
        info = CacheInfo(
            str(recipe_of(group[0].recipe)),
            sha256,
            len({entry.series_id for entry in group}),
            sum(entry.ref.length for entry in group),
            len({entry.series_id for entry in _stale(resources, group)}),
            max(entry.created for entry in group),
            max(entry.used for entry in group),
        )
        found.append(info)
    return sorted(found, key=lambda info: info.used, reverse=True)


def evict(
    resources: Resources,
    cache: str | CacheInfo | Cache | None = None,
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
    cache : str, CacheInfo or Cache, optional
        One of `caches`, or the first digits of its recipe's digest; or what a build returned: then
        only the copies of its series.
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
        found = _named(found, cache)
    if stale:
        found = [entry for group in _by_recipe(found).values() for entry in _stale(resources, group)]
    if limit_bytes is not None:
        found = least_used(found, sum(entry.ref.length for entry in found) - limit_bytes)
    report = EvictReport(len(found), sum(entry.ref.length for entry in found), dry_run)
    if not dry_run and (found or (everything and hollow(resources))):
        remove(resources, found)
    return report


def _named(found: Sequence[Entry], cache: object) -> list[Entry]:
    """Return the copies of one cache."""
    if isinstance(cache, CacheInfo):
        return [entry for entry in found if entry.recipe_sha256 == cache.recipe_sha256]
    if isinstance(cache, Cache):
        sha256 = cache.recipe.sha256
        return [entry for entry in found if entry.recipe_sha256 == sha256 and entry.series_id in cache.copies]
    if not isinstance(cache, str):
        raise UsageError("evict one of `caches()`, or what `cache(...)` returned")
    named = {entry.recipe_sha256 for entry in found if entry.recipe_sha256.startswith(cache)}
    if len(named) != 1 or len(cache) < 6:
        raise UsageError("cache= is the first six or more digits of one of `caches()`")
    return [entry for entry in found if entry.recipe_sha256 in named]


def _by_recipe(found: Sequence[Entry]) -> dict[str, list[Entry]]:
    groups: dict[str, list[Entry]] = {}
    for entry in found:
        groups.setdefault(entry.recipe_sha256, []).append(entry)
    return groups


def _stale(resources: Resources, group: Sequence[Entry]) -> list[Entry]:
    """Return the copies by one recipe that a build would make anew or drop."""
    recipe, there = recipe_of(group[0].recipe), members(resources)
    series_ids = [found for found in dict.fromkeys(entry.series_id for entry in group) if found in there]
    plans = mask_plans(resources, series_ids, recipe)
    kept = sort_out(resources, series_ids, recipe, plans).kept
    fresh = {entry.derived_id for several in kept.values() for entry in several}
    return [entry for entry in group if entry.derived_id not in fresh]


__all__ = ["CacheInfo", "EvictReport", "caches", "evict"]
