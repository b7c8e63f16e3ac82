"""A runner with its workers: started when they are needed, started again when they are gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from voxelvault import Vault
from voxelvault.cluster.entering import LOCAL, crew_of
from voxelvault.cluster.local import LocalWorkers
from voxelvault.crew import Crew
from voxelvault.errors import WorkerDied
from voxelvault.storage.objects import LocalObjects
from voxelvault_triage.running.own_hands import OwnHands
from voxelvault_triage.running.queue_lock import AtWorkElsewhere
from voxelvault_triage.running.runner import Report, Runner

IDLE = 0.5
"""Seconds between looks at the queue while nothing is scheduled."""
HERE = "none"
"""Instead of a scheduler: this process does the work itself."""


@dataclass(frozen=True, slots=True)
class Hands:
    """Who does the work.

    Parameters
    ----------
    client : str, LocalWorkers or distributed.Client
        ``local`` for workers of our own, ``none`` for this process, a scheduler's address
        (``tls://…``), or workers at hand.
    workers : int, optional
        How many of our own; one a core by default.
    memory : str
        Most memory of each of our own; by default an even share. Who needs more is started again.
    unsafe_spill : bool
        As of `Vault.ingest`.
    deaths : int
        How often a cluster that is gone is started or sought again, one after the other.
    pause : float
        Seconds before it is sought again; twice as long each time.
    patience : float
        Seconds that one is sought which doesn't answer at all, from the first failure on.
    tell : callable
        Takes a line for people: how each study ended, and when a cluster is gone or doesn't answer.
    """

    client: Any = LOCAL
    workers: int | None = None
    memory: str = "auto"
    unsafe_spill: bool = False
    deaths: int = 8
    pause: float = 1.0
    patience: float = 90.0
    tell: Callable[[str], object] = lambda _text: None


@contextmanager
def crew_for(vault: Vault, hands: Hands) -> Iterator[Crew]:
    """Hold a crew.

    Raises
    ------
    PolicyDenied, UsageError, WorkerDied, MissingExtra
        The cluster may not be lent anything, or is not there.
    """
    resources = vault.resources
    if hands.client == HERE:
        yield OwnHands(resources)
    elif hands.client == LOCAL:
        cloud = not isinstance(resources.objects, LocalObjects)
        with (
            LocalWorkers(hands.workers, hands.memory, cloud=cloud) as workers,
            crew_of(resources, workers) as crew,
        ):
            yield _there(crew)
    else:
        with crew_of(resources, hands.client, unsafe_spill=hands.unsafe_spill) as crew:
            yield _there(crew)


def _there(crew: Crew | None) -> Crew:
    if crew is None:
        raise WorkerDied("no workers were asked for; name a scheduler, or local")
    return crew


def work_through(
    vault: Vault,
    runner: Runner,
    hands: Hands,
    tick: Callable[[], bool] | None = None,
    begun: Callable[[], object] = lambda: None,
) -> Report:
    """Work on what is scheduled under the runner's lock; outlives workers and schedulers.

    Parameters
    ----------
    vault : Vault
        Open for writing.
    runner : Runner
        Of the pipeline.
    hands : Hands
        Who does the work.
    tick : callable, optional
        Called about once a second, at work and idle: it may schedule, and tells whether to stop. Without
        it, this ends when nothing is scheduled any more.
    begun : callable, optional
        Called once the queue is ours, before there are workers.

    Raises
    ------
    AtWorkElsewhere
        Another runner is at work on this pipeline.
    WorkerDied
        The cluster is gone for good.
    """
    done = False
    while not done or (tick is None and runner.scheduled()):
        # Whoever met the lock while it was about to be given back counts on what it scheduled being done.
        try:
            with runner.lock():
                begun()
                _under_lock(vault, runner, hands, tick)
        except AtWorkElsewhere:
            if not done:
                raise
            break
        done = True
    return runner.report


def _under_lock(vault: Vault, runner: Runner, hands: Hands, tick: Callable[[], bool] | None) -> None:
    runner.take_over()
    failed, since = 0, 0.0
    try:
        while True:
            before = runner.report.studies
            try:
                with crew_for(vault, hands) as crew:
                    since = 0.0
                    runner.work(crew, tick or (lambda: False), hands.tell)
                    while tick is not None and not tick():
                        runner.work(crew, tick, hands.tell)
                        time.sleep(IDLE)
                return
            except WorkerDied as died:
                failed = failed + 1 if runner.report.studies == before else 1
                since = since or time.monotonic()
                left = since + hands.patience - time.monotonic()
                if failed > hands.deaths or left <= 0:
                    raise WorkerDied(f"{died}; it was sought {failed} times") from None
                if failed == 1:
                    hands.tell(f"{died}; it is sought again, for {hands.patience:.0f} seconds at most")
                time.sleep(min(hands.pause * 2 ** (failed - 1), 60.0, left))
    finally:
        runner.give_back()


__all__ = ["HERE", "Hands", "crew_for", "work_through"]
