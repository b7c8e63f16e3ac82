"""Where the slices of a stack lie: also tilted ones and those with uneven steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """Parallel slices in patient coordinates (LPS), in mm.

    Parameters
    ----------
    positions : (slice, 3) float64
        Coordinates x, y, z of the centre of each slice's first voxel.
    across, down : (3,) float64
        Unit vectors along a row (to the next column) and along a column (to the next row).
    spacing : (float, float)
        Distance of rows and of columns.

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1 (position and orientation).
    """

    positions: Floats
    across: Floats
    down: Floats
    spacing: tuple[float, float]

    @classmethod
    def of_affine(cls, affine: npt.ArrayLike, slices: int) -> Planes:
        """Return evenly stepped planes of an affine (4, 4) that maps slice, row, column to LPS in mm."""
        a = np.asarray(affine, float)
        positions = a[:3, 3] + np.arange(slices)[:, None] * a[:3, 0]
        rows, columns = (float(np.linalg.norm(a[:3, k])) for k in (1, 2))
        return cls(positions, a[:3, 2] / columns, a[:3, 1] / rows, (rows, columns))

    @property
    def normal(self) -> Floats:
        """Unit vector across the slices."""
        return np.cross(self.across, self.down)

    @property
    def heights(self) -> Floats:
        """Place of each slice along the normal in mm."""
        return self.positions @ self.normal

    @property
    def steps(self) -> Floats:
        """What each slice stands for along the normal in mm: half the way to either neighbour."""
        if len(self.positions) < 2:
            return np.ones(len(self.positions))
        order = np.argsort(self.heights)
        gaps = np.diff(self.heights[order])
        wide = (np.append(gaps, gaps[-1]) + np.insert(gaps, 0, gaps[0])) / 2
        steps = np.empty_like(wide)
        steps[order] = wide
        return steps

    def voxel_ml(self) -> Floats:
        """Return the volume of a voxel in each slice in millilitres, (slice,) float64."""
        volumes: Floats = self.steps * self.spacing[0] * self.spacing[1] / 1000
        return volumes

    def points(self, rows: int, columns: int, offsets: tuple[float, ...] = (0.0,)) -> npt.NDArray[np.float32]:
        """Return head coordinates z, y, x of every voxel, (3, slice, offset, row, column) float32.

        Parameters
        ----------
        rows, columns : int
            Size of a slice.
        offsets : tuple of float
            Places within a slice's thickness, along the normal in mm.
        """
        grid = (
            self.positions[:, None, None, None, :]
            + np.asarray(offsets)[:, None, None, None] * self.normal
            + (np.arange(rows) * self.spacing[0])[:, None, None] * self.down
            + (np.arange(columns) * self.spacing[1])[:, None] * self.across
        )
        return np.ascontiguousarray(np.moveaxis(grid[..., ::-1], -1, 0), np.float32)
