"""Two ways of doing the same, in turn, so that what else the machine does meets both alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.heads import Heads

Work = Callable[[], object]
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how a claim is measured.

    Parameters
    ----------
    heads, long : Heads
        Two series of head CT; one series of a thousand slices.
    folder : Path
        For vaults; emptied afterwards.
    cores : int
        Cores that this process is pinned to, and threads or processes of both sides.
    repeats : int
        Turns of each side.
    """

    heads: Heads
    long: Heads
    folder: Path
    cores: int
    repeats: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure of one claim.

    Parameters
    ----------
    claim : str
        What is claimed, in words.
    ratio : float
        Ours over theirs: of rates, so that more is better, unless `at_most`; 0 where there is no goal.
    goal : float or None
        None where the figure only explains another.
    ours, theirs : str
        Absolute figures.
    at_most : bool
        The ratio is one of times or sizes: less is better.
    """

    claim: str
    ratio: float
    goal: float | None
    ours: str
    theirs: str
    at_most: bool = False

    @property
    def met(self) -> bool:
        """True when the goal is reached; so it is where there is none."""
        if self.goal is None:
            return True
        return self.ratio <= self.goal if self.at_most else self.ratio >= self.goal


@dataclass(frozen=True, slots=True)
class Pair:
    """Median seconds of both sides, and the median of their ratios, turn by turn."""

    ratio: float
    """Seconds of theirs over seconds of ours."""
    ours: float
    theirs: float
    name: str
    """Of the peer that was compared: the fastest."""


def pin(cores: int) -> None:
    """Keep this process, and the threads and children it makes, on so many cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def seconds(work: Work, clock: Clock = perf_counter) -> float:
    """Return how long it takes."""
    start = clock()
    work()
    return clock() - start


def compare(ours: Work, peers: Mapping[str, Work], repeats: int, clock: Clock = perf_counter) -> Pair:
    """Run ours and the peers in turn, once unmeasured, and compare ours with the fastest of them.

    The order is turned round each time: nobody always comes first.
    """
    sides = {"": ours, **peers}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for work in sides.values():
        work()
    for turn in range(repeats):
        for name in list(sides) if turn % 2 else reversed(sides):
            times[name].append(seconds(sides[name], clock))
    best = min(peers, key=lambda name: median(times[name]))
    ratios = [theirs / own for own, theirs in zip(times[""], times[best], strict=True)]
    return Pair(median(ratios), median(times[""]), median(times[best]), best)


def rate(size: int, taken: float) -> str:
    """Return a rate in MB/s."""
    return f"{size / taken / 1e6:.0f} MB/s"


def milliseconds(taken: float) -> str:
    """Return a time in ms."""
    return f"{1e3 * taken:.2f} ms"


__all__ = ["Measured", "Pair", "Place", "compare", "milliseconds", "pin", "rate", "seconds"]
