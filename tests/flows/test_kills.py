"""Kill -9 before any step of any work: what was acknowledged is there, once, and the work goes on."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kill_harness import Harness, harness
from lives import VERBS, Life, Scene, scenes

__all__ = ["scenes"]  # a fixture

FIRST = 30
"""Steps that even the shortest work has."""


@pytest.fixture(scope="module")
def children() -> Iterator[Harness]:
    with harness() as started:
        yield started


def killed(
    children: Harness, scene: Scene, verb: str, place: Path, patch: pytest.MonkeyPatch, **when: Any
) -> bool:
    """Live one life with one kill; tell whether it was one."""
    life = Life.begin(scene, place, patch)
    ended = children.run(verb, life.path, scene.given, **when)
    life.check(ended.told)
    shutil.rmtree(place)
    return ended.killed


def steps_of(
    children: Harness, scene: Scene, verb: str, place: Path, patch: pytest.MonkeyPatch
) -> tuple[int, float]:
    """Return how many steps the work takes, and how many seconds."""
    life = Life.begin(scene, place, patch)
    begun = time.monotonic()
    steps = children.run(verb, life.path, scene.given).steps
    return steps, time.monotonic() - begun


@pytest.mark.parametrize("verb", VERBS)
def test_killed_before_a_step(
    children: Harness, scenes: dict[str, Scene], verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One kill of each work, anywhere in its first steps: another place at each run."""
    at = random.randrange(FIRST)
    assert killed(children, scenes[verb], verb, tmp_path / "cut", monkeypatch, at=at), f"step {at}"


LONG_SEEDS = range(4)
STEPS, MOMENTS = 12, 3


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", LONG_SEEDS)
@pytest.mark.parametrize("verb", VERBS)
def test_killed_at_300_points(
    children: Harness,
    scenes: dict[str, Scene],
    verb: str,
    seed: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five works, four seeds, twelve steps and three moments each: 300 lives in all."""
    dice = random.Random(f"{verb} {seed}")
    steps, seconds = steps_of(children, scenes[verb], verb, tmp_path / "whole", monkeypatch)
    for number, at in enumerate(dice.sample(range(steps), STEPS)):
        print(f"{verb}, seed {seed}: step {at} of {steps}")
        assert killed(children, scenes[verb], verb, tmp_path / f"step{number}", monkeypatch, at=at)
    for number in range(MOMENTS):
        after = dice.uniform(0.001, seconds)
        print(f"{verb}, seed {seed}: after {after:.3f} s of {seconds:.3f}")
        killed(children, scenes[verb], verb, tmp_path / f"moment{number}", monkeypatch, after=after)
