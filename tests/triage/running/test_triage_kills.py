"""kill -9 of worker, scheduler and watcher at random: one valid result for each study in the end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from runner_support import ct, reports, rows, take

import voxelvault as vv
from voxelvault.opening import Ways, close_vault, open_vault
from voxelvault.upkeep.rebuilding import rebuild_catalog
from voxelvault_triage.results.reading import read_results

KILLS = 20
STUDIES = 24


def start(path: Path) -> subprocess.Popen[bytes]:
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), *filter(None, sys.path)])
    with (path.parent / "watcher.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(here / "watch_child.py"), str(path)],
            env={**os.environ, "PYTHONPATH": paths},
            stdout=log,
            stderr=log,
        )


def victims(watcher: subprocess.Popen[bytes]) -> dict[str, list[int]]:
    """Return the processes that may be killed, by what they are; all are the watcher's own."""
    found: dict[str, list[int]] = {"watcher": [watcher.pid], "scheduler": [], "worker": []}
    for child in psutil.Process(watcher.pid).children(recursive=True):
        try:
            words = " ".join(child.cmdline())
        except psutil.Error:
            continue
        if "voxelvault.cluster.host" in words:
            found["scheduler"].append(child.pid)
        elif "spawn_main" in words:
            found["worker"].append(child.pid)
    return found


def settled(vault: vv.Vault) -> bool:
    states = Counter(row["state"] for row in rows(vault, "select state from tasks where not superseded"))
    return states == {"COMPLETED": STUDIES}


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seed", [1])
def test_one_result_for_each_study(vault: vv.Vault, tmp_path: Path, seed: int) -> None:
    chance, killed, watcher = random.Random(seed), Counter[str](), start(tmp_path / "vault")
    try:
        for number in range(KILLS):
            if number < STUDIES // 2:
                take(vault, tmp_path / f"in-{number}", *ct(2 * number), *ct(2 * number + 1, -50))
            time.sleep(chance.uniform(0.5, 8))
            kind = chance.choice(["watcher", "scheduler", "worker", "worker"])
            until = time.monotonic() + 60
            while not (pids := victims(watcher)[kind]) and time.monotonic() < until:
                time.sleep(0.2)
            try:
                os.kill(chance.choice(pids), signal.SIGKILL)
            except (ProcessLookupError, IndexError):
                continue
            killed[kind] += 1
            if watcher.poll() is not None or kind == "watcher":
                watcher.wait(60)
                watcher = start(tmp_path / "vault")
        until = time.monotonic() + 600
        while not settled(vault) and time.monotonic() < until:
            time.sleep(1)
            if watcher.poll() is not None:
                watcher = start(tmp_path / "vault")
        (tmp_path / "STOP").touch()
        assert watcher.wait(120) == 0
    finally:
        if watcher.poll() is None:
            watcher.kill()
    assert settled(vault), killed
    print(killed)
    assert reports(vault) == {row["study_id"]: 1 for row in rows(vault, "select study_id from studies")}
    for row in rows(vault, "select study_id from studies"):
        (result,) = read_results(vault, row["study_id"])
        assert not result.superseded
    assert vault.verify(progress=False, quick=True).ok
    before = [rows(vault, f"select * from {table} order by 1") for table in ("tasks", "reading_items")]
    vault.close()
    resources = open_vault(tmp_path / "vault", Ways(), anew=True)
    rebuild_catalog(resources)
    close_vault(resources)
    with vv.open(tmp_path / "vault") as again:
        after = [rows(again, f"select * from {table} order by 1") for table in ("tasks", "reading_items")]
    assert after == before
