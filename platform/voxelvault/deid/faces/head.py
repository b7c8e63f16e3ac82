"""Is this a head with a face, and where is its brain? By shape alone: headers may say anything.

A head is an oval of a head's size over some centimetres; in CT a closed ring of bone must enclose
soft tissue. Its face is worth hiding where the front below the brain was imaged.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from voxelvault.deid.faces.grid import STEP, Floats, Grid, Mask
from voxelvault.deid.needed import ndimage

WIDTH, DEPTH = (110.0, 200.0), (135.0, 260.0)
"""Of a head, ear to ear and front to back, in mm; a newborn's is smaller, and not recognised here."""

TALL = 40.0
"""Least height over which a head is that large, mm."""

BONE, WATER, AIR = 150.0, -20.0, -300.0
"""Hounsfield units: above, bone; above, soft tissue; below, no body."""

LEAST_BRAIN = 150_000.0
"""mm³ of brain that are seen before anything is called a head."""


@dataclass(frozen=True, slots=True)
class Head:
    """A head on its grid.

    Parameters
    ----------
    grid : Grid
        Its values.
    body : ndarray
        (z, y, x) bool: head and neck, without what lies around them.
    brain : ndarray
        (z, y, x) bool: what is inside the skull, roughly.
    """

    grid: Grid
    body: Mask = field(repr=False)
    brain: Mask = field(repr=False)


@dataclass(frozen=True, slots=True)
class Outline:
    """What has a head's measures: the body (z, y, x) bool, and at which levels it does."""

    body: Mask = field(repr=False)
    levels: npt.NDArray[np.bool_] = field(repr=False)


def outline_of(grid: Grid, *, hounsfield: bool) -> Outline | None:
    """Return what has the measures of a head, None where nothing has.

    Parameters
    ----------
    grid : Grid
        Of a CT in Hounsfield units, or of any other modality in units of its own.
    hounsfield : bool
        It is a CT.
    """
    if min(grid.values.shape) < 3:
        return None
    values = _known(grid, hounsfield=hounsfield)
    body = _body(values, AIR if hounsfield else 0.5 * _threshold(values[values > 0]))
    levels = _head_levels(body)
    if levels.sum() * STEP < TALL:
        return None
    body[: max(int(np.argmax(levels)) - int(150 / STEP), 0)] = False
    return Outline(body, levels)


def find_head(grid: Grid, outline: Outline, *, hounsfield: bool) -> Head | None:
    """Return the head, None where no brain is seen in it.

    Parameters
    ----------
    grid : Grid
        As for `outline_of`.
    outline : Outline
        Its.
    hounsfield : bool
        It is a CT.
    """
    values, body, levels = _known(grid, hounsfield=hounsfield), outline.body, outline.levels
    brain = _cavity(values, levels) if hounsfield else _bright_core(values, body, levels)
    if brain.sum() * STEP**3 < LEAST_BRAIN:
        return None
    return Head(grid, body, _without_face(brain))


def _known(grid: Grid, *, hounsfield: bool) -> Floats:
    return np.nan_to_num(grid.values, nan=-np.inf if hounsfield else 0.0)


def _body(values: Floats, threshold: float) -> Mask:
    """Return the largest thing there, its hollows filled level by level."""
    tissue = values > threshold
    body = _largest(ndimage().binary_opening(tissue, _ball(6)))
    body |= ndimage().binary_dilation(body, _ball(3)) & tissue
    return np.stack([ndimage().binary_fill_holes(level) for level in body])


def _head_levels(body: Mask) -> npt.NDArray[np.bool_]:
    """Return at which levels the body has a head's measures, the topmost such run alone.

    Of what lies side by side at a level, such as a head between raised arms, the largest piece counts.
    """
    pieces = np.stack([_largest(level) for level in body])
    width, depth = (_extent(np.asarray(pieces.any(axis=axis))) * STEP for axis in (1, 2))
    fits = (width > WIDTH[0]) & (width < WIDTH[1]) & (depth > DEPTH[0]) & (depth < DEPTH[1])
    found = np.zeros_like(fits)
    for level in range(len(fits) - 1, -1, -1):
        if fits[level]:
            found[level] = True
        elif found.any():
            break
    return found


def _extent(seen: Mask) -> npt.NDArray[np.int_]:
    """Return from first to last cell of each row that is set, in cells."""
    first = np.argmax(seen, axis=1)
    last = seen.shape[1] - np.argmax(seen[:, ::-1], axis=1)
    return np.where(seen.any(axis=1), last - first, 0)


def _cavity(values: Floats, levels: npt.NDArray[np.bool_]) -> Mask:
    """Return soft tissue that a ring of bone encloses, level by level; the largest piece."""
    cavity = np.zeros(values.shape, bool)
    for level in range(int(np.argmax(levels)), len(values)):
        bone = values[level] > BONE
        ring = ndimage().binary_closing(np.pad(bone, 6), iterations=3)[6:-6, 6:-6]
        cavity[level] = ndimage().binary_fill_holes(ring) & ~bone & (values[level] > WATER)
    return _largest(ndimage().binary_opening(cavity, _ball(6)))


def _bright_core(values: Floats, body: Mask, levels: npt.NDArray[np.bool_]) -> Mask:
    """Return the largest bright piece below the skull, which is dark around it."""
    bright = body & (values > 0.7 * _threshold(values[body]))
    bright[: int(np.argmax(levels))] = False
    deep = ndimage().distance_transform_edt(body) * STEP > 8
    core = _largest(ndimage().binary_erosion(bright & deep, _ball(6)))
    return np.asarray(ndimage().binary_dilation(core, _ball(6)) & body)


def _without_face(brain: Mask) -> Mask:
    """Leave out what hangs on below the front of the brain: muscles of the jaw, the orbits.

    The frontal lobes' floor lies above that of the temporal lobes and the cerebellum.
    """
    area = brain.sum(axis=(1, 2))
    floor = int(np.argmax(area >= 0.6 * area.max()))
    rows = np.nonzero(brain.any(axis=(0, 2)))[0]
    front = (rows[0] + rows[-1]) // 2
    kept = brain.copy()
    # An eye is smaller than any part of the brain's front.
    for level, cut in zip(kept, brain, strict=True):
        level[:front] &= dilated(_opened(cut, 15), 3)[:front]
    kept[: max(floor - 2, 0), :front] = False
    return _largest(kept)


def _opened(mask: Mask, radius: float) -> Mask:
    """Return what a disc, or a ball, of that radius in mm reaches inside a mask."""
    return dilated(ndimage().distance_transform_edt(mask) * STEP > radius, radius)


def dilated(mask: Mask, radius: float) -> Mask:
    """Return the cells within so many mm of a mask."""
    return np.asarray(ndimage().distance_transform_edt(~mask) * STEP <= radius)


def _largest(mask: Mask) -> Mask:
    pieces, count = ndimage().label(mask)
    if not count:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(pieces == sizes.argmax())


def _threshold(values: Floats) -> float:
    """Return what parts values into two classes best (Otsu 1979)."""
    if values.size == 0:
        return 0.0
    counts, edges = np.histogram(values, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    weight, moment = np.cumsum(counts), np.cumsum(counts * centres)
    spread = (moment[-1] * weight / weight[-1] - moment) ** 2
    return float(centres[np.argmax(spread / np.maximum(weight * (weight[-1] - weight), 1))])


def _ball(radius: float) -> Mask:
    """Return a ball as a structuring element; radius in mm."""
    cells = int(np.ceil(radius / STEP))
    z, y, x = np.mgrid[-cells : cells + 1, -cells : cells + 1, -cells : cells + 1]
    return np.asarray((z**2 + y**2 + x**2) * STEP**2 <= radius**2)


__all__ = ["Head", "Outline", "dilated", "find_head", "outline_of"]
