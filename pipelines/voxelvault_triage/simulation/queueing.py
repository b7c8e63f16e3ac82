"""The reading list as readers empty it: what each study waits until somebody begins to read it.

Event by event and by hand: in the common library for this (SimPy) a request's priority is fixed when it
is made, and here it changes while a study waits, as its flag comes and as it ages.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from voxelvault.errors import UsageError
from voxelvault_triage.simulation.arrivals import Minutes
from voxelvault_triage.simulation.readers import Shift


@dataclass(frozen=True, slots=True)
class Order:
    """How the list is ordered, and how far it is heeded.

    Parameters
    ----------
    ageing : float
        Minutes after which a study that isn't flagged stands level with those that are; the older of
        two such is read first. Infinite for never.
    heeded : float
        Share of reads, 0 to 1, for which a reader takes the top of the re-ordered list; else the oldest
        study. 0 is first come, first read: what a flag alone does.
    delay : float
        Minutes from a study's arrival until its flag is on the list.

    Raises
    ------
    UsageError
        Out of these bounds.
    """

    ageing: float = float("inf")
    heeded: float = 1.0
    delay: float = 0.0

    def __post_init__(self) -> None:
        if not (self.ageing >= 0 and 0 <= self.heeded <= 1 and 0 <= self.delay < float("inf")):
            raise UsageError("ageing and delay are 0 minutes or more, the share heeded lies between 0 and 1")

    def flagged_first(self, now: float, flagged: float, other: float, draw: float) -> bool:
        """Tell whether the oldest flagged study goes before the oldest other one.

        Parameters
        ----------
        now, flagged, other : float
            Now, and when the two arrived.
        draw : float
            Chance, 0 to 1, of the study that heads the list.
        """
        if flagged <= other:
            return True
        return draw < self.heeded and now - other < self.ageing


FIRST_COME = Order(heeded=0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Day:
    """What comes in, drawn once, so that orders are compared on the same studies.

    Parameters
    ----------
    arrival, reading : (study,) float64
        When each arrives, ascending, and how long it takes; minutes.
    positive, flagged : (study,) bool
        What it is, and what the model says.
    chance : (study,) float64
        Uniform, 0 to 1: decides at the n-th read whether the re-ordered list is heeded.
    """

    arrival: Minutes
    reading: Minutes
    positive: npt.NDArray[np.bool_]
    flagged: npt.NDArray[np.bool_]
    chance: npt.NDArray[np.float64]


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
    queue = _List(arrival, day.flagged.tolist(), order)
    begun = np.empty(len(arrival))
    free = [(shift.on_duty(0.0), reader) for reader, shift in enumerate(shifts)]
    heapq.heapify(free)
    read = 0
    while read < len(arrival):
        now, reader = heapq.heappop(free)
        study = queue.take(now, chance[read])
        if study is None:
            heapq.heappush(free, (shifts[reader].on_duty(queue.next_arrival), reader))
            continue
        begun[study] = now
        heapq.heappush(free, (shifts[reader].on_duty(now + reading[study]), reader))
        read += 1
    return begun - day.arrival


@dataclass(slots=True, eq=False)
class _List:
    """Two queues, each in order of arrival; a study moves to the flagged one when its flag comes."""

    arrival: list[float]
    flags: list[bool]
    order: Order
    _arrived: int = 0
    _analysed: int = 0
    _other: deque[int] = field(default_factory=deque)
    _flagged: deque[int] = field(default_factory=deque)
    _gone: set[int] = field(default_factory=set)

    @property
    def next_arrival(self) -> float:
        """When the next study comes; asked only while one is to come."""
        return self.arrival[self._arrived]

    def take(self, now: float, draw: float) -> int | None:
        """Take the study that is read next off the list; None where none waits."""
        self._admit(now)
        flagged, other = self._head(self._flagged), self._head(self._other)
        if flagged is None or (other is not None and not self._goes_first(now, flagged, other, draw)):
            return self._off(self._other, other)
        return self._off(self._flagged, flagged)

    def _goes_first(self, now: float, flagged: int, other: int, draw: float) -> bool:
        return self.order.flagged_first(now, self.arrival[flagged], self.arrival[other], draw)

    def _admit(self, now: float) -> None:
        """Let in what has arrived by now, and the flags that have come."""
        arrival, count = self.arrival, len(self.arrival)
        while self._arrived < count and arrival[self._arrived] <= now:
            self._other.append(self._arrived)
            self._arrived += 1
        while self._analysed < self._arrived and arrival[self._analysed] + self.order.delay <= now:
            self._flag(self._analysed)
            self._analysed += 1

    def _flag(self, study: int) -> None:
        # Whoever was read before the flag came is off both queues.
        if self.flags[study] and study not in self._gone:
            self._gone.add(study)
            self._flagged.append(study)

    def _head(self, queue: deque[int]) -> int | None:
        """Return the oldest; in the other queue, those that moved or went are dropped on the way."""
        while queue is self._other and queue and queue[0] in self._gone:
            queue.popleft()
        return queue[0] if queue else None

    def _off(self, queue: deque[int], study: int | None) -> int | None:
        if study is not None:
            queue.popleft()
            self._gone.add(study)
        return study
