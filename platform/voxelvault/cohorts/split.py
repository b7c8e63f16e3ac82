"""The parts of a split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from functools import cached_property
from typing import Generic, TypeVar

from voxelvault.cohorts.parts import Assigned, check, part, with_strata
from voxelvault.cohorts.selecting import Chosen
from voxelvault.cohorts.split_report import SplitReport, report
from voxelvault.errors import UsageError

S = TypeVar("S", bound=Sized)


class Split(Generic[S]):
    """The parts of a selection: unpack it, or take `split["train"]`.

    Attributes
    ----------
    recipe : Recipe
        Shares, seed and columns.
    """

    def __init__(self, chosen: Chosen, found: Assigned, make: Callable[[Chosen], S]) -> None:
        self._chosen, self._found, self._make = chosen, found, make
        self.recipe = found.recipe

    @cached_property
    def parts(self) -> dict[str, S]:
        """The parts by name, in the order of the shares."""
        names = self.recipe.parts
        return {name: self._make(part(self._chosen, self._found, name)) for name in names}

    def __iter__(self) -> Iterator[S]:
        return iter(self.parts.values())

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, name: str) -> S:
        if name not in self.parts:
            raise UsageError(f"there is no part {name!r}; this split has {', '.join(self.parts)}")
        return self.parts[name]

    def report(self) -> SplitReport:
        """Return how many people and series are in each part and stratum."""
        return report(self._chosen.resources, with_strata(self._chosen, self._found))

    def check(self) -> None:
        """Make sure that nobody stands in two parts, as far as the vault knows today.

        Raises
        ------
        SplitViolation
            Subjects of two parts were merged since, or may be one person.
        """
        check(self._chosen.resources, self._found.part_of)

    def __repr__(self) -> str:
        told = ", ".join(f"{name} {len(ids)} series" for name, ids in self.parts.items())
        return f"<Split by subject: {told}; .report() counts people>"

    def _repr_html_(self) -> str:
        return self.report()._repr_html_()


__all__ = ["Split"]
