"""Contours on grids: discs, squares and holes of known size, in planes of every kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from voxelvault.dicom.mask_contours import contour_step, paint_contours
from voxelvault.dicom.mask_grid import Grid
from voxelvault.dicom.slices import normal_of
from voxelvault.testing.synthetic_segmentation import circle

AXIAL = np.array([1.0, 0, 0, 0, 1, 0])
SAGITTAL = np.array([0.0, 1, 0, 0, 0, -1])
OBLIQUE = np.array([0.8, 0.6, 0, -0.36, 0.48, 0.8])
FEET_FIRST = np.array([-1.0, 0, 0, 0, 1, 0])
WAYS = {"axial": AXIAL, "sagittal": SAGITTAL, "oblique": OBLIQUE, "feet first": FEET_FIRST}


def grid(
    orientation: np.ndarray = AXIAL,
    corner: Sequence[float] = (-20, -15, 5),
    places: Sequence[float] = tuple(np.arange(10) * 2.0),
    spacing: tuple[float, float] = (0.8, 0.6),
) -> Grid:
    positions = np.array(corner) + np.array(places)[:, None] * normal_of(orientation)
    return Grid(positions, orientation, spacing, 40, 44, 2.0)


def centres(target: Grid) -> np.ndarray:
    rows, columns = np.arange(target.rows), np.arange(target.columns)
    return (
        target.positions[:, None, None]
        + rows[:, None, None] * target.row_step
        + columns[:, None] * target.column_step
    )


def laid(
    target: Grid, contours: Sequence[np.ndarray], value: int = 1, step: float | None = None
) -> np.ndarray:
    out = np.zeros(target.shape, np.uint8)
    paint_contours(out, target, contours, value, step)
    return out


def square(middle: np.ndarray, half: float, orientation: np.ndarray) -> np.ndarray:
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half
    return middle + corners[:, :1] * orientation[:3] + corners[:, 1:] * orientation[3:]


def moved(point: np.ndarray, x: float = 0, y: float = 0, z: float = 0) -> np.ndarray:
    return point + np.array([x, y, z])


def middle_of(target: Grid, k: int) -> np.ndarray:
    return target.positions[k] + 18.3 * target.row_step + 23.7 * target.column_step


@pytest.mark.parametrize("way", WAYS)
def test_a_disc_on_the_slices_own_plane(way: str) -> None:
    target = grid(WAYS[way])
    middle = middle_of(target, 4)
    got = laid(target, [circle(middle, 7.0, target.orientation)], value=3)
    away = np.linalg.norm(centres(target)[4] - middle, axis=-1)
    np.testing.assert_array_equal(got[4][away < 6.99], 3)
    np.testing.assert_array_equal(got[4][away > 7.0], 0)
    assert not np.delete(got, 4, axis=0).any()


@pytest.mark.parametrize("way", WAYS)
def test_a_contour_within_another_is_a_hole(way: str) -> None:
    target = grid(WAYS[way])
    middle = middle_of(target, 2)
    outer, hole = circle(middle, 8.0, target.orientation), square(middle + 0.11, 2.0, target.orientation)
    island = circle(middle + 0.11, 1.0, target.orientation)
    got = laid(target, [outer, hole, island])
    np.testing.assert_array_equal(got, laid(target, [outer]) ^ laid(target, [hole]) ^ laid(target, [island]))
    assert not got[2, 18, 21]
    assert got[2, 18, 24]
    # The same as one line that goes in to the hole and back: the keyhole technique.
    key = np.concatenate([outer, outer[:1], hole[::-1], hole[-1:], outer[:1]])
    np.testing.assert_array_equal(laid(target, [key]), laid(target, [outer, hole]))


def test_a_pixel_is_inside_when_its_centre_is() -> None:
    target = grid(corner=(0, 0, 0), spacing=(1.0, 1.0))
    got = laid(target, [square(np.array([5.0, 7.0, 2.0]), 2.49, AXIAL)])
    assert got[1, 5:10, 3:8].all()
    assert got.sum() == 25
    # Edges through centres: two squares side by side share no pixel and leave none out.
    left, right = square(np.array([5.0, 7, 2]), 2, AXIAL), square(np.array([9.0, 7, 2]), 2, AXIAL)
    one, other = laid(target, [left]), laid(target, [right])
    assert one.sum() == other.sum() == 16
    assert not (one & other).any()


def test_against_a_slow_and_simple_rule() -> None:
    random = np.random.default_rng(5)
    target = grid(OBLIQUE)
    for _ in range(5):
        corners = random.uniform(-9, 9, (7, 2))
        middle = middle_of(target, 3)
        points = middle + corners[:, :1] * OBLIQUE[:3] + corners[:, 1:] * OBLIQUE[3:]
        got = laid(target, [points])
        offsets = centres(target)[3] - middle
        for r, c in random.integers(0, (40, 44), (150, 2)):
            x, y = offsets[r, c] @ OBLIQUE[:3], offsets[r, c] @ OBLIQUE[3:]
            odd = False
            for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
                if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
                    odd = not odd
            assert bool(got[3, r, c]) == odd


@pytest.mark.parametrize("way", ["axial", "oblique", "feet first"])
def test_contours_that_cross_the_slices(way: str) -> None:
    """A ball drawn on sagittal planes, on grids that these planes cut through."""
    target = grid(WAYS[way], spacing=(0.9, 0.9))
    middle = target.positions[5] + 20 * target.row_step + 22 * target.column_step
    drawn = [
        circle(moved(middle, x=x), float(np.sqrt(64 - x * x)), SAGITTAL) for x in np.arange(-7.5, 8, 0.5)
    ]
    got = laid(target, drawn)
    away = np.linalg.norm(centres(target) - middle, axis=-1)
    np.testing.assert_array_equal(got[away < 7.3], 1)
    np.testing.assert_array_equal(got[away > 8.5], 0)
    ball = int((away < 8).sum())
    assert abs(int(got.sum()) - ball) < 0.06 * ball


def test_contours_between_slices_go_to_the_nearest() -> None:
    target = grid()
    for offset, k in ((0.9, 4), (-0.9, 4), (1.1, 5)):
        got = laid(target, [circle(moved(middle_of(target, 4), z=offset), 5.0, AXIAL)])
        assert [i for i in range(10) if got[i].any()] == [k]
    beyond = laid(target, [circle(moved(target.positions[-1], 12, 12, 1.2), 5.0, AXIAL)])
    assert not beyond.any()
    # Two planes of contours for one slice: the nearer one counts, and they cut no holes in each other.
    near, far = (circle(moved(middle_of(target, 4), z=z), r, AXIAL) for z, r in ((0.2, 5.0), (0.9, 3.0)))
    np.testing.assert_array_equal(laid(target, [near, far]), laid(target, [near]))


def test_contours_of_another_series_stand_for_their_own_distance() -> None:
    target = grid(places=tuple(np.arange(20.0)))
    drawn = [circle(middle_of(target, k), 5.0, AXIAL) for k in (3, 6, 9)]
    assert contour_step(drawn, target) == pytest.approx(3.0)
    assert contour_step(drawn[:1], target) is None
    on_these = laid(target, drawn)
    assert [k for k in range(20) if on_these[k].any()] == [3, 6, 9]
    on_others = laid(target, drawn, step=3.0)
    assert [k for k in range(20) if on_others[k].any()] == list(range(2, 11))


def test_what_encloses_nothing_paints_nothing() -> None:
    target = grid()
    middle = middle_of(target, 4)
    line = np.stack([middle, moved(middle, x=5), moved(middle, x=9)])
    upright = np.stack([middle, moved(middle, z=5), moved(middle, z=9)])
    assert not laid(target, [line, line[:2], line[:1], upright]).any()
