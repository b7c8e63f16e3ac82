"""Units of work on the workers of a client: few at a time, each bound to the worker it was sealed to.

The scheduler is told which worker does what, and never moves work on its own: when a worker dies,
its units are made anew, with fresh ids and keys, for others.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from voxelvault.cluster.broker import Broker, Parcel, Worker
from voxelvault.cluster.worker import perform
from voxelvault.crew import Done, Unit
from voxelvault.errors import WorkerDied
from voxelvault.model import new_id

AHEAD = 1
"""Units that wait at a worker beside those that its threads are at."""
TRIES = 3
"""Workers that may die on one unit before it is given up."""
LOOK = 1.0
"""Seconds between looks at who is there."""
PATIENCE = 60.0
"""Seconds to wait for a worker when none is left."""

Maker = Callable[[], Unit]


@dataclass(frozen=True, slots=True)
class _Task:
    """One piece of work: which, how an attempt at it is made, and how many failed so far."""

    number: int
    maker: Maker
    failed: int = 0


class ClientCrew:
    """The workers of a Dask client; implements `voxelvault.crew.Crew`.

    Parameters
    ----------
    broker : Broker
        Lends to them.
    client : distributed.Client
        Connected.
    patience : float
        Seconds to wait for a worker when none is left.

    Raises
    ------
    PolicyDenied, UsageError, WorkerDied
        The cluster may not be lent anything, or has no worker.
    """

    def __init__(self, broker: Broker, client: Any, patience: float = PATIENCE) -> None:
        self._broker, self._client, self._patience = broker, client, patience
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._running: dict[Any, tuple[_Task, Parcel]] = {}
        self._unanswered: set[Any] = set()
        self._looked = 0.0
        self._await_workers()

    def __repr__(self) -> str:
        return f"<ClientCrew of {len(self._broker.workers)} workers>"

    @property
    def hands(self) -> int:
        """How many units are done at once."""
        return sum(worker.threads for worker in self._broker.workers.values())

    def run(self, makers: Iterable[Maker], stop: Callable[[], bool] = lambda: False) -> Iterator[Done]:
        """Do the work, and yield each unit as it is done; see `voxelvault.crew.Crew.run`."""
        tasks = (_Task(number, maker) for number, maker in enumerate(makers))
        again: deque[_Task] = deque()
        try:
            while True:
                self._hand_out(tasks, again, stop)
                if not self._running and (not again or stop()):
                    return
                for task, parcel, future in self._answered():
                    yield Done(task.number, parcel.unit, self._broker.opened(parcel, future))
                for task, parcel in self._lost():
                    if task.failed >= TRIES:
                        yield Done(task.number, parcel.unit, lost=True)
                    else:
                        again.append(task)
        finally:
            self._give_up()

    def _hand_out(self, tasks: Iterator[_Task], again: deque[_Task], stop: Callable[[], bool]) -> None:
        """Give work to workers that have room, first what is done again."""
        while not stop():
            worker = self._free()
            if worker is None:
                return
            task = again.popleft() if again else next(tasks, None)
            if task is None:
                return
            self._submit(task, worker)

    def _free(self) -> Worker | None:
        """Return the worker with the most room, None when nobody has any."""
        load = dict.fromkeys(self._broker.workers, 0)
        for _, parcel in self._running.values():
            if parcel.worker.address in load:
                load[parcel.worker.address] += 1
        room = [
            (worker.threads - load[address], worker)
            for address, worker in self._broker.workers.items()
            if load[address] < worker.threads + AHEAD
        ]
        return max(room, key=lambda found: found[0])[1] if room else None

    def _submit(self, task: _Task, worker: Worker) -> None:
        parcel = self._broker.parcel(task.maker(), worker)
        future = self._client.submit(
            perform,
            self._broker.session,
            parcel.sealed,
            key=f"{parcel.unit.name}-{new_id()}",
            workers=[worker.address],
            allow_other_workers=False,
            pure=False,
        )
        self._running[future] = task, parcel
        future.add_done_callback(self._answers.put)

    def _answered(self) -> Iterator[tuple[_Task, Parcel, bytes]]:
        """Yield what has come back; wait a while when nothing has."""
        try:
            future = self._answers.get(timeout=LOOK)
        except queue.Empty:
            return
        while future is not None:
            if future in self._running:
                answer = self._answer(future)
                if answer is None or self._broker.replaced(self._running[future][1], answer):
                    self._unanswered.add(future)
                else:
                    yield *self._running.pop(future), answer
            try:
                future = self._answers.get_nowait()
            except queue.Empty:
                future = None

    def _answer(self, future: Any) -> bytes | None:
        """Return a worker's answer; None where it died before it was fetched, or does not give it."""
        if future.status != "finished":
            return None
        try:
            found: bytes = future.result(timeout=10 * LOOK)
        except (OSError, TimeoutError):
            return None
        return found

    def _lost(self) -> Iterator[tuple[_Task, Parcel]]:
        """Yield the units of workers that are gone, or that came back without an answer."""
        now = time.monotonic()
        failed = [
            future
            for future in self._running
            if future in self._unanswered or future.status not in ("pending", "finished")
        ]
        if not failed and now - self._looked < LOOK:
            return
        self._await_workers()
        known = self._broker.workers
        gone = [
            future
            for future, (_, parcel) in self._running.items()
            if known.get(parcel.worker.address) is None
        ]
        blamed = {*failed, *self._at_work(gone)}
        # What only waited goes first: behind the same killer it would wait again and again.
        for future in sorted({*failed, *gone}, key=lambda one: one in blamed):
            task, parcel = self._running.pop(future)
            self._unanswered.discard(future)
            future.cancel()
            yield replace(task, failed=task.failed + (future in blamed)), parcel

    def _at_work(self, gone: Iterable[Any]) -> Iterator[Any]:
        """Yield those of lost units that their worker was at; what waited behind them killed nobody.

        A worker takes units in the order in which they were handed to it.
        """
        busy: dict[str, int] = {}
        for future in gone:
            worker = self._running[future][1].worker
            busy[worker.address] = busy.get(worker.address, 0) + 1
            if busy[worker.address] <= worker.threads:
                yield future

    def _await_workers(self) -> None:
        """Look who is there; wait for somebody when nobody is."""
        until = time.monotonic() + self._patience
        while True:
            self._broker.refresh()
            self._looked = time.monotonic()
            if self._broker.workers:
                return
            if time.monotonic() >= until:
                raise WorkerDied(
                    "no worker of the cluster is left: start some, and run it again; what was stored stays"
                )
            time.sleep(LOOK)

    def _give_up(self) -> None:
        """Take back what is under way: what a worker still writes is nobody's, and swept by repair."""
        for future in self._running:
            future.cancel()
        self._running.clear()
        self._unanswered.clear()


__all__ = ["AHEAD", "TRIES", "ClientCrew"]
