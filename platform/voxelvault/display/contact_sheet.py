"""Many planes on one sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from voxelvault.display.image import annotate, shape_on_screen, to_image
from voxelvault.errors import UsageError

_MARGIN = 4
_CAPTION = 16


def pick(count: int, wanted: int) -> list[int]:
    """Return up to `wanted` indexes, evenly spread over `count`, first and last included.

    Parameters
    ----------
    count : int
        How many there are.
    wanted : int
        How many to show.
    """
    if count <= wanted:
        return list(range(count))
    return [round(float(value)) for value in np.linspace(0, count - 1, wanted)]


def contact_sheet(
    planes: Sequence[npt.NDArray[np.uint8]],
    captions: Sequence[str] = (),
    *,
    aspects: Sequence[float] | float = 1.0,
    letters: Sequence[tuple[str, str, str, str]] = (),
    tile: int = 192,
    across: int | None = None,
) -> Image.Image:
    """Lay planes out in rows, each undistorted within its tile.

    Parameters
    ----------
    planes : sequence of ndarray
        uint8, shape (row, column) or (row, column, 3); sizes may differ.
    captions : sequence of str
        One under each plane; free of identifiers, since sheets are saved and shown.
    aspects : float or sequence of float
        Row spacing over column spacing.
    letters : sequence of 4-tuples
        Sides of the body at (left, right, top, bottom), from `edge_letters`.
    tile : int
        Side of a tile, screen pixels.
    across : int, optional
        Tiles in a row; about as wide as high by default.

    Returns
    -------
    PIL.Image.Image
        Mode RGB.

    Raises
    ------
    UsageError
        There is nothing to show.
    """
    if not planes:
        raise UsageError("a contact sheet needs at least one plane; choose a series with pixels")
    across = across or math.ceil(math.sqrt(len(planes) * 1.3))
    across = min(across, len(planes))
    caption = _CAPTION if any(captions) else 0
    pictures = []
    for number, plane in enumerate(planes):
        aspect = aspects if isinstance(aspects, int | float) else aspects[number]
        picture = _fit(plane, float(aspect), tile)
        pictures.append(annotate(picture, letters[number]) if number < len(letters) else picture)
    high = max(picture.height for picture in pictures)
    step = (tile + _MARGIN, high + _MARGIN + caption)
    down = math.ceil(len(planes) / across)
    sheet = Image.new("RGB", (across * step[0] + _MARGIN, down * step[1] + _MARGIN), (24, 24, 27))
    for number, picture in enumerate(pictures):
        left, top = _MARGIN + number % across * step[0], _MARGIN + number // across * step[1]
        sheet.paste(picture, (left + (tile - picture.width) // 2, top + (high - picture.height) // 2))
        if number < len(captions):
            _caption(sheet, (left + tile // 2, top + high + _CAPTION // 2), captions[number], tile)
    return sheet


def _fit(plane: npt.NDArray[np.uint8], aspect: float, tile: int) -> Image.Image:
    """Return the plane at the tile's size, averaged rather than skipped when it shrinks."""
    shape = shape_on_screen(plane.shape[0], plane.shape[1], aspect, tile)
    if shape[0] < plane.shape[1] or shape[1] < plane.shape[0]:
        return to_image(plane).resize(
            shape, Image.Resampling.BOX if _much(plane, shape) else Image.Resampling.BILINEAR
        )
    return to_image(plane, aspect, tile)


def _much(plane: npt.NDArray[np.uint8], shape: tuple[int, int]) -> bool:
    return bool(plane.shape[1] > 4 * shape[0] or plane.shape[0] > 4 * shape[1])


def _caption(sheet: Image.Image, place: tuple[int, int], text: str, width: int) -> None:
    font = ImageFont.load_default(11)
    while text and font.getlength(text) > width:
        text = text[:-2].rstrip("…") + "…" if len(text) > 2 else ""
    ImageDraw.Draw(sheet).text(place, text, fill=(200, 200, 205), font=font, anchor="mm")
