"""Trusted queries on a private copy of the catalog, taken anew when the file changed.

A copy never changes, so its cursors keep one transaction open: what the engine looks up of a table
at its first use in a transaction costs several times the query itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from voxelvault.catalog.catalog_file import CatalogFile, FileState
from voxelvault.catalog.engine import Connection, bound, interrupted, quoted

Params = Mapping[str, Any] | None

RENEWED = 8
"""Copies, or leases, after which an instance is made anew: it never forgets the files it has read."""


@dataclass
class _Version:
    """One attached copy, how many queries are on it, and cursors that wait for the next."""

    connection: Connection
    alias: str
    state: FileState
    users: int = 0
    idle: list[Connection] = field(default_factory=list)

    def drop_idle(self) -> None:
        while self.idle:
            self.idle.pop().close()


class Readers:
    """One engine instance and the copies attached to it; safe to share between threads.

    Parameters
    ----------
    file : CatalogFile
        What is copied.
    instance : callable
        Makes an instance of its own.
    attach : callable
        `attach(connection, alias, path)` opens a copy read-only.
    """

    def __init__(
        self,
        file: CatalogFile,
        instance: Callable[[], Connection],
        attach: Callable[[Connection, str, Path], None],
    ) -> None:
        self._file = file
        self._instance = instance
        self.connection = instance()
        self._attach = attach
        self._guard = threading.Lock()
        self._count = 0
        self._current: _Version | None = None

    @contextmanager
    def cursor(self) -> Iterator[tuple[Connection, str]]:
        """Lend a cursor on the present catalog, with the name it is attached under."""
        with self._guard:
            version = self._fresh()
            version.users += 1
            cursor = version.idle.pop() if version.idle else None
        try:
            cursor = cursor or self._begun(version)
            yield cursor, version.alias
            version.idle.append(cursor)
        except BaseException as error:
            # An error ends the transaction, and an interrupt may leave anything behind.
            stopped = interrupted(error)
            if cursor is not None:
                if stopped:
                    # The engine's threads are still at it, and closing would wait for them.
                    cursor.interrupt()
                cursor.close()
            if stopped:
                raise KeyboardInterrupt from None
            raise
        finally:
            with self._guard:
                version.users -= 1
                self._retire(version)

    def query(self, sql: str, params: Params = None) -> pa.Table:
        """Return all rows: a half-fetched cursor would keep the copy open."""
        with self.cursor() as (cursor, _):
            return cursor.execute(bound(sql, params)).to_arrow_table()

    def close(self) -> None:
        """Let go of the instance."""
        with self._guard:
            if self._current is not None:
                self._current.drop_idle()
            self._current = None
            self.connection.close()

    def _begun(self, version: _Version) -> Connection:
        cursor = version.connection.cursor()
        cursor.execute("BEGIN")
        cursor.execute(f"USE {quoted(version.alias)}")
        return cursor

    def _fresh(self) -> _Version:
        old = self._current
        if old is not None and old.state.same(self._file.state()):
            return old
        self._current = self._take()
        if old is not None:
            self._retire(old)
        return self._current

    def _take(self) -> _Version:
        copy, state = self._file.copy()
        self._count += 1
        if self._count % RENEWED == 0:
            self.connection = self._instance()
        alias = f"lake_{self._count}"
        try:
            self._attach(self.connection, alias, copy)
        finally:
            # The engine holds the open file: no copy outlives the process.
            self._file.drop(copy)
        return _Version(self.connection, alias, state)

    def _retire(self, version: _Version) -> None:
        if version.users == 0 and version is not self._current:
            version.drop_idle()
            # A former instance goes with the last of its versions; closing it would end their cursors.
            if version.connection is self.connection:
                version.connection.execute(f"DETACH {quoted(version.alias)}")


__all__ = ["RENEWED", "Params", "Readers"]
