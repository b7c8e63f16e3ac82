"""Ingest and reading of CT with a vault in an object store, against the same in a folder.

The store is SeaweedFS on this machine, so that server and vault share the cores: processor seconds of
both tell what bounds them. Nothing is left out of a reading but the opening of the vault.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from statistics import median
from tempfile import mkdtemp
from time import perf_counter, process_time

from tests.s3_servers import seaweedfs

import voxelvault as vv
from benchmarks.heads import uid_of
from benchmarks.measure import Measured, Place

SIDES = ("SeaweedFS", "folder")


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds by the clock, and of processors: of this process, and of all others."""

    wall: float
    own: float
    others: float


def measure(place: Place) -> list[Measured]:
    """Instances a second into both, megabytes of voxels a second out of both; no goal, for the record."""
    taken: dict[tuple[str, str], list[Cost]] = {}
    with ExitStack() as stack:
        folder = Path(mkdtemp(dir=place.folder))
        stack.callback(rmtree, folder)
        server = stack.enter_context(seaweedfs(folder / "server"))
        os.environ.update(server.environment)
        for turn in range(place.repeats + 1):
            for side in SIDES:
                url = server.place() if side == "SeaweedFS" else str(folder / f"vault-{turn}")
                costs = _in_and_out(place, url)
                if turn:  # the first one loads libraries
                    for what, cost in costs.items():
                        taken.setdefault((what, side), []).append(cost)
    files = place.heads.files
    voxels = len(files) * 512 * 512 * 2 / 1e6
    return [
        *_rows(taken, "ingest of CT", "/s", len(files)),
        *_rows(taken, "reading whole series", " MB/s", voxels),
    ]


def _in_and_out(place: Place, url: str) -> dict[str, Cost]:
    with vv.create(url) as vault:
        vault.options.threads = place.cores
        entering = _cost(lambda: vault.ingest(place.heads.folder, progress=False))
    with vv.open(url) as vault:
        vault.options.threads = place.cores
        uids = [uid_of(files) for files in place.heads.series]
        reading = _cost(lambda: [vault.series(uid).load(units="stored") for uid in uids])
    return {"ingest of CT": entering, "reading whole series": reading}


def _cost(work: Callable[[], object]) -> Cost:
    busy, own, wall = _busy(), process_time(), perf_counter()
    work()
    wall, own = perf_counter() - wall, process_time() - own
    return Cost(wall, own, max(0.0, _busy() - busy - own))


def _busy() -> float:
    """Return the processor seconds that this machine has worked, without waiting."""
    user, nice, system = map(int, Path("/proc/stat").read_text().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def _rows(taken: dict[tuple[str, str], list[Cost]], what: str, unit: str, amount: float) -> list[Measured]:
    sides = [taken[what, side] for side in SIDES]
    remote, local = (f"{amount / median(cost.wall for cost in side):.0f}{unit}" for side in sides)
    remote_seconds, local_seconds = map(_told, sides)
    return [
        Measured(f"{what}, object store : folder", 0.0, None, remote, local),
        Measured(f"{what}, seconds", 0.0, None, remote_seconds, local_seconds),
    ]


def _told(costs: list[Cost]) -> str:
    wall, own, others = (median(getattr(cost, name) for cost in costs) for name in Cost.__slots__)
    return f"{wall:.2f} by the clock, CPU {own:.2f}, of the server and others {others:.2f}"
