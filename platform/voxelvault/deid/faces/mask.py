"""What is taken off: all that lies in front of the brain and of a plane through the face.

What stays has the shape of the brain's own surroundings, not of the face: a shell of constant depth
would keep the features. One mask serves every frame of a frame of reference.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from voxelvault.deid.faces.grid import STEP, Floats, Mask, Plane
from voxelvault.deid.faces.head import Head, dilated
from voxelvault.deid.needed import ndimage

MARGIN = 8.0
"""mm around the brain that are never touched."""

BEHIND = 25.0
"""The plane lies that far behind the brain's foremost point, mm: behind eyes, nose and lips."""

BOWL = 30.0
"""mm below the lowest section of the frontal lobes that may still hold some of them."""

CHIN = 140.0
"""mm from the floor of the frontal lobes down to where a face ends, and a neck's length more."""

LEAST_FACE = 30.0
"""Height of face below the brow, mm, from which it can be made out."""


@dataclass(frozen=True, slots=True)
class FaceMask:
    """Where the face of one frame of reference is.

    Parameters
    ----------
    cells : ndarray
        (z, y, x) bool on the grid of `STEP` mm.
    origin : tuple of float
        x, y, z of the first cell's centre; mm (LPS).
    """

    cells: Mask = field(repr=False)
    origin: tuple[float, float, float]

    def on(self, plane: Plane, shape: tuple[int, int]) -> Mask:
        """Return which pixels of a frame are face: (row, column) bool.

        Beyond the grid its edge goes on: a series that reaches further down has more of the face.
        """
        return self.at(plane.points(shape))

    def at(self, points: Floats) -> Mask:
        """Return which points (..., 3), mm (LPS), are face."""
        cells = np.rint((points - np.asarray(self.origin)) / STEP).astype(int)
        z, y, x = (np.clip(cells[..., axis], 0, self.cells.shape[2 - axis] - 1) for axis in (2, 1, 0))
        return np.asarray(self.cells[z, y, x])


def face_of(head: Head) -> FaceMask | None:
    """Return the mask of a head's face; None where so little was imaged that nobody can be made out.

    Parameters
    ----------
    head : Head
        As `find_head` found it.
    """
    rows = np.nonzero(head.brain.any(axis=(0, 2)))[0]
    plane = rows[0] + round(BEHIND / STEP)
    front = head.brain[:, : plane + 1].any(axis=(1, 2))
    floor = int(np.argmax(front))
    face = np.zeros_like(head.body)
    face[max(floor - round(CHIN / STEP), 0) :, :plane] = True
    face[floor:] &= _before(head.brain)[floor:]
    face &= ~dilated(_with_bowl(head.brain, floor), MARGIN)
    below = (face & head.body)[:floor].any(axis=(1, 2)).sum() * STEP
    return FaceMask(face, head.grid.origin) if below >= LEAST_FACE else None


def _with_bowl(brain: Mask, floor: int) -> Mask:
    """Add what the frontal lobes may have below the lowest level that a ring of bone closed.

    A bowl below the lowest section, four times as deep as it recedes: what sinks deeper lies further back.
    """
    depth = ndimage().distance_transform_edt(brain[floor])
    whole = brain.copy()
    for below in range(1, min(round(BOWL / STEP), floor) + 1):
        whole[floor - below] |= depth > below / 4
    return whole


def _before(brain: Mask) -> Mask:
    """Return the cells in front of the brain, those beside it in its front part too."""
    rows = np.arange(brain.shape[1])[None, :, None]
    first = np.where(brain.any(axis=1), np.argmax(brain, axis=1), brain.shape[1])
    return np.asarray(rows < first[:, None, :])


__all__ = ["FaceMask", "face_of"]
