"""Frames on grids: every voxel's answer is known in mm, whatever way the planes lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from voxelvault.dicom.frames import FrameAttributes
from voxelvault.dicom.mask_grid import Grid, grid_of
from voxelvault.dicom.mask_planes import paint_planes, planes_of
from voxelvault.dicom.slices import FrameGroup, normal_of, place
from voxelvault.errors import GeometryError

AXIAL = np.array([1.0, 0, 0, 0, 1, 0])
SAGITTAL = np.array([0.0, 1, 0, 0, 0, -1])
CORONAL = np.array([1.0, 0, 0, 0, 0, -1])
FEET_FIRST = np.array([-1.0, 0, 0, 0, 1, 0])
"""Rows run to the patient's right: the normal points to the feet."""


def tilted(orientation: np.ndarray, degrees: float, about: Sequence[float]) -> np.ndarray:
    axis = np.array(about) / np.linalg.norm(about)
    cross = np.cross(np.eye(3), axis)
    angle = np.radians(degrees)
    turn = np.eye(3) - np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return np.concatenate([turn @ orientation[:3], turn @ orientation[3:]])


OBLIQUE = tilted(AXIAL, 23, (1, 2, 0.5))


def group_of(
    orientation: np.ndarray, corner: Sequence[float], places: Sequence[float], spacing: tuple[float, float]
) -> FrameGroup:
    positions = np.array(corner) + np.array(places)[:, None] * normal_of(orientation)
    order = np.arange(len(places), dtype=np.int32)
    return place("", {}, order, positions, orientation, spacing, 3.0)


def grid(
    orientation: np.ndarray,
    corner: Sequence[float] = (-20, -15, 5),
    places: Sequence[float] = tuple(np.arange(12) * 2.0),
    spacing: tuple[float, float] = (0.8, 0.6),
    rows: int = 30,
    columns: int = 26,
) -> Grid:
    return grid_of(group_of(orientation, corner, places, spacing), rows, columns)


def centres(target: Grid) -> np.ndarray:
    """Centres of all voxels in mm: (slice, row, column, 3)."""
    rows, columns = np.arange(target.rows), np.arange(target.columns)
    return (
        target.positions[:, None, None]
        + rows[:, None, None] * target.row_step
        + columns[:, None] * target.column_step
    )


def frames_of(target: Grid, thickness: float | None = None) -> list[FrameAttributes]:
    return [
        FrameAttributes(
            position=tuple(position),
            orientation=tuple(target.orientation),
            pixel_spacing=target.spacing,
            slice_thickness=thickness,
        )
        for position in target.positions
    ]


def lay(source: Grid, pixels: np.ndarray, target: Grid, chosen: Sequence[int] | None = None) -> np.ndarray:
    """Lay all or some planes of one grid on another."""
    (planes,) = planes_of(frames_of(source), None, target)
    out = np.zeros(target.shape, pixels.dtype)
    chosen = range(len(pixels)) if chosen is None else chosen
    paint_planes(out, target, planes, list(chosen), pixels[list(chosen)])
    return out


def shape_at(points: np.ndarray) -> np.ndarray:
    """An asymmetric solid in mm about (-8, -3, 17): no turn or mirror leaves it as it is."""
    x, y, z = np.moveaxis(points - np.array([-8.0, -3, 17]), -1, 0)
    body = (np.abs(x) < 5) & (np.abs(y) < 4) & (np.abs(z) < 3)
    arm = (x > 2) & (x < 9) & (y > 1) & (y < 4) & (z > -1) & (z < 7)
    notch = (x < -2) & (y < -1) & (z > 0)
    return (body & ~notch) | arm


ORIENTATIONS = {
    "axial": AXIAL,
    "sagittal": SAGITTAL,
    "coronal": CORONAL,
    "oblique": OBLIQUE,
    "feet first": FEET_FIRST,
}


def about(orientation: np.ndarray, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> Grid:
    """A grid whose middle is the shape's."""
    normal = normal_of(orientation)
    half = [(n - 1) / 2 for n in shape]
    middle = np.array([-8.3, -2.9, 17.2])
    corner = (
        middle
        - half[2] * spacing[2] * orientation[:3]
        - half[1] * spacing[1] * orientation[3:]
        - half[0] * spacing[0] * normal
    )
    places = np.arange(shape[0]) * spacing[0]
    return grid(orientation, corner, places, (spacing[1], spacing[2]), shape[1], shape[2])


@pytest.mark.parametrize("target_way", ORIENTATIONS)
@pytest.mark.parametrize("source_way", ORIENTATIONS)
def test_a_shape_in_mm_stays_where_it_is(source_way: str, target_way: str) -> None:
    source = about(ORIENTATIONS[source_way], (0.5, 0.5, 0.5), (60, 60, 60))
    target = about(ORIENTATIONS[target_way], (2.0, 0.9, 0.7), (15, 30, 37))
    got = lay(source, shape_at(centres(source)).astype(np.uint8), target)
    points = centres(target)
    wanted = shape_at(points)
    assert wanted.sum() > 200
    # Where all neighbours within half a source voxel's diagonal agree, there is no doubt.
    near = [shape_at(points + np.array(d) * 0.45) for d in np.ndindex(3, 3, 3) for d in [np.array(d) - 1.0]]
    sure = np.all([one == wanted for one in near], axis=0)
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(got[sure].astype(bool), wanted[sure])


@pytest.mark.parametrize("way", ORIENTATIONS)
def test_the_same_grid_gives_the_same_pixels_whatever_their_order(way: str) -> None:
    target = grid(ORIENTATIONS[way])
    pixels = (np.random.default_rng(1).random(target.shape) > 0.7).astype(np.uint8)
    np.testing.assert_array_equal(lay(target, pixels, target), pixels)
    turned = np.arange(len(pixels))[::-1]
    (planes,) = planes_of([frames_of(target)[k] for k in turned], None, target)
    out = np.zeros_like(pixels)
    paint_planes(out, target, planes, range(len(pixels)), pixels[turned])
    np.testing.assert_array_equal(out, pixels)


def test_rounded_positions_lose_nothing() -> None:
    target = grid(OBLIQUE)
    pixels = (np.random.default_rng(2).random(target.shape) > 0.5).astype(np.uint8)
    rounded = [
        FrameAttributes(
            position=tuple(np.round(frame.position, 2)),
            orientation=tuple(np.round(frame.orientation, 5)),
            pixel_spacing=frame.pixel_spacing,
            slice_thickness=0.001,
        )
        for frame in frames_of(target)
    ]
    families = planes_of(rounded, None, target)
    out = np.zeros_like(pixels)
    for planes in families:
        paint_planes(out, target, planes, range(len(planes.members)), pixels[planes.members])
    np.testing.assert_array_equal(out, pixels)


def test_a_slice_left_out_stays_empty() -> None:
    target = grid(AXIAL)
    pixels = np.ones(target.shape, np.uint8)
    got = lay(target, pixels, target, chosen=[1, 2, 7])
    assert [k for k in range(len(got)) if got[k].any()] == [1, 2, 7]
    fine = grid(AXIAL, places=tuple(np.arange(0, 23, 0.5)))
    thick = lay(target, pixels, fine, chosen=[1, 7])
    # Each plane stands for its own 2 mm and no more, although the next one is missing.
    filled = [k * 0.5 for k in range(len(thick)) if thick[k].any()]
    assert filled == [1.0, 1.5, 2.0, 2.5, 13.0, 13.5, 14.0, 14.5]


def test_a_plane_with_frames_for_a_few_slices_reaches_as_far_as_its_header_says() -> None:
    target = grid(AXIAL, places=tuple(np.arange(20.0)))
    coarse = grid(AXIAL, places=(0.0, 12.0))
    (planes,) = planes_of(frames_of(coarse, thickness=4.0), None, target)
    out = np.zeros(target.shape, np.uint8)
    paint_planes(out, target, planes, [0, 1], np.ones(coarse.shape, np.uint8))
    assert [k for k in range(20) if out[k].any()] == [0, 1, 10, 11, 12, 13]
    (planes,) = planes_of(frames_of(coarse, thickness=4.0), 2.0, target)
    assert planes.step == 2.0


def test_a_part_of_the_field_of_view_lies_where_it_belongs() -> None:
    target = grid(AXIAL)
    part = grid(
        AXIAL,
        corner=tuple(np.array([-20, -15, 5]) + 4 * target.row_step + 7 * target.column_step),
        rows=9,
        columns=40,
    )
    pixels = (np.random.default_rng(3).random(part.shape) > 0.5).astype(np.uint8)
    got = lay(part, pixels, target)
    np.testing.assert_array_equal(got[:, 4:13, 7:], pixels[:, :, : 26 - 7])
    got[:, 4:13, 7:] = 0
    assert not got.any()


def test_frames_of_one_plane_and_other_corners_are_joined() -> None:
    target = grid(AXIAL)
    tiles = [
        FrameAttributes(
            position=tuple(target.positions[3] + column * target.column_step),
            orientation=tuple(AXIAL),
            pixel_spacing=target.spacing,
        )
        for column in (0, 20)
    ]
    for way in (target, about(SAGITTAL, (2.0, 0.9, 0.7), (15, 30, 37))):
        (planes,) = planes_of(tiles, 2.0, way)
        both, one, other = (np.zeros(way.shape, np.uint8) for _ in range(3))
        pixels = np.ones((2, 30, 5), np.uint8)
        paint_planes(both, way, planes, [0, 1], pixels)
        paint_planes(one, way, planes, [0], pixels[:1])
        paint_planes(other, way, planes, [1], pixels[1:])
        np.testing.assert_array_equal(both, one | other)
        assert one.any()
        assert not (one & other).any()


def test_a_gantry_s_moved_slices_keep_their_own_places() -> None:
    positions = np.array([(0.28 * k, 1.2 * k, 2.0 * k) for k in range(6)])
    order = np.arange(6, dtype=np.int32)
    moved = grid_of(place("", {}, order, positions, AXIAL, (1.0, 1.0), 2.0), 20, 20)
    straight = grid(AXIAL, corner=(0, 0, 0), places=np.arange(6) * 2.0, spacing=(1, 1), rows=30, columns=30)
    pixels = np.zeros(moved.shape, np.uint8)
    pixels[:, 3, 5] = 1
    got = lay(moved, pixels, straight)
    rows, columns = 3 + np.rint(1.2 * np.arange(6)), 5 + np.rint(0.28 * np.arange(6))
    assert [tuple(index) for index in np.argwhere(got)] == [
        (k, int(r), int(c)) for k, r, c in zip(range(6), rows, columns, strict=True)
    ]


def test_fractions_keep_the_larger() -> None:
    target = grid(AXIAL)
    (planes,) = planes_of(frames_of(target), None, target)
    out = np.full(target.shape, 0.5, np.float32)
    pixels = np.zeros((1, *target.shape[1:]), np.float32)
    pixels[0, 0, 0], pixels[0, 0, 1] = 0.25, 0.75
    paint_planes(out, target, planes, [4], pixels)
    assert out[4, 0, :3].tolist() == [0.5, 0.75, 0.5]


def test_without_a_place_there_is_no_mask() -> None:
    target = grid(AXIAL)
    with pytest.raises(GeometryError, match="no place"):
        planes_of([FrameAttributes(orientation=tuple(AXIAL), pixel_spacing=(1, 1))], None, target)
    nowhere = FrameGroup("", {}, np.arange(2, dtype=np.int32), np.full((2, 3), np.nan), reason="flat")
    with pytest.raises(GeometryError, match="flat"):
        grid_of(nowhere, 4, 4)
    twice = group_of(AXIAL, (0, 0, 0), (0.0, 0.0, 2.0), (1.0, 1.0))
    with pytest.raises(GeometryError, match="at one place"):
        grid_of(twice, 4, 4)
