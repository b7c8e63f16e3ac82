"""Recipes: what a derived copy is made to be. Equal recipes have equal digests, and share copies."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from voxelvault.derived.bricks import CODECS, DTYPES, check_chunks, check_fill
from voxelvault.errors import IntegrityError, UsageError
from voxelvault.model import MOST_LABELS
from voxelvault.reading.conversion import check_units

Triple = tuple[int, int, int]

FRAME_CODECS = ("fast", "zstd", "raw")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Volumes resampled once, in bricks. Made by `recipe`.

    Parameters
    ----------
    spacing : tuple of float or None
        mm along the array's own axes; None leaves the spacing as it is.
    orientation : str or None
        Letters to which the axes grow, such as ``RAS``; None keeps (slice, row, column).
    dtype, codec : str
        Of the bricks; see `BrickLayout`.
    chunks : int or tuple of int
        Edge of a brick, about, or its shape.
    units : str or None
        As of `Series.load`.
    stack : int, str or None
        Which volume of each series.
    masks : tuple of str
        Labels; label i + 1 of the mask is `masks[i]`.
    fill : float or None
        Instead of padding and outside; None: -1024 for Hounsfield units, else 0.
    """

    spacing: tuple[float, float, float] | None
    orientation: str | None
    dtype: str
    codec: str
    chunks: int | Triple
    units: str | None = None
    stack: int | str | None = None
    masks: tuple[str, ...] = ()
    fill: float | None = None
    kind: ClassVar[str] = "bricks"

    def to_json(self) -> str:
        """Return the recipe as the catalog keeps it: equal recipes give equal text."""
        return json.dumps({"kind": self.kind, **asdict(self)}, sort_keys=True, separators=(",", ":"))

    @property
    def sha256(self) -> str:
        """What tells recipes apart."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def __str__(self) -> str:
        grid = "own spacing" if self.spacing is None else "x".join(f"{s:g}" for s in self.spacing) + " mm"
        return f"{self.orientation or 'own axes'}, {grid}, {self.dtype} {self.codec}"


@dataclass(frozen=True, slots=True)
class FrameRecipe:
    """Frames as they are stored, in a codec that decodes faster.

    Parameters
    ----------
    codec : {"fast", "zstd", "raw"}
        `fast` is Blosc-LZ4.
    """

    codec: str = "fast"
    kind: ClassVar[str] = "frames"

    def to_json(self) -> str:
        """Return the recipe as the catalog keeps it."""
        return json.dumps({"kind": self.kind, **asdict(self)}, sort_keys=True, separators=(",", ":"))

    @property
    def sha256(self) -> str:
        """What tells recipes apart."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def __str__(self) -> str:
        return f"frames, {self.codec}"


AnyRecipe = Recipe | FrameRecipe


def recipe(
    spacing: float | Sequence[float] | None = (1.0, 1.0, 1.0),
    orientation: str | None = "RAS",
    dtype: str = "float32",
    chunks: int | Sequence[int] = 32,
    *,
    units: str | None = None,
    stack: int | str | None = None,
    masks: str | Sequence[str] = (),
    codec: str = "raw",
    fill: float | None = None,
) -> Recipe:
    """Check what was asked for, and return it as a recipe.

    Raises
    ------
    UsageError
        A value is none that can be; the message says which.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype= is one of {', '.join(DTYPES)}")
    if codec not in CODECS:
        raise UsageError(f"codec= is one of {', '.join(CODECS)}; frames as they are have `cache_frames`")
    check_units(units)
    labels = (masks,) if isinstance(masks, str) else tuple(masks)
    if len(set(labels)) < len(labels) or not all(isinstance(label, str) and label for label in labels):
        raise UsageError("masks= names labels, each once")
    if len(labels) > MOST_LABELS:
        raise UsageError(f"masks= names at most {MOST_LABELS} labels: they are numbers of 8 bits")
    if fill is not None:
        check_fill(fill, dtype)
    return Recipe(
        _spacing(spacing),
        _orientation(orientation),
        dtype,
        codec,
        check_chunks(chunks),
        units,
        stack,
        labels,
        None if fill is None else float(fill),
    )


def frame_recipe(codec: str = "fast") -> FrameRecipe:
    """Check a codec, and return the recipe of fast frames; `UsageError` for an unknown one."""
    if codec not in FRAME_CODECS:
        raise UsageError(f"codec= of frames is one of {', '.join(FRAME_CODECS)}")
    return FrameRecipe(codec)


def recipe_of(text: str) -> AnyRecipe:
    """Return the recipe that `to_json` gave.

    Raises
    ------
    IntegrityError
        It is none that this version knows.
    """
    try:
        found: dict[str, Any] = json.loads(text)
        if found.pop("kind") == FrameRecipe.kind:
            return FrameRecipe(**found)
        for name in ("spacing", "chunks", "masks"):
            found[name] = tuple(found[name]) if isinstance(found[name], list) else found[name]
        return Recipe(**found)
    except (ValueError, TypeError, KeyError):
        raise IntegrityError("a cache has a recipe that can't be read: evict it, and build it anew") from None


def _spacing(spacing: float | Sequence[float] | None) -> tuple[float, float, float] | None:
    if spacing is None:
        return None
    steps = (spacing,) * 3 if isinstance(spacing, int | float) else tuple(spacing)
    if len(steps) != 3 or not all(math.isfinite(step) and step > 0 for step in steps):
        raise UsageError("spacing= is mm along three axes, or one number for all: above zero")
    return float(steps[0]), float(steps[1]), float(steps[2])


def _orientation(orientation: str | None) -> str | None:
    if orientation is None:
        return None
    letters = orientation.upper()
    if len(letters) != 3 or [sum(side in letters for side in pair) for pair in ("LR", "AP", "IS")] != [1] * 3:
        raise UsageError("orientation= is three letters, one of L R, one of A P, one of I S: such as RAS")
    return letters


__all__ = ["FRAME_CODECS", "AnyRecipe", "FrameRecipe", "Recipe", "frame_recipe", "recipe", "recipe_of"]
