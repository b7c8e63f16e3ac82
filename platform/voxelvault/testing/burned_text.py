"""Frames with strings burned in, every glyph's place known; nothing here knows how they are found.

Frames look like ultrasound (a sector of speckle on black), like an X-ray (smooth shades, noise, a
collimated border) and like a screenshot (a light page with panels and lines).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

KINDS = ("ultrasound", "xray", "screenshot")
"""What frames look like."""

_FAMILY = "SMITH MILLER GARCIA KOWALSKI NAKAMURA OLSEN VANDERBERG HUANG OKONKWO SCHULZE DUPONT PETROV".split()
_GIVEN = "ANNA KARL WEI MARIA JOHN FATIMA PIERRE YUKI OLGA PEDRO INGRID SAMUEL".split()
_PLACES = (
    "St. Elsewhere Hospital",
    "Klinikum Nordstadt",
    "Mercy Medical Ctr",
    "CHU de Valmont",
    "GENERAL HOSP 4",
)


@dataclass(frozen=True)
class Planted:
    """One string in a frame.

    Attributes
    ----------
    text : str
        What it says.
    size : int
        Of the font, in pixels.
    turned : int
        0, 90, 180 or 270 degrees, against the clock.
    box : tuple of int
        Top, left, bottom, right of its ink.
    ink : numpy.ndarray
        (row, column) bool, the whole frame: the pixels that the glyphs changed.
    """

    text: str
    size: int
    turned: int
    box: tuple[int, int, int, int]
    ink: np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Frame:
    """A frame with and without its strings.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    clean, pixels : numpy.ndarray
        (row, column) uint8: as it was before, and with the strings.
    planted : tuple of Planted
        In no order; their boxes don't overlap.
    """

    kind: str
    clean: np.ndarray[Any, np.dtype[np.uint8]]
    pixels: np.ndarray[Any, np.dtype[np.uint8]]
    planted: tuple[Planted, ...]


def identifying_string(draw: random.Random) -> str:
    """Return a name, a number, a date or a place, as they stand in frames.

    Parameters
    ----------
    draw : random.Random
        Seeded.

    Returns
    -------
    str
        Between 8 and 30 characters.
    """
    family, given = draw.choice(_FAMILY), draw.choice(_GIVEN)
    day, month, year = draw.randint(1, 28), draw.randint(1, 12), draw.randint(1930, 2024)
    number = draw.randint(10**6, 10**8)
    return draw.choice(
        (
            f"{family}, {given}",
            f"{family.title()} {given.title()}",
            f"{family}^{given}",
            f"MRN {number}",
            f"ID: {number:09}",
            f"{day:02}.{month:02}.{year}",
            f"DOB {month:02}/{day:02}/{year}",
            f"{year}-{month:02}-{day:02} {draw.randint(0, 23):02}:{draw.randint(0, 59):02}:11",
            draw.choice(_PLACES),
            f"Dr. {family.title()}",
            f"ACC {draw.choice('ABCDE')}{number}",
        )
    )


def background(
    kind: str, draw: random.Random, rows: int, columns: int
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a frame without text.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    draw : random.Random
        Seeded.
    rows, columns : int
        Size in pixels.

    Returns
    -------
    numpy.ndarray
        (row, column) uint8.
    """
    noise = np.random.default_rng(draw.getrandbits(32))
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    if kind == "ultrasound":
        return _sector(noise, draw, y, x)
    if kind == "xray":
        return _xray(noise, draw, y, x)
    return _screenshot(draw, rows, columns)


def _smooth(field: np.ndarray[Any, Any], radius: int) -> np.ndarray[Any, Any]:
    kernel = np.ones(2 * radius + 1) / (2 * radius + 1)
    for axis in (0, 1):
        field = np.apply_along_axis(np.convolve, axis, field, kernel, "same")
    return field


def _sector(
    noise: np.random.Generator, draw: random.Random, y: np.ndarray[Any, Any], x: np.ndarray[Any, Any]
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    rows, columns = y.shape
    top, half = -0.1 * rows, draw.uniform(0.5, 0.8)
    angle, depth = np.arctan2(x - columns / 2, y - top), np.hypot(x - columns / 2, y - top)
    speckle = noise.rayleigh(1.0, y.shape)
    speckle = (speckle + np.roll(speckle, 1, 1) + np.roll(speckle, 2, 1)) / 3
    tissue = _smooth(noise.normal(0, 1, y.shape), draw.randint(6, 12))
    shade = speckle * np.exp(0.6 * tissue / tissue.std()) * 40
    inside = (np.abs(angle) < half) & (depth > 0.2 * rows) & (depth < 1.02 * rows)
    return np.where(inside, np.clip(shade, 0, 230), 0).astype(np.uint8)


def _xray(
    noise: np.random.Generator, draw: random.Random, y: np.ndarray[Any, Any], x: np.ndarray[Any, Any]
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    rows, columns = y.shape
    shade = np.full(y.shape, draw.uniform(20, 60), np.float32)
    for _ in range(12):
        cy, cx = draw.uniform(0.1, 0.9) * rows, draw.uniform(0.1, 0.9) * columns
        wide, high = draw.uniform(0.05, 0.4) * columns, draw.uniform(0.05, 0.4) * rows
        turn = draw.uniform(0, np.pi)
        u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        v = -(x - cx) * np.sin(turn) + (y - cy) * np.cos(turn)
        shade += draw.uniform(-20, 60) / (1 + np.exp(8 * (np.hypot(u / wide, v / high) - 1)))
    shade += noise.normal(0, draw.uniform(1, 5), y.shape)
    edge = draw.randint(0, columns // 12)
    shade[:, :edge] = shade[:, columns - edge :] = draw.choice((0, 255))
    return np.clip(shade, 0, 255).astype(np.uint8)


def _screenshot(draw: random.Random, rows: int, columns: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    picture = Image.new("L", (columns, rows), draw.choice((240, 255, 225, 30)))
    pen = ImageDraw.Draw(picture)
    for _ in range(draw.randint(2, 5)):
        left, top = draw.randint(0, columns // 2), draw.randint(0, rows // 2)
        box = (left, top, left + draw.randint(60, columns // 2), top + draw.randint(40, rows // 2))
        pen.rectangle(box, fill=draw.choice((250, 210, 190, 60)), outline=draw.choice((0, 90, 130)))
    for _ in range(draw.randint(2, 6)):
        line = draw.randint(0, rows - 1)
        pen.line((0, line, columns, line), fill=draw.choice((80, 140, 200)))
    return np.array(picture)


def font(size: int, draw: random.Random) -> Any:
    """Return the font that comes with Pillow, at a size in pixels."""
    return ImageFont.load_default(size)


def plant(
    kind: str,
    draw: random.Random,
    *,
    rows: int = 480,
    columns: int = 640,
    strings: int = 4,
    sizes: tuple[int, int] = (9, 20),
    turned: float = 0.25,
) -> Frame:
    """Make a frame with strings burned in.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    draw : random.Random
        Seeded; decides everything.
    rows, columns : int
        Size in pixels.
    strings : int
        How many; fewer where there's no room.
    sizes : (int, int)
        Smallest and largest font size in pixels.
    turned : float
        Share of strings that don't stand upright.

    Returns
    -------
    Frame
        8-bit grey.
    """
    clean = background(kind, draw, rows, columns)
    pixels = clean.copy()
    planted: list[Planted] = []
    for _ in range(strings * 4):
        if len(planted) == strings:
            break
        size = draw.randint(*sizes)
        angle = draw.choice((90, 180, 270)) if draw.random() < turned else 0
        glyphs = _glyphs(text := identifying_string(draw), size, angle, draw)
        high, wide = glyphs.shape
        if high + 8 > rows or wide + 8 > columns:
            continue
        top, left = draw.randint(2, rows - high - 3), draw.randint(2, columns - wide - 3)
        box = (top, left, top + high, left + wide)
        if any(_near(box, other.box) for other in planted):
            continue
        ink = _burn(pixels, glyphs, box, draw)
        if ink is None:
            continue
        planted.append(Planted(text, size, angle, box, ink))
    return Frame(kind, clean, pixels, tuple(planted))


def _glyphs(text: str, size: int, angle: int, draw: random.Random) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the coverage of the string's ink, 0 to 1, cut to its box."""
    face = font(size, draw)
    picture = Image.new("L", (len(text) * size + 20, 3 * size))
    ImageDraw.Draw(picture).text((5, size // 2), text, fill=255, font=face)
    cover = np.rot90(np.asarray(picture, np.float32) / 255, angle // 90)
    inked = np.argwhere(cover > 0)
    (top, left), (bottom, right) = inked.min(0), inked.max(0) + 1
    return np.ascontiguousarray(cover[top:bottom, left:right])


def _near(one: tuple[int, int, int, int], other: tuple[int, int, int, int], gap: int = 12) -> bool:
    return (
        one[0] - gap < other[2]
        and other[0] - gap < one[2]
        and one[1] - gap < other[3]
        and other[1] - gap < one[3]
    )


def _burn(
    pixels: np.ndarray[Any, np.dtype[np.uint8]],
    glyphs: np.ndarray[Any, np.dtype[np.float32]],
    box: tuple[int, int, int, int],
    draw: random.Random,
) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
    """Draw the glyphs and return which pixels changed; None where nobody could read them.

    Most of the ink must stand out by a fifth of the range from what lies under it.
    """
    place = (slice(box[0], box[2]), slice(box[1], box[3]))
    under = pixels[place].astype(np.float32)
    middle = float(np.median(under))
    shade = draw.choice((255, 230, 200)) if middle < 110 else draw.choice((0, 20, 50))
    if float((np.abs(shade - under[glyphs > 0.5]) < 50).mean()) > 0.2:
        return None
    before = pixels.copy()
    pixels[place] = np.round(under + (shade - under) * glyphs).astype(np.uint8)
    changed: np.ndarray[Any, np.dtype[np.bool_]] = before != pixels
    return changed


__all__ = ["KINDS", "Frame", "Planted", "background", "identifying_string", "plant"]
