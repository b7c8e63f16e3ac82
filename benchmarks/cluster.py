"""Two Dask workers against one, for ingest and for verify: what comes of another worker.

Scheduler and vault's process run on the same two cores as the workers. So the most that two can reach
is the time of one over half of all CPU seconds that two take; that stands in a row of its own, which
means nothing while others use the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from statistics import median
from tempfile import mkdtemp
from time import process_time

import voxelvault as vv
from benchmarks.heads import Heads, make_heads
from benchmarks.measure import Measured, Place, rate, seconds
from voxelvault.cluster.local import LocalWorkers

GOAL = 1.7

SERIES, SLICES = 16, 60

Cpu = tuple[float, float, float]
"""CPU seconds of the vault's process, of the scheduler's, and of all workers."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Wall and CPU seconds of a verb."""

    wall: float
    cpu: Cpu


def measure(place: Place) -> list[Measured]:
    """Start one worker and two, of one thread each, and have both do the same in turn."""
    heads = make_heads(place.folder / "series", SLICES, SERIES)
    size = heads.size
    taken: dict[tuple[str, int], list[Taken]] = {}
    with ExitStack() as held:
        held.callback(rmtree, heads.folder)
        crews = {count: held.enter_context(LocalWorkers(count)) for count in (1, 2)}
        for turn in range(1 + place.repeats):
            for count in sorted(crews, reverse=bool(turn % 2)):
                found = _day(place.folder, heads, crews[count])
                if turn:  # the first one loads libraries in every worker
                    for verb, spent in found.items():
                        taken.setdefault((verb, count), []).append(spent)
    verbs = ("ingest", "verify")
    rows = [_measured(verb, taken[verb, 1], taken[verb, 2], size) for verb in verbs]
    return rows + [_most(verb, taken[verb, 1], taken[verb, 2], place.cores) for verb in verbs]


def _day(folder: Path, heads: Heads, workers: LocalWorkers) -> dict[str, Taken]:
    """Fill a vault and verify it."""
    with _vault(folder) as vault:
        ingest = _taken(workers, lambda: vault.ingest(heads.folder, progress=False, client=workers))
        if vault.summary()["instances"] != SERIES * SLICES:
            raise RuntimeError("the files did not all come in")
        return {
            "ingest": ingest,
            "verify": _taken(workers, lambda: vault.verify(progress=False, client=workers)),
        }


def _taken(workers: LocalWorkers, work: Callable[[], object]) -> Taken:
    before = _cpu(workers)
    wall = seconds(work)
    vault, scheduler, crew = (b - a for a, b in zip(before, _cpu(workers), strict=True))
    return Taken(wall, (vault, scheduler, crew))


def _cpu(workers: LocalWorkers) -> Cpu:
    client = workers.client
    return process_time(), client.run_on_scheduler(process_time), sum(client.run(process_time).values())


@contextmanager
def _vault(folder: Path) -> Iterator[vv.Vault]:
    place = Path(mkdtemp(dir=folder))
    try:
        with vv.create(place / "vault") as vault:
            yield vault
    finally:
        rmtree(place)


def _measured(verb: str, one: list[Taken], two: list[Taken], size: int) -> Measured:
    ratio = median(alone.wall / both.wall for alone, both in zip(one, two, strict=True))
    ours, theirs = (rate(size, median(each.wall for each in side)) for side in (two, one))
    return Measured(f"{verb}, 2 Dask workers / 1", ratio, GOAL, ours, theirs)


def _most(verb: str, one: list[Taken], two: list[Taken], cores: int) -> Measured:
    most = median(alone.wall * cores / sum(both.cpu) for alone, both in zip(one, two, strict=True))
    parts = " + ".join(f"{median(each.cpu[part] for each in two):.2f}" for part in range(3))
    claim = f"{verb}, the most that this machine's cores allow: CPU seconds of vault + scheduler + 2 workers"
    return Measured(claim, most, None, f"{most:.2f}: {parts}", "")
