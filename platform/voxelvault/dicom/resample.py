"""An uneven or tilted stack of slices onto an even, upright grid; linear, and only on request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from voxelvault.dicom.slices import SAME_PLACE, Floats, FrameGroup, normal_of
from voxelvault.errors import GeometryError

Volume: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Resampled:
    """A volume on an even grid.

    Parameters
    ----------
    volume : ndarray
        float32, shape (slice, row, column), the input's unit.
    affine_lps : ndarray
        float64, shape (4, 4): (column, row, slice) index to mm, LPS; no shear.
    spacing : tuple
        (slice, row, column) mm.
    """

    volume: Volume
    affine_lps: Floats
    spacing: tuple[float, float, float]


def resample_regular(
    volume: npt.NDArray[Any], group: FrameGroup, *, step: float | None = None, fill: float = float("nan")
) -> Resampled:
    """Interpolate slices linearly onto an even grid whose slices lie straight behind each other.

    Slices that a tilted gantry moved in their plane are moved back, and the grid grows by rows and
    columns so that nothing is cut off. Between two slices far apart values are
    made up: look at `positions` before measuring there.

    Parameters
    ----------
    volume : ndarray
        Shape (slice, row, column), in the order of `group`.
    group : FrameGroup
        Its positions, orientation and pixel spacing.
    step : float, optional
        mm between slices; by default such that first and last slice stay, near the median step.
    fill : float
        Value where no slice reaches.

    Returns
    -------
    Resampled
        The even volume.

    Raises
    ------
    GeometryError
        The slices have no place in space, or two are at one place.
    """
    orientation, pixel_spacing = _plane(group)
    if volume.shape[0] != len(group):
        raise GeometryError("cannot resample: give as many slices as the group has")
    distances = (group.positions - group.positions[0]) @ group.normal
    targets = _targets(distances, group, step)
    shifts = _shifts(group.positions - group.positions[0], orientation, pixel_spacing)
    low, high = np.floor(shifts.min(axis=0)), np.ceil(shifts.max(axis=0))
    grown = (volume.shape[1] + int(high[0] - low[0]), volume.shape[2] + int(high[1] - low[1]))
    out: Volume = np.empty((len(targets), *grown), dtype=np.float32)
    upright = _Upright(volume, shifts - low, grown)
    for k, target in enumerate(targets):
        _blend(upright, distances, float(target), out[k])
    if not np.isnan(fill):
        np.nan_to_num(out, copy=False, nan=fill)
    between = float(targets[1] - targets[0]) if len(targets) > 1 else _thickness(group)
    spacing = (between, *pixel_spacing)
    return Resampled(out, _affine(group.positions[0], orientation, low, spacing), spacing)


class _Upright:
    """Slices moved back in their plane, as float32; the last two are kept, since targets ascend."""

    def __init__(self, volume: npt.NDArray[Any], moves: Floats, shape: tuple[int, int]) -> None:
        self._volume, self._moves, self._shape = volume, moves, shape
        self._kept: dict[int, Volume] = {}

    def __getitem__(self, index: int) -> Volume:
        if index not in self._kept:
            self._kept = {i: plane for i, plane in self._kept.items() if i == index - 1}
            self._kept[index] = _moved(self._volume[index], self._moves[index], self._shape)
        return self._kept[index]


def _targets(distances: Floats, group: FrameGroup, step: float | None) -> Floats:
    """Return the distances of the new slices from the first one, mm."""
    gaps = np.diff(distances)
    if len(gaps) and gaps.min() < SAME_PLACE:
        raise GeometryError("cannot resample: several frames lie at one place; choose one with stack=")
    if step is not None and step <= 0:
        raise GeometryError("cannot resample: give a step in mm above zero")
    if not len(gaps):
        return np.zeros(1)
    extent = distances[-1]
    if step is None:
        count = max(round(float(extent / np.median(gaps))), 1) + 1
        return np.asarray(np.linspace(0.0, extent, count), dtype=np.float64)
    return np.asarray(np.arange(int(extent / step + 1e-6) + 1) * step, dtype=np.float64)


def _plane(group: FrameGroup) -> tuple[Floats, tuple[float, float]]:
    """Return orientation and pixel spacing."""
    if group.orientation is None or group.pixel_spacing is None:
        raise GeometryError(f"cannot resample: {group.reason}; use the frames as they are (`pixels`)")
    return group.orientation, group.pixel_spacing


def _shifts(offsets: Floats, orientation: Floats, pixel_spacing: tuple[float, float]) -> Floats:
    """Return (row, column) pixels by which each slice is moved against the first one."""
    down = offsets @ orientation[3:] / pixel_spacing[0]
    across = offsets @ orientation[:3] / pixel_spacing[1]
    # Thousandths of a pixel are rounding of the positions and not worth blurring for.
    shifts = np.stack([down, across], axis=1)
    return np.where(np.abs(shifts) < 5e-3, 0.0, shifts)


def _moved(plane: npt.NDArray[Any], move: Floats, shape: tuple[int, int]) -> Volume:
    """Lay a slice into a larger one, `move` (row, column) pixels from its corner; nan around it."""
    out: Volume = np.full(shape, np.nan, dtype=np.float32)
    whole = np.floor(move).astype(int)
    part = move - whole
    values = plane.astype(np.float32)
    for axis in (0, 1):
        if part[axis] > 0:
            values = _half_step(values, float(part[axis]), axis)
    rows, columns = values.shape
    out[whole[0] : whole[0] + rows, whole[1] : whole[1] + columns] = values
    return out


def _half_step(values: Volume, part: float, axis: int) -> Volume:
    """Move values by a part of a pixel towards larger indexes; one longer, nan at both ends."""
    pad = [(0, 0), (0, 0)]
    pad[axis] = (1, 1)
    padded = np.pad(values, pad, constant_values=np.nan)
    size = padded.shape[axis]
    here = np.take(padded, range(1, size), axis)
    before = np.take(padded, range(size - 1), axis)
    return np.asarray((1 - part) * here + part * before, dtype=np.float32)


def _blend(upright: _Upright, distances: Floats, target: float, out: Volume) -> None:
    """Write the slice at `target` mm from its two neighbours."""
    after = int(np.searchsorted(distances, target - SAME_PLACE))
    after = min(after, len(distances) - 1)
    if after == 0 or abs(distances[after] - target) <= SAME_PLACE:
        out[:] = upright[after]
        return
    weight = float((target - distances[after - 1]) / (distances[after] - distances[after - 1]))
    before = upright[after - 1]
    np.multiply(upright[after], np.float32(weight), out=out)
    out += before * np.float32(1 - weight)


def _thickness(group: FrameGroup) -> float:
    return group.spacing[0] if group.spacing else 1.0


def _affine(origin: Floats, orientation: Floats, low: Floats, spacing: tuple[float, float, float]) -> Floats:
    affine = np.eye(4)
    affine[:3, 0] = orientation[:3] * spacing[2]
    affine[:3, 1] = orientation[3:] * spacing[1]
    affine[:3, 2] = normal_of(orientation) * spacing[0]
    affine[:3, 3] = origin + affine[:3, 1] * low[0] + affine[:3, 0] * low[1]
    return affine
