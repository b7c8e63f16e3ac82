"""How long to rest between two looks for something that others send."""

from __future__ import annotations

import time
from collections.abc import Callable

LEAST = 0.05
"""Seconds; a look costs some milliseconds on either side."""
_SHARE = 0.1


class Pace:
    """Rests a tenth of the time since something last came: who waits long is found a little later.

    Parameters
    ----------
    most : float
        Seconds of the longest rest.
    clock, sleep : callable
        The time, and what rests.
    """

    def __init__(
        self,
        most: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._most, self._clock, self._sleep = most, clock, sleep
        self.came()

    def came(self) -> None:
        """Note that something came; the next may come soon."""
        self._last = self._clock()

    def rest(self) -> None:
        """Rest before the next look."""
        waited = self._clock() - self._last
        self._sleep(min(max(_SHARE * waited, LEAST), self._most))


__all__ = ["LEAST", "Pace"]
