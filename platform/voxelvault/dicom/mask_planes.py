"""Frames of a segmentation onto a grid: the nearest pixel of the nearest plane, through millimetres."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault.dicom.frames import FrameAttributes
from voxelvault.dicom.mask_grid import Grid, extents
from voxelvault.dicom.slices import SAME_PLACE, Floats, normal_of
from voxelvault.errors import GeometryError

Array = npt.NDArray[Any]

ONE_PLANE = 1e-4
"""Direction cosines and relative spacings that differ by less are one orientation."""

FLAT = 0.02
"""Parts of a pixel or step by which planes and slices may lean and still count as parallel."""


THINNEST = 0.2
"""Part of the grid's own voxel that a plane stands for at least."""


@dataclass(frozen=True, eq=False)
class Planes:
    """Frames of one orientation and pixel spacing.

    Parameters
    ----------
    members : ndarray
        int64, shape (frame,): indexes into the frames that were given.
    origins : ndarray
        float64, shape (frame, 3): centre of each frame's first pixel, mm, LPS.
    orientation : ndarray
        float64, shape (6,).
    spacing : tuple
        (row, column) mm.
    places : ndarray
        float64, shape (place,): mm along the normal where frames lie, ascending.
    at : ndarray
        int64, shape (frame,): index into `places`.
    step : float
        mm along the normal that a plane stands for.
    """

    members: npt.NDArray[np.int64]
    origins: Floats
    orientation: Floats
    spacing: tuple[float, float]
    places: Floats
    at: npt.NDArray[np.int64]
    step: float

    def inverse(self) -> Floats:
        """Return what turns mm into (column, row) pixels and mm along the normal: shape (3, 3)."""
        axes = np.stack(
            [
                self.orientation[:3] * self.spacing[1],
                self.orientation[3:] * self.spacing[0],
                normal_of(self.orientation),
            ],
            axis=1,
        )
        return np.asarray(np.linalg.inv(axes))


def planes_of(frames: Sequence[FrameAttributes], step: float | None, grid: Grid) -> list[Planes]:
    """Sort frames by the plane that they lie in.

    Parameters
    ----------
    frames : sequence of FrameAttributes
        All frames of a segmentation, so that planes between which some were left out are known.
    step : float or None
        mm between planes, as the header says.
    grid : Grid
        Gives the step where nothing else does.

    Raises
    ------
    GeometryError
        A frame has no position, orientation or pixel spacing.
    """
    families: list[tuple[Floats, list[int]]] = []
    for index, frame in enumerate(frames):
        key = _plane(frame)
        for known, members in families:
            if np.abs(known - key).max() <= ONE_PLANE:
                members.append(index)
                break
        else:
            families.append((key, [index]))
    return [_family(frames, members, step, grid) for _, members in families]


def _plane(frame: FrameAttributes) -> Floats:
    if frame.position is None or frame.orientation is None or frame.pixel_spacing is None:
        raise GeometryError("a frame of the segmentation has no place in the patient, so it can't be a mask")
    return np.array([*frame.orientation, *frame.pixel_spacing])


def _family(
    frames: Sequence[FrameAttributes], members: Sequence[int], step: float | None, grid: Grid
) -> Planes:
    first = frames[members[0]]
    orientation = np.array(first.orientation)
    origins = np.array([frames[index].position for index in members])
    along = origins @ normal_of(orientation)
    ranks = np.argsort(along, kind="stable")
    new = np.concatenate([[True], np.diff(along[ranks]) > 10 * SAME_PLACE])
    at = np.empty(len(members), np.int64)
    at[ranks] = np.cumsum(new) - 1
    places = along[ranks][new]
    spacing = first.pixel_spacing or (1.0, 1.0)
    thickness = first.slice_thickness
    stated = [value for value in (step or thickness, float(np.diff(places).min(initial=np.inf))) if value]
    known = min(stated)
    voxel = grid.along(normal_of(orientation))
    # Positions are rounded: a plane thinner than its rounding error must still meet its slice.
    stands = max(known, THINNEST * voxel) if np.isfinite(known) else voxel
    return Planes(np.array(members), origins, orientation, spacing, places, at, stands)


def paint_planes(out: Array, grid: Grid, planes: Planes, chosen: Sequence[int], pixels: Array) -> None:
    """Lay frames onto the grid; a label replaces what is there, a fraction what is smaller.

    Each voxel gets the pixel nearest to its centre, of the plane nearest to it, as long as that is
    no farther than half a step; no voxel gets anything from a frame that was left out.

    Parameters
    ----------
    out : ndarray
        (slice, row, column), changed in place.
    grid : Grid
        Where its voxels are.
    planes : Planes
        Where the frames are.
    chosen : sequence of int
        Positions in `planes.members` of the frames to lay.
    pixels : ndarray
        (frame, row, column): one for each of `chosen`, in the dtype of `out`; 0 is background.
    """
    inverse = planes.inverse()
    across, down = inverse @ grid.column_step, inverse @ grid.row_step
    low, high = extents(planes.places, planes.step, planes.step)
    lean = max(abs(across[2]) * grid.columns, abs(down[2]) * grid.rows)
    if lean <= FLAT * planes.step:
        _paint_parallel(out, grid, planes, chosen, pixels, (inverse, across, down, low, high))
        return
    for layer in _layers(planes, chosen):
        _paint_leaning(out, grid, planes, layer, chosen, pixels, (inverse, across, down, low, high))


Map = tuple[Floats, Floats, Floats, Floats, Floats]


def _paint_parallel(
    out: Array, grid: Grid, planes: Planes, chosen: Sequence[int], pixels: Array, mapping: Map
) -> None:
    """Lay frames that are parallel to the slices: each slice lies at one place."""
    inverse, across, down, low, high = mapping
    # A slice's middle speaks for it, where positions are rounded and planes lean by microns.
    middle = across * (grid.columns - 1) / 2 + down * (grid.rows - 1) / 2
    slices = grid.positions @ inverse.T
    depth = slices[:, 2] + middle[2]
    for number, position in enumerate(chosen):
        place = planes.at[position]
        corner = inverse @ planes.origins[position]
        for k in np.flatnonzero((depth >= low[place]) & (depth < high[place])):
            start = slices[k] - corner
            _lay(out[k], pixels[number], start[:2], across[:2], down[:2])


def _lay(target: Array, pixels: Array, start: Floats, across: Floats, down: Floats) -> None:
    """Lay one frame onto one slice parallel to it; `start` is the (column, row) of its first pixel."""
    rows, columns = np.arange(target.shape[0]), np.arange(target.shape[1])
    straight = abs(across[1]) * len(columns) < FLAT and abs(down[0]) * len(rows) < FLAT
    if straight:
        u, v = _nearest(start[0] + across[0] * columns), _nearest(start[1] + down[1] * rows)
        c = np.flatnonzero((u >= 0) & (u < pixels.shape[1]))
        r = np.flatnonzero((v >= 0) & (v < pixels.shape[0]))
        if len(c) and len(r):
            there = target[r[0] : r[-1] + 1, c[0] : c[-1] + 1]
            found = pixels[np.ix_(v[r], u[c])]
            np.copyto(there, found, where=_over(found, there))
        return
    u = _nearest(start[0] + across[0] * columns + (down[0] * rows)[:, None])
    v = _nearest(start[1] + across[1] * columns + (down[1] * rows)[:, None])
    inside = (u >= 0) & (u < pixels.shape[1]) & (v >= 0) & (v < pixels.shape[0])
    found, there = pixels[v[inside], u[inside]], target[inside]
    target[inside] = np.where(_over(found, there), found, there)


def _layers(planes: Planes, chosen: Sequence[int]) -> Iterator[dict[int, list[int]]]:
    """Yield places to positions in `chosen`: frames of one corner together, others in layers of their own."""
    left: dict[int, dict[tuple[int, ...], list[int]]] = {}
    for number, position in enumerate(chosen):
        corner = tuple(np.rint(planes.origins[position] / (10 * SAME_PLACE)).astype(int).tolist())
        left.setdefault(int(planes.at[position]), {}).setdefault(corner, []).append(number)
    while left:
        yield {place: corners.pop(next(iter(corners))) for place, corners in left.items()}
        left = {place: corners for place, corners in left.items() if corners}


def _paint_leaning(
    out: Array,
    grid: Grid,
    planes: Planes,
    layer: dict[int, list[int]],
    chosen: Sequence[int],
    pixels: Array,
    mapping: Map,
) -> None:
    """Lay frames that cross the slices: every voxel finds its own plane and pixel."""
    inverse, across, down, low, high = mapping
    places = sorted(layer)
    volume = np.stack([pixels[layer[place]].max(axis=0) for place in places])
    corners = np.stack([inverse @ planes.origins[chosen[layer[place][0]]] for place in places])
    starts, stops = low[places], high[places]
    filled = [np.flatnonzero(volume.any(axis=axes)) for axes in ((1, 2), (0, 1), (0, 2))]
    if not all(map(len, filled)):
        return
    # Where anything is, in (mm along the normal, column, row), half a pixel included: most voxels are out.
    least = (
        starts[filled[0][0]],
        filled[1][0] - 1 + corners[:, 0].min(),
        filled[2][0] - 1 + corners[:, 1].min(),
    )
    most = (
        stops[filled[0][-1]],
        filled[1][-1] + 1 + corners[:, 0].max(),
        filled[2][-1] + 1 + corners[:, 1].max(),
    )
    rows, columns = np.arange(grid.rows)[:, None], np.arange(grid.columns)
    for k, start in enumerate(grid.positions @ inverse.T):
        near = np.ones((grid.rows, grid.columns), np.bool_)
        for axis, from_, to in zip((2, 0, 1), least, most, strict=True):
            along = (start[axis] + across[axis] * columns) + down[axis] * rows
            near &= (along >= from_) & (along <= to)
        r, c = np.nonzero(near)
        depth, u, v = (start[axis] + across[axis] * c + down[axis] * r for axis in (2, 0, 1))
        at = np.clip(np.searchsorted(starts, depth, side="right") - 1, 0, len(places) - 1)
        u, v = _nearest(u - corners[at, 0]), _nearest(v - corners[at, 1])
        inside = (depth >= starts[at]) & (depth < stops[at])
        inside &= (u >= 0) & (u < volume.shape[2]) & (v >= 0) & (v < volume.shape[1])
        r, c = r[inside], c[inside]
        found, there = volume[at[inside], v[inside], u[inside]], out[k][r, c]
        out[k][r, c] = np.where(_over(found, there), found, there)


def _over(found: Array, there: Array) -> npt.NDArray[np.bool_]:
    """Tell what replaces what is there: any label, but only a larger fraction."""
    return np.asarray(found > there if found.dtype.kind == "f" else found != 0)


def _nearest(values: Floats) -> npt.NDArray[np.int64]:
    """Round half up, a hair early, so that rounding errors send all ties one way."""
    return np.floor(values + (0.5 + 1e-6)).astype(np.int64)


__all__ = ["Planes", "paint_planes", "planes_of"]
