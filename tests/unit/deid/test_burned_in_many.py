"""The claim on burned-in text, on many frames: nothing survives, nothing is readable, anatomy stays."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from burned_support import covered, read_by_tesseract, readable, survivors

from voxelvault.deid.burned_in import Box, Look, blank_until_clean, find_text, looks_at
from voxelvault.deid.model import Person
from voxelvault.deid.text import TextCleaner
from voxelvault.testing.burned_text import KINDS, Frame, background, plant

FRAMES = int(os.environ.get("VOXELVAULT_BURNED_FRAMES", "60"))
"""Of each kind, with text and without."""
HARMLESS = TextCleaner(Person("s"), uid=str).harmless


def _blanked(pixels: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], list[Box], bool]:
    made = pixels.copy()

    def find(frame: np.ndarray[Any, Any], looks: Sequence[Look]) -> list[Box]:
        return find_text(frame, looks, HARMLESS)

    boxes, is_clean = blank_until_clean(made, 0, find, looks_at(*pixels.shape[:2]))
    return made, boxes, is_clean


def _frame(kind: str, index: int) -> Frame:
    draw = random.Random(f"{kind} {index}")
    rows, columns = draw.choice(((240, 320), (288, 384), (224, 304)))
    return plant(kind, draw, rows=rows, columns=columns, strings=3)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", KINDS)
def test_no_glyph_survives_in_many_frames(kind: str) -> None:
    strings, left, seen = 0, [], []
    for index in range(FRAMES):
        frame = _frame(kind, index)
        made, boxes, is_clean = _blanked(frame.pixels)
        strings += len(frame.planted)
        if not is_clean:  # refused, so nothing of it is released
            continue
        left += [(index, one.text, one.size, one.turned) for one in survivors(frame, boxes)]
        read = read_by_tesseract(made)
        seen += [(index, one.text) for one in frame.planted if readable(one, read)]
    print(f"{kind}: {strings} strings in {FRAMES} frames; survive {left}; read {seen}")
    assert not left
    assert not seen


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", KINDS)
def test_anatomy_stays_in_many_frames(kind: str) -> None:
    shares = []
    for index in range(FRAMES):
        draw = random.Random(f"{kind} without {index}")
        pixels = background(kind, draw, 288, 384)
        shares.append(float(covered(pixels.shape, _blanked(pixels)[1]).mean()))
    print(f"{kind}: blanked at most {max(shares):.4f} of a frame without text, in {sum(map(bool, shares))}")
    assert max(shares) <= 0.02
