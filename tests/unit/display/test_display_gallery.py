"""Tables with small pictures."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from voxelvault.display.gallery import gallery, thumbnail
from voxelvault.display.look import Look
from voxelvault.display.window import Window
from voxelvault.errors import UsageError

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"


def opened(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_each_row_has_its_own_picture_and_the_columns_are_all_names() -> None:
    small = [thumbnail(np.full((4, 4), value), Look(window=(50, 100))) for value in (0.0, 100.0)]
    text = gallery([{"modality": "CT"}, {"modality": "MR", "frames": 1234}, {}], [small[0], None], "2 series")
    rows = text.split("<tr>")
    assert len(rows) == 5
    assert re.findall(r"<th[^>]*>([^<]*)</th>", rows[1]) == ["", "modality", "frames"]
    assert base64.b64encode(small[0]).decode() in rows[2]
    assert "<img" not in rows[3] + rows[4]
    assert ">1,234<" in rows[3]
    assert "2 series" in text


def test_without_pictures_there_is_no_empty_column() -> None:
    assert len(re.findall("<th ", gallery([{"a": 1}], [None]))) == 1


def test_markup_in_values_is_text() -> None:
    text = gallery([{HOSTILE: HOSTILE}], [], HOSTILE, HOSTILE)
    assert "<script" not in text
    assert "<img" not in text


def test_a_picture_is_png_and_has_a_row() -> None:
    with pytest.raises(UsageError, match="PNG"):
        gallery([{}], [b'"><script>'])
    with pytest.raises(UsageError, match="more pictures"):
        gallery([], [thumbnail(np.zeros((2, 2)))])


def test_thumbnails_keep_proportions_and_grey_levels() -> None:
    wide = thumbnail(np.full((100, 400), 40.0), Look(header=Window(40, 80), aspect=2.0), size=64)
    assert opened(wide).shape == (32, 64)
    assert 120 < int(opened(wide).mean()) < 136
    assert opened(thumbnail(np.full((8, 8), 0.0), Look(window=(40, 80), inverted=True))).min() == 255
    assert opened(thumbnail(np.full((900, 900, 3), 7, np.uint8), size=40)).shape == (40, 40, 3)
    with pytest.raises(UsageError):
        thumbnail(np.zeros((2, 2, 2, 2)))


def test_a_bright_speck_survives_shrinking() -> None:
    """Averaged, not skipped."""
    plane = np.zeros((1000, 1000))
    plane[501:503, 501:503] = 1e6
    assert opened(thumbnail(plane, Look(window=(50, 100)), size=50)).max() > 0
