"""No worker but this process: for small machines, notebooks and tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from voxelvault.crew import Done, Unit
from voxelvault.reading.lending import OpenLoan, grant_of
from voxelvault.resources import Resources

LIFETIME = 3600.0
"""Seconds that what is lent to oneself is good for."""


class OwnHands:
    """Does each unit at once; implements `voxelvault.crew.Crew`.

    Parameters
    ----------
    resources : Resources
        The open vault.
    """

    hands = 1

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def run(
        self, makers: Iterable[Callable[[], Unit]], stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Done]:
        """Do the work, and yield each unit as it is done."""
        for number, maker in enumerate(makers):
            unit = maker()
            grant = grant_of(self._resources, unit.packs, b"", unit.keys, "read", (), LIFETIME)
            yield Done(number, unit, unit.work(OpenLoan(grant), unit.argument))
            if stop():
                return


__all__ = ["OwnHands"]
