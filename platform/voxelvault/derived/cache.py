"""A cache: the fresh copies of some series by one recipe, and how they are told from stale ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from voxelvault.derived.entry import Entry
from voxelvault.derived.making import MASKS
from voxelvault.derived.recipe import AnyRecipe, Recipe
from voxelvault.derived.shelf import derived_objects, digest_of, entries, members, touch
from voxelvault.errors import UsageError
from voxelvault.reading.many import open_many
from voxelvault.reading.masks import MaskPlan
from voxelvault.reading.segments import plan_for, segments_in_vault
from voxelvault.resources import Resources

Copies = Mapping[str, tuple[Entry, ...]]


@dataclass(frozen=True)
class Cache:
    """Fresh copies of series. Made by `cohort.cache`; loaders and data sets take it.

    Parameters
    ----------
    recipe : Recipe or FrameRecipe
        What the copies are.
    copies : mapping of str to tuple of Entry
        By opaque series id: image and, where there is one, mask; or a copy for each stored stack.
    built, kept : int
        Series made by this build, and found as they were.
    refused : mapping of str to str
        Series that can't become this, and why.
    without_mask : tuple of str
        Series that have none of the labels asked for.
    resources : Resources
        The open vault.
    evicted, evicted_bytes : int
        Copies of other caches that `limit_bytes` made go for this one, and their bytes.
    """

    recipe: AnyRecipe
    copies: Copies = field(repr=False)
    built: int
    kept: int
    refused: Mapping[str, str]
    without_mask: tuple[str, ...]
    resources: Resources = field(repr=False)
    evicted: int = 0
    evicted_bytes: int = 0

    def __reduce__(self) -> NoReturn:
        raise TypeError("a cache stays with its vault; a data set made of it can be pickled")

    def __len__(self) -> int:
        """Return the number of series."""
        return len(self.copies)

    def __repr__(self) -> str:
        parts = [f"{self.built} built", f"{self.kept} kept"]
        if self.refused:
            parts.append(f"{len(self.refused)} refused, such as: {next(iter(self.refused.values()))}")
        parts += [f"{len(self.without_mask)} without a mask"] if self.without_mask else []
        if self.evicted:
            parts.append(f"{self.evicted} copies of other caches evicted, {self.evicted_bytes:,} bytes")
        size = self.nbytes / 1e6
        return f"<Cache: {len(self)} series, {self.recipe}, {size:,.0f} MB; {', '.join(parts)}>"

    @property
    def series_ids(self) -> tuple[str, ...]:
        """Opaque ids of the series that have a copy."""
        return tuple(self.copies)

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(entry.ref.length for several in self.copies.values() for entry in several)

    def image(self, series_id: str) -> Entry:
        """Return the bricks of a series; `UsageError` where there are none."""
        return self._one(series_id, Recipe.kind)

    def mask(self, series_id: str) -> Entry | None:
        """Return the bricks of its mask, where it has one."""
        return next((entry for entry in self.copies.get(series_id, ()) if entry.kind == MASKS), None)

    def deks(self, series_ids: Sequence[str] | None = None) -> dict[str, bytes]:
        """Return the copies' keys by their ids, as `lend(extra_keys=…)` takes them."""
        wanted = self.series_ids if series_ids is None else series_ids
        return {
            entry.derived_id: entry.dek(self.resources)
            for series_id in wanted
            for entry in self.copies.get(series_id, ())
        }

    def load(self, series_id: str, *, mask: bool = False) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
        """Read a whole volume, or its mask: to look at what was made.

        Returns
        -------
        tuple of ndarray
            The values in their stored dtype, and the affine of their own axes: index to mm, RAS.

        Raises
        ------
        UsageError
            The series has none here.
        PolicyDenied, AuditError
            Then nothing was read.
        """
        entry = self.mask(series_id) if mask else self.image(series_id)
        if entry is None:
            raise UsageError("this series has no mask in the cache; name its labels in masks=")
        with closing(open_many(self.resources, [series_id], kind_code="cache")) as opened:
            reader = entry.open(derived_objects(self.resources), entry.dek(self.resources))
            values = reader.read()
            opened.handle.count(1, values.nbytes)
        return values, reader.affine_ras

    def _one(self, series_id: str, kind: str) -> Entry:
        for entry in self.copies.get(series_id, ()):
            if entry.kind == kind:
                return entry
        raise UsageError(
            "this series is not in the cache; build it again, and see `refused` for why it can't be"
        )


@dataclass(frozen=True, slots=True)
class MaskPlans:
    """How masks are made: plans by series, digests of what they are made of, who has none."""

    plans: Mapping[str, MaskPlan] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    def sources_of(self, series_id: str) -> tuple[str, ...]:
        """Return the series that the segmentations of a series are in."""
        plan = self.plans.get(series_id)
        return () if plan is None else tuple(plan.series_ids)


@dataclass(frozen=True, slots=True)
class SortedOut:
    """Which series have fresh copies, which copies are old, and what is to be made.

    Parameters
    ----------
    kept : mapping of str to tuple of Entry
        Fresh copies.
    old : mapping of str to tuple of Entry
        Copies by this recipe that are stale, in part there, or there twice.
    todo : tuple of str
        Series without fresh copies.
    digests : mapping of str to str
        Of each series' present instances.
    """

    kept: Copies
    old: Copies
    todo: tuple[str, ...]
    digests: Mapping[str, str]


def find_cache(resources: Resources, series_ids: Sequence[str], recipe: AnyRecipe) -> Cache:
    """Return the fresh copies there are, and build none.

    Series without one are missing from `series_ids`; `build_cache` makes them.
    """
    plans = mask_plans(resources, series_ids, recipe)
    found = sort_out(resources, series_ids, recipe, plans)
    touch(resources, [entry for several in found.kept.values() for entry in several])
    return Cache(recipe, found.kept, 0, len(found.kept), {}, plans.without, resources)


def sort_out(
    resources: Resources, series_ids: Sequence[str], recipe: AnyRecipe, plans: MaskPlans
) -> SortedOut:
    """Compare the copies there are with the instances there are."""
    wanted = [found for found in dict.fromkeys(series_ids) if found not in plans.refused]
    digests = members(resources, wanted)
    shelf: dict[str, list[Entry]] = {series_id: [] for series_id in wanted}
    for entry in entries(resources, recipe.sha256, wanted):
        shelf[entry.series_id].append(entry)
    kept: dict[str, tuple[Entry, ...]] = {}
    old: dict[str, tuple[Entry, ...]] = {}
    for series_id, there in shelf.items():
        good = fresh(there, digests.get(series_id), plans.digests.get(series_id))
        if good:
            kept[series_id] = good
        rest = tuple(entry for entry in there if entry not in good)
        if rest:
            old[series_id] = rest
    todo = tuple(series_id for series_id in wanted if series_id not in kept)
    return SortedOut(kept, old, todo, digests)


def fresh(there: Sequence[Entry], digest: str | None, mask: str | None) -> tuple[Entry, ...]:
    """Return what one build made of the present instances, the latest; nothing if it isn't complete."""
    images = [entry for entry in there if entry.kind != MASKS and entry.source_sha256 == digest]
    masks = [entry for entry in there if entry.kind == MASKS and entry.source_sha256 == mask]
    if images and images[0].kind == Recipe.kind:
        images = images[:1]
    if images and images[0].layout.pack is not None:
        # Two builds at once may both have made them.
        images = list({entry.layout.pack: entry for entry in reversed(images)}.values())
    complete = bool(images) and (mask is None or bool(masks))
    return (*images, *masks[:1]) if complete else ()


def mask_plans(resources: Resources, series_ids: Sequence[str], recipe: AnyRecipe) -> MaskPlans:
    """Find the segments that a recipe's masks are made of; the look-up is entered in the log."""
    if not isinstance(recipe, Recipe) or not recipe.masks:
        return MaskPlans()
    plans: dict[str, MaskPlan] = {}
    refused: dict[str, str] = {}
    for series_id, found in segments_in_vault(resources, series_ids).items():
        try:
            plan = plan_for(found, recipe.masks)
        except UsageError as error:
            refused[series_id] = str(error)
            continue
        if plan is not None:
            plans[series_id] = plan
    without = tuple(found for found in series_ids if found not in plans and found not in refused)
    return MaskPlans(plans, _mask_digests(resources, plans), refused, without)


def _mask_digests(resources: Resources, plans: Mapping[str, MaskPlan]) -> dict[str, str]:
    """Return digests of what masks are made of: the objects, and which of their segments."""
    ids = sorted({source.instance_id for plan in plans.values() for source in plan.sources})
    rows = resources.catalog.query(
        "select instance_id, sha256 from instances where instance_id in (select unnest($ids))", {"ids": ids}
    ).to_pylist()
    shas = {row["instance_id"]: row["sha256"] for row in rows}
    return {
        series_id: digest_of(f"{shas[source.instance_id]} {source.values};" for source in plan.sources)
        for series_id, plan in plans.items()
    }


__all__ = ["Cache", "MaskPlans", "SortedOut", "find_cache", "fresh", "mask_plans", "sort_out"]
