"""Text in any frame is blanked in every frame.

A few frames are looked at like stills, each thoroughly. Of many, the first one is, and pictures of all of
them together: what stays bright, or dark, from one frame to the next shows text that moving tissue would
drown; what the brightest frame has above the second brightest, pixel by pixel, shows text that stands in
one frame alone, whichever that is. Each frame that differs from the one before it is looked at by itself
too, with the rest already blanked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Any, Protocol

import numpy as np

from voxelvault.deid.burned_in import (
    QUICK,
    Box,
    Harmless,
    Look,
    Window,
    blank_until_clean,
    find_text,
    looks_at,
)

FEW = 6
"""Frames up to which each is looked at like a still."""

Frame = np.ndarray[Any, Any]


class Frames(Protocol):
    """Frames of one size, each made when it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Frame: ...


def find_everywhere(
    frames: Frames,
    dark: Any,
    harmless: Harmless,
    outside: np.ndarray[Any, np.dtype[np.bool_]] | None = None,
    known: Sequence[Box] = (),
) -> tuple[list[Box], bool]:
    """Find text in all frames of an instance.

    Parameters
    ----------
    frames : Frames
        Each (row, column) of any type, or (row, column, 3) uint8.
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

    def find(frame: Frame, looks: Sequence[Look]) -> list[Box]:
        return find_text(frame, looks, harmless, outside)

    def search(frame: Frame, looks: Sequence[Look], fill: Any = dark) -> bool:
        frame = frame.copy()
        for box in boxes:
            frame[box.rows, box.columns] = fill
        found, is_clean = blank_until_clean(frame, fill, find, looks)
        boxes.extend(found)
        return is_clean

    thorough = looks_at(*frames[0].shape[:2])
    is_clean = search(frames[0], thorough)
    rest = thorough if len(frames) <= FEW else QUICK
    if len(frames) > FEW:
        together, plain = (
            _Together(_each(frames)),
            [one for one in thorough if one.window is not Window.RANKS],
        )
        is_clean &= all([search(one, plain) for one in together.lasting()])
        is_clean &= all([search(one, plain, 0) for one in together.alone()])
    for before, frame in pairwise(_each(frames)):
        if not np.array_equal(before, frame):
            is_clean = search(frame, rest) and is_clean
    return outermost(boxes), is_clean


def _each(frames: Frames) -> Iterator[Frame]:
    return (frames[index] for index in range(len(frames)))


class _Together:
    """What a pixel was at its most over time, kept while the frames pass by."""

    def __init__(self, frames: Iterator[Frame]) -> None:
        first, second = next(frames), next(frames)
        self._highest = self._stays_low = self._last_but_one = np.maximum(first, second)
        self._lowest = self._stays_high = self._second = np.minimum(first, second)
        for before, frame in pairwise(chain([second], frames)):
            self._second = np.maximum(self._second, np.minimum(self._highest, frame))
            self._highest = np.maximum(self._highest, frame)
            self._last_but_one = np.minimum(self._last_but_one, np.maximum(self._lowest, frame))
            self._lowest = np.minimum(self._lowest, frame)
            self._stays_high = np.maximum(self._stays_high, np.minimum(before, frame))
            self._stays_low = np.minimum(self._stays_low, np.maximum(before, frame))

    def lasting(self) -> tuple[Frame, Frame]:
        """Return what stays for two frames at least, bright or dark."""
        return self._stays_high, self._stays_low

    def alone(self) -> tuple[Frame, Frame]:
        """Return what stands out in one frame alone, brighter or darker than in all others."""
        return (
            _difference(self._highest, self._second),
            _difference(self._last_but_one, self._lowest),
        )


def _difference(high: Frame, low: Frame) -> Frame:
    return high - low if high.dtype == np.uint8 else high.astype(np.float64) - low


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
