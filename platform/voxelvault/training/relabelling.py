"""Masks of a cache with some of its labels only, or in another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from voxelvault.derived.covering import lost
from voxelvault.errors import UsageError
from voxelvault.training.patches import Array
from voxelvault.training.volumes import Volume

if TYPE_CHECKING:
    from voxelvault.training.supply import Bricks


class RelabelledVolume:
    """A mask whose labels become others as they are read.

    Parameters
    ----------
    mask : Volume
        One channel, uint8.
    labels : sequence of int
        Its labels that become 1, 2, …; all others become background.
    """

    channels, fill = 1, 0.0

    def __init__(self, mask: Volume, labels: Sequence[int]) -> None:
        self._mask = mask
        self.shape, self.affine_ras = mask.shape, mask.affine_ras
        self._table = np.zeros(256, np.uint8)
        self._table[list(labels)] = np.arange(1, len(labels) + 1)

    def read(self, start: Sequence[int], size: Sequence[int], out: Array) -> Array:
        """Fill `out` with a box."""
        out[...] = self._table[self._mask.read(start, size, out)]
        return out


def relabelled(mask: Volume, labels: Sequence[int]) -> Volume:
    """Return a mask with these of its labels as 1, 2, …; as it is where none are named."""
    return RelabelledVolume(mask, labels) if labels else mask


def some_labels(
    masks: Mapping[str, Bricks], there: Sequence[str], asked: Sequence[str]
) -> Mapping[str, Bricks]:
    """Return the masks of a cache that have any of the labels asked for, by series id.

    Parameters
    ----------
    masks : mapping of str to Bricks
        By series id.
    there : sequence of str
        The labels of the cache.
    asked : sequence of str
        Those that become 1, 2, …

    Raises
    ------
    UsageError
        The cache lacks one, or another covers parts of it that would be missing.
    """
    if tuple(asked) == tuple(there):
        return masks
    values = {label.casefold(): value for value, label in enumerate(there, 1)}
    if unknown := [label for label in asked if label.casefold() not in values]:
        raise UsageError(
            f"the cache has no mask {', '.join(map(repr, unknown))}; it was built with"
            f" {', '.join(map(repr, there)) or 'none'}: build it with these labels"
        )
    wanted = tuple(values[label.casefold()] for label in asked)
    if len(set(wanted)) < len(wanted):
        raise UsageError("masks= names labels of a cache, each once")
    _refuse_covered(masks, there, wanted)
    return {
        series_id: replace(mask, labels=wanted)
        for series_id, mask in masks.items()
        if any(value in wanted for value, _ in mask.layout.painted)
    }


def _refuse_covered(masks: Mapping[str, Bricks], there: Sequence[str], wanted: Sequence[int]) -> None:
    if any(not mask.layout.painted for mask in masks.values()):
        raise UsageError(
            "this cache doesn't say whether its labels lie on each other: evict it and build it again, or"
            " leave masks= out"
        )
    found = [pair for mask in masks.values() for pair in lost(mask.layout.painted, wanted)]
    if found:
        value, over = found[0]
        series = sum(1 for mask in masks.values() if lost(mask.layout.painted, wanted))
        raise UsageError(
            f"in {series} of {len(masks)} masks of this cache a label covers parts of one that is asked for"
            f" ({there[over - 1]!r} covers {there[value - 1]!r}): ask for both in their order there, or build"
            " a cache with these labels alone"
        )


__all__ = ["relabelled", "some_labels"]
