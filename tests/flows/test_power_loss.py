"""The power goes, and only what was fsync'ed is sure: what was acknowledged is there, the rest no harm."""

from __future__ import annotations

import copy
import os
import random
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from disk_replay import Call, Disk, calls, command, lay_out
from kill_harness import harness
from lives import VERBS, Life, Scene, scenes

__all__ = ["scenes"]  # a fixture


def traced(verb: str, scene: Scene, place: Path, patch: pytest.MonkeyPatch) -> tuple[Disk, list[Call]]:
    """Do it under strace; return the disk as it was before, and what was called."""
    able = (
        shutil.which("strace")
        and not subprocess.run(
            [*command(place.with_name("trial")), "true"], capture_output=True, check=False
        ).returncode
    )
    if not able:
        assert not os.environ.get("CI"), "strace is missing, or may not trace here"
        pytest.skip("strace is missing, or may not trace here: apt install strace")
    life = Life.begin(scene, place, patch)
    disk = Disk(place)
    with harness(command(place.with_name("trace"))) as children:
        assert not children.run(verb, life.path, scene.given).killed
    return disk, list(calls(place.with_name("trace")))


def cut(disk: Disk, scene: Scene, root: Path, dice: random.Random | None) -> None:
    """Look at what the power may leave here, and live on with it."""
    place = root.with_name("after")
    lay_out(disk.after_power_loss(dice), root, place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(place / "config"))
        Life(scene, place / "vault").check(disk.told)
    shutil.rmtree(place)


def points(disk: Disk, called: Sequence[Call]) -> tuple[list[int], list[int]]:
    """Return at which calls something was told, and at which the disk changed."""
    trial, told, changed = copy.deepcopy(disk), [], []
    for number, call in enumerate(called):
        before = len(trial.told)
        if trial.play(call):
            (told if len(trial.told) > before else changed).append(number)
    assert trial.told[-1] == "done"
    return told, changed


def lose_power(
    verb: str, scene: Scene, place: Path, patch: pytest.MonkeyPatch, dice: random.Random, several: int
) -> None:
    """Cut it just after something was told, where nothing more than needs be is left; and anywhere."""
    disk, called = traced(verb, scene, place / "live", patch)
    told, changed = points(disk, called)
    anywhere = set(dice.sample(changed, several))
    for number, call in enumerate(called):
        disk.play(call)
        if number in told or number in anywhere:
            print(f"{verb}: call {number} of {len(called)}, {call.name}")
            cut(disk, scene, place / "live", None)
        if number in anywhere:
            cut(disk, scene, place / "live", dice)


def test_the_power_goes_during_an_ingest(
    scenes: dict[str, Scene], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_power("ingest", scenes["ingest"], tmp_path, monkeypatch, random.Random(3), 1)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("verb", VERBS)
def test_the_power_goes_anywhere(
    scenes: dict[str, Scene], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    lose_power(verb, scenes[verb], tmp_path, monkeypatch, random.Random(verb), 30)
