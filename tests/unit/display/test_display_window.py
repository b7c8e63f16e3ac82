"""Windows as the standard computes them."""

from __future__ import annotations

import numpy as np
import pytest

from voxelvault.display.window import PRESETS, Window, auto_window, choose_window, to_uint8
from voxelvault.errors import UsageError


def pseudo_code(x: float, c: float, w: float) -> float:
    """PS3.3 C.11.2.1.2.1, as printed there, with an output range of 0 to 255."""
    if x <= c - 0.5 - (w - 1) / 2:
        return 0
    if x > c - 0.5 + (w - 1) / 2:
        return 255
    return ((x - (c - 0.5)) / (w - 1) + 0.5) * 255


@pytest.mark.parametrize(
    ("center", "width"), [(40, 80), (2048, 4096), (2048, 1), (0, 100), (0, 1), (-600, 1500)]
)
def test_linear_is_the_standards_pseudo_code(center: float, width: float) -> None:
    values = np.linspace(center - width - 3, center + width + 3, 301)
    expected = [round(pseudo_code(float(np.float32(x)), center, width)) for x in values]
    shown = to_uint8(values.astype(np.float32), Window(center, width))
    assert np.abs(shown.astype(int) - expected).max() <= (0 if width == 1 else 1)


def test_exact_and_sigmoid() -> None:
    values = np.array([-1000.0, -50, 0, 50, 1000])
    assert to_uint8(values, Window(0, 100, "LINEAR_EXACT")).tolist() == [0, 0, 128, 255, 255]
    assert to_uint8(values, Window(0, 100, "SIGMOID")).tolist() == [0, 30, 128, 225, 255]
    assert to_uint8(np.array([-1e9, 1e9]), Window(0, 1e-3, "SIGMOID")).tolist() == [0, 255]


def test_inverted_and_nan() -> None:
    values = np.array([np.nan, 0, 80], np.float32)
    assert to_uint8(values, PRESETS["brain"]).tolist() == [0, 0, 255]
    assert to_uint8(values, PRESETS["brain"], inverted=True).tolist() == [0, 255, 0]
    assert to_uint8(np.array([np.nan, 1.0]), Window(0, 1)).tolist() == [0, 255]


def test_values_are_left_alone() -> None:
    values = np.array([0.0, 40, 80], np.float32)
    to_uint8(values, PRESETS["brain"], inverted=True)
    assert values.tolist() == [0, 40, 80]


def test_automatic_window() -> None:
    values = np.concatenate([np.arange(1000.0), [1e9, np.nan]])
    window = auto_window(values)
    assert 490 < window.center < 510
    assert 950 < window.width < 1050
    assert auto_window(np.full(5, 7.0)).width > 0
    assert auto_window(np.full(5, np.nan)).width > 0
    assert auto_window(np.zeros((0, 3))).width > 0


def test_choice() -> None:
    values = np.arange(100.0)
    header = Window(40, 400)
    assert choose_window(None, values, header) == header
    assert choose_window(None, values, Window(40, 0)) == auto_window(values)
    assert choose_window("auto", values, header) == auto_window(values)
    assert choose_window("bone", values) == PRESETS["bone"]
    assert choose_window((10, 20), values) == Window(10, 20)


@pytest.mark.parametrize(
    ("choice", "hounsfield", "advice"),
    [
        ("brian", True, "use one of brain"),
        ("brain", False, "Hounsfield"),
        ((10, 0), True, "above zero"),
        ((1, float("nan")), True, "above"),
    ],
)
def test_wrong_choices_say_what_to_do(choice: object, hounsfield: bool, advice: str) -> None:
    with pytest.raises(UsageError, match=advice):
        choose_window(choice, np.zeros(3), hounsfield=hounsfield)
