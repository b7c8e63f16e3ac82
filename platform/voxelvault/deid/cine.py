"""Text in any frame is blanked in every frame.

What stands in all frames is found in the brightest and the darkest values over time and in the
first frame, looked at thoroughly. Text that stands in one frame alone may drown in those; so each
frame that differs from the one before it is looked at by itself too, with the rest already blanked.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from voxelvault.deid.burned_in import QUICK, Box, Harmless, Look, blank_until_clean, find_text, looks_at


def find_everywhere(
    frames: np.ndarray[Any, Any],
    dark: Any,
    harmless: Harmless,
    outside: np.ndarray[Any, np.dtype[np.bool_]] | None = None,
    known: Sequence[Box] = (),
) -> tuple[list[Box], bool]:
    """Find text in all frames of an instance.

    Parameters
    ----------
    frames : numpy.ndarray
        (frame, row, column) of any type, or (frame, row, column, 3) uint8.
    dark : scalar
        The value of blanked pixels.
    harmless : callable
        Says of a string whether it may stay.
    outside : numpy.ndarray, optional
        (row, column) bool: where no anatomy is.
    known : sequence of Box
        Blanked before anything is looked at.

    Returns
    -------
    list of Box, bool
        What to blank in every frame, and whether nothing is left after that.
    """
    boxes = list(known)

    def find(frame: np.ndarray[Any, Any], looks: Sequence[Look]) -> list[Box]:
        return find_text(frame, looks, harmless, outside)

    def search(frame: np.ndarray[Any, Any], looks: Sequence[Look]) -> bool:
        frame = frame.copy()
        for box in boxes:
            frame[box.rows, box.columns] = dark
        found, is_clean = blank_until_clean(frame, dark, find, looks)
        boxes.extend(found)
        return is_clean

    over_time = [frames.max(0), frames.min(0)] if len(frames) > 1 else []
    thorough = looks_at(*frames.shape[1:3])
    is_clean = all([search(frame, thorough) for frame in (*over_time, frames[0])])
    for before, frame in pairwise(frames):
        if not np.array_equal(before, frame):
            is_clean = search(frame, QUICK) and is_clean
    return outermost(boxes), is_clean


def outermost(boxes: Sequence[Box]) -> list[Box]:
    """Return the boxes that lie in no other one, each once.

    Parameters
    ----------
    boxes : sequence of Box
        In any order.

    Returns
    -------
    list of Box
        They cover what all cover.
    """
    kept: list[Box] = []
    for box in sorted(set(boxes), key=lambda one: (one.top - one.bottom) * (one.right - one.left)):
        if not any(_within(box, other) for other in kept):
            kept.append(box)
    return sorted(kept)


def _within(box: Box, other: Box) -> bool:
    return (
        other.top <= box.top
        and other.left <= box.left
        and box.bottom <= other.bottom
        and box.right <= other.right
    )


__all__ = ["find_everywhere", "outermost"]
