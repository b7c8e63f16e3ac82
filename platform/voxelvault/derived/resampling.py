"""A volume onto other axes and another spacing: what MONAI's Orientationd and Spacingd make of it.

Axes are permuted and turned round to the closest ones asked for, never rotated; then the spacing
along them changes, the first voxel staying where it is. Linear interpolation is a step along each
axis in turn, which gives what interpolating in space gives.

References
----------
MONAI 1.6 `Orientation`, `Spacing(diagonal=False, scale_extent=False, padding_mode="border")`;
nibabel `io_orientation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from voxelvault.errors import UsageError

Array: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float64]

_SAME = 1e-3
"""mm by which two affines may differ and still be one (MONAI's AFFINE_TOL)."""

_LOST = 1e-3
"""Part of the values' range that half precision may lose."""


@dataclass(frozen=True, slots=True)
class Regrid:
    """How a volume comes onto its new grid.

    Parameters
    ----------
    axes : tuple of int
        Old axis of each new one.
    turned : tuple of bool
        Whether the new axis runs the other way.
    coordinates : tuple of ndarray or None
        Along each new axis, index in the old grid of every new voxel; None where nothing changes.
    shape : tuple of int
        New shape.
    affine_ras : ndarray
        New index to mm, RAS: float64, shape (4, 4).
    """

    axes: tuple[int, int, int]
    turned: tuple[bool, bool, bool]
    coordinates: tuple[Floats, Floats, Floats] | None
    shape: tuple[int, int, int]
    affine_ras: Floats

    def image(self, volume: Array) -> npt.NDArray[np.float32]:
        """Return the volume on the new grid, interpolated linearly, float32."""
        values = self._laid(volume).astype(np.float32, copy=False)
        if self.coordinates is None:
            return np.ascontiguousarray(values)
        # Where voxels become fewer comes first: less is left to do for the other axes.
        order = sorted(range(3), key=lambda axis: self.shape[axis] / values.shape[axis])
        for axis in order:
            values = _linear(values, self.coordinates[axis], axis)
        return np.ascontiguousarray(values)

    def mask(self, labels: Array) -> Array:
        """Return labels on the new grid, each from the nearest voxel."""
        values = self._laid(labels)
        if self.coordinates is not None:
            nearest = [np.rint(places).astype(np.intp) for places in self.coordinates]
            values = values[np.ix_(*nearest)]
        return np.ascontiguousarray(values)

    def _laid(self, volume: Array) -> Array:
        steps = tuple(slice(None, None, -1 if turn else 1) for turn in self.turned)
        return np.asarray(volume.transpose(self.axes)[steps])


def regrid(
    shape: Sequence[int],
    affine_ras: Floats,
    orientation: str | None = None,
    spacing: Sequence[float] | None = None,
) -> Regrid:
    """Decide how a volume comes to an orientation and a spacing.

    Parameters
    ----------
    shape : sequence of int
        Of the volume.
    affine_ras : ndarray
        Index along its own axes to mm, RAS: float64, shape (4, 4).
    orientation : str, optional
        Letters to which the new axes grow, such as ``RAS``.
    spacing : sequence of float, optional
        mm along the new axes.

    Returns
    -------
    Regrid
        Apply it to the volume, and to its masks.
    """
    axes, turned = (0, 1, 2), (False, False, False)
    if orientation is not None:
        axes, turned = _axes(affine_ras, orientation)
    a, b, c = (int(shape[axis]) for axis in axes)
    laid = affine_ras @ _from_new(axes, turned, (a, b, c))
    if spacing is None:
        return Regrid(axes, turned, None, (a, b, c), laid)
    old = np.linalg.norm(laid[:3, :3], axis=0)
    ratio = np.asarray(spacing, np.float64) / old
    counts = np.round((np.array([a, b, c]) - 1) / ratio + 1).astype(int)
    new = laid.copy()
    new[:3, :3] *= ratio
    if tuple(counts) == (a, b, c) and np.allclose(new, laid, atol=_SAME):
        return Regrid(axes, turned, None, (a, b, c), laid)
    x, y, z = (
        np.clip(np.arange(count) * step, 0, size - 1)
        for count, step, size in zip(counts, ratio, (a, b, c), strict=True)
    )
    return Regrid(axes, turned, (x, y, z), (int(counts[0]), int(counts[1]), int(counts[2])), new)


def check_whole(values: npt.NDArray[np.float32], unit: str, dtype: str) -> None:
    """Refuse to round what isn't meant to be: Hounsfield units are, and whole numbers are as they are.

    Parameters
    ----------
    values : ndarray
        (slice, row, column), before they are resampled.
    unit : str
        Theirs.
    dtype : str
        Of the bricks.

    Raises
    ------
    UsageError
        These are fractions, such as activities or uptake.
    """
    if np.dtype(dtype).kind not in "iu" or unit == "HU":
        return
    if not all(np.array_equal(part, np.rint(part)) for part in values):
        raise UsageError(
            f"{dtype} would round the fractions of this series away; use dtype='float32' or 'float16'"
        )


def stored(values: npt.NDArray[np.float32], dtype: str) -> Array:
    """Return values in the dtype of bricks: what whole numbers hold is rounded.

    Raises
    ------
    UsageError
        The dtype can't hold them, or half precision would lose more than 0.1 % of their range.
    """
    target = np.dtype(dtype)
    if target == np.float32:
        return values
    low, high = float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))
    info: Any = np.iinfo(target) if target.kind in "iu" else np.finfo(target)
    # Written so that nan fails, too.
    if values.size and not (low >= float(info.min) and high <= float(info.max)):
        raise UsageError(f"{dtype} cannot hold the values of this series; use dtype='float32'")
    if target.kind in "iu":
        return np.rint(values).astype(target)
    half = values.astype(target)
    most = _LOST * ((high - low) or abs(high))
    if any(np.abs(part - kept).max(initial=0) > most for part, kept in zip(values, half, strict=True)):
        raise UsageError(f"{dtype} is too coarse for the values of this series; use dtype='float32'")
    return half


def _axes(affine: Floats, orientation: str) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Return the old axis of each new one, and whether it turns round."""
    closest = _closest(affine)
    found: list[tuple[int, bool]] = []
    for letter in orientation:
        world, sign = next(
            (number, side)
            for number, pair in enumerate(("LR", "PA", "IS"))
            for side, name in ((-1, pair[0]), (1, pair[1]))
            if name == letter
        )
        axis = next(old for old, (number, _) in enumerate(closest) if number == world)
        found.append((axis, closest[axis][1] != sign))
    (a, ta), (b, tb), (c, tc) = found
    return (a, b, c), (ta, tb, tc)


def _closest(affine: Floats) -> list[tuple[int, int]]:
    """Return for each axis the world axis that it is closest to, and in which direction.

    The rotation closest to the affine decides, and the clearest axis goes first: so each world axis
    is taken once, as nibabel does it.
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(directions)
    rotation = left @ right
    found = [(0, 1)] * 3
    for axis in np.argsort(-(rotation**2).max(axis=0), kind="stable"):
        world = int(np.argmax(np.abs(rotation[:, axis])))
        found[int(axis)] = world, 1 if rotation[world, axis] >= 0 else -1
        rotation[world] = 0
    return found


def _from_new(axes: Sequence[int], turned: Sequence[bool], shape: Sequence[int]) -> Floats:
    """Return what makes an old index of a new one, as a (4, 4) matrix."""
    turn = np.zeros((4, 4))
    turn[3, 3] = 1
    for new, (old, backward) in enumerate(zip(axes, turned, strict=True)):
        turn[old, new] = -1 if backward else 1
        turn[old, 3] = shape[new] - 1 if backward else 0
    return turn


def _linear(values: npt.NDArray[np.float32], places: Floats, axis: int) -> npt.NDArray[np.float32]:
    """Interpolate along one axis."""
    below = np.floor(places).astype(np.intp)
    above = np.minimum(below + 1, values.shape[axis] - 1)
    part = (places - below).astype(np.float32)
    if not part.any():
        return values if len(places) == values.shape[axis] else np.take(values, below, axis)
    weight = part.reshape([-1 if number == axis else 1 for number in range(3)])
    out = np.take(values, above, axis)
    here = np.take(values, below, axis)
    out -= here
    out *= weight
    out += here
    return np.asarray(out)


__all__ = ["Regrid", "check_whole", "regrid", "stored"]
