"""Closed contours onto a grid: a voxel is inside when its centre is, by the even-odd rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault.dicom.mask_grid import Grid, extents
from voxelvault.dicom.slices import Floats

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]

FLAT = 0.1
"""Parts of a slice by which points of a contour may lie off a plane that it is parallel to, and contours
apart from each other in one plane, where they cut holes in each other: coordinates are rounded."""

BLOCK = 1 << 22
"""Points times edges that are tested at once."""


@dataclass(frozen=True, eq=False)
class _Sheet:
    """Contours of one plane: the place along the normal, mm, and each one's points."""

    place: float
    contours: list[Floats]


def paint_contours(
    out: Array, grid: Grid, contours: Sequence[Floats], value: int, step: float | None = None
) -> None:
    """Set the voxels whose centres the contours enclose.

    Contours of one plane are joined by the even-odd rule, so that one within another is a hole.
    A slice takes the contours of the plane nearest to it; planes between slices go to the nearest
    slice.

    Parameters
    ----------
    out : ndarray
        (slice, row, column), changed in place.
    grid : Grid
        Where its voxels are.
    contours : sequence of ndarray
        Closed: float64, shape (point, 3), mm, LPS.
    value : int
        What to write.
    step : float, optional
        mm that each plane of contours stands for, where they were drawn on other slices than the
        grid's; None where they were drawn on these.
    """
    flat: list[tuple[float, Floats]] = []
    leaning: list[Floats] = []
    for points in contours:
        if len(points) < 3:
            continue  # encloses nothing
        depth = points @ grid.normal
        if np.ptp(depth) <= FLAT * grid.typical_gap:
            flat.append((float(depth.mean()), points))
        else:
            leaning.append(points)
    if flat:
        _paint_flat(out, grid, _sheets(flat, FLAT * grid.typical_gap), value, step)
    if leaning:
        _paint_leaning(out, grid, leaning, value)


def contour_step(contours: Sequence[Floats], grid: Grid) -> float | None:
    """Return the smallest distance between planes of contours along a grid's normal, mm.

    Parameters
    ----------
    contours : sequence of ndarray
        float64, shape (point, 3), mm.
    grid : Grid
        The grid.

    Returns
    -------
    float or None
        None when there is one plane, or none.
    """
    placed = [(float((points @ grid.normal).mean()), points) for points in contours]
    places = [sheet.place for sheet in _sheets(placed, FLAT * grid.typical_gap)]
    return float(np.diff(places).min()) if len(places) > 1 else None


def _sheets(placed: Sequence[tuple[float, Floats]], together: float) -> list[_Sheet]:
    found: list[_Sheet] = []
    for place, points in sorted(placed, key=lambda pair: pair[0]):
        if found and place - found[-1].place <= together:
            found[-1].contours.append(points)
        else:
            found.append(_Sheet(place, [points]))
    return found


def _paint_flat(out: Array, grid: Grid, sheets: Sequence[_Sheet], value: int, step: float | None) -> None:
    """Paint contours that are parallel to the slices, line by line."""
    places = np.array([sheet.place for sheet in sheets])
    low, high = grid.extents()
    if step is not None:
        sheet_low, sheet_high = extents(places, step, step)
    for k, place in enumerate(grid.places):
        near = (places >= low[k]) & (places < high[k])
        if step is not None:
            near |= (place >= sheet_low) & (place < sheet_high)
        if near.any():
            candidates = np.flatnonzero(near)
            nearest = candidates[np.argmin(np.abs(places[candidates] - place))]
            inside = _fill(grid, grid.positions[k], sheets[nearest].contours)
            out[k][inside] = value


def _fill(grid: Grid, corner: Floats, contours: Sequence[Floats]) -> Bools:
    """Return which pixel centres of a slice lie inside: each edge flips what lies right of it."""
    flips = np.zeros((grid.rows, grid.columns + 1), np.int64)
    for points in contours:
        offsets = points - corner
        x = offsets @ grid.orientation[:3] / grid.spacing[1]
        y = offsets @ grid.orientation[3:] / grid.spacing[0]
        _flip(flips, x, y)
    return np.asarray(np.cumsum(flips[:, :-1], axis=1) % 2 == 1)


def _flip(flips: npt.NDArray[np.int64], x: Floats, y: Floats) -> None:
    rows, columns = flips.shape[0], flips.shape[1] - 1
    x2, y2 = np.roll(x, -1), np.roll(y, -1)
    # A row belongs to an edge from its upper end on and before its lower: a corner counts once.
    first = np.clip(np.ceil(np.minimum(y, y2)), 0, rows).astype(np.int64)
    stop = np.clip(np.ceil(np.maximum(y, y2)), 0, rows).astype(np.int64)
    counts = stop - first
    edge = np.repeat(np.arange(len(x)), counts)
    row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    at = x[edge] + (row - y[edge]) * (x2 - x)[edge] / (y2 - y)[edge]
    column = np.clip(np.ceil(at), 0, columns).astype(np.int64)
    np.add.at(flips, (row, column), 1)


def _paint_leaning(out: Array, grid: Grid, contours: Sequence[Floats], value: int) -> None:
    """Paint contours whose planes cross the slices: every voxel is tested in its nearest plane."""
    for normal, members in _families(contours):
        placed = [(float((points @ normal).mean()), points) for points in members]
        sheets = _sheets(placed, FLAT * grid.along(normal))
        places = np.array([sheet.place for sheet in sheets])
        gap = float(np.diff(places).min()) if len(places) > 1 else grid.along(normal)
        low, high = extents(places, gap, gap)
        for number, sheet in enumerate(sheets):
            _paint_sheet(out, grid, sheet, normal, (float(low[number]), float(high[number])), value)


def _families(contours: Sequence[Floats]) -> list[tuple[Floats, list[Floats]]]:
    """Group contours by the normal of their planes, whichever way round they were drawn."""
    found: list[tuple[Floats, list[Floats]]] = []
    for points in contours:
        normal = _normal(points)
        if normal is None:
            continue
        for known, members in found:
            if abs(known @ normal) > 1 - 1e-4:
                members.append(points)
                break
        else:
            found.append((normal, [points]))
    return found


def _normal(points: Floats) -> Floats | None:
    """Return the unit normal of a polygon's plane (Newell); None when it encloses no area."""
    centred = points - points.mean(axis=0)
    area = np.cross(centred, np.roll(centred, -1, axis=0)).sum(axis=0)
    size = np.linalg.norm(area)
    return np.asarray(area / size) if size > 1e-9 else None


def _paint_sheet(
    out: Array, grid: Grid, sheet: _Sheet, normal: Floats, extent: tuple[float, float], value: int
) -> None:
    side = np.cross(normal, np.eye(3)[int(np.argmin(np.abs(normal)))])
    side /= np.linalg.norm(side)
    axes = np.stack([side, np.cross(normal, side)], axis=1)
    polygons = [points @ axes for points in sheet.contours]
    lowest = np.min([polygon.min(axis=0) for polygon in polygons], axis=0)
    highest = np.max([polygon.max(axis=0) for polygon in polygons], axis=0)
    rows, columns = np.arange(grid.rows)[:, None], np.arange(grid.columns)
    for k, corner in enumerate(grid.positions):

        def project(axis: Floats, corner: Floats = corner) -> Floats:
            across, down = grid.column_step @ axis, grid.row_step @ axis
            return np.asarray(corner @ axis + across * columns + down * rows)

        depth, u, v = project(normal), project(axes[:, 0]), project(axes[:, 1])
        near = (depth >= extent[0]) & (depth < extent[1])
        near &= (u >= lowest[0]) & (u <= highest[0]) & (v >= lowest[1]) & (v <= highest[1])
        r, c = np.nonzero(near)
        if len(r):
            inside = _enclosed(np.stack([u[r, c], v[r, c]], axis=1), polygons)
            out[k][r[inside], c[inside]] = value


def _enclosed(points: Floats, polygons: Sequence[Floats]) -> Bools:
    """Return which points lie within an odd number of the polygons."""
    odd = np.zeros(len(points), np.bool_)
    for polygon in polygons:
        x, y = polygon[:, 0], polygon[:, 1]
        x2, y2 = np.roll(x, -1), np.roll(y, -1)
        rising = np.where(y2 == y, 1.0, y2 - y)
        step = max(1, BLOCK // len(polygon))
        for first in range(0, len(points), step):
            px, py = points[first : first + step, :1], points[first : first + step, 1:]
            crossed = (py >= np.minimum(y, y2)) & (py < np.maximum(y, y2))
            left = px >= x + (py - y) * (x2 - x) / rising
            odd[first : first + step] ^= (crossed & left).sum(axis=1) % 2 == 1
    return odd


__all__ = ["contour_step", "paint_contours"]
