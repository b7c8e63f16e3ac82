"""The power goes, and only what was fsync'ed is sure: what was acknowledged is there, the rest no harm."""

from __future__ import annotations

import copy
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from disk_replay import Call, Disk, calls, command, lay_out
from flow_support import open_again
from kill_harness import harness
from lives import VERBS, Life, Scene, scenes

from voxelvault.catalog.ducklake import DuckLakeCatalog
from voxelvault.crypto.keyring import KeyRing
from voxelvault.dicom.columns import load_tags
from voxelvault.storage.objects import LocalObjects

__all__ = ["scenes"]  # a fixture


@pytest.fixture(autouse=True)
def able(tmp_path: Path) -> None:
    """Leave it be where nothing may be traced; in CI that is a failure."""
    command_ = [*command(tmp_path / "trial"), "true"]
    if not shutil.which("strace") or subprocess.run(command_, capture_output=True, check=False).returncode:
        assert not os.environ.get("CI"), "strace is missing, or may not trace here"
        pytest.skip("strace is missing, or may not trace here: apt install strace")


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
    trial = copy.deepcopy(disk)
    told: list[int] = []
    changed: list[int] = []
    for number, call in enumerate(called):
        before = len(trial.told)
        if trial.play(call):
            (told if len(trial.told) > before else changed).append(number)
    assert trial.told[-1] == "done"
    return told, changed


def lose_power(
    verb: str,
    scene: Scene,
    place: Path,
    patch: pytest.MonkeyPatch,
    dice: random.Random,
    several: int,
    most: int = 0,
) -> None:
    """Cut it just after something was told, where nothing more than needs be is left; and anywhere."""
    disk, called = traced(verb, scene, place / "live", patch)
    told, changed = points(disk, called)
    anywhere = set(dice.sample(changed, several))
    # All of them if `most` is 0.
    told = told[-most:]
    for number, call in enumerate(called):
        disk.play(call)
        if number in told or number in anywhere:
            print(f"{verb}: call {number} of {len(called)}, {call.name}")
            cut(disk, scene, place / "live", None)
        if number in anywhere:
            cut(disk, scene, place / "live", dice)


_WRITES = """
import os, sys
os.chdir(sys.argv[1])
def put(name, sync=True):
    fd = os.open(f"{os.getcwd()}/{name}", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"new")
    if sync:
        os.fsync(fd)
    os.close(fd)
def sync(folder):
    fd = os.open(folder, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
here = os.getcwd()
put("bytes lost", sync=False)
sync(here)
put("old")
os.rename(f"{here}/new", f"{here}/kept")
sync(here)
os.mkdir(f"{here}/lost")
put("lost/with it")
sync(f"{here}/lost")
put("name lost")
os.unlink(f"{here}/kept")
"""


def test_what_is_not_synced_is_lost(tmp_path: Path) -> None:
    """The model of a disk itself: strict without dice, and everything is possible with them."""
    place = tmp_path / "live"
    place.mkdir()
    (place / "new").write_bytes(b"renamed")
    (place / "old").write_bytes(b"old text")
    disk = Disk(place)
    subprocess.run([*command(tmp_path / "trace"), sys.executable, "-c", _WRITES, str(place)], check=True)
    for call in calls(tmp_path / "trace"):
        disk.play(call)

    def left(dice: random.Random | None) -> dict[str, bytes | None]:
        return {
            str(Path(path).relative_to(place)): data for path, data in disk.after_power_loss(dice).items()
        }

    assert left(None) == {"bytes lost": b"", "old": b"new text", "kept": b"renamed"}
    seen = [left(random.Random(seed)) for seed in range(40)]
    assert {found["bytes lost"] for found in seen} == {b"", b"new"}
    assert {"kept" in found for found in seen} == {True, False}
    # In order: the last change of a folder is never kept without those before it.
    assert all("kept" in found or found.get("name lost") == b"new" for found in seen)
    assert {found.get("lost/with it") for found in seen} == {None, b"new"}


def test_the_power_goes_during_an_ingest(
    scenes: dict[str, Scene], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_power("ingest", scenes["ingest"], tmp_path, monkeypatch, random.Random(3), 1, 1)


_COMMITS = """
import os, sys
from datetime import datetime
import pyarrow as pa
import voxelvault as vv
from voxelvault.catalog.catalog import Change
with vv.open(sys.argv[1]) as vault:
    catalog = vault.resources.catalog
    def commit(to, number):
        # Long and hard to compress: the engine writes it in several pieces.
        row = {"conflict_id": f"{number:032x}", "kind": os.urandom(9000).hex(), "found": datetime(2026, 1, 1)}
        to.commit([Change("conflicts", pa.Table.from_pylist([row]), "insert")])
        os.write(1, f"told {number}\\n".encode())
    for number in range(3):
        commit(catalog, number)
    with catalog.lease() as lease:
        for number in range(3, 6):
            commit(lease, number)
"""


def test_the_catalog_opens_whenever_the_power_goes(
    pattern: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each call that touches its folder, of commits alone and several in one lease."""
    live, after = tmp_path / "live", LocalObjects(tmp_path / "after")
    for name in ("vault", "config"):
        shutil.copytree(pattern / name, live / name)
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(live / "config"))
    disk, folder, seen = Disk(live), str(live / "vault" / "catalog"), set()
    line = [*command(tmp_path / "trace"), sys.executable, "-c", _COMMITS, str(live / "vault")]
    subprocess.run(line, check=True, stdout=subprocess.PIPE)
    with open_again(live / "vault") as vault:
        for call in calls(tmp_path / "trace"):
            if not disk.play(call):
                continue
            for dice in (None, *map(random.Random, range(5))):
                left = disk.after_power_loss(dice)
                files = {path: data for path, data in left.items() if path.startswith(f"{folder}/lake")}
                shape = (len(disk.told), *sorted(files.items()))
                if shape not in seen:
                    seen.add(shape)
                    _opens(files, after, vault.resources.keys, len(disk.told))
    assert len(disk.told) == 6
    assert len(seen) > 6


def _opens(files: dict[str, bytes | None], after: LocalObjects, keys: KeyRing, told: int) -> None:
    shutil.rmtree(after.root, ignore_errors=True)
    (after.root / "catalog").mkdir(parents=True)
    for path, data in files.items():
        (after.root / "catalog" / Path(path).name).write_bytes(data or b"")
    catalog = DuckLakeCatalog.open(after, keys, load_tags())
    found = catalog.query("select conflict_id from conflicts order by 1").column(0).to_pylist()
    catalog.close()
    assert told <= len(found) <= told + 1
    assert found == [f"{number:032x}" for number in range(len(found))]


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("verb", VERBS)
def test_the_power_goes_anywhere(
    scenes: dict[str, Scene], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    lose_power(verb, scenes[verb], tmp_path, monkeypatch, random.Random(verb), 30)
