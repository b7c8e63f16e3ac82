"""A head comes to the network's grid straight and centred however it was scanned, and back again."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage
from small_heads import study

from voxelvault.errors import UsageError
from voxelvault_triage.hemorrhage.preprocess import (
    AIR,
    CHANNELS,
    COLUMNS,
    HIGH_VALUE,
    LOW_VALUE,
    ROWS,
    Prepared,
    channels,
    prepare_labels,
    prepare_volume,
    restore,
)
from voxelvault_triage.phantom.bleeds import Kind
from voxelvault_triage.planes import Planes


def test_slices_keep_their_number_and_get_the_grid() -> None:
    made = study(12)
    prepared = prepare_volume(made.hu, made.planes)
    assert prepared.hu.shape == (len(made.hu), ROWS, COLUMNS)
    assert prepared.hu.dtype == np.float32
    assert prepared.voxel_ml.sum() > 0


def test_a_head_is_centred_although_the_stack_is_sheared() -> None:
    made = study(12)
    prepared = prepare_volume(made.hu, made.planes)
    for plane in prepared.hu[4:-6]:
        rows, columns = np.nonzero(ndimage.binary_fill_holes(plane > 300))
        assert abs((rows.min() + rows.max()) / 2 - ROWS / 2) < 16
        assert abs((columns.min() + columns.max()) / 2 - COLUMNS / 2) < 12


def test_any_order_of_slices_and_direction_of_rows_gives_the_same() -> None:
    made = study(12)
    plain = prepare_volume(made.hu, made.planes)
    turned = Planes(
        made.planes.positions[::-1] + (made.hu.shape[2] - 1) * made.planes.spacing[1] * made.planes.across,
        -made.planes.across,
        made.planes.down,
        made.planes.spacing,
    )
    other = prepare_volume(np.ascontiguousarray(made.hu[::-1, :, ::-1]), turned)
    # Seen from the other side the planes run downwards; each is the same to a fraction of a voxel.
    apart = np.abs(other.hu[::-1] - plain.hu).mean()
    assert apart < 0.15 * np.abs(plain.hu[:, :, 1:] - plain.hu[:, :, :-1]).mean()
    assert apart < 0.02 * np.abs(plain.hu[:, :, ::-1] - plain.hu).mean()


def test_thin_slices_are_averaged_to_planes() -> None:
    made = study(12)
    thin = np.repeat(made.hu, 4, axis=0)
    step = made.planes.positions[1] - made.planes.positions[0]
    positions = (
        np.repeat(made.planes.positions, 4, axis=0) + np.tile(np.arange(4), len(made.hu))[:, None] * step / 4
    )
    prepared = prepare_volume(thin, replace(made.planes, positions=positions))
    assert len(prepared.hu) == len(thin) // 2
    assert prepared.plane_of.tolist() == [k // 2 for k in range(len(thin))]


def test_labels_go_there_and_a_mask_comes_back() -> None:
    made = study(11, Kind.INTRAPARENCHYMAL)
    prepared = prepare_volume(made.hu, made.planes)
    labels = prepare_labels(made.labels, prepared)
    back = restore((labels > 0).astype(np.float32), prepared) > 0.5
    truth = made.labels > 0
    overlap = 2 * (back & truth).sum() / (back.sum() + truth.sum())
    assert overlap > 0.85


def test_channels_are_in_the_range_that_the_bundle_says() -> None:
    made = study(12)
    image = channels(prepare_volume(made.hu, made.planes).hu)
    assert image.shape[1] == CHANNELS
    assert image.dtype == np.float32
    assert image.min() >= np.float32(LOW_VALUE)
    assert image.max() <= np.float32(HIGH_VALUE)
    np.testing.assert_array_equal(image[:, 4], image[:, 1, :, ::-1])


def test_an_affine_will_do_for_even_steps() -> None:
    made = study(12)
    planes = made.planes
    affine = np.eye(4)
    affine[:3, 0] = planes.positions[1] - planes.positions[0]
    affine[:3, 1], affine[:3, 2] = planes.down * planes.spacing[0], planes.across * planes.spacing[1]
    affine[:3, 3] = planes.positions[0]
    np.testing.assert_allclose(
        prepare_volume(made.hu, affine).hu, prepare_volume(made.hu, planes).hu, atol=0.5
    )


def test_what_is_no_head_is_refused() -> None:
    made = study(12)
    with pytest.raises(UsageError, match="no head"):
        prepare_volume(np.full_like(made.hu, -1000), made.planes)
    with pytest.raises(UsageError, match="three slices"):
        prepare_volume(made.hu[:2], made.planes)


def by_the_book(made: SimpleNamespace, prepared: Prepared) -> np.ndarray:
    """Smooth and resample whole slices, one by one, with nothing left out."""
    spacing = made.planes.spacing
    found = np.empty(prepared.hu.shape, np.float32)
    for index, plane in enumerate(made.hu):
        plane = np.maximum(plane, np.float32(AIR))
        if min(spacing) <= 0.75:
            plane = ndimage.gaussian_filter(plane, [0.4 / step for step in spacing], truncate=2.5)
        matrix, offset = prepared.matrices[index], prepared.offsets[index]
        found[prepared.plane_of[index]] = ndimage.affine_transform(
            plane, matrix, offset, (ROWS, COLUMNS), order=1, cval=AIR
        )
    return found


@pytest.mark.parametrize("margin", [0, 30, -40])
@pytest.mark.parametrize("step", [0.44, 0.8])
@pytest.mark.parametrize("upright", [False, True])
def test_what_the_grid_does_not_cover_is_left_out_and_changes_nothing(
    margin: int, step: float, upright: bool
) -> None:
    drawn, draw = study(12), np.random.default_rng(4)
    hu = ndimage.zoom(drawn.hu, (1, *(mm / step for mm in drawn.planes.spacing)), order=1)
    # Wider than it is, or cut, so that part of the grid has no slice below it; and every pixel of its own.
    hu = np.pad(hu, ((0, 0), (max(margin, 0),) * 2, (max(margin, 0),) * 2), constant_values=-1100)
    hu = hu[:, -min(margin, 0) :] + draw.normal(0, 20, hu[:, -min(margin, 0) :].shape).astype(np.float32)
    positions = drawn.planes.positions
    if upright:
        heights = positions @ drawn.planes.normal
        positions = positions[0] + (heights - heights[0])[:, None] * drawn.planes.normal
    made = SimpleNamespace(hu=hu, planes=replace(drawn.planes, positions=positions, spacing=(step, step)))
    prepared = prepare_volume(made.hu, made.planes)
    np.testing.assert_array_max_ulp(prepared.hu, by_the_book(made, prepared), maxulp=1)


def test_values_come_back_as_by_interpolating_all_of_them() -> None:
    made = study(11, Kind.INTRAPARENCHYMAL)
    prepared = prepare_volume(made.hu, made.planes)
    draw = np.random.default_rng(2)
    values = np.where(draw.random(prepared.hu.shape) < 0.05, draw.random(prepared.hu.shape), 0)
    values = values.astype(np.float32)
    found = restore(values, prepared)
    for index, number in enumerate(prepared.plane_of):
        back = np.linalg.inv(prepared.matrices[index])
        offset = -back @ prepared.offsets[index]
        whole = ndimage.affine_transform(values[number], back, offset, made.hu.shape[1:], order=1)
        np.testing.assert_allclose(found[index], whole, rtol=0, atol=1e-6)
