"""Which caches a data set reads: the bricks it was given, or fast copies of frames that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voxelvault.derived.cache import Cache, find_cache
from voxelvault.derived.listing import CacheInfo
from voxelvault.derived.recipe import AnyRecipe, FrameRecipe, Recipe, recipe_of
from voxelvault.derived.shelf import Entry, entries
from voxelvault.errors import UsageError
from voxelvault.training.plan import Wish
from voxelvault.training.supply import Bricks

if TYPE_CHECKING:
    from voxelvault.resources import Resources


@dataclass(frozen=True)
class Copies:
    """Copies of the series of a data set.

    Parameters
    ----------
    images, masks : mapping of str to Bricks
        By series id.
    frames : mapping of str to tuple of Bricks
        Fast copies of stacks, by series id.
    labels : tuple of str
        Of the masks.
    keys : mapping of str to bytes
        By key id.
    """

    images: Mapping[str, Bricks] = field(default_factory=dict)
    masks: Mapping[str, Bricks] = field(default_factory=dict)
    frames: Mapping[str, tuple[Bricks, ...]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)


def copies_for(resources: Resources, series_ids: Sequence[str], asked: object, wish: Wish) -> Copies:
    """Return the copies that a data set reads.

    Parameters
    ----------
    resources : Resources
        The open vault.
    series_ids : sequence of str
        Opaque ids.
    asked : Cache, CacheInfo, Recipe, FrameRecipe, or None
        None: fast copies of frames, where all are fresh.
    wish : Wish
        What the samples should be.

    Raises
    ------
    UsageError
        It is no cache, or lacks some of the series, or is older than some of them; or it is of another
        unit, volume or fill than what is wanted; or slices are wanted of bricks.
    """
    if asked is None:
        found = _fast_frames(resources, series_ids)
        return Copies() if found is None else _of_frames(found, series_ids)
    how = _recipe(resources, asked)
    if isinstance(how, Recipe):
        _check_wish(how, wish)
    # Looked up also where a cache is at hand: series may have changed since, or their copies be gone.
    cache = find_cache(resources, series_ids, how)
    lacking = len(set(series_ids) - set(cache.series_ids))
    if lacking:
        raise UsageError(
            f"{lacking} of {len(series_ids)} series are not in this cache, or changed since it was built:"
            " build it again for this selection; if some were refused, load from the others:"
            " selection & vault.select(uids=cache.series_ids)"
        )
    return (
        _of_frames(cache, series_ids) if isinstance(how, FrameRecipe) else _of_bricks(cache, how, series_ids)
    )


def _recipe(resources: Resources, asked: object) -> AnyRecipe:
    """Return the recipe of a cache, however it was named."""
    if isinstance(asked, CacheInfo):
        there = entries(resources, asked.recipe_sha256)
        if not there:
            raise UsageError("this cache was evicted: build it again")
        return recipe_of(there[0].recipe)
    how = asked.recipe if isinstance(asked, Cache) else asked
    if not isinstance(how, Recipe | FrameRecipe):
        raise UsageError("cache= takes what `cache(...)` of a selection returned, or one of `caches()`")
    return how


def _check_wish(how: Recipe, wish: Wish) -> None:
    """Refuse what bricks were not made for."""
    if wish.kind == "slices":
        raise UsageError("slices are read from frames, not from bricks: leave cache= out, or `cache_frames`")
    for name in ("units", "stack", "fill"):
        if getattr(wish, name) not in (None, getattr(how, name)):
            raise UsageError(f"the cache was built with another {name}=: leave it out here, or build another")


def _of_bricks(cache: Cache, recipe: Recipe, series_ids: Sequence[str]) -> Copies:
    masks = {series_id: cache.mask(series_id) for series_id in series_ids}
    return Copies(
        {series_id: _bricks(cache.image(series_id)) for series_id in series_ids},
        {series_id: _bricks(entry) for series_id, entry in masks.items() if entry is not None},
        labels=recipe.masks,
        keys=cache.deks(series_ids),
    )


def _of_frames(cache: Cache, series_ids: Sequence[str]) -> Copies:
    frames = {
        series_id: tuple(_bricks(entry) for entry in cache.copies.get(series_id, ()))
        for series_id in series_ids
    }
    return Copies(frames=frames, keys=cache.deks(series_ids))


def _fast_frames(resources: Resources, series_ids: Sequence[str]) -> Cache | None:
    """Return the copies of frames that were made last, as far as they are fresh."""
    recipes: dict[str, AnyRecipe] = {
        entry.recipe_sha256: recipe_of(entry.recipe)
        for entry in entries(resources, None, series_ids)
        if entry.kind == FrameRecipe.kind
    }
    return find_cache(resources, series_ids, next(iter(recipes.values()))) if recipes else None


def _bricks(entry: Entry) -> Bricks:
    return Bricks(entry.ref, entry.derived_id, entry.layout)


__all__ = ["Copies", "copies_for"]
