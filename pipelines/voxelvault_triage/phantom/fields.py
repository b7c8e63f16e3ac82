"""Smooth random fields and displacements: what makes one head differ from the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Points = npt.NDArray[np.float32]
Values = npt.NDArray[np.float32]

_CELLS = 64
_PER_WAVE = 5.0


def field(
    rng: np.random.Generator, points: Points, wavelength: float, scale: tuple[float, ...] = (1, 1, 1)
) -> Values:
    """Return a smooth random field of mean 0 and standard deviation 1 at points.

    Parameters
    ----------
    rng : numpy.random.Generator
        Decides the field.
    points : (3, ...) float32
        Coordinates z, y, x in mm.
    wavelength : float
        Typical distance between neighbouring crests in mm.
    scale : tuple of float
        Stretches the wavelength along z, y, x.
    """
    noise = ndimage.gaussian_filter(rng.standard_normal((_CELLS,) * 3).astype(np.float32), 1.2, mode="wrap")
    noise /= noise.std()
    step = np.asarray([wavelength / _PER_WAVE * s for s in scale], np.float32)
    start = rng.uniform(0, _CELLS, 3).astype(np.float32)
    shape = (3, *[1] * (points.ndim - 1))
    out = np.empty(points.shape[1:], np.float32)
    ndimage.map_coordinates(
        noise, points / step.reshape(shape) + start.reshape(shape), order=1, mode="grid-wrap", output=out
    )
    return out


def soft_step(distance: Values, width: float) -> Values:
    """Return 0 far below, 1 far above zero, over a width in mm."""
    return np.asarray(0.5 + 0.5 * np.tanh(distance * np.float32(1 / max(width, 1e-3))), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Warp:
    """How one patient's head maps to the atlas: an affine and smooth displacements.

    Parameters
    ----------
    matrix : (3, 3) float32
        Applied to coordinates z, y, x.
    coarse : (3, n, n, n) float32
        Displacements in mm on a coarse grid.
    reach : float
        Half the extent of that grid in mm.
    """

    matrix: npt.NDArray[np.float32]
    coarse: npt.NDArray[np.float32]
    reach: float = 130.0

    def __call__(self, points: Points) -> Points:
        """Return atlas coordinates of points in the patient's head."""
        moved = np.tensordot(self.matrix, points, 1).astype(np.float32)
        cells = self.coarse.shape[1] - 1
        where = (points + np.float32(self.reach)) * np.float32(cells / (2 * self.reach))
        out = np.empty(points.shape[1:], np.float32)
        for axis in range(3):
            ndimage.map_coordinates(self.coarse[axis], where, order=1, mode="nearest", output=out)
            moved[axis] += out
        return moved


def random_warp(rng: np.random.Generator, size: float, bend_mm: float, turn_deg: float) -> Warp:
    """Return a random head: size, proportions, pose and smooth bending.

    Parameters
    ----------
    rng : numpy.random.Generator
        Decides the head.
    size : float
        Standard deviation of the logarithm of each axis' scale.
    bend_mm : float
        Standard deviation of the displacements.
    turn_deg : float
        Standard deviation of pitch, roll and yaw.
    """
    scale = np.diag(np.exp(rng.normal(0, size, 3) + rng.normal(0, size)))
    shear = np.eye(3) + rng.normal(0, 0.02, (3, 3)) * (1 - np.eye(3))
    turn = _turn(np.deg2rad(rng.normal(0, turn_deg, 3)))
    coarse = ndimage.zoom(rng.normal(0, bend_mm, (3, 6, 6, 6)), (1, 3, 3, 3), order=3)
    return Warp((scale @ shear @ turn).astype(np.float32), coarse.astype(np.float32))


def _turn(angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return a rotation of coordinates z, y, x by pitch (about x), roll (about y) and yaw (about z)."""
    made = np.eye(3)
    for (i, j), angle in zip(((0, 1), (0, 2), (1, 2)), angles, strict=True):
        step = np.eye(3)
        step[[i, j], [i, j]] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        made = made @ step
    return made
