"""Burned-in text: where it is, and whether any is left.

A frame is looked at enlarged, upright in one window, on its side in another, with all shades spread by
rank, and at its own size; the union of what is found is blanked. Then it is looked at again until nothing
more is found. The detector finds text upside down and on its side as well; what it finds is read both
ways up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image

from voxelvault.deid.ocr import Picture, Reading, read

Harmless: TypeAlias = Callable[[str], bool]

MOST_ROUNDS = 5
"""Looks again after blanking before a frame is given up."""

ENLARGED = 600_000
"""Pixels of a frame up to which it is looked at three times as large; above, twice."""

SMALL_FRAME = 310_000
"""Pixels of a frame up to which it is looked at again four times as large."""

_SURE = 0.8
_TALLEST = 64
"""Short side in pixels of what is taken for text when only a character or two are read."""
_GAP = 3
"""Pixels between two letters of small type, at least."""
_WORDS_APART = 0.4
"""Of a line's height: the widest gap between two words."""
_TINY, _SMALL = 20, 36
"""Up to these short sides in pixels little needs to be read: of two characters, of more."""


class Box(NamedTuple):
    """A rectangle of pixels, bottom and right excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def rows(self) -> slice:
        """Its rows."""
        return slice(self.top, self.bottom)

    @property
    def columns(self) -> slice:
        """Its columns."""
        return slice(self.left, self.right)


class Window(Enum):
    """How values become shades."""

    WHOLE = "from the least to the largest value"
    MIDDLE = "from the 1st to the 99th percentile, black and white exchanged"
    RANKS = "by how many pixels are darker: what is faint in a part of the range stands out"


@dataclass(frozen=True)
class Look:
    """One way to look at a frame.

    Attributes
    ----------
    scale : int
        Enlargement.
    turned : bool
        On its side.
    window : Window
        How values become shades.
    """

    scale: int
    turned: bool = False
    window: Window = Window.WHOLE


def looks_at(rows: int, columns: int) -> tuple[Look, ...]:
    """Return how a frame of this size is looked at first."""
    if rows * columns <= ENLARGED:
        return Look(3), Look(2, True, Window.MIDDLE), Look(2, window=Window.RANKS), Look(1)
    return Look(2), Look(1, True, Window.MIDDLE), Look(1, window=Window.RANKS), Look(1)


def looks_again(rows: int, columns: int) -> tuple[Look, ...]:
    """Return how a frame of this size is looked at after blanking: otherwise than at first."""
    if rows * columns <= SMALL_FRAME:
        return Look(4), Look(3, True, Window.MIDDLE)
    if rows * columns <= ENLARGED:
        return Look(2), Look(3, True, Window.MIDDLE)
    return Look(2), Look(1, True, Window.MIDDLE)


QUICK = (Look(2),)
"""How each frame of many is looked at, after what all have in common is blanked."""


def find_text(
    frame: np.ndarray[Any, Any],
    looks: Iterable[Look],
    harmless: Harmless,
    outside: np.ndarray[Any, np.dtype[np.bool_]] | None = None,
) -> list[Box]:
    """Find text that must not stay.

    Parameters
    ----------
    frame : numpy.ndarray
        (row, column) of any type, larger is brighter or the other way round; or (row, column, 3) uint8.
    looks : iterable of Look
        How to look.
    harmless : callable
        Says of a string whether it may stay.
    outside : numpy.ndarray, optional
        (row, column) bool: where no anatomy is, and whatever looks like text is taken for it.

    Returns
    -------
    list of Box
        Padded; they may overlap.
    """
    readings = [reading for look in looks for reading in _readings(frame, look)]
    harmful = [
        one for one in readings if _is_text(one, outside) and not (one.score >= _SURE and harmless(one.text))
    ]
    # What stands in a line with it, read or not, belongs to it.
    rest = [one for one in readings if one not in harmful and one.bottom - one.top <= _TALLEST]
    beside = [one for one in rest if any(_same_line(one, other) for other in harmful)]
    grey = frame.mean(axis=2) if frame.ndim == 3 else frame
    return [_grown(_padded(one, frame.shape), one, grey) for one in (*harmful, *beside)]


def blank_until_clean(
    frame: np.ndarray[Any, Any],
    fill: Any,
    find: Callable[[np.ndarray[Any, Any], Sequence[Look]], list[Box]],
    first: Sequence[Look],
) -> tuple[list[Box], bool]:
    """Blank text in a frame, in place, and look again until nothing is found.

    Parameters
    ----------
    frame : numpy.ndarray
        As for `find_text`; changed.
    fill : scalar or sequence
        The value of blanked pixels.
    find : callable
        Finds boxes in a frame by some looks.
    first : sequence of Look
        How to look at first; by `looks_again` after that.

    Returns
    -------
    list of Box, bool
        All that was blanked, and whether the last look found nothing.
    """
    boxes: list[Box] = []
    looks = first
    for _ in range(MOST_ROUNDS):
        found = find(frame, looks)
        if not found:
            return boxes, True
        for box in found:
            frame[box.rows, box.columns] = fill
        boxes += found
        looks = looks_again(*frame.shape[:2])
    return boxes, False


def to_picture(frame: np.ndarray[Any, Any], window: Window = Window.WHOLE) -> Picture:
    """Return a frame in 8 bits.

    Parameters
    ----------
    frame : numpy.ndarray
        As for `find_text`.
    window : Window
        How values become shades; in the middle window colours are exchanged alone.

    Returns
    -------
    numpy.ndarray
        (row, column[, 3]) uint8; by ranks without colour.
    """
    if frame.dtype.kind == "f":
        frame = np.nan_to_num(frame, posinf=0, neginf=0)
    if window is Window.RANKS:
        return _ranked(frame.max(axis=2) if frame.ndim == 3 else frame)
    if frame.ndim == 3:
        return 255 - frame if window is Window.MIDDLE else frame
    if window is Window.WHOLE:
        return _scaled(frame, frame.min(), frame.max())
    return 255 - _scaled(frame, *np.percentile(frame, (1, 99)))


def _scaled(frame: np.ndarray[Any, Any], low: Any, high: Any) -> Picture:
    scaled = (frame.astype(np.float32) - low) * (255 / max(float(high) - float(low), 1e-6))
    picture: Picture = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
    return picture


def _ranked(frame: np.ndarray[Any, Any]) -> Picture:
    _, places, counts = np.unique(frame, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    return _scaled(middle[places].reshape(frame.shape), middle[0], middle[-1])


def _readings(frame: np.ndarray[Any, Any], look: Look) -> list[Reading]:
    picture = to_picture(frame, look.window)
    rows, columns = picture.shape[:2]
    if look.scale > 1:
        size = (columns * look.scale, rows * look.scale)
        picture = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
    if look.turned:
        picture = np.rot90(picture)
    readings = [_placed(one, look, columns) for one in read(picture)]
    # Spread by rank, noise looks like anything: only what is read well counts.
    return [one for one in readings if look.window is not Window.RANKS or _is_read_well(one)]


def _is_read_well(one: Reading) -> bool:
    signs = sum(map(str.isalnum, one.text))
    return (signs >= 3 and one.score >= _SURE) or (signs >= 5 and one.score >= 0.6)


def _placed(one: Reading, look: Look, columns: int) -> Reading:
    """Bring a reading back to the frame's pixels."""
    top, left, bottom, right = (edge / look.scale for edge in (one.top, one.left, one.bottom, one.right))
    if look.turned:  # rot90 took (row, column) to (columns - 1 - column, row)
        top, left, bottom, right = left, columns - bottom, right, columns - top
    return Reading(top, left, bottom, right, one.text, one.score)


def _is_text(one: Reading, outside: np.ndarray[Any, np.dtype[np.bool_]] | None) -> bool:
    """Tell text from texture by what is read and how large it is."""
    signs = sum(map(str.isalnum, one.text))
    short = min(one.bottom - one.top, one.right - one.left)
    if signs >= 3:
        wanted = 0.3 if short <= _SMALL else 0.7 if short <= _TALLEST else 0.85
    else:
        wanted = 2.0 if not signs or short > _TALLEST else 0.9
        if signs == 2 and short <= _SMALL:
            wanted = 0.5 if short <= _TINY else 0.75
    if one.score >= wanted:
        return True
    return outside is not None and short <= _TALLEST and bool(outside[_middle(one)])


def _middle(one: Reading) -> tuple[int, int]:
    return int((one.top + one.bottom) / 2), int((one.left + one.right) / 2)


def _same_line(one: Reading, other: Reading) -> bool:
    """Tell whether two readings of like height follow each other closely in a line, standing lines too."""
    down = min(one.bottom, other.bottom) - max(one.top, other.top)
    across = min(one.right, other.right) - max(one.left, other.left)
    low, high = sorted((one.bottom - one.top, other.bottom - other.top))
    thin, wide = sorted((one.right - one.left, other.right - other.left))
    lying = high < 2 * low and down > 0.5 * low and across > -1.5 * low
    return lying or (wide < 2 * thin and across > 0.5 * thin and down > -1.5 * thin)


def _padded(one: Reading, shape: tuple[int, ...]) -> Box:
    """Return the box with a margin: glyphs reach over the edges that a detector draws, ends most."""
    high, wide = one.bottom - one.top, one.right - one.left
    short = min(high, wide, 40)
    # A character or two alone are no long string of which more might stand beside.
    more = 1.2 if sum(map(str.isalnum, one.text)) > 2 else 0.4
    along, across = max(4, more * min(short, 24)), max(3, 0.4 * short)
    down, right = (across, along) if wide >= high else (along, across)
    return Box(
        max(0, int(one.top - down)),
        max(0, int(one.left - right)),
        min(shape[0], int(np.ceil(one.bottom + down))),
        min(shape[1], int(np.ceil(one.right + right))),
    )


def _grown(box: Box, one: Reading, grey: np.ndarray[Any, Any]) -> Box:
    """Widen a box while ink follows: along its line over gaps between words, across it over none."""
    core = grey[int(one.top) : int(one.bottom) + 1, int(one.left) : int(one.right) + 1]
    if not core.size:
        return box
    paper = float(np.median(core))
    ink = max((float(core.min()), float(core.max())), key=lambda value: abs(value - paper))
    inked = np.abs(grey - ink) < 0.5 * abs(ink - paper)
    edges, height = list(box), min(one.bottom - one.top, one.right - one.left, 24)
    lying = one.right - one.left >= one.bottom - one.top
    for side in range(4):
        along = (side % 2 == 1) == lying
        gap = max(_GAP, round(_WORDS_APART * height)) if along else _GAP
        for _ in range(int((2 if along else 1) * height) + 1):
            if not _follows(inked, edges, side, gap):
                break
            edges[side] += 1 if side > 1 else -1
    top, left, bottom, right = edges
    return Box(
        max(0, top - 2), max(0, left - 2), min(grey.shape[0], bottom + 2), min(grey.shape[1], right + 2)
    )


def _follows(inked: np.ndarray[Any, np.dtype[np.bool_]], edges: list[int], side: int, gap: int) -> bool:
    """Say whether ink stands within a gap beyond an edge, or right at it."""
    top, left, bottom, right = edges
    strip = (
        inked[max(0, top - gap) : top + 1, left:right],
        inked[top:bottom, max(0, left - gap) : left + 1],
        inked[bottom - 1 : bottom + gap, left:right],
        inked[top:bottom, right - 1 : right + gap],
    )[side]
    return bool(strip.any()) and 0 < edges[side] < (*inked.shape, *inked.shape)[side]


__all__ = [
    "QUICK",
    "Box",
    "Look",
    "Window",
    "blank_until_clean",
    "find_text",
    "looks_again",
    "looks_at",
    "to_picture",
]
