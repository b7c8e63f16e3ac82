"""Parallel slices in space: their order along the normal, and the affine where one exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from voxelvault.errors import GeometryError

Floats: TypeAlias = npt.NDArray[np.float64]
Indexes: TypeAlias = npt.NDArray[np.int32]

STEP_TOLERANCE = 0.02
"""How far a slice may lie from its place on an even grid, as a part of the step (Papaya's MR, whose
positions are rounded to 0.1 mm, needs 0.011; a moved or missing slice gives more than 0.1)."""

SAME_PLACE = 1e-3
"""Slices closer than this along the normal, mm, are at one place."""

MAX_SHEAR = 1.0
"""Largest in-plane move for a step along the normal: 45 degrees; gantries tilt by 30 at most."""

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class FrameGroup:
    """Frames that belong together: one time point, one echo, one orientation, in order of space.

    The slice index grows along the normal (row direction x column direction), so index axes
    (column, row, slice) are right-handed in LPS and in RAS alike.

    Parameters
    ----------
    label : str
        What sets this group apart; unique in its arrangement, free of identifiers.
    keys : mapping
        The same by name: echo, time, orientation and so on.
    order : ndarray
        int32, shape (slice,): indexes into the frames given to `arrange`.
    positions : ndarray
        float64, shape (slice, 3): centre of each slice's first pixel, mm, LPS; nan where unknown.
    orientation : ndarray or None
        float64, shape (6,): row direction, column direction.
    pixel_spacing : tuple or None
        (row, column) mm.
    regular : bool
        The slices lie on an even grid within `STEP_TOLERANCE`: an affine exists.
    spacing : tuple or None
        (slice, row, column) mm, between slices along the normal; None unless regular. A single
        slice has its thickness there, or 1.0.
    tilt : tuple
        (row direction, column direction) mm by which each slice is moved in its plane against the
        one before: not (0, 0) for a tilted gantry.
    reason : str
        Why there is no affine; empty when there is one.
    """

    label: str
    keys: Mapping[str, str | float]
    order: Indexes
    positions: Floats
    orientation: Floats | None = None
    pixel_spacing: tuple[float, float] | None = None
    regular: bool = False
    spacing: tuple[float, float, float] | None = None
    tilt: tuple[float, float] = (0.0, 0.0)
    reason: str = ""
    _step: Floats | None = field(default=None, repr=False)

    def __len__(self) -> int:
        """Return the number of slices."""
        return len(self.order)

    @property
    def normal(self) -> Floats:
        """Unit vector along which the slice index grows, LPS; `GeometryError` without orientation."""
        if self.orientation is None:
            raise GeometryError(f"no normal: {self.reason}; use the frames as they are (`pixels`)")
        return normal_of(self.orientation)

    @cached_property
    def slice_axes(self) -> Floats:
        """(row, column, slice) index to mm, RAS, of a slice that lies at the origin; not to be changed.

        Raises
        ------
        GeometryError
            The frames have no orientation or no pixel spacing.
        """
        if self.orientation is None or self.pixel_spacing is None:
            raise GeometryError(f"no axes: {self.reason}; use the frames as they are (`pixels`)")
        axes = np.eye(4)
        axes[:3, 0] = self.orientation[3:] * self.pixel_spacing[0]
        axes[:3, 1] = self.orientation[:3] * self.pixel_spacing[1]
        axes[:3, 2] = self.normal * (self.spacing[0] if self.spacing else 1.0)
        return np.asarray(LPS_TO_RAS @ axes)

    @property
    def affine_lps(self) -> Floats:
        """(column, row, slice) index to mm, LPS.

        Returns
        -------
        ndarray
            float64, shape (4, 4). Exact at the first and last slice; sheared for a tilted gantry.

        Raises
        ------
        GeometryError
            The slices are uneven or have no place in space.

        References
        ----------
        DICOM PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1.
        """
        if not self.regular or self._step is None or self.orientation is None or self.pixel_spacing is None:
            raise GeometryError(
                f"no single affine: {self.reason}; see `geometry().positions`, or use `volume(resample=True)`"
            )
        affine = np.eye(4)
        # A row's direction is walked by the column index, in steps of the distance between columns.
        affine[:3, 0] = self.orientation[:3] * self.pixel_spacing[1]
        affine[:3, 1] = self.orientation[3:] * self.pixel_spacing[0]
        affine[:3, 2] = self._step
        affine[:3, 3] = self.positions[0]
        return affine

    @property
    def affine_ras(self) -> Floats:
        """(column, row, slice) index to mm, RAS (the convention of NIfTI); raises as `affine_lps`."""
        return np.asarray(LPS_TO_RAS @ self.affine_lps)

    @property
    def tilted(self) -> bool:
        """Slices are moved in their plane by more than `STEP_TOLERANCE` of the step."""
        return bool(
            self.spacing is not None
            and np.hypot(*self.tilt) > STEP_TOLERANCE * max(self.spacing[0], SAME_PLACE)
        )


def normal_of(orientation: Floats) -> Floats:
    """Return the unit normal, row direction x column direction.

    Parameters
    ----------
    orientation : ndarray
        float64, shape (6,).
    """
    normal = np.cross(orientation[:3], orientation[3:])
    return np.asarray(normal / np.linalg.norm(normal))


def place(
    label: str,
    keys: Mapping[str, str | float],
    order: Indexes,
    positions: Floats,
    orientation: Floats,
    pixel_spacing: tuple[float, float] | None,
    thickness: float | None,
) -> FrameGroup:
    """Sort slices of one orientation along their normal and fit the grid.

    Parameters
    ----------
    label, keys
        As in `FrameGroup`.
    order : ndarray
        int32, shape (slice,).
    positions : ndarray
        float64, shape (slice, 3), mm, LPS.
    orientation : ndarray
        float64, shape (6,).
    pixel_spacing : tuple or None
        (row, column) mm.
    thickness : float or None
        mm; gives a single slice its extent.

    Returns
    -------
    FrameGroup
        Regular or not, with the reason.
    """
    normal = normal_of(orientation)
    ranks = np.argsort(positions @ normal, kind="stable")
    order, positions = order[ranks], positions[ranks]
    step, reason = _fit(positions, normal, thickness)
    if pixel_spacing is None:
        step, reason = None, "the header gives no distance between pixels"
    if step is None or pixel_spacing is None:
        return FrameGroup(label, keys, order, positions, orientation, pixel_spacing, reason=reason)
    spacing = (float(step @ normal), *pixel_spacing)
    tilt = (
        _clean(float(step @ orientation[:3]), spacing[0]),
        _clean(float(step @ orientation[3:]), spacing[0]),
    )
    return FrameGroup(
        label, keys, order, positions, orientation, pixel_spacing, True, spacing, tilt, "", step
    )


def _fit(positions: Floats, normal: Floats, thickness: float | None) -> tuple[Floats | None, str]:
    """Return the vector from slice to slice; None and why when the steps are uneven."""
    count = len(positions)
    if count == 1:
        return normal * (thickness or 1.0), ""
    step = (positions[-1] - positions[0]) / (count - 1)
    if step @ normal < SAME_PLACE:
        return None, "several frames lie at one place"
    if np.linalg.norm(step - (step @ normal) * normal) > MAX_SHEAR * (step @ normal):
        return None, "slices lie beside each other, not behind each other"
    even = positions[0] + np.arange(count)[:, None] * step
    if np.linalg.norm(positions - even, axis=1).max() > STEP_TOLERANCE * np.linalg.norm(step):
        gaps = np.diff(positions @ normal)
        if gaps.max() - gaps.min() <= STEP_TOLERANCE * gaps.mean():
            return None, "slices are moved unevenly in their plane"
        return None, f"slices are uneven, {gaps.min():.2f} to {gaps.max():.2f} mm apart"
    return step, ""


def _clean(offset: float, step: float) -> float:
    """Return the in-plane offset, without the noise of rounded positions."""
    return offset if abs(offset) > 1e-3 * step else 0.0
