"""Who reads: hours on duty, and how long a study takes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from voxelvault.errors import UsageError
from voxelvault_triage.simulation.arrivals import DAY, Minutes

_SHIFT = re.compile(r"(\d{1,2})(?::(\d\d))?-(\d{1,2})(?::(\d\d))?")


@dataclass(frozen=True, slots=True)
class Shift:
    """One reader's hours on duty, every day the same; past midnight where they end before they begin.

    Parameters
    ----------
    begin : float
        Minutes since midnight, 0 to 1440.
    length : float
        Minutes, above 0 and at most 1440, which is around the clock.

    Raises
    ------
    UsageError
        Out of these bounds.
    """

    begin: float = 0.0
    length: float = DAY

    def __post_init__(self) -> None:
        if not (0 <= self.begin <= DAY and 0 < self.length <= DAY):
            raise UsageError("a shift begins within the day and lasts at most 24 hours")

    @classmethod
    def parse(cls, text: str) -> Shift:
        """Return a shift written as ``8-18`` or ``20:30-7``; ``0-24`` is around the clock.

        Raises
        ------
        UsageError
            It is written otherwise.
        """
        found = _SHIFT.fullmatch(text.strip())
        if found is None:
            raise UsageError("write a shift as hours of the day, such as 8-18, 20:30-7 or 0-24")
        begin, end = (int(found[at]) * 60 + int(found[at + 1] or 0) for at in (1, 3))
        if max(begin, end) > DAY:
            raise UsageError("hours of a shift end at 24; write one past midnight as 20-8")
        return cls(begin % DAY, (end - begin) % DAY or DAY)

    def on_duty(self, now: float) -> float:
        """Return when the reader may next begin a study: now, or at the next shift's begin."""
        since = (now - self.begin) % DAY
        return now if since < self.length else now + DAY - since


@dataclass(frozen=True, slots=True)
class Reading:
    """How long a study takes to read.

    Parameters
    ----------
    mean : float
        Minutes, above 0.
    deviation : float or None
        Standard deviation in minutes of a log-normal time, 0 for always the same; None for an
        exponential one, which is what textbook formulas assume.

    Raises
    ------
    UsageError
        Out of these bounds.
    """

    mean: float
    deviation: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.mean < math.inf or not 0 <= (self.deviation or 0) < math.inf:
            raise UsageError("reading takes more than 0 minutes, and its deviation is 0 or more")

    def draw(self, count: int, chance: np.random.Generator) -> Minutes:
        """Return reading times of so many studies, (study,) minutes."""
        if self.deviation is None:
            return chance.exponential(self.mean, count)
        variance = math.log1p((self.deviation / self.mean) ** 2)
        return chance.lognormal(math.log(self.mean) - variance / 2, math.sqrt(variance), count)


def load(per_day: float, reading: Reading, shifts: tuple[Shift, ...]) -> float:
    """Return the share of the readers' time that reading takes; from 1 on the list grows without end."""
    return per_day * reading.mean / sum(shift.length for shift in shifts)
