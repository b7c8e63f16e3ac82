"""The baseline that every model must beat: how much of the inside of the skull is brighter than brain."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Values = npt.NDArray[np.float32]

LOW, HIGH = 50.0, 95.0
"""Hounsfield units between which blood lies."""


def brightness(hu: Values, plane_ml: npt.NDArray[np.float64]) -> float:
    """Return how many millilitres inside the skull are as bright as blood: one line, no learning.

    Parameters
    ----------
    hu : (plane, row, column) float32
        A prepared head, Hounsfield units.
    plane_ml : (plane,) float64
        Volume of a voxel in millilitres.
    """
    smooth = ndimage.median_filter(hu, (1, 3, 3))
    return float(((smooth > LOW) & (smooth < HIGH) & inside(hu)).sum(axis=(1, 2)) @ plane_ml)


def inside(hu: Values) -> npt.NDArray[np.bool_]:
    """Return what bone encloses in each plane, 3 mm from it, (plane, row, column) bool."""
    made = np.zeros(hu.shape, np.bool_)
    for index, plane in enumerate(hu):
        bone = ndimage.binary_closing(plane > 200, iterations=2)
        hollow = ndimage.binary_fill_holes(bone) & ~bone
        made[index] = ndimage.binary_erosion(hollow & (plane > -20), iterations=3)
    return made
