"""Slices of any orientation on one coarse grid along the patient's axes.

References
----------
DICOM PS3.3 C.7.6.2.1.1 (position and orientation; x to the left, y to the back, z to the head).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from voxelvault.deid.needed import ndimage

Floats = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]

STEP = 3.0
"""Edge of a cell in mm: a nose is ten cells long, and a head a hundred thousand cells large."""


@dataclass(frozen=True, slots=True)
class Plane:
    """Where a frame lies.

    Parameters
    ----------
    position : tuple of float
        Centre of the first pixel, mm (LPS).
    orientation : tuple of float
        Direction of a row, then of a column, six cosines.
    spacing : tuple of float
        Between rows, between columns; mm.
    """

    position: tuple[float, float, float]
    orientation: tuple[float, float, float, float, float, float]
    spacing: tuple[float, float]

    @property
    def across(self) -> Floats:
        """Unit vector along a row: to the next column."""
        return np.asarray(self.orientation[:3])

    @property
    def down(self) -> Floats:
        """Unit vector along a column: to the next row."""
        return np.asarray(self.orientation[3:])

    @property
    def normal(self) -> Floats:
        """Unit vector out of the plane."""
        return np.cross(self.across, self.down)

    def points(self, shape: tuple[int, int]) -> Floats:
        """Return the centres of its pixels: (row, column, 3) float64, mm (LPS)."""
        rows = np.arange(shape[0])[:, None, None] * self.spacing[0] * self.down
        columns = np.arange(shape[1])[None, :, None] * self.spacing[1] * self.across
        return np.asarray(self.position) + rows + columns


@dataclass(frozen=True, slots=True)
class Slice:
    """A frame in its place: values (row, column) float32."""

    plane: Plane
    values: Floats = field(repr=False)


@dataclass(frozen=True, slots=True)
class Grid:
    """Values on the grid.

    Parameters
    ----------
    values : ndarray
        (z, y, x) float32; NaN where no slice reaches.
    origin : tuple of float
        x, y, z of the first cell's centre; mm (LPS).
    """

    values: Floats = field(repr=False)
    origin: tuple[float, float, float]


def on_grid(slices: Sequence[Slice]) -> Grid:
    """Put parallel slices on the grid, by linear interpolation.

    Parameters
    ----------
    slices : sequence of Slice
        At least two, parallel, of one shape, in any order; spacing and tilt may vary.
    """
    normal = slices[0].plane.normal
    ordered = sorted(slices, key=lambda one: float(normal @ one.plane.position))
    distance = np.array([normal @ one.plane.position for one in ordered])
    places = np.array([one.plane.position for one in ordered])
    stack = np.stack([one.values for one in ordered]).astype(np.float32)
    first, shape = _bounds(ordered)
    x, y, z = (np.arange(shape[axis]) * STEP + first[axis] for axis in range(3))
    plane = ordered[0].plane
    values = np.empty((len(z), len(y), len(x)), np.float32)
    for level, height in enumerate(z):  # a whole body's points at once would fill memory
        points = np.stack(np.broadcast_arrays(x[None, :], y[:, None], height), axis=-1)
        depth = points @ normal
        number = np.interp(depth, distance, np.arange(len(ordered)), left=-1.0, right=-1.0)
        # Slices of a tilted gantry are shifted against each other: each point has a corner of its own.
        corner = np.stack([np.interp(depth, distance, places[:, axis]) for axis in range(3)], axis=-1)
        row = (points - corner) @ plane.down / plane.spacing[0]
        column = (points - corner) @ plane.across / plane.spacing[1]
        values[level] = _sampled(stack, number, row, column)
    return Grid(values, (float(first[0]), float(first[1]), float(first[2])))


def _sampled(stack: Floats, number: Floats, row: Floats, column: Floats) -> Floats:
    found: Floats = ndimage().map_coordinates(
        stack, [number, row, column], np.float32, order=1, mode="constant", cval=np.nan
    )
    found[number < 0] = np.nan
    return found


def _bounds(slices: Sequence[Slice]) -> tuple[Floats, npt.NDArray[np.int_]]:
    """Return the first cell's centre (x, y, z) and how many cells there are along each axis."""
    corners = []
    for one in (slices[0], slices[-1]):
        points = one.plane.points((one.values.shape[0], one.values.shape[1]))
        corners += [points[row, column] for row in (0, -1) for column in (0, -1)]
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    return low, np.ceil((high - low) / STEP).astype(int) + 1


__all__ = ["STEP", "Grid", "Plane", "Slice", "on_grid"]
