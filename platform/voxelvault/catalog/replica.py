"""One process's copy of a shared catalog: DuckLake's settled tables, and the entries since, in memory.

The tables that queries see are views: rows of the settled tables but those that an entry touched,
and the rows that entries left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import duckdb
import pyarrow as pa

from voxelvault.catalog import statements
from voxelvault.catalog.catalog import CommitInfo
from voxelvault.catalog.ducklake_sql import LAKE, attach, column_types
from voxelvault.catalog.engine import Connection, interrupted, quoted
from voxelvault.catalog.schema import Table
from voxelvault.catalog.tail import Key, News, Row, Step, Tail, as_keys, as_table

SETTLED = "settled"
"""Name under which DuckLake's tables are attached."""

Columns = Mapping[str, Mapping[str, str]]

TAIL = "tail"
"""Database in memory with the rows that entries left, and in its schema `hidden` the keys they touched."""

_MOST_KEYS = 200_000
"""Of settled rows whose keys are held in memory; beyond, DuckLake is asked, ten times slower."""

_INCOMING = "incoming_table"


def overlay(connection: Connection, tables: Mapping[str, Table], settled: Columns) -> Mapping[str, Table]:
    """Make empty tables for entries over the attached settled ones, and the views that join both.

    Parameters
    ----------
    connection : Connection
        With `SETTLED` attached.
    tables : mapping of str to Table
        The schema. Columns that only one side has are in the views as well.
    settled : mapping of str to mapping of str to str
        Columns and types of the settled tables.

    Returns
    -------
    mapping of str to Table
        The tables with the columns of both sides.
    """
    whole = {name: _wider(table, settled.get(name, {})) for name, table in tables.items()}
    connection.execute(f"ATTACH ':memory:' AS {TAIL}")
    connection.execute(f"CREATE SCHEMA {TAIL}.hidden")
    connection.execute(f"ATTACH ':memory:' AS {LAKE}")
    for table in whole.values():
        columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in table.columns.items())
        keys = ", ".join(f"{quoted(name)} {table.columns[name]}" for name in table.key)
        connection.execute(f"CREATE TABLE {TAIL}.main.{quoted(table.name)} ({columns})")
        connection.execute(f"CREATE TABLE {TAIL}.hidden.{quoted(table.name)} ({keys})")
        left = f"SELECT {_names(table.columns)} FROM {TAIL}.main.{quoted(table.name)}"  # noqa: S608
        rows = f"{_settled_rows(table, settled)} UNION ALL {left}"
        connection.execute(f"CREATE VIEW {LAKE}.main.{quoted(table.name)} AS {rows}")
    return MappingProxyType(whole)


class Replica:
    """A base and the entries applied to it. Its owner sees to it that one thread at a time changes it.

    Parameters
    ----------
    connection : Connection
        An instance of its own, with the sealed file system registered.
    path : Path
        DuckLake's metadata file; encrypted.
    password : str
        Opens it.
    tables : mapping of str to Table
        The schema.
    number, info : int, CommitInfo
        Which base it is, and its state.
    key_id : str
        Key of base and entries.
    """

    def __init__(
        self,
        connection: Connection,
        path: Path,
        password: str,
        tables: Mapping[str, Table],
        number: int,
        info: CommitInfo,
        key_id: str,
    ) -> None:
        self.connection = connection
        self.path = path
        self.password = password
        self.number = number
        self.info = info
        self.key_id = key_id
        self.users = 0
        self.entries = self.weight = 0
        """How many entries were applied, and how many sealed bytes they have."""
        attach(connection, SETTLED, path, password, read_only=True)
        self.below = SettledRows(connection.cursor(), column_types(connection, SETTLED))
        self.tables = overlay(connection, tables, self.below.columns)
        self.below.learn(self.tables)
        self.tail = Tail(self.tables, self.below)
        self._writer = connection.cursor()
        self._version = 0
        self._idle: list[tuple[int, Connection]] = []

    @contextmanager
    def cursor(self) -> Iterator[Connection]:
        """Lend a cursor whose open transaction sees the state that the engine was told last.

        A replica changes seldom, so its cursors keep one transaction open: what the engine looks up
        of a table at its first use in one costs several times the query itself.
        """
        version = self._version
        cursor = self._waiting(version)
        try:
            yield cursor
        except BaseException as error:
            stopped = interrupted(error)
            if stopped:
                # The engine's threads are still at it, and closing would wait for them.
                cursor.interrupt()
            cursor.close()
            if stopped:
                raise KeyboardInterrupt from None
            raise
        self._idle.append((version, cursor))

    def step(self) -> Step:
        """Return a step from the present state."""
        return Step(self.tail)

    def install(self, step: Step, info: CommitInfo, weight: int) -> None:
        """Let a step count, which leads to a state by so many sealed bytes."""
        self.tail.install(step)
        self.entries += info.snapshot - self.info.snapshot
        self.weight += weight
        self.info = info

    def tell(self) -> None:
        """Tell the engine what was installed, in one transaction; cursors before it are not lent again."""
        if not self.tail.news:
            return
        self._writer.execute("BEGIN")
        try:
            for name, news in self.tail.news.items():
                self._tell(self.tables[name], news)
            self._writer.execute("COMMIT")
        except BaseException:
            with suppress(duckdb.Error):
                self._writer.execute("ROLLBACK")
            raise
        self.tail.news = {}
        self._version += 1
        self._drop_idle()

    def touched(self, cursor: Connection) -> Iterator[tuple[Table, pa.Table, pa.Table]]:
        """Yield each table that entries touched: keys of settled rows to take out, and rows to put in."""
        for table in self.tables.values():
            hidden, rows = (
                cursor.execute(f"FROM {TAIL}.{schema}.{quoted(table.name)}").to_arrow_table()
                for schema in ("hidden", "main")
            )
            if hidden.num_rows or rows.num_rows:
                yield table, hidden, rows

    def close(self) -> None:
        """Let go of the instance and its file."""
        self._drop_idle()
        self._writer.close()
        self.connection.close()
        self.path.unlink(missing_ok=True)

    def _waiting(self, version: int) -> Connection:
        # Another thread may take the last one between a look and a grasp.
        with suppress(IndexError):
            while True:
                seen, cursor = self._idle.pop()
                if seen == version:
                    return cursor
                cursor.close()
        cursor = self.connection.cursor()
        cursor.execute("BEGIN")
        cursor.execute(f"USE {LAKE}")
        return cursor

    def _drop_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop()[1].close()

    def _tell(self, table: Table, news: News) -> None:
        types, rows = self.below.types[table.name], self.tail.touched[table.name].rows
        target, keys = f"{TAIL}.main.{quoted(table.name)}", as_keys(table, types, news.keys)
        put(self._writer, f"{TAIL}.hidden.{quoted(table.name)}", as_keys(table, types, news.hidden))
        take_out(self._writer, target, table, keys)
        left = [row for key in news.keys if (row := rows[key]) is not None]
        for new in (as_table(table, types, left), *news.packs):
            put(self._writer, target, new)


class SettledRows:
    """The settled tables of a replica, as its tail asks for them.

    Parameters
    ----------
    cursor : Connection
        With `SETTLED` attached.
    columns : mapping of str to mapping of str to str
        Columns and types of the settled tables.
    """

    def __init__(self, cursor: Connection, columns: Columns) -> None:
        self._cursor = cursor
        self.columns = columns
        self.types: dict[str, dict[str, pa.DataType]] = {}
        self._keys: dict[str, set[Key] | None] = {}

    def learn(self, tables: Mapping[str, Table]) -> None:
        """Ask the engine which Arrow types it gives each column."""
        for table in tables.values():
            found = self._cursor.execute(f"FROM {TAIL}.main.{quoted(table.name)} LIMIT 0").to_arrow_table()
            self.types[table.name] = {column.name: column.type for column in found.schema}

    def there(self, table: Table, keys: Iterable[Key]) -> set[Key]:
        """Return those of the keys that have a row."""
        if table.name not in self._keys:
            self._keys[table.name] = self._load(table)
        known = self._keys[table.name]
        if known is not None:
            return known.intersection(keys)
        found = self.rows(table, table.key, as_keys(table, self.types[table.name], keys))
        return {tuple(row[name] for name in table.key) for row in found}

    def rows(self, table: Table, by: Sequence[str], values: pa.Table) -> list[Row]:
        """Return the rows whose columns `by` have one of the values."""
        match = " AND ".join(f"v.{quoted(name)} = r.{quoted(name)}" for name in by)
        self._cursor.register(_INCOMING, values.select(list(by)))
        try:
            found = self._cursor.execute(
                f"SELECT v.* FROM ({_settled_rows(table, self.columns)}) AS v "  # noqa: S608
                f"SEMI JOIN {_INCOMING} AS r ON ({match})"
            ).to_arrow_table()
        finally:
            self._cursor.unregister(_INCOMING)
        rows: list[Row] = found.to_pylist()
        return rows

    def cast(self, table: Table, rows: pa.Table) -> pa.Table:
        """Return rows with their columns in the table's types."""
        types = self.types[table.name]
        try:
            return rows.cast(pa.schema([(name, types[name]) for name in rows.column_names]))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            # The engine casts more than Arrow does, and refuses what is none.
            return self._cast(table, rows)

    def _cast(self, table: Table, rows: pa.Table) -> pa.Table:
        self._cursor.register(statements.INCOMING, rows)
        try:
            return self._cursor.execute(statements.cast(table, rows.column_names)).to_arrow_table()
        finally:
            self._cursor.unregister(statements.INCOMING)

    def _load(self, table: Table) -> set[Key] | None:
        settled = f"{SETTLED}.main.{quoted(table.name)}"
        count = self._cursor.execute(f"SELECT count(*) FROM {settled}").fetchall()[0][0]  # noqa: S608
        if count > _MOST_KEYS:
            return None
        return set(self._cursor.execute(f"SELECT {_names(table.key)} FROM {settled}").fetchall())  # noqa: S608


def put(connection: Connection, target: str, rows: pa.Table) -> None:
    """Add rows to a table of the same columns."""
    if rows.num_rows:
        connection.register(_INCOMING, rows)
        try:
            connection.execute(f"INSERT INTO {target} BY NAME FROM {_INCOMING}")
        finally:
            connection.unregister(_INCOMING)


def take_out(connection: Connection, target: str, table: Table, keys: pa.Table) -> None:
    """Delete the rows with these keys from a table."""
    if keys.num_rows:
        names = _names(table.key)
        connection.register(_INCOMING, keys)
        try:
            connection.execute(f"DELETE FROM {target} WHERE ({names}) IN (SELECT {names} FROM {_INCOMING})")  # noqa: S608
        finally:
            connection.unregister(_INCOMING)


def _wider(table: Table, settled: Mapping[str, str]) -> Table:
    more = {name: kind for name, kind in settled.items() if name not in table.columns}
    return replace(table, columns=MappingProxyType({**table.columns, **more}))


def _settled_rows(table: Table, settled: Columns) -> str:
    there = settled.get(table.name, {})
    columns = ", ".join(
        f"s.{quoted(name)}" if name in there else f"CAST(NULL AS {kind}) AS {quoted(name)}"
        for name, kind in table.columns.items()
    )
    match = " AND ".join(f"s.{quoted(name)} = h.{quoted(name)}" for name in table.key)
    return (
        f"SELECT {columns} FROM {SETTLED}.main.{quoted(table.name)} AS s "  # noqa: S608
        f"ANTI JOIN {TAIL}.hidden.{quoted(table.name)} AS h ON ({match})"
    )


def _names(columns: Iterable[str]) -> str:
    return ", ".join(map(quoted, columns))


__all__ = ["SETTLED", "TAIL", "Replica", "SettledRows", "overlay", "put", "take_out"]
