"""Masks over grey pictures: a colour for each label, filled or outlined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault.errors import UsageError
from voxelvault.model import MOST_LABELS

PALETTE: tuple[tuple[int, int, int], ...] = (
    (230, 75, 60),
    (70, 160, 250),
    (90, 200, 90),
    (250, 190, 50),
    (190, 110, 230),
    (60, 210, 210),
    (250, 130, 190),
    (170, 200, 60),
    (250, 140, 60),
    (120, 130, 250),
)
"""Colours of labels 1, 2, …; label 11 has the first one again."""

OPACITY = 0.4


def as_labels(mask: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return a mask as small labels.

    Parameters
    ----------
    mask : ndarray
        Any shape: bool, whole numbers 0 (background) to 255, or parts in [0, 1], of which those from
        a half on count.

    Returns
    -------
    ndarray
        uint8, the same shape.

    Raises
    ------
    UsageError
        Values that are no labels.
    """
    if mask.dtype == np.uint8:
        return np.asarray(mask)
    if mask.dtype.kind == "f":
        if mask.size and not (np.nanmin(mask) >= 0 and np.nanmax(mask) <= 1):
            raise UsageError("a mask of fractions lies in 0 to 1; give labels as whole numbers")
        return np.asarray(mask >= 0.5).astype(np.uint8)
    if mask.dtype.kind not in "biu" or (mask.size and (mask.min() < 0 or mask.max() > MOST_LABELS)):
        raise UsageError(f"a mask holds whole numbers, 0 for background and labels 1 to {MOST_LABELS}")
    return mask.astype(np.uint8)


def named(mask: npt.NDArray[Any] | None, names: Mapping[int, str] | None = None) -> dict[int, str]:
    """Return a name for every label of a mask.

    Parameters
    ----------
    mask : ndarray, optional
        Of a volume, as in `as_labels`.
    names : mapping, optional
        Those that are known; free of identifiers.
    """
    if mask is None:
        return {}
    found = np.flatnonzero(np.bincount(as_labels(mask).reshape(-1), minlength=1))
    return {int(label): (names or {}).get(int(label), f"label {label}") for label in found if label}


def mask_middle(labels: npt.NDArray[np.uint8]) -> tuple[int, int, int] | None:
    """Return a voxel of a mask in the middle of it; None where it is empty.

    Parameters
    ----------
    labels : ndarray
        uint8, three axes; 0 for background.
    """
    counts = np.count_nonzero(labels, axis=(1, 2))
    if not counts.any():
        return None
    filled = np.flatnonzero(counts)
    plane = filled[np.argmin(np.abs(filled - np.average(np.arange(len(counts)), weights=counts)))]
    # Nearest to the middle and labelled: that of a ring, or of two lesions, is background.
    inside = np.argwhere(labels[plane])
    nearest = inside[np.argmin(((inside - inside.mean(axis=0)) ** 2).sum(axis=1))]
    return int(plane), int(nearest[0]), int(nearest[1])


def blend(
    grey: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.uint8],
    opacity: float = OPACITY,
    outline: bool = True,
) -> npt.NDArray[np.uint8]:
    """Return a picture with a mask over it.

    Parameters
    ----------
    grey : ndarray
        uint8, (row, column) or (row, column, 3).
    mask : ndarray
        uint8 (row, column), 0 for background.
    opacity : float
        Of the fill, 0 to 1.
    outline : bool
        Draw the border pixels of each label in full.

    Returns
    -------
    ndarray
        uint8 (row, column, 3).

    Raises
    ------
    UsageError
        The mask's size is not the picture's.
    """
    if mask.shape != grey.shape[:2]:
        raise UsageError(f"a mask of shape {mask.shape} does not lie on slices of shape {grey.shape[:2]}")
    picture = grey if grey.ndim == 3 else np.repeat(grey[..., None], 3, axis=2)
    table = np.array([PALETTE[(label - 1) % len(PALETTE)] for label in range(MOST_LABELS + 1)], np.float32)
    part = np.where(mask > 0, np.float32(min(max(opacity, 0.0), 1.0)), np.float32(0))
    if outline:
        part[border(mask)] = 1.0
    mixed = picture * (1 - part[..., None]) + table[mask] * part[..., None]
    return np.asarray(np.rint(mixed), dtype=np.uint8)


def border(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return the labelled pixels with a neighbour (of four) of another label, or of none.

    Parameters
    ----------
    mask : ndarray
        uint8 (row, column).
    """
    around = np.pad(mask, 1)
    inner = around[1:-1, 1:-1]
    neighbours = (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:])
    return np.asarray((inner > 0) & np.any([inner != other for other in neighbours], axis=0))
