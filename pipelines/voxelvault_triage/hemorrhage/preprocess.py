"""From a head CT to what the network takes: straightened, centred, 1 mm in the plane; and back.

Training and inference share it. Slices stay as they were scanned (thin ones are averaged), because thick
slices are how heads are read; within the plane all heads are brought to one grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

from voxelvault.errors import UsageError
from voxelvault_triage.planes import Floats, Planes

Values = npt.NDArray[np.float32]

ROWS, COLUMNS = 192, 160
"""Size of the network's grid, 1 mm a voxel: the cavity and its skull."""
PLANE_MM = 4.0
"""Slices are averaged until a plane stands for about this much."""
CHANNELS = 5
LOW_VALUE, HIGH_VALUE = -1.2, 1.5
"""Range of what `channels` returns."""
AIR = -1024.0


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A head on the network's grid, and the way back.

    Parameters
    ----------
    hu : (plane, row, column) float32
        Hounsfield units, 1 mm in the plane, from the feet up.
    plane_of : (slice,) int64
        Which plane each source slice went into, in the source's order.
    matrices, offsets : (slice, 2, 2) and (slice, 2) float64
        Map a voxel of a plane to row and column of the source slice.
    shape : (int, int, int)
        Of the source volume: slice, row, column.
    voxel_ml : (slice,) float64
        Volume of a source voxel in millilitres.
    plane_ml : (plane,) float64
        Volume of a plane's voxel in millilitres.
    """

    hu: Values
    plane_of: npt.NDArray[np.int64]
    matrices: Floats
    offsets: Floats
    shape: tuple[int, int, int]
    voxel_ml: Floats
    plane_ml: Floats


def prepare_volume(hu: Values, where: Planes | npt.ArrayLike) -> Prepared:
    """Bring a head CT to the network's grid.

    Parameters
    ----------
    hu : (slice, row, column) float32
        Hounsfield units, in any order of slices.
    where : Planes or (4, 4) array
        Where the slices lie; or an affine from slice, row, column to LPS in mm, for even steps.

    Raises
    ------
    UsageError
        The volume isn't three-dimensional, has fewer than three slices, or shows no head.
    """
    if hu.ndim != 3 or len(hu) < 3:
        raise UsageError("a head CT of at least three slices is needed, (slice, row, column)")
    planes = where if isinstance(where, Planes) else Planes.of_affine(where, len(hu))
    across, down, centre = _pose(hu, planes)
    heights = planes.heights
    middle = float(heights.mean())
    # Along the normal, so that a stack that gantry tilt has sheared stands straight again.
    centres = centre + (heights - middle)[:, None] * planes.normal
    matrices, offsets = _maps(planes, across, down, centres)
    groups = _groups(heights)
    made = np.empty((len(groups), ROWS, COLUMNS), np.float32)
    plane_of = np.empty(len(hu), np.int64)
    resampled = _resampling(hu, planes.spacing, matrices, offsets)
    for number, members in enumerate(groups):
        plane_of[members] = number
        made[number] = np.mean([resampled(int(k)) for k in members], axis=0, dtype=np.float32)
    steps = planes.steps
    plane_ml = np.array([steps[members].sum() / 1000 for members in groups])
    return Prepared(made, plane_of, matrices, offsets, hu.shape, planes.voxel_ml(), plane_ml)


def prepare_labels(labels: npt.NDArray[np.uint8], prepared: Prepared) -> npt.NDArray[np.uint8]:
    """Bring labels of the source grid to a prepared head's; where slices are averaged the largest wins."""
    made = np.zeros(prepared.hu.shape, np.uint8)
    for index, number in enumerate(prepared.plane_of):
        if not labels[index].any():
            continue
        moved = ndimage.affine_transform(
            labels[index], prepared.matrices[index], prepared.offsets[index], (ROWS, COLUMNS), order=0, cval=0
        )
        made[number] = np.maximum(made[number], moved)
    return made


def restore(values: Values, prepared: Prepared) -> Values:
    """Bring values of the network's grid back to the source's, (slice, row, column) float32, 0 outside."""
    out = np.zeros(prepared.shape, np.float32)
    for index, number in enumerate(prepared.plane_of):
        window = _window(values[number], prepared, index)
        if window is None:
            continue
        first = np.array([part.start for part in window])
        back = np.linalg.inv(prepared.matrices[index])
        _fill(out[index][window], values[number], back, back @ (first - prepared.offsets[index]))
    return out


def _fill(found: Values, plane: Values, matrix: Floats, offset: Floats) -> None:
    """Interpolate a plane where it isn't 0, at what a matrix and offset make of row and column."""
    rows, columns = (
        one[0] * np.arange(found.shape[0])[:, None] + (one[1] * np.arange(found.shape[1]) + at)
        for one, at in zip(matrix, offset, strict=True)
    )
    # Most of a window lies between voxels that are all 0: telling so is cheaper than interpolating.
    filled = np.pad(plane != 0, ((0, 1), (0, 1)))
    near = filled[:-1, :-1] | filled[1:, :-1] | filled[:-1, 1:] | filled[1:, 1:]
    low_row, low_column = (
        np.clip(np.floor(each), 0, size - 1).astype(np.intp)
        for each, size in zip((rows, columns), plane.shape, strict=True)
    )
    chosen = near.ravel().take(low_row * plane.shape[1] + low_column)
    found[chosen] = ndimage.map_coordinates(plane, (rows[chosen], columns[chosen]), order=1)


def _window(plane: Values, prepared: Prepared, index: int) -> tuple[slice, slice] | None:
    """Return rows and columns of a source slice that hold all of a plane that isn't 0; None where all is."""
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    if not rows.size:
        return None
    ends = [(rows[0] - 1, rows[-1] + 1), (columns[0] - 1, columns[-1] + 1)]
    corners = np.array([(row, column) for row in ends[0] for column in ends[1]], float)
    places = corners @ prepared.matrices[index].T + prepared.offsets[index]
    low = np.maximum(np.floor(places.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(places.max(axis=0)).astype(int) + 1, prepared.shape[1:])
    return slice(low[0], max(low[0], high[0])), slice(low[1], max(low[1], high[1]))


def channels(prepared: Values) -> Values:
    """Return the network's input, (plane, channel, row, column) float32.

    Channels: the plane below, the plane and the plane above in the brain's window, the plane in a wide
    window, and the plane mirrored left to right.
    """
    brain = np.clip((prepared - 40) / 40, LOW_VALUE, HIGH_VALUE).astype(np.float32)
    wide = np.clip((prepared - 80) / 120, LOW_VALUE, HIGH_VALUE).astype(np.float32)
    below, above = np.concatenate([brain[:1], brain[:-1]]), np.concatenate([brain[1:], brain[-1:]])
    return np.stack([below, brain, above, wide, brain[:, :, ::-1]], axis=1)


def _pose(hu: Values, planes: Planes) -> tuple[Floats, Floats, Floats]:
    """Return the head's own directions within the slices, and a point on its axis in the middle slice."""
    # The scanner's columns may run either way: towards the patient's left, then towards the back.
    across = planes.across if abs(planes.across[0]) >= abs(planes.down[0]) else planes.down
    across = across * (np.sign(across[0]) or 1)
    down = planes.down if abs(planes.across[0]) >= abs(planes.down[0]) else planes.across
    down = down * (np.sign(down[1]) or 1)
    coarse = tuple(max(1, round(4 / step)) for step in planes.spacing)
    masks = _heads(hu[:, :: coarse[0], :: coarse[1]])
    areas = masks.sum(axis=(1, 2))
    if areas.max() * planes.spacing[0] * planes.spacing[1] * coarse[0] * coarse[1] < 4000:
        raise UsageError("no head is seen in these slices; choose another series")
    seen = np.flatnonzero(areas > 0.65 * areas.max())
    middle = float(planes.heights.mean())
    spots = []
    for index in seen:
        rows, columns = np.nonzero(masks[index])
        at = (
            planes.positions[index]
            + (rows * coarse[0] * planes.spacing[0])[:, None] * planes.down
            + (columns * coarse[1] * planes.spacing[1])[:, None] * planes.across
        )
        spots.append(at - (planes.heights[index] - middle) * planes.normal)
    every = np.concatenate(spots)
    centre = every.mean(axis=0)
    u, v = (every - centre) @ across, (every - centre) @ down
    turn = 0.5 * np.arctan2(2 * (u * v).mean(), (v * v).mean() - (u * u).mean())
    turn = float(np.clip(turn, -0.45, 0.45))
    return (
        across * np.cos(turn) - down * np.sin(turn),
        down * np.cos(turn) + across * np.sin(turn),
        centre,
    )


def _heads(hu: Values) -> npt.NDArray[np.bool_]:
    """Return the largest thing that isn't air in each slice, filled, without what is thin (the table)."""
    # All slices in one call each: pixels touch within their slice alone.
    beside = ndimage.generate_binary_structure(2, 1)[None]
    filled = ndimage.binary_fill_holes(hu > -250, beside)
    solid = ndimage.binary_opening(filled, beside, iterations=2)
    labels, _ = ndimage.label(solid, np.pad(beside, ((1, 1), (0, 0), (0, 0))))
    masks = np.zeros(hu.shape, np.bool_)
    for index, plane in enumerate(labels):
        if plane.any():
            masks[index] = plane == 1 + int(np.argmax(np.bincount(plane.ravel())[1:]))
    return masks


def _maps(planes: Planes, across: Floats, down: Floats, centres: Floats) -> tuple[Floats, Floats]:
    matrix = np.array(
        [
            [down @ planes.down, across @ planes.down],
            [down @ planes.across, across @ planes.across],
        ]
    )
    matrix /= np.array(planes.spacing)[:, None]
    corners = centres - down * (ROWS - 1) / 2 - across * (COLUMNS - 1) / 2 - planes.positions
    offsets = np.stack([corners @ planes.down, corners @ planes.across], axis=1) / np.array(planes.spacing)
    return np.repeat(matrix[None], len(centres), axis=0), offsets


def _groups(heights: Floats) -> list[npt.NDArray[np.int64]]:
    order = np.argsort(heights, kind="stable")
    step = float(np.median(np.diff(heights[order])))
    together = max(1, round(PLANE_MM / max(step, 0.1)))
    return [order[k : k + together] for k in range(0, len(order), together)]


def _resampling(
    hu: Values, spacing: tuple[float, float], matrices: Floats, offsets: Floats
) -> Callable[[int], Values]:
    """Return what brings a slice to the grid by its number."""
    known: list[tuple[Floats, _Sampling]] = []

    def resampled(index: int) -> Values:
        # Slices of an upright stack lie on one another but for rounding: one table does for all of them.
        if not known or np.abs(known[0][0] - offsets[index]).max() > 1e-9:
            sampling = _sampling(matrices[index], offsets[index], hu.shape[1:], _reach(spacing))
            known[:] = [(offsets[index], sampling)]
        return known[0][1].of(hu[index], spacing)

    return resampled


@dataclass(frozen=True, slots=True, eq=False)
class _Sampling:
    """Linear interpolation at the grid's voxels, as a table: a fifth of what computing it anew takes.

    Parameters
    ----------
    window : (slice, slice)
        Rows and columns of a slice that are looked at; the others aren't smoothed.
    weights : (voxel, pixel) sparse array
        Of the window's pixels in each voxel; none for a voxel outside of the slice.
    outside : (voxel,) float64
        `AIR` there, 0 elsewhere.
    """

    window: tuple[slice, slice]
    weights: sparse.csr_array
    outside: Floats

    def of(self, plane: Values, spacing: tuple[float, float]) -> Values:
        """Return a slice on the grid, (row, column) float32."""
        seen = _smoothed(plane[self.window], spacing).ravel()
        values: Values = (self.weights @ seen + self.outside).astype(np.float32)
        return values.reshape(ROWS, COLUMNS)


def _sampling(matrix: Floats, offset: Floats, shape: tuple[int, ...], reach: int) -> _Sampling:
    """Return the table of a slice; smoothing looks so many pixels around each."""
    places = (matrix @ np.indices((ROWS, COLUMNS), float).reshape(2, -1)).T + offset
    last = np.array(shape) - 1
    inside = ((places >= 0) & (places <= last)).all(axis=1)
    low = np.clip(np.floor(places).astype(np.intp), 0, last)
    high = np.minimum(low + 1, last)
    first, stop = np.maximum(low.min(axis=0) - reach, 0), np.minimum(high.max(axis=0) + reach, last) + 1
    share = places - low
    rows, columns = (np.stack([part[:, k] - first[k] for part in (low, high)]) for k in (0, 1))
    row_shares, column_shares = (np.stack([1 - share[:, k], share[:, k]]) * inside for k in (0, 1))
    width = int(stop[1] - first[1])
    pixels = (rows[:, None] * width + columns).reshape(4, -1).T.ravel()
    weights = (row_shares[:, None] * column_shares).reshape(4, -1).T.ravel()
    table = sparse.csr_array(
        (weights, pixels, np.arange(0, weights.size + 1, 4)),
        shape=(len(places), int(stop[0] - first[0]) * width),
    )
    window = slice(int(first[0]), int(stop[0])), slice(int(first[1]), int(stop[1]))
    return _Sampling(window, table, np.where(inside, 0.0, AIR))


_TRUNCATE = 2.5
"""Standard deviations after which smoothing looks no further."""


def _sigmas(spacing: tuple[float, float]) -> list[float]:
    """Return what smoothing takes, in pixels; nothing where pixels are as large as what 1 mm can show."""
    return [] if min(spacing) > 0.75 else [0.4 / step for step in spacing]


def _reach(spacing: tuple[float, float]) -> int:
    return max((int(_TRUNCATE * sigma + 0.5) for sigma in _sigmas(spacing)), default=0)


def _smoothed(plane: Values, spacing: tuple[float, float]) -> Values:
    """Take away what 1 mm can't show."""
    clipped, sigmas = np.maximum(plane, np.float32(AIR)), _sigmas(spacing)
    if not sigmas:
        return clipped
    out: Values = ndimage.gaussian_filter(clipped, sigmas, truncate=_TRUNCATE)
    return out
