"""Labels of series and instances, as values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from voxelvault.errors import UsageError

Value = bool | int | float | str | list[str]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Labels:
    """Label columns of some series.

    Parameters
    ----------
    columns : tuple of str
        Names, in the order they were given.
    rows : mapping of str to mapping
        Opaque series id to column to value; a column without a value is absent.
    instances : mapping of str to mapping
        The same by opaque instance id, for the columns that were given by instance.
    reduced : mapping of str to str
        How the columns given by instance became those of the series; see `reduced_value`.
    """

    columns: tuple[str, ...] = ()
    rows: Mapping[str, Row] = field(default_factory=dict, repr=False)
    instances: Mapping[str, Row] = field(default_factory=dict, repr=False)
    reduced: Mapping[str, str] = field(default_factory=dict)

    def of(self, series_id: str, instance_id: str | None = None) -> dict[str, Any]:
        """Return the labels of a series, or of one of its instances; empty where there are none."""
        found = self.rows.get(series_id, {})
        if instance_id is None:
            return dict(found)
        own = {name: value for name, value in found.items() if name not in self.reduced}
        return own | dict(self.instances.get(instance_id, {}))

    def only(self, series_ids: Collection[str]) -> Labels:
        """Return the labels of these series alone; instances stay, they are found by their own ids."""
        rows = {key: row for key, row in self.rows.items() if key in series_ids}
        return Labels(self.columns, rows, self.instances, self.reduced)

    def with_columns(self, columns: Sequence[str]) -> Labels:
        """Return these columns of the series' labels alone.

        Raises
        ------
        UsageError
            There is no such column.
        """
        if not columns or set(columns) - set(self.columns):
            known = ", ".join(self.columns)
            there = (
                f"there are {known}" if known else "the vault's masks and reports have none for these series"
            )
            raise UsageError(f"there is no label of that name; {there}")
        rows = {key: {name: row[name] for name in columns if name in row} for key, row in self.rows.items()}
        return Labels(tuple(columns), rows)


NO_LABELS = Labels()


def joined(parts: Iterable[Labels]) -> Labels:
    """Return labels side by side.

    Raises
    ------
    UsageError
        Two of them say something else in one column.
    """
    columns: dict[str, None] = {}
    rows: dict[str, dict[str, Any]] = {}
    instances: dict[str, dict[str, Any]] = {}
    reduced: dict[str, str] = {}
    for labels in parts:
        columns |= dict.fromkeys(labels.columns)
        _into(rows, labels.rows)
        _into(instances, labels.instances)
        reduced |= labels.reduced
    return Labels(tuple(columns), rows, instances, reduced)


def _into(there: dict[str, dict[str, Any]], more: Mapping[str, Row]) -> None:
    for key, row in more.items():
        known = there.setdefault(key, {})
        if any(name in known and known[name] != value for name, value in row.items()):
            raise UsageError(
                "the two have different labels in a column of the same name; rename the column in one of them"
            )
        known.update(row)


REDUCE: Mapping[str, Callable[[Sequence[Any]], Any]] = {
    "same": lambda values: values[0] if all(value == values[0] for value in values) else None,
    "max": max,
    "min": min,
    "mean": lambda values: sum(values) / len(values),
}
"""How labels of instances become one of their series; `same`: only where all agree."""


def reduced_value(how: str, values: Sequence[Any]) -> Any:
    """Return a series' label from those of its instances; None where it has none.

    Raises
    ------
    UsageError
        There is no such way, or the values have no maximum or mean.
    """
    if how not in REDUCE:
        raise UsageError(f"reduce= is one of {', '.join(REDUCE)}")
    try:
        return REDUCE[how](values) if values else None
    except TypeError:
        raise UsageError(f"these labels have no {how}; use reduce='same'") from None


def of_series(instances: Mapping[str, Row], reduced: Mapping[str, str]) -> dict[str, Any]:
    """Return the labels of one series from those of its instances."""
    found = {}
    for name, how in reduced.items():
        value = reduced_value(how, [row[name] for row in instances.values() if name in row])
        if value is not None:
            found[name] = value
    return found


__all__ = ["NO_LABELS", "REDUCE", "Labels", "joined", "of_series", "reduced_value"]
