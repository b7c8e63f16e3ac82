"""Grids are MONAI's: orientation by closest axes, then spacing, on upright and oblique volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from voxelvault.derived.recipe import frame_recipe, recipe, recipe_of
from voxelvault.derived.resampling import check_whole, regrid, stored
from voxelvault.errors import IntegrityError, UsageError

ANGLES = [(0, 0, 0), (0, 0, 90), (10, -20, 30), (44, 46, -44), (170, 80, -100), (91, 3, 178)]


def affine_of(angles: tuple[float, float, float], spacing: tuple[float, float, float]) -> np.ndarray:
    x, y, z = np.deg2rad(angles)
    turn = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    turn = turn @ [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
    turn = turn @ [[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing
    affine[:3, 3] = (-20.5, 13.25, 100)
    return affine


@pytest.mark.parametrize("angles", ANGLES)
@pytest.mark.parametrize(
    ("orientation", "spacing"), [("RAS", (1.0, 1.0, 1.0)), ("SPL", (0.7, 2.3, 1.9)), ("LAI", None)]
)
def test_image_and_mask_are_what_monai_makes_of_them(
    angles: tuple[float, float, float], orientation: str, spacing: Any
) -> None:
    from monai.data import MetaTensor
    from monai.transforms import Orientation, Spacing

    rng = np.random.default_rng(1)
    shape, affine = (7, 14, 11), affine_of(angles, (3.1, 0.83, 1.13))
    image = rng.normal(0, 300, shape).astype(np.float32)
    labels = rng.integers(0, 4, shape).astype(np.uint8)
    turned = Orientation(orientation, labels=None)
    expected = turned(MetaTensor(image[None], affine=affine))
    mask = turned(MetaTensor(labels[None].astype(np.float32), affine=affine))
    if spacing is not None:
        expected, mask = Spacing(spacing)(expected), Spacing(spacing, mode="nearest")(mask)
    grid = regrid(shape, affine, orientation, spacing)
    found = grid.image(image)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert grid.shape == found.shape == tuple(expected.shape[1:])
    assert np.allclose(grid.affine_ras, expected.affine.numpy(), atol=1e-6)
    assert np.abs(found - expected.numpy()[0]).max() < 2e-3
    assert np.array_equal(grid.mask(labels), mask.numpy()[0].astype(np.uint8))


def test_spacing_that_is_there_already_changes_no_value() -> None:
    affine = np.diag([1.0, 1.00004, 1.0, 1.0])
    volume = np.random.default_rng(0).random((9, 9, 9), np.float32)
    assert np.array_equal(regrid(volume.shape, affine, "RAS", (1, 1, 1)).image(volume), volume)


def test_a_single_slice_stays_one() -> None:
    grid = regrid((1, 8, 8), np.diag([5.0, 1.0, 1.0, 1.0]), None, (1.0, 2.0, 2.0))
    assert grid.shape == (1, 4, 4) or grid.shape == (1, 5, 5)
    assert np.isfinite(grid.image(np.ones((1, 8, 8), np.float32))).all()


def test_values_that_a_dtype_cannot_hold_are_refused() -> None:
    values = np.array([[[-1024.4, 0.5, 32767.0]]], np.float32)
    assert stored(values, "int16").tolist() == [[[-1024, 0, 32767]]]
    for wrong, dtype in ((values + 1, "int16"), (values * 3, "float16"), (values, "uint8")):
        with pytest.raises(UsageError, match="float32"):
            stored(wrong, dtype)
    with pytest.raises(UsageError, match="float32"):
        stored(np.array([[[np.nan]]], np.float32), "int16")


@pytest.mark.parametrize("values", [[0.0, 1e-9, 3e-8], [30000.0, 30001.0, 30100.0], [1e-9, 1e-9]])
def test_half_precision_that_would_lose_much_is_refused(values: list[float]) -> None:
    with pytest.raises(UsageError, match="float32"):
        stored(np.array([[values]], np.float32), "float16")


def test_half_precision_is_enough_for_a_range_that_begins_near_zero() -> None:
    values = np.linspace(-1024, 3000, 999, dtype=np.float32).reshape(1, 27, 37)
    assert np.abs(stored(values, "float16") - values).max() <= 1
    assert stored(np.zeros((1, 2, 2), np.float32), "float16").any() == np.False_


def test_rounding_is_for_hounsfield_units_and_whole_numbers() -> None:
    whole, part = np.array([[[0.0, 3.0]]], np.float32), np.array([[[0.0, 0.4]]], np.float32)
    for dtype in ("int16", "uint8"):
        check_whole(whole, "", dtype)
        check_whole(part, "HU", dtype)
        with pytest.raises(UsageError, match="float32"):
            check_whole(part, "g/ml", dtype)
    check_whole(part, "g/ml", "float16")


def test_recipes_come_back_and_equal_ones_are_one() -> None:
    one = recipe(1, "ras", "int16", [16, 16, 16], masks="lesion", stack="echo 1")
    assert recipe_of(one.to_json()) == one
    assert (
        one.sha256
        == recipe((1.0, 1, 1), "RAS", "int16", (16, 16, 16), masks=["lesion"], stack="echo 1").sha256
    )
    assert one.sha256 != recipe(1, "ras", "int16", [16, 16, 16], masks="other", stack="echo 1").sha256
    assert recipe_of(frame_recipe().to_json()) == frame_recipe()
    assert recipe_of(recipe(None, None).to_json()) == recipe(None, None)
    with pytest.raises(IntegrityError):
        recipe_of("{}")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"spacing": (1, 1)}, "spacing="),
        ({"spacing": -1}, "spacing="),
        ({"spacing": float("nan")}, "spacing="),
        ({"orientation": "RAA"}, "orientation="),
        ({"orientation": "RASL"}, "orientation="),
        ({"dtype": "int8"}, "dtype="),
        ({"codec": "htj2k"}, "codec="),
        ({"masks": ["a", "a"]}, "masks="),
        ({"fill": float("nan")}, "fill="),
        ({"chunks": 1000}, "chunks="),
    ],
)
def test_what_can_not_be_is_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        recipe(**wrong)
