"""A volume in the patient's own axes: nearest ones, by turning and flipping, nothing interpolated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault.display.image import edge_letters
from voxelvault.errors import UsageError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Upright:
    """A volume whose axes run, nearly, to the patient's right, front and head.

    Parameters
    ----------
    values : ndarray
        (x, y, z): any dtype, a view of what was given.
    affine_ras : ndarray
        float64 (4, 4): (x, y, z) index to mm, RAS.
    """

    values: npt.NDArray[Any]
    affine_ras: Floats

    @property
    def spacing(self) -> tuple[float, float, float]:
        """(x, y, z) mm."""
        steps = np.linalg.norm(self.affine_ras[:3, :3], axis=0)
        return float(steps[0]), float(steps[1]), float(steps[2])

    def index_of(self, place: npt.ArrayLike | None) -> tuple[int, int, int]:
        """Return the voxel nearest to a place.

        Parameters
        ----------
        place : (x, y, z), optional
            mm, RAS; the middle of the volume by default.
        """
        shape = np.array(self.values.shape)
        if place is None:
            found = shape // 2
        else:
            found = np.rint(np.linalg.solve(self.affine_ras, [*np.asarray(place, float), 1.0])[:3]).astype(
                int
            )
        x, y, z = np.clip(found, 0, shape - 1)
        return int(x), int(y), int(z)

    def letters(self, across: int, down: int) -> tuple[str, str, str, str]:
        """Return the sides of the body at (left, right, top, bottom) of a plane.

        Parameters
        ----------
        across, down : int
            Axes along which columns and rows run, backwards: x from right to left, y from front to
            back, z from head to feet, as a radiologist looks.
        """
        to_lps = np.array([-1.0, -1.0, 1.0])
        vectors = [-self.affine_ras[:3, axis] * to_lps for axis in (across, down)]
        return edge_letters([float(part) for vector in vectors for part in vector / np.linalg.norm(vector)])


def upright(volume: npt.NDArray[Any], affine_ras: npt.ArrayLike) -> Upright:
    """Turn a volume into the patient's axes.

    Parameters
    ----------
    volume : ndarray
        (slice, row, column).
    affine_ras : array_like
        float (4, 4): (column, row, slice) index to mm, RAS.

    Raises
    ------
    UsageError
        Not three axes, or no such affine.
    """
    affine = np.asarray(affine_ras, np.float64)
    if volume.ndim != 3 or affine.shape != (4, 4) or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise UsageError("three planes need a grey volume (slice, row, column) and its (4, 4) affine")
    values = volume.transpose(2, 1, 0)
    order = _nearest_axes(affine)
    turned = values.transpose(order)
    moved = affine[:, [*order, 3]]
    for axis in range(3):
        if moved[axis, axis] < 0:
            moved[:, 3] += moved[:, axis] * (turned.shape[axis] - 1)
            moved[:, axis] *= -1
            turned = np.flip(turned, axis)
    return Upright(turned, moved)


def _nearest_axes(affine: Floats) -> list[int]:
    """Return which index axis runs along x, y and z, the clearest one first."""
    cosines = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    order = [0, 0, 0]
    for _ in range(3):
        world, index = np.unravel_index(int(np.argmax(cosines)), (3, 3))
        order[int(world)] = int(index)
        cosines[world, :] = cosines[:, index] = -1
    return order
