"""One plane as a picture: square pixels on the screen, sides of the body named at its edges."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from voxelvault.errors import UsageError

MAX_ASPECT = 20.0
"""A header may claim any ratio; beyond this the picture would be a line."""

_LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))


def to_image(plane: npt.NDArray[np.uint8], aspect: float = 1.0, size: int | None = None) -> Image.Image:
    """Return a picture of one plane with square pixels.

    Parameters
    ----------
    plane : ndarray
        uint8, shape (row, column) or (row, column, 3).
    aspect : float
        Row spacing over column spacing: how much taller than wide a pixel is, whatever the plane's
        orientation in the patient.
    size : int, optional
        Longest side of the picture in screen pixels; as large as the plane when absent.

    Returns
    -------
    PIL.Image.Image
        Mode L or RGB; the first row on top, the first column at the left.

    Raises
    ------
    UsageError
        The array is not one plane of uint8.
    """
    if plane.dtype != np.uint8 or not (plane.ndim == 2 or (plane.ndim == 3 and plane.shape[2] == 3)):
        raise UsageError(
            "a picture needs uint8 of shape (row, column) or (row, column, 3); use to_uint8 first"
        )
    if not plane.size:
        raise UsageError("a picture needs at least one pixel; this plane is empty")
    picture = Image.fromarray(np.ascontiguousarray(plane))
    shape = shape_on_screen(plane.shape[0], plane.shape[1], aspect, size)
    return picture if picture.size == shape else picture.resize(shape, Image.Resampling.BILINEAR)


def shape_on_screen(rows: int, columns: int, aspect: float = 1.0, size: int | None = None) -> tuple[int, int]:
    """Return (width, height) that show the plane undistorted.

    Parameters
    ----------
    rows, columns : int
        The plane's size.
    aspect : float
        Row spacing over column spacing.
    size : int, optional
        Longest side; by default the finer direction keeps its pixels.
    """
    usable = math.isfinite(aspect) and aspect > 0
    ratio = min(max(aspect, 1 / MAX_ASPECT), MAX_ASPECT) if usable else 1.0
    width, height = (float(columns), rows * ratio) if ratio >= 1 else (columns / ratio, float(rows))
    scale = size / max(width, height) if size else 1.0
    return max(round(width * scale), 1), max(round(height * scale), 1)


def png(picture: Image.Image) -> bytes:
    """Return the picture as PNG, without any text chunk.

    Parameters
    ----------
    picture : PIL.Image.Image
        What to encode.
    """
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def edge_letters(orientation: Sequence[float] | None) -> tuple[str, str, str, str]:
    """Return the side of the body at the (left, right, top, bottom) edge of a plane.

    Parameters
    ----------
    orientation : sequence of 6 floats, optional
        Direction cosines of a row and of a column, LPS; empty letters when unknown.

    Returns
    -------
    tuple of str
        L, R, A, P, S (head), I (feet); two or three letters for an oblique edge, largest part first.

    References
    ----------
    DICOM PS3.3 C.7.6.1.1.1 (patient orientation).
    """
    if orientation is None or len(orientation) != 6:
        return "", "", "", ""
    row, column = list(orientation[:3]), list(orientation[3:])
    back = ([-value for value in vector] for vector in (row, column))
    left, top = (_letters(vector) for vector in back)
    return left, _letters(row), top, _letters(column)


def _letters(direction: Sequence[float]) -> str:
    parts = sorted(zip(direction, _LETTERS, strict=True), key=lambda part: -abs(part[0]))
    return "".join(pair[0] if value > 0 else pair[1] for value, pair in parts if abs(value) > 0.2)


def annotate(picture: Image.Image, letters: tuple[str, str, str, str], text: str = "") -> Image.Image:
    """Write the sides of the body at the edges, and a line of text at the bottom left.

    Parameters
    ----------
    picture : PIL.Image.Image
        Left as it is.
    letters : tuple of 4 str
        (left, right, top, bottom).
    text : str
        Free of identifiers: pictures are saved with notebooks.

    Returns
    -------
    PIL.Image.Image
        A copy, mode RGB.
    """
    drawn = picture.convert("RGB")
    draw = ImageDraw.Draw(drawn)
    width, height = drawn.size
    font = _font(max(min(width, height) // 18, 10))
    left, right, top, bottom = letters
    for word, place, anchor in (
        (left, (3, height / 2), "lm"),
        (right, (width - 4, height / 2), "rm"),
        (top, (width / 2, 2), "mt"),
        (bottom, (width / 2, height - 3), "mb"),
        (text, (3, height - 3), "lb"),
    ):
        _write(draw, place, word, font, anchor)
    return drawn


def _write(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, font: Any, anchor: str) -> None:
    if text:
        draw.text(
            place, text, fill=(255, 214, 102), font=font, anchor=anchor, stroke_width=1, stroke_fill=(0, 0, 0)
        )


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
