"""Rows with a small picture each, for notebooks: selections, cohorts, search results."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from voxelvault.display.html import CELL, HEAD, STYLE, frame, text_of
from voxelvault.display.image import png, shape_on_screen, to_image
from voxelvault.display.look import PLAIN, Look
from voxelvault.display.window import to_uint8
from voxelvault.errors import UsageError

THUMBNAIL = 72
"""Longest side of a small picture, screen pixels."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SHOWN = f"width:{THUMBNAIL}px;height:{THUMBNAIL}px;object-fit:contain;background:#000;border-radius:3px"


def gallery(
    rows: Sequence[Mapping[str, object]],
    thumbnails: Sequence[bytes | None] = (),
    title: str = "",
    note: str = "",
) -> str:
    """Return a table whose rows begin with a picture.

    Only what is handed in is shown: rows and pictures that name nobody make a table that names nobody.

    Parameters
    ----------
    rows : sequence of mappings
        Names and values; the columns are the names in order of first sight.
    thumbnails : sequence of bytes
        PNG, as from `thumbnail`, in the order of the rows; None, or a row beyond them, has no picture.
    title, note : str
        Above and below the table.

    Returns
    -------
    str
        HTML, safe whatever the values hold, with the pictures inside: it loads nothing.

    Raises
    ------
    UsageError
        A picture is not PNG, or there are more pictures than rows.

    Examples
    --------
    >>> "<script>" in gallery([{"modality": "<script>"}])
    False
    """
    if len(thumbnails) > len(rows):
        raise UsageError("there are more pictures than rows; give at most one for each row")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    pictured = any(picture is not None for picture in thumbnails)
    head = "".join(f'<th style="{HEAD}">{text_of(name)}</th>' for name in [*[""][:pictured], *columns])
    body = ""
    for number, row in enumerate(rows):
        picture = thumbnails[number] if number < len(thumbnails) else None
        cells = [_picture(picture)][:pictured] + [text_of(row.get(name)) for name in columns]
        body += "<tr>" + "".join(f'<td style="{CELL}">{cell}</td>' for cell in cells) + "</tr>"
    whole = f'<table style="{STYLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return frame(title, whole, note)


def thumbnail(plane: npt.NDArray[Any], look: Look = PLAIN, *, size: int = 2 * THUMBNAIL) -> bytes:
    """Return one plane as a small PNG, with nothing written on it.

    Parameters
    ----------
    plane : ndarray
        (row, column) modality values, or (row, column, 3) uint8 colour.
    look : Look
        Window and proportions.
    size : int
        Longest side; twice what a gallery shows by default, for fine screens.

    Raises
    ------
    UsageError
        The array is not one plane, or there is no such window.
    """
    if plane.ndim == 2:
        plane = to_uint8(plane, look.window_for(plane), inverted=look.inverted)
    picture = to_image(np.asarray(plane), look.aspect)
    width, height = shape_on_screen(picture.height, picture.width, 1.0, size)
    return png(picture.resize((width, height), Image.Resampling.BOX if _shrinks(picture, width) else _SMOOTH))


_SMOOTH = Image.Resampling.BILINEAR


def _shrinks(picture: Image.Image, width: int) -> bool:
    return picture.width > 2 * width


def _picture(picture: bytes | None) -> str:
    if picture is None:
        return ""
    if not picture.startswith(_SIGNATURE):
        raise UsageError("a small picture must be PNG; make it with thumbnail()")
    data = base64.b64encode(picture).decode()
    return f'<img alt="" style="{_SHOWN}" src="data:image/png;base64,{data}">'
