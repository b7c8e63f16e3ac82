"""When studies arrive: at random by hour of the day, or as they did arrive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from voxelvault.errors import UsageError

DAY = 1440
"""Minutes."""
_MOST = 1000
"""Studies an hour; more is a slip, and fills the memory."""

Minutes = npt.NDArray[np.float64]


class Arrivals(Protocol):
    """Where arrivals come from."""

    @property
    def per_day(self) -> float:
        """Studies a day, on average."""

    def draw(self, days: int, chance: np.random.Generator) -> Minutes:
        """Return the arrivals of so many days, (study,) minutes, ascending."""


@dataclass(frozen=True, slots=True)
class Poisson:
    """Independent arrivals, at a rate of its own for each hour of the day.

    Parameters
    ----------
    per_hour : tuple of float
        Studies an hour: 24 of them, the first from midnight on.

    Raises
    ------
    UsageError
        They are not 24, one is negative, or all are zero.
    """

    per_hour: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.per_hour) != 24 or not all(0 <= rate <= _MOST for rate in self.per_hour):
            raise UsageError(f"arrivals need a rate for each of 24 hours, from 0 to {_MOST} studies an hour")
        if not any(self.per_hour):
            raise UsageError("arrivals need a rate above 0 for one hour at least")

    @classmethod
    def steady(cls, per_hour: float) -> Poisson:
        """Return the same rate around the clock."""
        return cls((per_hour,) * 24)

    @property
    def per_day(self) -> float:
        """Studies a day, on average."""
        return float(sum(self.per_hour))

    def draw(self, days: int, chance: np.random.Generator) -> Minutes:
        """Return the arrivals of so many days: a Poisson number an hour, each anywhere within it."""
        counts = chance.poisson(np.tile(self.per_hour, days))
        hours = np.repeat(np.arange(len(counts)), counts)
        return np.sort((hours + chance.random(len(hours))) * 60.0)


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Arrivals as they were: whole days of a record, bursts and all, drawn with replacement.

    Parameters
    ----------
    days : tuple of (study,) float64
        Minutes since the midnight of each day.

    Raises
    ------
    UsageError
        No study arrived at all.
    """

    days: tuple[Minutes, ...]

    def __post_init__(self) -> None:
        if not any(len(day) for day in self.days):
            raise UsageError("no arrival was measured; name a file or a vault that holds some")

    @classmethod
    def of(cls, times: Sequence[np.datetime64] | npt.NDArray[np.datetime64]) -> Measured:
        """Return the days of a record.

        The first and the last, which it cuts short, are left out where it goes over more than three.

        Parameters
        ----------
        times : (study,) datetime64
            In the clock of the department; any order.
        """
        when = np.sort(np.asarray(times, "datetime64[s]"))
        dates = when.astype("datetime64[D]")
        if len(dates) and dates[-1] - dates[0] > np.timedelta64(3, "D"):
            whole = (dates > dates[0]) & (dates < dates[-1])
            when, dates = when[whole], dates[whole]
        if not len(when):
            return cls(())
        minutes = (when - dates).astype(np.float64) / 60.0
        every = np.arange(dates[0], dates[-1] + np.timedelta64(1, "D"))
        bounds = np.searchsorted(dates, every)
        return cls(tuple(np.split(minutes, bounds[1:])))

    @property
    def per_day(self) -> float:
        """Studies a day, on average."""
        return sum(map(len, self.days)) / len(self.days)

    def draw(self, days: int, chance: np.random.Generator) -> Minutes:
        """Return the arrivals of so many days, each a copy of one that was measured."""
        chosen = chance.integers(len(self.days), size=days)
        return np.concatenate([self.days[one] + place * DAY for place, one in enumerate(chosen)])
