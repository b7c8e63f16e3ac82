"""Frames as somebody sees them, one at a time."""

from __future__ import annotations

from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from voxelvault.deid.model import Refused
from voxelvault.deid.showing import Shown
from voxelvault.dicom.read import Header
from voxelvault.model import FrameSpec


def _pixels(photometric: str, bits: int = 8, palette: Any = MappingProxyType({})) -> Any:
    spec = FrameSpec(2, 2, 1 if photometric.endswith("COLOR") else 3, bits, bits, 0, photometric)
    part10 = SimpleNamespace(big_endian=False, value=lambda tag: palette.get(f"{tag:08X}", b""))
    return SimpleNamespace(spec=spec, photometric=photometric, part10=part10)


def test_grey_values_stay_as_they_are() -> None:
    frames = np.arange(8, dtype=np.int16).reshape(2, 2, 2) - 4
    shown = Shown(frames, _pixels("MONOCHROME2"), Header({}))
    assert len(shown) == 2
    assert not shown.coloured
    assert shown[1] is not frames
    assert np.array_equal(shown[1], frames[1])


def test_colours_come_in_8_bits() -> None:
    deep = np.full((1, 2, 2, 3), 0x0A50, np.uint16)
    assert Shown(deep, _pixels("RGB", 12), Header({}))[0].tolist() == [[[165] * 3] * 2] * 2
    grey = np.full((1, 2, 2, 3), 128, np.uint8)
    assert Shown(grey, _pixels("YBR_FULL"), Header({}))[0].tolist() == [[[128] * 3] * 2] * 2
    with pytest.raises(Refused):
        Shown(grey, _pixels("HSV"), Header({}))[0]


def test_palettes_are_looked_up() -> None:
    tables = {f"0028120{n}": np.array([0, 0x8000, 0xFF00 - 256 * n], "<u2").tobytes() for n in (1, 2, 3)}
    header = Header({"00281101": {"vr": "US", "Value": [3, 0, 16]}})
    shown = Shown(np.array([[[0, 1], [2, 2]]], np.uint8), _pixels("PALETTE COLOR", palette=tables), header)
    assert shown.coloured
    assert shown[0].tolist() == [[[0] * 3, [128] * 3], [[254, 253, 252]] * 2]
    with pytest.raises(Refused):
        Shown(np.zeros((1, 2, 2), np.uint8), _pixels("PALETTE COLOR", palette=tables), Header({}))


def test_segmented_palettes_are_looked_up_too() -> None:
    """Two entries, a ramp to 0xFF00 over two more, and the first segment again."""
    words = [0, 2, 0, 0x4000, 1, 2, 0xFF00, 2, 1, 0, 0]
    tables = {f"0028122{n}": np.array(words, "<u2").tobytes() for n in (1, 2, 3)}
    header = Header({"00281101": {"vr": "US", "Value": [6, 0, 16]}})
    frame = np.array([[[0, 1, 2], [3, 4, 5]]], np.uint8)
    shown = Shown(frame, _pixels("PALETTE COLOR", palette=tables), header)
    assert shown[0][..., 0].tolist() == [[0, 0x40, 0x9F], [0xFF, 0, 0x40]]


def test_indexes_without_a_palette_are_shown_as_they_are() -> None:
    frame = np.array([[[0, 1], [2, 3]]], np.uint8)
    shown = Shown(frame, _pixels("PALETTE COLOR"), Header({}))
    assert not shown.coloured
    assert np.array_equal(shown[0], frame[0])


@pytest.mark.parametrize("words", [[7, 1, 1], [2, 1, 9, 0], [1, 2, 3]])
def test_broken_segments_are_refused(words: list[int]) -> None:
    tables = {f"0028122{n}": np.array(words, "<u2").tobytes() for n in (1, 2, 3)}
    header = Header({"00281101": {"vr": "US", "Value": [6, 0, 16]}})
    with pytest.raises(Refused):
        Shown(np.zeros((1, 2, 2), np.uint8), _pixels("PALETTE COLOR", palette=tables), header)
