"""Small pictures of what a frame was before and after blanking."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from voxelvault.deid.burned_in import to_picture

LONGEST = 640
"""Longer side of a thumbnail at most, in pixels."""


def thumbnail(frame: np.ndarray[Any, Any]) -> bytes:
    """Return a frame as a small PNG.

    Parameters
    ----------
    frame : numpy.ndarray
        (row, column) of any type, or (row, column, 3) uint8.

    Returns
    -------
    bytes
        At most `LONGEST` pixels a side, in the window from least to largest value.
    """
    picture = Image.fromarray(to_picture(frame))
    picture.thumbnail((LONGEST, LONGEST))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


__all__ = ["LONGEST", "thumbnail"]
