"""Pictures: undistorted, the right way round, named at the edges, bounded."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from voxelvault.display.contact_sheet import contact_sheet, pick
from voxelvault.display.image import annotate, edge_letters, png, shape_on_screen, to_image
from voxelvault.errors import UsageError


def corner() -> np.ndarray:
    plane = np.zeros((30, 40), np.uint8)
    plane[:5, 30:] = 255  # first rows, last columns: top right
    return plane


def test_first_row_on_top_first_column_left() -> None:
    picture = np.asarray(Image.open(io.BytesIO(png(to_image(corner(), 1.0, 400)))))
    assert picture.shape == (300, 400)
    assert picture[20, 380] == 255
    assert picture[20, 20] == picture[280, 380] == picture[280, 20] == 0


@pytest.mark.parametrize(
    ("aspect", "shape"),
    [
        (1.0, (40, 30)),
        (2.0, (40, 60)),
        (0.5, (80, 30)),
        (np.nan, (40, 30)),
        (-1, (40, 30)),
        (1e12, (40, 600)),
    ],
)
def test_pixels_are_square_on_screen(aspect: float, shape: tuple[int, int]) -> None:
    assert shape_on_screen(30, 40, aspect) == shape
    assert to_image(corner(), aspect).size == shape


def test_a_circle_stays_round() -> None:
    """A ball sampled every 1 mm across and 3 mm down."""
    y, x = np.mgrid[-15:15, -45:45]
    ball = np.where((3 * y) ** 2 + x**2 < 30**2, 255, 0).astype(np.uint8)
    picture = np.asarray(to_image(ball, 3.0, 300)) > 127
    height, width = (np.ptp(np.flatnonzero(picture.any(axis=axis))) for axis in (1, 0))
    assert abs(height - width) <= 12


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((3, 3)), np.zeros((2, 3, 4), np.uint8), np.zeros(3, np.uint8), np.zeros((0, 4), np.uint8)],
)
def test_what_is_no_picture_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(UsageError, match="picture needs"):
        to_image(wrong)


@pytest.mark.parametrize(
    ("orientation", "letters"),
    [
        ((1, 0, 0, 0, 1, 0), ("R", "L", "A", "P")),
        ((1, 0, 0, 0, 0, -1), ("R", "L", "S", "I")),
        ((0, 1, 0, 0, 0, -1), ("A", "P", "S", "I")),
        ((-1, 0, 0, 0, 1, 0), ("L", "R", "A", "P")),
        ((1, 0, 0, 0, 0.9483237, -0.3173047), ("R", "L", "AS", "PI")),
        (None, ("", "", "", "")),
    ],
)
def test_sides_of_the_body(orientation: tuple[float, ...] | None, letters: tuple[str, ...]) -> None:
    assert edge_letters(orientation) == letters


def test_annotation_touches_only_the_edges_named() -> None:
    plain = to_image(np.zeros((200, 200), np.uint8))
    drawn = np.asarray(annotate(plain, ("R", "", "", "")))
    assert drawn[:, :40].any()
    assert not drawn[:, 40:].any()
    assert not np.asarray(plain).any()


def test_png_holds_no_text() -> None:
    data = png(to_image(corner()))
    assert not any(chunk in data for chunk in (b"tEXt", b"iTXt", b"zTXt", b"eXIf", b"tIME"))


def test_contact_sheet_places_each_plane_in_its_tile() -> None:
    planes = [np.full((20, 20), 60 * k, np.uint8) for k in range(1, 5)]
    sheet = contact_sheet(planes, [f"slice {k}" for k in range(4)], tile=50, across=2)
    assert sheet.size == (2 * 54 + 4, 2 * 70 + 4)
    pixels = np.asarray(sheet.convert("L"))
    assert [int(pixels[29 + 70 * row, 29 + 54 * column]) for row in (0, 1) for column in (0, 1)] == [
        60,
        120,
        180,
        240,
    ]


def test_contact_sheet_of_mixed_shapes() -> None:
    planes = [
        np.full((10, 300), 200, np.uint8),
        np.full((900, 9, 3), 200, np.uint8),
        np.full((1, 1), 200, np.uint8),
    ]
    sheet = contact_sheet(
        planes, ["a caption far too long for its tile " * 3], aspects=[4.0, 1.0, 1.0], tile=64
    )
    assert sheet.mode == "RGB"
    with pytest.raises(UsageError, match="at least one"):
        contact_sheet([])


def test_shrinking_averages() -> None:
    checkers = np.indices((800, 800)).sum(axis=0) % 2 * 255
    sheet = np.asarray(contact_sheet([checkers.astype(np.uint8)], tile=50).convert("L"))[10:40, 10:40]
    assert abs(int(sheet.min()) - 128) < 6
    assert abs(int(sheet.max()) - 128) < 6


def test_pick() -> None:
    assert pick(3, 5) == [0, 1, 2]
    assert pick(100, 4) == [0, 33, 66, 99]
    assert pick(0, 4) == []
