"""The OCR engine: its own models or none, large pictures in tiles, readings both ways up."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxelvault.deid import ocr
from voxelvault.errors import MissingExtra


@pytest.fixture
def unloaded() -> Any:
    ocr.engine.cache_clear()
    yield
    ocr.engine.cache_clear()


@pytest.mark.usefixtures("unloaded")
def test_without_the_engine_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="voxelvault\\[deid\\]"):
        ocr.read(np.arange(64, dtype=np.uint8).reshape(8, 8))


@pytest.mark.usefixtures("unloaded")
def test_without_its_models_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = ModuleSpec("rapidocr_onnxruntime", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(ocr, "find_spec", lambda name: spec)
    with pytest.raises(MissingExtra):
        ocr.engine()


class _Engine:
    """Sees one box in each tile that has ink, around it; reads well what has its mark on the left."""

    def __init__(self) -> None:
        self.tiles: list[tuple[int, ...]] = []

    def text_det(self, tile: np.ndarray[Any, Any]) -> tuple[Any, float]:
        self.tiles.append(tile.shape)
        found = np.argwhere(tile[..., 0] > 100)
        if not len(found):
            return None, 0.0
        (top, left), (bottom, right) = found.min(0), found.max(0) + 1
        return np.array([[[left, top], [right, top], [right, bottom], [left, bottom]]]), 0.0

    def text_rec(self, ways: list[np.ndarray[Any, Any]]) -> tuple[list[tuple[str, float]], float]:
        marked = [way[:, : way.shape[1] // 2].max() > 250 for way in ways]
        return [("SMITH", 0.9) if mark else ("HLIWS", 0.4) for mark in marked], 0.0


def test_large_pictures_are_read_in_tiles_that_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _Engine()
    monkeypatch.setattr(ocr, "engine", lambda: fake)
    picture = np.zeros((200, 4000), np.uint8)
    picture[100:110, 1500:1580] = 200  # over the first tile's edge
    picture[100:110, 1500:1510] = 255
    found = ocr.read(picture)
    assert all(max(shape[:2]) <= ocr.LARGEST for shape in fake.tiles)
    whole = [one for one in found if one.left <= 1500 and one.right >= 1580]
    assert [one.text for one in whole] == ["SMITH"]
    assert whole[0].top <= 100
    assert whole[0].bottom >= 110


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_the_better_way_up_is_the_reading(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "engine", _Engine)
    picture = np.zeros((100, 100), np.uint8)
    picture[40:50, 10:90] = 200
    picture[40:50, 10:20] = 255
    (found,) = ocr.read(np.rot90(picture, turns))
    assert (found.text, found.score) == ("SMITH", 0.9)


def test_even_pictures_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _Engine()
    monkeypatch.setattr(ocr, "engine", lambda: fake)
    assert ocr.read(np.full((50, 50, 3), 7, np.uint8)) == []
    assert not fake.tiles
