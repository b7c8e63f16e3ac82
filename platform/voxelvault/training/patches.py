"""Where patches lie in a volume, and how one is cut: pure, but for the reading that is handed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Box: TypeAlias = tuple[int, ...]

POINTS = 4096
"""Foreground voxels remembered of each class of a mask: enough to draw from, and little to keep."""


@dataclass(frozen=True, slots=True)
class Foreground:
    """Voxels of a mask to centre patches on.

    Parameters
    ----------
    classes : tuple of ndarray
        For each class that occurs, int32 (point, axis): at most `POINTS` of its voxels.
    """

    classes: tuple[npt.NDArray[np.int32], ...]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(points.nbytes for points in self.classes)


def foreground_of(mask: Array, generator: np.random.Generator, points: int = POINTS) -> Foreground:
    """Remember where a mask is.

    Parameters
    ----------
    mask : ndarray
        Integer (axis 0, axis 1, axis 2); 0 is background, and each other value a class.
    generator : Generator
        Draws which voxels are kept where there are more than `points`.
    points : int
        Kept of each class, at most.
    """
    found = np.flatnonzero(mask)
    values = mask.reshape(-1)[found]
    kept = []
    for value in np.unique(values):
        own = found[values == value]
        if own.size > points:
            own = np.sort(generator.choice(own, points, replace=False, shuffle=False))
        kept.append(np.stack(np.unravel_index(own, mask.shape), 1).astype(np.int32))
    return Foreground(tuple(kept))


def random_start(shape: Sequence[int], size: Sequence[int], generator: np.random.Generator) -> Box:
    """Draw where a patch begins, every place alike.

    Returns
    -------
    tuple of int
        First index on each axis. Where the volume is smaller than the patch, the volume lies in the
        patch's middle and the index is negative.
    """
    return tuple(
        int(generator.integers(room + 1)) if (room := length - wanted) >= 0 else room // 2
        for length, wanted in zip(shape, size, strict=True)
    )


def balanced_start(
    shape: Sequence[int],
    size: Sequence[int],
    foreground: Foreground,
    share: float,
    generator: np.random.Generator,
) -> Box:
    """Draw where a patch begins: a share of patches has a voxel of the mask in its middle.

    Parameters
    ----------
    shape, size : sequence of int
        Of volume and patch.
    foreground : Foreground
        Classes are drawn alike, however many voxels they have.
    share : float
        0 to 1: patches centred on the mask; the others lie anywhere, as all do where it is empty.
    generator : Generator
        Of the item.

    Returns
    -------
    tuple of int
        As of `random_start`; a patch stays inside the volume, so near a border the voxel is off its middle.
    """
    if generator.random() >= share or not foreground.classes:
        return random_start(shape, size, generator)
    points = foreground.classes[int(generator.integers(len(foreground.classes)))]
    return centred_start(points[int(generator.integers(len(points)))].tolist(), shape, size)


def centred_start(centre: Sequence[float], shape: Sequence[int], size: Sequence[int]) -> Box:
    """Return where a patch about a voxel begins, moved so that it stays inside the volume."""
    starts = []
    for middle, length, wanted in zip(centre, shape, size, strict=True):
        room = length - wanted
        start = round(middle - (wanted - 1) / 2)
        starts.append(min(max(start, 0), room) if room >= 0 else room // 2)
    return tuple(starts)


def cut(
    read: Callable[[Box, Box, Array], Array],
    shape: Sequence[int],
    start: Sequence[int],
    out: Array,
    fill: float = 0,
) -> Array:
    """Cut a patch out of a volume; what lies outside is filled.

    Parameters
    ----------
    read : callable
        ``read(start, size, out)`` fills `out`, (channel, axis 0, …), with a box inside the volume.
    shape : sequence of int
        Of the volume.
    start : sequence of int
        First index of the patch on each axis; may be negative.
    out : ndarray
        The patch, (channel, axis 0, …); filled and returned.
    fill : float
        For voxels outside the volume.
    """
    low = tuple(max(0, first) for first in start)
    high = tuple(
        min(length, first + wanted) for length, first, wanted in zip(shape, start, out.shape[1:], strict=True)
    )
    size = tuple(stop - first for first, stop in zip(low, high, strict=True))
    if size == out.shape[1:]:
        return read(low, size, out)
    out[...] = fill
    if min(size) > 0:
        places = zip(low, start, size, strict=True)
        inside = tuple(slice(at - first, at - first + length) for at, first, length in places)
        read(low, size, out[(slice(None), *inside)])
    return out


def moved_affine(affine: npt.NDArray[np.float64], start: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return the affine of a patch: that of its volume, begun at another voxel; float64 (4, 4), mm."""
    found = affine.copy()
    found[:3, 3] += affine[:3, :3] @ np.asarray(start, np.float64)
    return found


__all__ = [
    "Foreground",
    "balanced_start",
    "centred_start",
    "cut",
    "foreground_of",
    "moved_affine",
    "random_start",
]
