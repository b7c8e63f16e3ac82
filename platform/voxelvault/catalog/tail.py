"""What the entries of a shared catalog did to its settled tables, held as Python values.

A commit touches seven tables with a row or two each. As SQL that is fifteen statements, as
dictionaries a millisecond; the engine is told when somebody asks a query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from voxelvault.catalog import statements
from voxelvault.catalog.catalog import Change
from voxelvault.catalog.schema import Table

Key = tuple[Any, ...]
Row = dict[str, Any]


class Settled(Protocol):
    """The tables below."""

    def there(self, table: Table, keys: Iterable[Key]) -> set[Key]:
        """Return those of the keys that have a row."""

    def rows(self, table: Table, by: Sequence[str], values: pa.Table) -> list[Row]:
        """Return the rows whose columns `by` have one of the values."""

    def cast(self, table: Table, rows: pa.Table) -> pa.Table:
        """Return rows with their columns in the table's types."""


@dataclass
class Touched:
    """One table's rows by their key, None where one was removed; whole packs' rows; settled keys hidden."""

    rows: dict[Key, Row | None] = field(default_factory=dict)
    packs: list[pa.Table] = field(default_factory=list)
    hidden: set[Key] = field(default_factory=set)


@dataclass
class News:
    """What of one table the engine wasn't told yet: keys with other rows, packs, keys hidden."""

    keys: set[Key] = field(default_factory=set)
    packs: list[pa.Table] = field(default_factory=list)
    hidden: set[Key] = field(default_factory=set)


class Tail:
    """The tables as entries left them.

    Parameters
    ----------
    tables : mapping of str to Table
        The schema.
    settled : Settled
        What they changed.
    """

    def __init__(self, tables: Mapping[str, Table], settled: Settled) -> None:
        self.tables = tables
        self.settled = settled
        self.touched = {name: Touched() for name in tables}
        self.news: dict[str, News] = {}

    def install(self, step: Step) -> None:
        """Let a step count."""
        for name, new in step.touched.items():
            old, news = self.touched[name], self.news.setdefault(name, News())
            old.rows |= new.rows
            old.packs += new.packs
            old.hidden |= new.hidden
            news.keys.update(new.rows)
            news.packs += new.packs
            news.hidden |= new.hidden

    def index(self, table: Table) -> None:
        """Turn the rows of whole packs into rows by their key."""
        touched, news = self.touched[table.name], self.news.setdefault(table.name, News())
        packs, touched.packs = touched.packs, []
        for rows in packs:
            touched.rows.update(by_key(table, rows))
        for rows in news.packs:
            news.keys.update(by_key(table, rows.select(list(table.key))))
        news.packs = []


class Step:
    """What the changes of one or more commits do, before it counts."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self._settled = tail.settled
        self.touched: dict[str, Touched] = {}

    def apply(self, changes: Sequence[Change]) -> int:
        """Apply the changes of one commit and return how many rows they touched.

        Raises
        ------
        CatalogError
            A column is unknown, a key is absent, empty or given twice.
        """
        known = self._known_packs(statements.units(changes, self._tail.tables))
        return sum(self._apply(self._tail.tables[change.table], change, known) for change in changes)

    def _apply(self, table: Table, change: Change, known: Sequence[str]) -> int:
        given = statements.new_rows(table, change, known)
        if not given.num_rows:
            return 0
        statements.check_columns(table, change, given.column_names)
        rows = self._settled.cast(table, given)
        if change.mode == "delete":
            return self._delete(table, rows)
        statements.check_keys(table, rows)
        if change.mode == "insert" and table.unit and table.unit != table.name:
            return self._add_packs(table, rows)
        return self._bring(table, by_key(table, rows), update=change.mode == "merge")

    def _add_packs(self, table: Table, rows: pa.Table) -> int:
        """Add the rows of packs that nobody knew, so of new keys."""
        own = self._own(table)
        if own.rows or self._tail.touched[table.name].rows:
            own.rows.update(by_key(table, rows))
        else:
            own.packs.append(rows)
        return int(rows.num_rows)

    def _bring(self, table: Table, rows: Mapping[Key, Row], *, update: bool) -> int:
        there, own, count = self._find(table, rows), self._own(table), 0
        for key, row in rows.items():
            old = there.get(key)
            if old is None:
                own.rows[key] = row
            elif update and any(_differ(old.get(name), value) for name, value in row.items()):
                own.rows[key] = {**old, **row}
            else:
                continue
            count += 1
        return count

    def _delete(self, table: Table, rows: pa.Table) -> int:
        if set(table.key) <= set(rows.column_names):
            there = self._find(table, by_key(table, rows))
        else:
            there = self._matching(table, rows)
        self._own(table).rows.update(dict.fromkeys(there))
        return len(there)

    def _find(self, table: Table, keys: Iterable[Key]) -> dict[Key, Row]:
        """Return the rows that there are for these keys; settled ones are hidden where they were."""
        own, tail = self._own(table), self._indexed(table)
        rows, below = {}, []
        for key in keys:
            if key in own.rows or key in tail.rows:
                row = own.rows[key] if key in own.rows else tail.rows[key]
                if row is not None:
                    rows[key] = row
            elif key not in own.hidden and key not in tail.hidden:
                below.append(key)
        found = self._settled.there(table, below) if below else set()
        if found:
            values = pa.table({name: [key[n] for key in found] for n, name in enumerate(table.key)})
            rows |= self._pull(table, table.key, values)
        return rows

    def _matching(self, table: Table, rows: pa.Table) -> dict[Key, Row]:
        """Return the rows, by their key, that have one of the given combinations of values."""
        own, tail, by = self._own(table), self._indexed(table), rows.column_names
        wanted = set(zip(*(column.to_pylist() for column in rows.columns), strict=True))
        # As in SQL, nothing equals NULL.
        wanted = {values for values in wanted if None not in values}
        found = {
            key: row
            for key, row in {**tail.rows, **own.rows}.items()
            if row is not None and tuple(row.get(name) for name in by) in wanted
        }
        return found | self._pull(table, by, rows)

    def _pull(self, table: Table, by: Sequence[str], values: pa.Table) -> dict[Key, Row]:
        own, tail = self._own(table), self._tail.touched[table.name]
        pulled = {}
        for row in self._settled.rows(table, by, values):
            key = tuple(row[name] for name in table.key)
            if key not in own.hidden and key not in tail.hidden:
                pulled[key] = row
        own.hidden.update(pulled)
        own.rows.update(pulled)
        return pulled

    def _indexed(self, table: Table) -> Touched:
        self._tail.index(table)
        own = self._own(table)
        packs, own.packs = own.packs, []
        for rows in packs:
            own.rows.update(by_key(table, rows))
        return self._tail.touched[table.name]

    def _own(self, table: Table) -> Touched:
        return self.touched.setdefault(table.name, Touched())

    def _known_packs(self, pack_ids: Sequence[str]) -> list[str]:
        if not pack_ids:
            return []
        table = self._tail.tables["packs"]
        own, tail = self._own(table), self._tail.touched["packs"]
        known, below = [], []
        for pack_id in pack_ids:
            key = (pack_id,)
            if key in own.rows or key in tail.rows:
                known += [pack_id] if (own.rows[key] if key in own.rows else tail.rows[key]) else []
            elif key not in own.hidden and key not in tail.hidden:
                below.append(key)
        return known + [key[0] for key in (self._settled.there(table, below) if below else ())]


def by_key(table: Table, rows: pa.Table) -> dict[Key, Row]:
    """Return rows as dictionaries by their key."""
    return {tuple(row[name] for name in table.key): row for row in rows.to_pylist()}


def as_table(table: Table, types: Mapping[str, pa.DataType], rows: Sequence[Row]) -> pa.Table:
    """Return rows as an Arrow table with all columns of a table."""
    return pa.table({name: pa.array([row.get(name) for row in rows], types[name]) for name in table.columns})


def as_keys(table: Table, types: Mapping[str, pa.DataType], keys: Iterable[Key]) -> pa.Table:
    """Return keys as an Arrow table of the key's columns."""
    listed = list(keys)
    return pa.table(
        {name: pa.array([key[n] for key in listed], types[name]) for n, name in enumerate(table.key)}
    )


def _differ(old: Any, new: Any) -> bool:
    # As in SQL, one NaN is like another.
    return bool(old != new and not (old != old and new != new))


__all__ = ["Key", "News", "Row", "Settled", "Step", "Tail", "Touched", "as_keys", "as_table", "by_key"]
