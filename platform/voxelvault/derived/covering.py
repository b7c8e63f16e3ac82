"""Where labels of a mask lie on each other: whether some of them can be had without the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault.derived.bricks import Painted
from voxelvault.reading.masks import MaskPlan

Array = npt.NDArray[Any]


def painted(plan: MaskPlan, mask: Array, make: Callable[[MaskPlan], Array]) -> Painted:
    """Return the labels of a mask, each with those that cover some of its voxels.

    Parameters
    ----------
    plan : MaskPlan
        What the mask was painted from; later labels cover earlier ones.
    mask : ndarray
        What it made.
    make : callable
        Makes the mask of another plan. Where labels lie apart, one more is made: painted backwards
        it is the same.
    """
    values = sorted({value for source in plan.sources for _, value in source.values})
    apart = len(values) < 2 or np.array_equal(mask, make(_backwards(plan)))
    return tuple((value, () if apart else _above(mask, value, make(_only(plan, value)))) for value in values)


def lost(labels: Painted, wanted: Sequence[int]) -> list[tuple[int, int]]:
    """Return which labels lack voxels that they would have in a mask of the wanted labels alone.

    Parameters
    ----------
    labels : tuple
        As of `painted`.
    wanted : sequence of int
        Values of the labels, in the order of the other mask.

    Returns
    -------
    list of (int, int)
        The value of a wanted label, and of one over it that isn't wanted, or is before it.
    """
    places = {value: place for place, value in enumerate(wanted)}
    return [
        (value, over)
        for value, several in labels
        if value in places
        for over in several
        if places.get(over, -1) < places[value]
    ]


def _above(mask: Array, value: int, alone: Array) -> tuple[int, ...]:
    return tuple(int(over) for over in np.unique(mask[(alone == value) & (mask != value)]))


def _backwards(plan: MaskPlan) -> MaskPlan:
    return MaskPlan(tuple(replace(one, values=one.values[::-1]) for one in reversed(plan.sources)))


def _only(plan: MaskPlan, value: int) -> MaskPlan:
    own = (
        replace(one, values=tuple(pair for pair in one.values if pair[1] == value)) for one in plan.sources
    )
    return MaskPlan(tuple(one for one in own if one.values))


__all__ = ["lost", "painted"]
