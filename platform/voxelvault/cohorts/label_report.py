"""How a table of labels fitted the series, in counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_TOLD = 6
"""Columns that a line names; reports have dozens of findings."""


@dataclass(frozen=True)
class LabelReport:
    """How a table of labels fitted the series.

    Parameters
    ----------
    series, labelled : int
        Series of the selection, and those of them that got a label: any, or with `columns=` each of them.
    rows, unmatched_rows, elsewhere, without_key : int
        Rows of the table; those that fit no series of the selection, and of these those that fit
        another series of the vault; those whose key is empty.
    differing : int
        Series whose instances have different labels, so that the series itself has none.
    unmatched : tuple of str
        The keys that fit no series of the selection; not shown in reprs.
    unlabelled : tuple of str
        Opaque ids of the series without a label.
    left_out : tuple of str
        Columns that became no labels, since they are called as identifying attributes are.
    by_column : mapping of str to int
        Series of the selection that got a label in each column.
    """

    series: int
    labelled: int
    rows: int
    unmatched_rows: int = 0
    elsewhere: int = 0
    without_key: int = 0
    differing: int = 0
    unmatched: tuple[str, ...] = field(default=(), repr=False)
    unlabelled: tuple[str, ...] = field(default=(), repr=False)
    left_out: tuple[str, ...] = ()
    by_column: Mapping[str, int] = field(default_factory=dict, hash=False)

    @property
    def without_label(self) -> int:
        """Number of series without a label."""
        return len(self.unlabelled)

    def __str__(self) -> str:
        told = [f"{self.labelled} of {self.series} series labelled"]
        if any(count != self.labelled for count in self.by_column.values()):
            told.append(f"by column: {self._columns()}")
        told += [f"{self.without_label} without label"] if self.unlabelled else []
        if self.unmatched_rows:
            other = f" ({self.elsewhere} fit series outside)" if self.elsewhere else ""
            told.append(f"{self.unmatched_rows} of {self.rows} rows fit none{other}")
        told += [f"{self.without_key} rows without key"] if self.without_key else []
        told += [f"{self.differing} series with different labels by instance"] if self.differing else []
        if self.left_out:
            told.append(f"{len(self.left_out)} identifying columns left out; columns= takes them")
        return "; ".join(told)

    def _columns(self) -> str:
        told = [f"{name} {count}" for name, count in list(self.by_column.items())[:MOST_TOLD]]
        more = len(self.by_column) - len(told)
        return ", ".join(told) + (f" and {more} more columns" if more else "")


def by_column(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many series have a label in each column."""
    return {name: sum(name in row for row in rows) for name in columns}


__all__ = ["LabelReport", "by_column"]
