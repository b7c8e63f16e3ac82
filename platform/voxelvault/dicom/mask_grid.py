"""The grid that a mask is wanted on: parallel slices with a true place each, even or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from voxelvault.dicom.slices import SAME_PLACE, Floats, FrameGroup, normal_of
from voxelvault.errors import GeometryError


@dataclass(frozen=True, eq=False)
class Grid:
    """Pixels of parallel slices, in mm of the patient (LPS).

    Parameters
    ----------
    positions : ndarray
        float64, shape (slice, 3): centre of each slice's first pixel; ascending along the normal.
    orientation : ndarray
        float64, shape (6,): row direction, column direction.
    spacing : tuple
        (row, column) mm.
    rows, columns : int
        Size of each slice.
    thickness : float
        mm that a slice stands for where it has no neighbour.
    """

    positions: Floats
    orientation: Floats
    spacing: tuple[float, float]
    rows: int
    columns: int
    thickness: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slice, row, column)."""
        return len(self.positions), self.rows, self.columns

    @property
    def normal(self) -> Floats:
        """Unit vector along which the slice index grows."""
        return normal_of(self.orientation)

    @property
    def places(self) -> Floats:
        """float64, shape (slice,): mm of each slice along the normal."""
        return np.asarray(self.positions @ self.normal)

    @property
    def column_step(self) -> Floats:
        """Vector from a pixel to the next in its row, mm: float64, shape (3,)."""
        return np.asarray(self.orientation[:3] * self.spacing[1])

    @property
    def row_step(self) -> Floats:
        """Vector from a pixel to the one below it, mm: float64, shape (3,)."""
        return np.asarray(self.orientation[3:] * self.spacing[0])

    def extents(self) -> tuple[Floats, Floats]:
        """Return how far along the normal each slice stands for tissue: up to half way to the next.

        Returns
        -------
        low, high : ndarray
            float64, shape (slice,), mm along the normal; low is included, high is not.
        """
        return extents(self.places, np.inf, self.thickness)

    def along(self, direction: Floats) -> float:
        """Return the extent of a voxel along a unit vector, mm."""
        steps = (self.column_step, self.row_step, self.normal * self.typical_gap)
        return float(max(abs(step @ direction) for step in steps))

    @property
    def typical_gap(self) -> float:
        """Median distance between slices, mm."""
        return float(np.median(np.diff(self.places))) if len(self.positions) > 1 else self.thickness


def grid_of(group: FrameGroup, rows: int, columns: int) -> Grid:
    """Return the grid of a volume's slices.

    Parameters
    ----------
    group : FrameGroup
        Where they lie; they need not be even.
    rows, columns : int
        Size of each slice.

    Raises
    ------
    GeometryError
        The slices have no place in the patient, or several lie at one place.
    """
    if group.orientation is None or group.pixel_spacing is None or not np.isfinite(group.positions).all():
        raise GeometryError(f"no mask: {group.reason or 'the slices have no place in the patient'}")
    gaps = np.diff(group.positions @ normal_of(group.orientation))
    if len(gaps) and gaps.min() < SAME_PLACE:
        raise GeometryError("no mask: several slices of this stack lie at one place")
    thickness = group.spacing[0] if group.spacing else float(np.median(gaps)) if len(gaps) else 1.0
    return Grid(group.positions, group.orientation, group.pixel_spacing, rows, columns, thickness)


def extents(places: Floats, step: float, alone: float) -> tuple[Floats, Floats]:
    """Return which part of a line each place stands for: half a step, and no more than half way to the next.

    Parameters
    ----------
    places : ndarray
        float64, shape (place,), ascending, mm.
    step : float
        mm, the most that a place stands for; infinite where neighbours alone decide.
    alone : float
        mm that the first and last place stand for on their outer side where `step` is infinite.

    Returns
    -------
    low, high : ndarray
        float64, shape (place,), mm; low is included, high is not, so that nothing counts twice.
    """
    half = (step if np.isfinite(step) else alone) / 2
    # Positions are rounded to some microns: a place exactly half a step off must fall on one side.
    nudge = 1e-3 * half
    between = (places[1:] + places[:-1]) / 2
    low = np.concatenate([places[:1] - half, between])
    high = np.concatenate([between, places[-1:] + half])
    if np.isfinite(step):
        low, high = np.maximum(low, places - half), np.minimum(high, places + half)
    return low - nudge, high - nudge


__all__ = ["Grid", "extents", "grid_of"]
