"""Overlays go, or their text does under clean graphics."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset

from voxelvault.deid import burned_in
from voxelvault.deid.model import Context, Option, Refused, Rewritten
from voxelvault.deid.ocr import Reading
from voxelvault.deid.overlays import put_overlays
from voxelvault.deid.profile import profile
from voxelvault.dicom.part10 import Part10, parse
from voxelvault.model import FrameSpec
from voxelvault.testing import synthetic

ROWS, COLUMNS = 40, 64
SPEC = FrameSpec(ROWS, COLUMNS, 1, 16, 12)


class _Cleaner:
    def text(self, value: str) -> str:
        return value

    def machine(self, value: str) -> str:
        return self.text(value)

    def harmless(self, text: str) -> bool:
        return text == "L"


def _context(*options: Option) -> Context:
    return Context(profile("basic", options), None, None, _Cleaner())  # type: ignore[arg-type]


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    size = struct.pack("<HI", 0, len(value)) if vr == b"OW" else struct.pack("<H", len(value))
    return head + size + value


def _file(plane: np.ndarray[Any, Any] | None, position: int = 0) -> Part10:
    """Return a CT with an overlay of its own, or one in a bit of its pixels."""
    data = synthetic.ct_series(1, 8, 8)[0]
    parts = [
        _element(0x60000010, b"US", struct.pack("<H", ROWS)),
        _element(0x60000011, b"US", struct.pack("<H", COLUMNS)),
        _element(0x60000022, b"LO", b"SMITH"),
        _element(0x60000040, b"CS", b"G"),
        _element(0x60000050, b"SS", struct.pack("<2h", 3, 5)),
        _element(0x60000100, b"US", struct.pack("<H", 1 if plane is not None else 16)),
        _element(0x60000102, b"US", struct.pack("<H", position)),
    ]
    if plane is not None:
        parts.append(_element(0x60003000, b"OW", np.packbits(plane.reshape(-1), bitorder="little").tobytes()))
    pixels = parse(data).pixels
    assert pixels is not None
    at = pixels.start - 12
    return parse(data[:at] + b"".join(parts) + data[at:])


def _rewritten() -> Rewritten:
    made = Rewritten(Dataset())
    made.dataset.file_meta = FileMetaDataset()
    return made


@pytest.fixture
def plane() -> np.ndarray[Any, Any]:
    drawn = np.zeros((ROWS, COLUMNS), np.uint8)
    drawn[4:10, 4:40] = 1  # where a name is read
    drawn[30:34, 50:60] = 1  # an arrow
    return drawn


@pytest.fixture
def reads_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(picture: np.ndarray[Any, Any]) -> list[Reading]:
        scale = picture.shape[0] // ROWS
        inked = picture.shape == (ROWS * scale, COLUMNS * scale) and picture[: 12 * scale].max() > 0
        return [Reading(4 * scale, 4 * scale, 10 * scale, 40 * scale, "SMITH", 0.9)] if inked else []

    monkeypatch.setattr(burned_in, "read", read)


def _drawn(dataset: Dataset) -> np.ndarray[Any, Any]:
    bits = np.unpackbits(np.frombuffer(dataset[0x60003000].value, np.uint8), bitorder="little")
    return bits[: ROWS * COLUMNS].reshape(ROWS, COLUMNS)


def test_without_the_option_nothing_is_put(plane: np.ndarray[Any, Any]) -> None:
    made = _rewritten()
    assert put_overlays(_file(plane), None, SPEC, made, _context()) == 0
    assert not len(made.dataset)


@pytest.mark.usefixtures("reads_once")
@pytest.mark.parametrize("embedded", [False, True])
def test_text_goes_and_graphics_stay(plane: np.ndarray[Any, Any], *, embedded: bool) -> None:
    words = (plane[None].astype(np.uint16) << 13) | 77 if embedded else None
    part10 = _file(None if embedded else plane, 13 if embedded else 0)
    made = _rewritten()
    assert put_overlays(part10, words, SPEC, made, _context(Option.CLEAN_GRAPHICS)) == 1
    drawn = _drawn(made.dataset)
    assert not drawn[4:10, 4:40].any()
    assert drawn[30:34, 50:60].all()
    assert made.applied == {Option.CLEAN_GRAPHICS.code}
    assert 0x60000022 not in made.dataset
    assert list(made.dataset[0x60000050].value) == [3, 5]
    assert made.dataset[0x60000102].value == 0


def test_text_that_stays_is_refused(plane: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burned_in, "read", lambda picture: [Reading(4, 4, 10, 40, "SMITH", 0.9)])
    with pytest.raises(Refused):
        put_overlays(_file(plane), None, SPEC, _rewritten(), _context(Option.CLEAN_GRAPHICS))


def test_overlays_that_are_cut_short_are_left_out(plane: np.ndarray[Any, Any]) -> None:
    made = _rewritten()
    put_overlays(_file(plane[:20]), None, SPEC, made, _context(Option.CLEAN_GRAPHICS))
    assert not len(made.dataset)
