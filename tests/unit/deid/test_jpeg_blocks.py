"""Areas of a JPEG go block by block, and all that wasn't touched stays exactly as it was."""

from __future__ import annotations

import io
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from voxelvault.deid.burned_in import Box
from voxelvault.deid.jpeg_blocks import blank_blocks
from voxelvault.deid.stripping import strip
from voxelvault.model import FrameSpec

BASELINE = "1.2.840.10008.1.2.4.50"


def _picture(rows: int, columns: int, samples: int) -> np.ndarray[Any, Any]:
    y, x = np.mgrid[0:rows, 0:columns]
    noise = np.random.default_rng(7).normal(0, 25, (rows, columns, samples))
    shade = 120 + 60 * np.sin(x / 9)[..., None] + 40 * np.cos(y / 7)[..., None] + noise
    return np.clip(shade, 0, 255).astype(np.uint8).squeeze()


def _coded(picture: np.ndarray[Any, Any], **settings: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=85, **settings)
    return strip(BASELINE, out.getvalue(), FrameSpec(8, 8))


def _decoded(data: bytes) -> np.ndarray[Any, Any]:
    """Return components as coded, without upsampling tricks that reach over blocks where there are none."""
    return np.asarray(imagecodecs.jpeg8_decode(data, colorspace="RGB", outcolorspace="RGB"))


@pytest.mark.parametrize("settings", [{}, {"optimize": True}, {"restart_marker_blocks": 3}])
@pytest.mark.parametrize(("rows", "columns"), [(64, 96), (61, 93)])
def test_grey_pixels_outside_touched_blocks_stay(rows: int, columns: int, settings: dict[str, Any]) -> None:
    data = _coded(_picture(rows, columns, 1), **settings)
    made = blank_blocks(data, [Box(10, 20, 21, 50), Box(50, 90, 61, 93)], "MONOCHROME2")
    assert made is not None
    before, after = np.asarray(imagecodecs.jpeg8_decode(data)), np.asarray(imagecodecs.jpeg8_decode(made))
    touched = np.zeros(before.shape, bool)
    touched[8:24, 16:56] = touched[48:64, 88:96] = True
    assert np.array_equal(before[~touched], after[~touched])
    assert not after[touched].any()


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_colours_outside_touched_blocks_stay(subsampling: int) -> None:
    data = _coded(_picture(96, 96, 3), subsampling=subsampling)
    made = blank_blocks(data, [Box(33, 33, 40, 60)], "YBR_FULL_422" if subsampling else "YBR_FULL")
    assert made is not None
    before, after = (np.asarray(imagecodecs.jpeg8_decode(one)) for one in (data, made))
    touched = np.zeros(before.shape[:2], bool)
    touched[32:48, 32:64] = True
    near = np.zeros(before.shape[:2], bool)
    near[30:50, 30:66] = True  # colours of neighbours are smoothed over one sample by decoders
    assert np.array_equal(before[~near], after[~near])
    assert after[33:40, 33:60].max() <= 1


def test_black_of_inverted_grey_is_white() -> None:
    data = _coded(_picture(32, 32, 1))
    made = blank_blocks(data, [Box(0, 0, 8, 8)], "MONOCHROME1")
    assert made is not None
    assert np.asarray(imagecodecs.jpeg8_decode(made))[:8, :8].min() == 255


def test_blanking_everything_leaves_nothing() -> None:
    data = _coded(_picture(64, 64, 1))
    made = blank_blocks(data, [Box(0, 0, 64, 64)], "MONOCHROME2")
    assert made is not None
    assert not np.asarray(imagecodecs.jpeg8_decode(made)).any()


def test_other_processes_are_left_to_others() -> None:
    assert (
        blank_blocks(_coded(_picture(32, 32, 1), progressive=True), [Box(0, 0, 8, 8)], "MONOCHROME2") is None
    )
    assert blank_blocks(b"\xff\xd8\xff\xd9", [Box(0, 0, 8, 8)], "MONOCHROME2") is None


def test_damaged_data_are_not_taken_for_blocks() -> None:
    data = bytearray(_coded(_picture(64, 64, 1)))
    cut = bytes(data[: len(data) // 2]) + b"\xff\xd9"
    assert blank_blocks(cut, [Box(0, 0, 8, 8)], "MONOCHROME2") is None
