"""The reading list as readers empty it: what each study waits until somebody begins to read it.

Event by event and by hand: in the common library for this (SimPy) a request's priority is fixed when it
is made, and here it changes while a study waits, as its result comes and as it ages. Priorities, and the
order by them, are those of the worklist.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from voxelvault.errors import UsageError
from voxelvault_triage.model import Verdict
from voxelvault_triage.simulation.arrivals import Minutes
from voxelvault_triage.simulation.readers import Shift
from voxelvault_triage.worklist.order import AGEING
from voxelvault_triage.worklist.states import PRIORITIES, Priority

FLAGGED = PRIORITIES[Verdict.POSITIVE].level
OTHER = PRIORITIES[Verdict.NEGATIVE].level
UNKNOWN = PRIORITIES[None].level
"""Levels of priority as the worklist gives them: 0 is the most urgent."""


@dataclass(frozen=True, slots=True)
class Order:
    """How the list is ordered, and how far it is heeded.

    Parameters
    ----------
    ageing : float
        Minutes after which a study counts as one priority more urgent, and again after as much, as on the
        worklist; 0 for never.
    heeded : float
        Share of reads, 0 to 1, for which a reader takes the top of the re-ordered list; else the oldest
        study. 0 is first come, first read: what a flag alone does.
    delay : float
        Minutes from a study's arrival until its result is on the list; so long it counts as one that
        nobody knows anything of.

    Raises
    ------
    UsageError
        Out of these bounds.
    """

    ageing: float = AGEING
    heeded: float = 1.0
    delay: float = 0.0

    def __post_init__(self) -> None:
        if not (self.ageing >= 0 and 0 <= self.heeded <= 1 and 0 <= self.delay < float("inf")):
            raise UsageError("ageing and delay are 0 minutes or more, the share heeded lies between 0 and 1")

    def place(self, now: float, level: int, arrival: float) -> tuple[int, float]:
        """Return what studies are sorted by: how urgent now, then the longest wait.

        Parameters
        ----------
        now, arrival : float
            Now, and when it came.
        level : int
            Of its priority, 0 the most urgent.
        """
        steps = int((now - arrival) // self.ageing) if self.ageing else 0
        return max(0, level - steps), arrival


FIRST_COME = Order(heeded=0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Day:
    """What comes in, drawn once, so that orders are compared on the same studies.

    Parameters
    ----------
    arrival, reading : (study,) float64
        When each arrives, ascending, and how long it takes; minutes.
    positive : (study,) bool
        What it is.
    level : (study,) int64
        Of the priority that its result gives it, 0 the most urgent.
    chance : (study,) float64
        Uniform, 0 to 1: decides at the n-th read whether the re-ordered list is heeded.
    """

    arrival: Minutes
    reading: Minutes
    positive: npt.NDArray[np.bool_]
    level: npt.NDArray[np.int64]
    chance: npt.NDArray[np.float64]

    @property
    def flagged(self) -> npt.NDArray[np.bool_]:
        """What the model says is positive."""
        return np.equal(self.level, FLAGGED)


def waits(day: Day, shifts: Sequence[Shift], order: Order) -> Minutes:
    """Return each study's minutes from arrival until a reader begins, (study,) float64.

    A read once begun is finished, also past the shift's end. Studies that are left when arrivals end
    are read like all others.

    Parameters
    ----------
    day : Day
        What comes in.
    shifts : sequence of Shift
        One a reader.
    order : Order
        How the list is ordered.
    """
    arrival, reading, chance = day.arrival.tolist(), day.reading.tolist(), day.chance.tolist()
    queue = _List(arrival, day.level.tolist(), order)
    begun = np.empty(len(arrival))
    free = [(shift.on_duty(0.0), reader) for reader, shift in enumerate(shifts)]
    heapq.heapify(free)
    read = 0
    while read < len(arrival):
        now, reader = heapq.heappop(free)
        study = queue.take(now, chance[read] < order.heeded)
        if study is None:
            heapq.heappush(free, (shifts[reader].on_duty(queue.next_arrival), reader))
            continue
        begun[study] = now
        heapq.heappush(free, (shifts[reader].on_duty(now + reading[study]), reader))
        read += 1
    return begun - day.arrival


@dataclass(slots=True, eq=False)
class _List:
    """A queue a priority, each in order of arrival, so that only their heads are compared.

    A study moves from the queue of those that nobody knows anything of when its result comes.
    """

    arrival: list[float]
    level: list[int]
    order: Order
    _arrived: int = 0
    _analysed: int = 0
    _queues: tuple[deque[int], ...] = field(default_factory=lambda: tuple(deque() for _ in Priority))
    _gone: set[int] = field(default_factory=set)

    @property
    def next_arrival(self) -> float:
        """When the next study comes; asked only while one is to come."""
        return self.arrival[self._arrived]

    def take(self, now: float, heeded: bool) -> int | None:
        """Take the study that is read next off the list; None where none waits."""
        self._admit(now)
        heads = [(level, queue[0]) for level, queue in enumerate(self._queues) if self._head(level)]
        if not heads:
            return None
        # Whoever doesn't heed the list takes the oldest.
        level, study = min(
            heads, key=lambda head: self.order.place(now, head[0] if heeded else 0, self.arrival[head[1]])
        )
        self._queues[level].popleft()
        self._gone.add(study)
        return study

    def _admit(self, now: float) -> None:
        """Let in what has arrived by now, and the results that have come."""
        arrival, count = self.arrival, len(self.arrival)
        while self._arrived < count and arrival[self._arrived] <= now:
            self._queues[UNKNOWN].append(self._arrived)
            self._arrived += 1
        while self._analysed < self._arrived and arrival[self._analysed] + self.order.delay <= now:
            self._rank(self._analysed)
            self._analysed += 1

    def _rank(self, study: int) -> None:
        # Whoever was read before the result came is off the list.
        level = self.level[study]
        if level != UNKNOWN and study not in self._gone:
            self._gone.add(study)
            self._queues[level].append(study)

    def _head(self, level: int) -> deque[int]:
        """Return the queue; of those that nobody knows, what moved or went is dropped on the way."""
        queue = self._queues[level]
        while level == UNKNOWN and queue and queue[0] in self._gone:
            queue.popleft()
        return queue
