"""Waiting with and without re-ordering, over many repeats of the same weeks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voxelvault.errors import UsageError
from voxelvault_triage.simulation.arrivals import DAY, Arrivals, Minutes
from voxelvault_triage.simulation.flags import OperatingPoint
from voxelvault_triage.simulation.queueing import FIRST_COME, FLAGGED, OTHER, UNKNOWN, Day, Order, waits
from voxelvault_triage.simulation.readers import Reading, Shift, load

GROUPS: Mapping[str, Callable[[Day], npt.NDArray[np.bool_]]] = {
    "positive": lambda day: day.positive,
    "negative": lambda day: ~day.positive,
    "flagged": lambda day: day.flagged,
    "not flagged": lambda day: day.level == OTHER,
    "not analysed": lambda day: day.level == UNKNOWN,
    "positive, missed": lambda day: day.positive & ~day.flagged,
    "all": lambda day: np.ones(len(day.arrival), np.bool_),
}
"""Studies by what they are and by what the model says of them."""


@dataclass(frozen=True, slots=True)
class Department:
    """What is simulated.

    Parameters
    ----------
    arrivals : Arrivals
        When studies come.
    shifts : tuple of Shift
        One a reader.
    reading : Reading
        How long a study takes.
    prevalence : float
        Share of positives, 0 to 1.
    model : OperatingPoint
        What is flagged.
    order : Order
        The list with re-ordering.
    not_analysed : float
        Share of studies that the model doesn't take, 0 to 1, positive or not.

    Raises
    ------
    UsageError
        No reader, or a share out of bounds.
    """

    arrivals: Arrivals
    shifts: tuple[Shift, ...]
    reading: Reading
    prevalence: float
    model: OperatingPoint
    order: Order
    not_analysed: float = 0.0

    def __post_init__(self) -> None:
        if not self.shifts or not (0 <= self.prevalence <= 1 and 0 <= self.not_analysed <= 1):
            raise UsageError("there is one reader at least, and shares of studies lie between 0 and 1")

    @property
    def load(self) -> float:
        """Share of the readers' time that reading takes."""
        return load(self.arrivals.per_day, self.reading, self.shifts)

    def draw(self, days: int, chance: np.random.Generator) -> Day:
        """Return what comes in on so many days."""
        arrival = self.arrivals.draw(days, chance)
        count = len(arrival)
        positive = chance.random(count) < self.prevalence
        level = np.where(self.model.draw(positive, chance), FLAGGED, OTHER)
        level[chance.random(count) < self.not_analysed] = UNKNOWN
        return Day(arrival, self.reading.draw(count, chance), positive, level, chance.random(count))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over repeats, with its 95 % interval (Student's t); nan where no repeat gave a value."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """Waiting of one group of studies, in minutes.

    Parameters
    ----------
    studies : float
        In a repeat, on average.
    before, after : mapping of str to Estimate
        First come first read, and re-ordered: ``mean``, ``median``, ``p95`` and ``longest``.
    saved : Estimate
        Mean wait before less after, repeat by repeat on the same studies.
    """

    studies: float
    before: Mapping[str, Estimate]
    after: Mapping[str, Estimate]
    saved: Estimate


def compare(
    department: Department,
    *,
    days: int = 14,
    warm_up: int = 2,
    repeats: int = 100,
    seed: int = 0,
    progress: Callable[[Iterator[int]], Iterator[int]] = iter,
) -> dict[str, Waiting]:
    """Return waiting by group, with and without re-ordering; the same for the same seed.

    Groups that no study was of are left out.

    Parameters
    ----------
    department : Department
        What is simulated.
    days, warm_up : int
        Days that count in a repeat, and days before them, which fill the list.
    repeats : int
        Two at least: the interval comes from them.
    seed : int
        Each repeat has a stream of its own (NumPy's SeedSequence.spawn).
    progress : callable
        Wraps the iterator over repeats.

    Raises
    ------
    UsageError
        Fewer than 2 repeats or 1 day, or days of warming up below 0.
    """
    if repeats < 2 or days < 1 or warm_up < 0:
        raise UsageError("a simulation takes 2 repeats and 1 day at least")
    streams = np.random.SeedSequence(seed).spawn(repeats)
    found = [
        _repeat(department, days, warm_up, np.random.default_rng(streams[at]))
        for at in progress(iter(range(repeats)))
    ]
    told = {name: _waiting(np.array([one[name] for one in found])) for name in GROUPS}
    return {name: waiting for name, waiting in told.items() if waiting.studies}


def _repeat(
    department: Department, days: int, warm_up: int, chance: np.random.Generator
) -> dict[str, Minutes]:
    """Return for each group the number of studies, then its figures before and after, as one row."""
    day = department.draw(days + warm_up, chance)
    counts = day.arrival >= warm_up * DAY
    before = waits(day, department.shifts, FIRST_COME)
    after = waits(day, department.shifts, department.order)
    return {
        name: np.concatenate(([np.sum(chosen)], _figures(before[chosen]), _figures(after[chosen])))
        for name, choose in GROUPS.items()
        for chosen in (choose(day) & counts,)
    }


_FIGURES = ("mean", "median", "p95", "longest")


def _figures(minutes: Minutes) -> Minutes:
    if not len(minutes):
        return np.full(len(_FIGURES), np.nan)
    return np.array([np.mean(minutes), *np.percentile(minutes, (50, 95)), np.max(minutes)])


def _waiting(rows: npt.NDArray[np.float64]) -> Waiting:
    """Return a group's waiting from its rows, (repeat, figure)."""
    before, after = rows[:, 1:5], rows[:, 5:9]
    return Waiting(
        float(np.mean(rows[:, 0])),
        {name: estimate(before[:, at]) for at, name in enumerate(_FIGURES)},
        {name: estimate(after[:, at]) for at, name in enumerate(_FIGURES)},
        estimate(before[:, 0] - after[:, 0]),
    )


def estimate(values: npt.NDArray[np.float64]) -> Estimate:
    """Return the mean of independent repeats with its 95 % interval; repeats without a value don't count."""
    from scipy.stats import t

    known = values[np.isfinite(values)]
    if len(known) < 2:
        mean = float(known[0]) if len(known) else float("nan")
        return Estimate(mean, float("nan"), float("nan"))
    mean = float(np.mean(known))
    half = float(t.ppf(0.975, len(known) - 1) * np.std(known, ddof=1) / np.sqrt(len(known)))
    return Estimate(mean, mean - half, mean + half)
