"""Selection and Cohort: which series to work with. Each method hands over to a room.

The unit is the series: `len`, iteration and labels count series, splits keep subjects together.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

from voxelvault.cohorts.selecting import Chosen
from voxelvault.resources import Resources

if TYPE_CHECKING:
    from voxelvault.cohorts.labels import Labels
    from voxelvault.series import Series


class Selection:
    """Series that were asked for; found at the first use, and the same from then on.

    Made by `vault.select`.
    """

    def __init__(self, chosen: Chosen) -> None:
        self._chosen = chosen

    def __reduce__(self) -> NoReturn:
        raise TypeError("a selection cannot be pickled; freeze it, and open the cohort by its name there")

    @property
    def resources(self) -> Resources:
        """The open vault's parts."""
        return self._chosen.resources

    @cached_property
    def series_ids(self) -> tuple[str, ...]:
        """Opaque ids of the series, in order."""
        return tuple(sorted(self._chosen.find()))

    @property
    def labels(self) -> Labels:
        """Labels of the series: `.columns`, and `.of(series_id)`."""
        return self._chosen.labels.only(set(self.series_ids))

    @property
    def cohort_id(self) -> str | None:
        """Opaque id of the cohort that these series are of; None for what was never frozen."""
        return None

    def readable_ids(self) -> tuple[str, ...]:
        """Return the ids of the series to open: those that a frozen cohort may still be read as."""
        return self.series_ids

    def __len__(self) -> int:
        return len(self.series_ids)

    def __iter__(self) -> Iterator[Series]:
        from voxelvault.cohorts.opening import one_by_one

        return one_by_one(self.resources, self.readable_ids())
