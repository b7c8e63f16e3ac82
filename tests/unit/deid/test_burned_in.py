"""Burned-in strings are found and blanked, all of each; anatomy and harmless strings stay."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from burned_support import covered, read_by_tesseract, readable, survivors

from voxelvault.deid import burned_in
from voxelvault.deid.burned_in import Box, Look, Window, blank_until_clean, find_text, looks_at, to_picture
from voxelvault.deid.cine import find_everywhere
from voxelvault.deid.model import Person
from voxelvault.deid.ocr import Reading
from voxelvault.deid.text import TextCleaner
from voxelvault.testing.burned_text import KINDS, _glyphs, background, plant

HARMLESS = TextCleaner(Person("s"), uid=str).harmless


def _blanked(pixels: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], list[Box], bool]:
    made = pixels.copy()

    def find(frame: np.ndarray[Any, Any], looks: Sequence[Look]) -> list[Box]:
        return find_text(frame, looks, HARMLESS)

    boxes, is_clean = blank_until_clean(made, 0, find, looks_at(*pixels.shape[:2]))
    return made, boxes, is_clean


@pytest.mark.parametrize("kind", KINDS)
def test_no_pixel_of_a_string_survives_and_nothing_is_readable(kind: str) -> None:
    frame = plant(kind, random.Random(f"{kind} 1"), rows=208, columns=304, strings=3)
    made, boxes, is_clean = _blanked(frame.pixels)
    assert is_clean
    assert len(frame.planted) == 3
    assert not survivors(frame, boxes)
    seen = read_by_tesseract(made)
    assert not [one.text for one in frame.planted if readable(one, seen)]


@pytest.mark.parametrize("kind", KINDS)
def test_frames_without_text_keep_their_anatomy(kind: str) -> None:
    pixels = background(kind, random.Random(f"{kind} 2"), 208, 304)
    _, boxes, is_clean = _blanked(pixels)
    assert is_clean
    assert covered(pixels.shape, boxes).mean() <= 0.02


def test_the_second_engine_does_read_what_is_not_blanked() -> None:
    frame = plant("xray", random.Random(5), rows=208, columns=304, strings=3, sizes=(16, 20), turned=0)
    seen = read_by_tesseract(frame.pixels)
    assert any(readable(one, seen) for one in frame.planted)


def test_text_in_one_frame_of_many_goes_from_all() -> None:
    draw = random.Random(11)
    still = background("xray", draw, 160, 240)
    frame = plant("xray", random.Random(12), rows=160, columns=240, strings=1, sizes=(14, 18), turned=0)
    frames = np.stack([still, still, frame.pixels, still])
    boxes, is_clean = find_everywhere(frames, 0, HARMLESS)
    assert is_clean
    assert not survivors(frame, boxes)


def test_text_that_tissue_drowns_in_the_brightest_frame_is_found() -> None:
    """A name in one frame of ten, grey among specks that are as bright somewhere in time."""
    noise = np.random.default_rng(4)
    frames = noise.integers(0, 230, (10, 160, 240)).astype(np.uint8)
    frames = (frames // 2 + np.roll(frames, 1, 2) // 2) // 2
    glyphs = _glyphs("SMITH, JOHN", 16, 0, random.Random(1))
    ink = np.zeros(frames.shape[1:], bool)
    place = slice(60, 60 + glyphs.shape[0]), slice(40, 40 + glyphs.shape[1])
    ink[place] = glyphs > 0.3
    frames[6][ink] = 200
    boxes, is_clean = find_everywhere(frames, 0, HARMLESS)
    assert is_clean
    assert not (ink & ~covered(ink.shape, boxes)).any()


def _readings(monkeypatch: pytest.MonkeyPatch, *readings: Reading) -> None:
    monkeypatch.setattr(burned_in, "read", lambda picture: list(readings))


FLAT = np.zeros((100, 200), np.uint8)


def test_harmless_strings_stay_unless_they_stand_in_a_line_with_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    side = Reading(10, 10, 20, 18, "L", 0.99)
    _readings(monkeypatch, side)
    assert find_text(FLAT, [Look(1)], HARMLESS) == []
    _readings(monkeypatch, side, Reading(10, 24, 20, 70, "SMITH", 0.9))
    assert len(find_text(FLAT, [Look(1)], HARMLESS)) == 2


def test_what_is_read_uncertainly_is_not_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    _readings(monkeypatch, Reading(10, 10, 20, 40, "10 cm", 0.6))
    assert len(find_text(FLAT, [Look(1)], HARMLESS)) == 1


def test_what_ranks_of_shades_make_of_noise_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    _readings(monkeypatch, Reading(10, 10, 30, 40, "Ymd1", 0.71))
    assert len(find_text(FLAT, [Look(1)], HARMLESS)) == 1
    assert find_text(FLAT, [Look(1, window=Window.RANKS)], HARMLESS) == []
    _readings(monkeypatch, Reading(10, 10, 30, 90, "NHOr HlIWS", 0.7))
    assert len(find_text(FLAT, [Look(1, window=Window.RANKS)], HARMLESS)) == 1


def test_two_characters_are_read_better_the_larger_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    _readings(monkeypatch, Reading(10, 10, 26, 40, "12", 0.6))
    assert len(find_text(FLAT, [Look(1)], HARMLESS)) == 1
    _readings(monkeypatch, Reading(10, 10, 38, 40, "12", 0.6))
    assert find_text(FLAT, [Look(1)], HARMLESS) == []


def test_texture_is_no_text_but_outside_the_anatomy_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    _readings(monkeypatch, Reading(10, 10, 40, 80, "#", 0.1))
    assert find_text(FLAT, [Look(1)], HARMLESS) == []
    outside = np.ones(FLAT.shape, bool)
    assert len(find_text(FLAT, [Look(1)], HARMLESS, outside)) == 1


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_boxes_come_back_to_where_they_were(scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lying, standing = Box(20, 50, 30, 90), Box(110, 20, 190, 30)
    seen: list[Reading] = []

    def read(picture: np.ndarray[Any, Any]) -> list[Reading]:
        found = np.argwhere(picture > 200)
        (top, left), (bottom, right) = found.min(0), found.max(0) + 1
        seen.append(Reading(top, left, bottom, right, "SMITH", 0.9))
        return seen[-1:]

    monkeypatch.setattr(burned_in, "read", read)
    for box, shape in ((lying, (100, 200)), (standing, (200, 100))):
        frame = np.zeros(shape, np.uint8)
        frame[box.rows, box.columns] = 255
        for turned in (False, True):
            (found,) = find_text(frame, [Look(scale, turned=turned)], HARMLESS)
            assert found.top <= box.top
            assert found.left <= box.left
            assert found.bottom >= box.bottom
            assert found.right >= box.right
            assert (found.bottom - found.top) * (found.right - found.left) < 7 * 800


def test_what_never_gets_clean_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    _readings(monkeypatch, Reading(10, 10, 20, 70, "SMITH", 0.9))
    _, boxes, is_clean = _blanked(FLAT)
    assert boxes
    assert not is_clean


def test_windows_show_what_is_faint() -> None:
    deep = np.full((50, 50), 1000, np.int16)
    deep[10:20, 10:40] = 1010
    deep[0, 0] = 30000
    assert np.ptp(to_picture(deep)[10:20, 5:15]) <= 1
    assert np.ptp(to_picture(deep, Window.MIDDLE)[10:20, 5:15]) > 200
    half = np.full((50, 50), 30000, np.uint16)
    half[:25], half[10:20, 10:40] = 0, 50
    assert np.ptp(to_picture(half, Window.MIDDLE)[10:20, 5:15]) <= 1
    assert np.ptp(to_picture(half, Window.RANKS)[10:20, 5:15]) > 70
    holes = np.zeros((50, 50), np.float32)
    holes[10:20, 10:40], holes[0, 0], holes[0, 1] = 1, np.nan, np.inf
    assert np.ptp(to_picture(holes)[10:20, 5:15]) > 200
    faint = np.zeros((50, 50, 3), np.uint8)
    faint[10:20, 10:40, 2], faint[40:] = 5, 250
    assert np.ptp(to_picture(faint, Window.RANKS)[10:20, 5:15]) > 70


def _faint(deep: bool) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return a frame with a name that few could see without another window, and where its ink is."""
    cover = np.zeros((160, 240))
    glyphs = _glyphs("SMITH, JOHN", 16, 0, random.Random(1))
    cover[30 : 30 + glyphs.shape[0], 40 : 40 + glyphs.shape[1]] = glyphs
    body = np.random.default_rng(1).normal(0.5, 0.05, (80, 240))
    if deep:
        frame = np.round(cover * 300).astype(np.uint16)
        frame[80:] = (body * 65535).astype(np.uint16)
    else:
        frame = np.repeat(np.round(cover * 10).astype(np.uint8)[..., None], 3, axis=2)
        frame[80:] = (body * 255).astype(np.uint8)[..., None]
    return frame, cover > 0.2


@pytest.mark.parametrize("deep", [False, True])
def test_a_faint_name_is_blanked(deep: bool) -> None:
    frame, ink = _faint(deep)
    boxes, is_clean = find_everywhere(frame[None], 0, HARMLESS)
    assert is_clean
    assert not (ink & ~covered(ink.shape, boxes)).any()
