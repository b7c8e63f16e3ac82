"""Two triage workers against one: what comes of another.

Scheduler and vault's process run on the same two cores as the workers, so the most that two can reach
is the time of one over half of all CPU seconds that two take; that stands in a row of its own, which
means nothing while others use the machine.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import process_time

from benchmarks.measure import Measured, Place, seconds
from benchmarks.triage_studies import analyse_all, make_studies, vault_with
from voxelvault.cluster.local import LocalWorkers
from voxelvault_triage.running.session import Hands

GOAL = 1.7

STUDIES = 20

Taken = tuple[float, float]
"""Wall and CPU seconds."""


def measure(place: Place) -> list[Measured]:
    """Have one worker and two analyse the same studies in turn."""
    folders = make_studies(place, STUDIES)
    taken: dict[int, list[Taken]] = {1: [], 2: []}
    with ExitStack() as held:
        crews = {workers: held.enter_context(LocalWorkers(workers)) for workers in (1, 2)}
        for turn in range(1 + place.repeats):
            for workers in sorted(crews, reverse=bool(turn % 2)):
                found = _once(place.folder, folders, crews[workers])
                if turn:  # the first one loads libraries in every worker
                    taken[workers].append(found)
    ratio = median(one[0] / two[0] for one, two in zip(taken[1], taken[2], strict=True))
    most = median(one[0] * place.cores / two[1] for one, two in zip(taken[1], taken[2], strict=True))
    ours, theirs = (f"{60 * STUDIES / median(each[0] for each in taken[n]):.0f}/min" for n in (2, 1))
    return [
        Measured("triage, 2 workers / 1", ratio, GOAL, ours, theirs),
        Measured("triage, the most that this machine's cores allow", most, None, f"{most:.2f}", ""),
    ]


def _once(folder: Path, folders: list[Path], workers: LocalWorkers) -> Taken:
    with vault_with(folder, folders) as vault:
        before = _cpu(workers)
        wall = seconds(lambda: analyse_all(vault, Hands(workers), STUDIES))
        return wall, _cpu(workers) - before


def _cpu(workers: LocalWorkers) -> float:
    client = workers.client
    crew: float = sum(client.run(process_time).values())
    return process_time() + float(client.run_on_scheduler(process_time)) + crew
