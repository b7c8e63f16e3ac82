"""Where the masks of a data set come from: stored segmentations and structure sets, or a cache of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from voxelvault.errors import UsageError
from voxelvault.reading.masks import MaskPlan
from voxelvault.reading.segments import plan_for, segments_in_vault
from voxelvault.training.relabelling import some_labels
from voxelvault.training.supply import Bricks

if TYPE_CHECKING:
    from voxelvault.resources import Resources
    from voxelvault.training.copies import Copies


@dataclass(frozen=True)
class Masks:
    """Masks of the series of a data set.

    Parameters
    ----------
    plans : mapping of str to MaskPlan
        What to paint, by series id.
    bricks : mapping of str to Bricks
        Those that a cache holds.
    background : frozenset of str
        Series whose mask is background alone.
    """

    plans: Mapping[str, MaskPlan] = field(default_factory=dict)
    bricks: Mapping[str, Bricks] = field(default_factory=dict)
    background: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.plans or self.bricks or self.background)

    @property
    def series_ids(self) -> tuple[str, ...]:
        """Series that the segmentations are in."""
        return tuple(sorted({found for plan in self.plans.values() for found in plan.series_ids}))


def masks_for(
    resources: Resources,
    series_ids: Sequence[str],
    asked: str | Sequence[str] | None,
    unmasked: str,
    copies: Copies,
) -> Masks:
    """Return where masks come from.

    Parameters
    ----------
    resources : Resources
        The open vault.
    series_ids : sequence of str
        That masks are laid on.
    asked : str, sequence of str, or None
        Labels; None for those of the cache, and else none.
    unmasked : {"raise", "background"}
        What becomes of series that have none of the labels.
    copies : Copies
        What is cached.

    Raises
    ------
    UsageError
        There is no such label, series lack them all, the cache lacks one, or has its voxels under
        another label.
    """
    if unmasked not in ("raise", "background"):
        raise UsageError(f"no unmasked {unmasked!r}; choose one of raise, background")
    labels = copies.labels if asked is None else (asked,) if isinstance(asked, str) else tuple(asked)
    if not labels:
        return Masks()
    if copies.images:
        found = Masks(bricks=some_labels(copies.masks, copies.labels, labels))
        with_mask = set(found.bricks)
    else:
        found = Masks(_plans(resources, series_ids, labels))
        with_mask = set(found.plans)
    without = frozenset(series_ids) - with_mask
    if without and unmasked == "raise":
        raise UsageError(
            f"{len(without)} of {len(series_ids)} series have none of these labels: leave them out, or pass"
            " unmasked='background' if that is what they are"
        )
    return replace(found, background=without)


def _plans(resources: Resources, series_ids: Sequence[str], labels: Sequence[str]) -> dict[str, MaskPlan]:
    """Return what to paint for the series that have any of the labels."""
    found = segments_in_vault(resources, series_ids)
    known = {info.label.casefold() for infos in found.values() for info in infos}
    if unknown := [label for label in labels if label.casefold() not in known]:
        raise UsageError(
            f"none of these series has a segment {', '.join(map(repr, unknown))}; see `segmentations`"
        )
    plans = {series_id: plan_for(found[series_id], labels) for series_id in series_ids}
    return {series_id: plan for series_id, plan in plans.items() if plan is not None}


__all__ = ["Masks", "masks_for"]
