"""What a few slices of a CT show, whatever their header says: air, a body, a skull with brain in it.

All of it in numbers of the patient's own scale: slices are first brought to about 2 mm a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Plane = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

PIXEL_MM = 2.0
AIR, BODY, BONE = -850.0, -300.0, 250.0
"""Hounsfield units: below, air outside; above, body; above, bone."""
BRAIN = (-10.0, 90.0)
"""Hounsfield units of brain, cerebrospinal fluid and fresh blood."""

_PADDING = -1500.0
_SECTORS = 72
_OUTER = 0.55
"""Of the way from the middle to the skin: bone further out is a skull's."""
_SHELL_MM = 18.0
"""Skin and skull together, which are left out when brain is looked for."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one slice shows.

    Parameters
    ----------
    area : float
        Of the largest body, square centimetres.
    width, depth : float
        Of it in mm, along the two directions of the slice.
    skull : float
        Share of directions from its middle that meet bone in its outer part, 0 to 1.
    brain : float
        Share of what lies within skin and skull that has brain's density, 0 to 1.
    air : float
        Share of the slice that has air's density, 0 to 1.
    air_level : float
        Median of what is air or nearly, Hounsfield units; NaN where there is none. Padding that scanners
        write far below air is left out.
    cavities : float
        Air inside the body, square centimetres.
    """

    area: float
    width: float
    depth: float
    skull: float
    brain: float
    air: float
    air_level: float
    cavities: float

    @property
    def is_brain(self) -> bool:
        """True where a closed skull surrounds brain, and both have a head's size."""
        sized = 70 <= self.area <= 420 and max(self.width, self.depth) <= 280
        return sized and self.skull >= 0.7 and self.brain >= 0.8


def coarse(
    plane: npt.NDArray[np.floating], spacing: tuple[float, float]
) -> tuple[Plane, tuple[float, float]]:
    """Average a slice to about `PIXEL_MM`; padding (NaN) becomes air.

    Parameters
    ----------
    plane : (row, column) floating
        Hounsfield units.
    spacing : (float, float)
        (row, column) mm.

    Returns
    -------
    (row, column) float32, and its spacing in mm.
    """
    rows, columns = (max(1, round(PIXEL_MM / step)) for step in spacing)
    height, width = (plane.shape[0] // rows * rows, plane.shape[1] // columns * columns)
    whole = np.nan_to_num(plane[:height, :width].astype(np.float32), copy=False, nan=-1000.0)
    # Added up stride by stride: a mean over blocks of a few pixels takes NumPy ten times as long.
    lines: Plane = reduce(np.add, (whole[k::rows] for k in range(rows)))
    total: Plane = reduce(np.add, (lines[:, k::columns] for k in range(columns)))
    return total / np.float32(rows * columns), (rows * spacing[0], columns * spacing[1])


def body_of(plane: Plane, spacing: tuple[float, float]) -> Mask:
    """Return the largest body of a coarse slice, filled; table and holder are thin and left out."""
    solid, reach = plane > BODY, max(1, round(4 / max(spacing)))
    labels, count = ndimage.label(ndimage.binary_opening(solid, iterations=reach))
    if not count:
        return np.zeros(plane.shape, np.bool_)
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    # Thin walls, such as a sinus has, come back; what opening parted from the body stays away.
    largest = ndimage.binary_dilation(largest, iterations=reach + 1) & solid
    return np.asarray(ndimage.binary_fill_holes(largest), np.bool_)


def look(plane: npt.NDArray[np.floating], spacing: tuple[float, float]) -> Seen:
    """Return what one slice shows.

    Parameters
    ----------
    plane : (row, column) floating
        Hounsfield units; NaN for padding.
    spacing : (float, float)
        (row, column) mm.
    """
    small, step = coarse(plane, spacing)
    body = body_of(small, step)
    pixel = step[0] * step[1] / 100
    inside = ndimage.binary_erosion(body, iterations=max(1, round(_SHELL_MM / max(step))))
    soft = (small > BRAIN[0]) & (small < BRAIN[1])
    around = small[(small > _PADDING) & (small < -600)]
    width, depth = _extent(body.any(axis=0), step[1]), _extent(body.any(axis=1), step[0])
    return Seen(
        area=float(body.sum() * pixel),
        width=width,
        depth=depth,
        skull=_skull(small, body, step),
        brain=float(soft[inside].mean()) if inside.any() else 0.0,
        air=float((small < AIR).mean()),
        air_level=float(np.median(around)) if around.size >= 20 else float("nan"),
        cavities=float((body & (small < BODY)).sum() * pixel),
    )


def evenly(count: int, most: int) -> list[int]:
    """Return at most so many indexes, spread over all, the ends left out where there are many."""
    if count <= most:
        return list(range(count))
    return [int((2 * k + 1) * count / (2 * most)) for k in range(most)]


def brain_range(seen: Sequence[Seen]) -> tuple[int, int] | None:
    """Return first and last of the slices that show brain; None where none does."""
    found = [index for index, one in enumerate(seen) if one.is_brain]
    return (found[0], found[-1]) if found else None


def _extent(present: npt.ArrayLike, step: float) -> float:
    places = np.flatnonzero(present)
    return float((places[-1] - places[0] + 1) * step) if places.size else 0.0


def _skull(plane: Plane, body: Mask, step: tuple[float, float]) -> float:
    """Return the share of directions in which bone lies in the outer part of a body."""
    rows, columns = np.nonzero(body)
    if rows.size < 50:
        return 0.0
    middle = rows.mean(), columns.mean()
    reach = _by_direction(rows, columns, middle, step)
    edge = np.zeros(_SECTORS)
    np.maximum.at(edge, reach[0], reach[1])
    rows, columns = np.nonzero(body & (plane > BONE))
    sector, far = _by_direction(rows, columns, middle, step)
    met = np.zeros(_SECTORS, np.bool_)
    met[sector[far > _OUTER * edge[sector]]] = True
    return float(met.mean())


def _by_direction(
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
    middle: tuple[float, float],
    step: tuple[float, float],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    y, x = (rows - middle[0]) * step[0], (columns - middle[1]) * step[1]
    turns = (np.arctan2(y, x) / (2 * np.pi)) % 1.0
    return (turns * _SECTORS).astype(np.intp) % _SECTORS, np.hypot(y, x)


__all__ = ["Seen", "body_of", "brain_range", "coarse", "evenly", "look"]
