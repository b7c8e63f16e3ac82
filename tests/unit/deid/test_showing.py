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
