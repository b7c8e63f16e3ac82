"""Small pictures of what a frame was before and after blanking."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from voxelvault.deid.burned_in import to_picture

LONGEST = 1024
"""Longer side of a thumbnail at most, in pixels."""


def thumbnail(frame: np.ndarray[Any, Any], *, inverted: bool = False) -> bytes:
    """Return a frame as a small PNG.

    Parameters
    ----------
    frame : numpy.ndarray
        (row, column) of any type, or (row, column, 3) uint8.
    inverted : bool
        The least value is shown white (MONOCHROME1).

    Returns
    -------
    bytes
        At most `LONGEST` pixels a side, in the window from least to largest value.
    """
    shades = to_picture(frame)
    picture = Image.fromarray(255 - shades if inverted else shades)
    picture.thumbnail((LONGEST, LONGEST))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


__all__ = ["LONGEST", "thumbnail"]
