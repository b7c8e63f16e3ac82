"""Labels of series: what a table says of a study, series, instance or subject, joined by its key."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from voxelvault.errors import UsageError

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Labels:
    """Label columns of some series.

    Parameters
    ----------
    columns : tuple of str
        Names, in the order they were given.
    rows : mapping of str to mapping
        Opaque series id to column to value; a series that has no label is absent.
    """

    columns: tuple[str, ...] = ()
    rows: Mapping[str, Row] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    def of(self, series_id: str) -> Row:
        """Return a series' labels; empty where it has none."""
        return self.rows.get(series_id, {})

    def only(self, series_ids: Collection[str]) -> Labels:
        """Return the labels of these series alone."""
        return Labels(self.columns, {key: row for key, row in self.rows.items() if key in series_ids})


NO_LABELS = Labels()


def joined(parts: Iterable[Labels]) -> Labels:
    """Return labels side by side.

    Raises
    ------
    UsageError
        Two of them say something else of one series in one column.
    """
    columns: dict[str, None] = {}
    rows: dict[str, dict[str, Any]] = {}
    for labels in parts:
        columns |= dict.fromkeys(labels.columns)
        for series_id, row in labels.rows.items():
            there = rows.setdefault(series_id, {})
            if any(name in there and there[name] != value for name, value in row.items()):
                raise UsageError(
                    "the two selections have different labels in a column of the same name; "
                    "give the column another name in one of them"
                )
            there.update(row)
    return Labels(tuple(columns), rows)


__all__ = ["NO_LABELS", "Labels", "joined"]
