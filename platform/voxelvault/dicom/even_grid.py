"""Images and labels of a stack on one even, upright grid, and what is there where no slice reaches."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault.dicom.resample import resample_regular
from voxelvault.dicom.slices import LPS_TO_RAS, Floats, FrameGroup

AIR = -1024.0
"""What padding becomes in Hounsfield units; 0 in any other unit."""


def fill_for(unit: str) -> float:
    """Return what stands for padding, and for what lies outside, in a unit."""
    return AIR if unit == "HU" else 0.0


def own_axes(affine: Floats) -> Floats:
    """Return an affine of (column, row, slice) as one of (slice, row, column); float64 (4, 4)."""
    return np.ascontiguousarray(affine[:, [2, 1, 0, 3]])


def is_even(group: FrameGroup) -> bool:
    """Tell whether slices lie evenly and straight behind each other."""
    return group.regular and not group.tilted


def even_image(
    values: npt.NDArray[Any], group: FrameGroup, fill: float
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Return a volume on an even, upright grid: itself where it lies on one.

    Parameters
    ----------
    values : ndarray
        (slice, row, column).
    group : FrameGroup
        Where its slices lie.
    fill : float
        Value where no slice reaches.

    Returns
    -------
    tuple of ndarray
        The volume, and float64 (4, 4): (slice, row, column) index to mm, RAS.

    Raises
    ------
    GeometryError
        The slices have no place in space, or two are at one place.
    """
    if is_even(group):
        return values, own_axes(group.affine_ras)
    done = resample_regular(values, group, fill=fill)
    return done.volume, own_axes(LPS_TO_RAS @ done.affine_lps)


def even_labels(
    labels: npt.NDArray[Any], group: FrameGroup
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """Return labels on the grid that `even_image` lays their image on; a voxel has the label of most of it.

    Parameters
    ----------
    labels : ndarray
        (slice, row, column), bool or whole numbers from 0 to 255.
    group : FrameGroup
        Where its slices lie.

    Returns
    -------
    tuple of ndarray
        uint8 (slice, row, column), and the affine that `even_image` gives.

    Raises
    ------
    GeometryError
        As `even_image`.
    """
    if is_even(group):
        return labels.astype(np.uint8, copy=False), own_axes(group.affine_ras)
    empty, affine = even_image(np.zeros(labels.shape, np.uint8), group, 0.0)
    out = np.zeros(empty.shape, np.uint8)
    for value in np.unique(labels[labels > 0]).tolist():
        out[resample_regular(labels == value, group, fill=0.0).volume >= 0.5] = value
    return out, affine


__all__ = ["AIR", "even_image", "even_labels", "fill_for", "is_even", "own_axes"]
