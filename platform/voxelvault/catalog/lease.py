"""The catalog held for writing: commits, and the rewriting that maintenance does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, suppress
from functools import partial
from math import inf
from typing import Protocol

import duckdb
import pyarrow as pa

from voxelvault.catalog import statements
from voxelvault.catalog.catalog import Change, CommitInfo, MaintenanceReport
from voxelvault.catalog.ducklake_sql import (
    LAKE,
    columns,
    compactions,
    create_table,
    data_files,
    expirations,
    head,
    metadata,
    set_digest,
)
from voxelvault.catalog.engine import Connection, all_threads, bound, quoted, translated
from voxelvault.catalog.readers import Params
from voxelvault.catalog.schema import Table
from voxelvault.crypto.key_tree import Role
from voxelvault.errors import CatalogError, IntegrityError, ObjectMissing
from voxelvault.model import ObjectInfo, ObjectStore
from voxelvault.storage.layout import CATALOG, object_id_of, object_name
from voxelvault.storage.sealed_fs import FileKeys, SealedFileSystem


class CatalogKeys(FileKeys, Protocol):
    """What the catalog asks of the key ring."""

    @property
    def vault_id(self) -> str:
        """The vault's id."""

    def keys_of(self, role: Role) -> Sequence[str]:
        """Return the ids of the keys with this role, oldest first."""

    def sub_key(self, key_id: str, label: str) -> bytes:
        """Derive a key for one use."""

    def commit(self) -> object:
        """Make staged keys durable."""

    def refresh(self) -> None:
        """Take over the keys that other processes made durable."""


class Lockable(Protocol):
    """The catalog file as far as a commit goes: it is held still for that moment."""

    def locked(self) -> AbstractContextManager[None]:
        """Hold the file still."""


class DuckLakeLease:
    """The catalog held for writing. Valid only inside `DuckLakeCatalog.lease`, in one thread."""

    def __init__(
        self,
        connection: Connection,
        tables: Mapping[str, Table],
        keys: CatalogKeys,
        file: Lockable,
        files: SealedFileSystem,
    ) -> None:
        self._connection = connection
        self._tables = tables
        self._keys = keys
        self._file = file
        self._files = files
        self._begun = False

    def commit(
        self, changes: Sequence[Change], before_commit: Callable[[], object] | None = None
    ) -> CommitInfo:
        """Commit the changes, all or none; return the state, which is the former one if nothing changed."""
        for change in changes:
            if change.table not in self._tables:
                raise CatalogError(f"no table {change.table!r}: use one of {', '.join(self._tables)}")

        def bring_in() -> None:
            known = self._known(statements.units(changes, self._tables))
            for change in changes:
                statements.apply(self._connection, LAKE, self._tables[change.table], change, known)
            if before_commit is not None:
                before_commit()

        self.transaction(bring_in, statements.digest(head(self._connection, LAKE).digest, changes))
        return head(self._connection, LAKE)

    def query(self, sql: str, params: Params = None) -> pa.Table:
        """Return rows as of the last commit."""
        with translated("answer a query", self._files.failures.take):
            # Queries and the commit that follows share a transaction: what the engine looks up of a
            # table at its first use in one costs several times the query itself.
            self._begin()
            try:
                self._connection.execute(f"USE {LAKE}")
                found = self._connection.execute(bound(sql, params)).to_arrow_table()
                self._connection.execute("USE memory")
            except BaseException:
                self.let_go()
                raise
            return found

    def let_go(self) -> None:
        """End the transaction that queries began."""
        if self._begun:
            self._begun = False
            with suppress(duckdb.Error):
                self._connection.execute("ROLLBACK")
            self._connection.execute("USE memory")

    def _begin(self) -> None:
        if not self._begun:
            self._connection.execute("BEGIN")
            self._begun = True

    def add_columns(self) -> None:
        """Add the tables and columns that the schema has and the file lacks."""
        have = {(table, column.lower()) for table, column in columns(self._connection)}
        there = {table for table, _ in have}
        missing = [
            create_table(table)
            if table.name not in there
            else f"ALTER TABLE {LAKE}.main.{quoted(table.name)} ADD COLUMN {quoted(column)} {sql_type}"
            for table in self._tables.values()
            for column, sql_type in _lacking(table, have)
        ]
        if missing:
            self.transaction(lambda: [self._connection.execute(sql) for sql in dict.fromkeys(missing)])

    def compact(self, grace: float) -> None:
        """Rewrite what has deleted rows, join small files, forget states older than the grace period."""
        self.let_go()
        with all_threads(self._connection):
            for call in compactions(self._tables, grace):
                self.transaction(partial(self._run, call))
        for call in expirations(grace):
            with self._file.locked(), translated("expire former states", self._files.failures.take):
                self._run(call)

    def referenced(self) -> set[str]:
        """Return the ids of the sealed files that any snapshot references."""
        with translated("list its files"):
            paths = data_files(self._connection, metadata(LAKE), current=False)
        return {self._files.object_id(path) for path in paths}

    def _run(self, call: str) -> None:
        # Fetched to the end: a half-fetched answer keeps the file open.
        self._connection.execute(call).fetchall()

    def _known(self, pack_ids: Sequence[str]) -> list[str]:
        if not pack_ids:
            return []
        found = self._connection.execute(
            f"SELECT pack_id FROM {LAKE}.main.packs WHERE list_contains(?, pack_id)",  # noqa: S608
            [list(pack_ids)],
        )
        return [row[0] for row in found.fetchall()]

    def transaction(self, work: Callable[[], object], digest: str | None = None) -> None:
        """Run the work in one transaction that carries the digest on; keys first, then the commit."""
        with translated("commit", self._files.failures.take):
            digest = digest or head(self._connection, LAKE).digest
            self._begin()
            try:
                work()
                set_digest(self._connection, digest)
                self._keys.commit()
                with self._file.locked():
                    self._connection.execute("COMMIT")
                self._begun = False
            except BaseException:
                self.let_go()
                raise


def _lacking(table: Table, have: Set[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the columns of a table that are not there, with their SQL types."""
    for column, sql_type in table.columns.items():
        if (table.name, column.lower()) not in have:
            yield column, sql_type


def sweep(
    objects: ObjectStore,
    files: SealedFileSystem,
    referenced: Set[str],
    grace: float,
    settled: Callable[[Sequence[ObjectInfo]], float] = lambda listed: inf,
) -> MaintenanceReport:
    """Delete the sealed files that are not referenced and older than the grace period in seconds.

    `settled` returns, of what is listed, the time from which on files may be another writer's.
    """
    limit = time.time() - grace
    deleted, kept, keys = [], [], set()
    listed = list(objects.list(f"{CATALOG}/"))
    fence = settled(listed)
    for info in listed:
        object_id = object_id_of(info.name)
        if object_id is None or object_id in referenced:
            continue
        if (grace and info.modified > limit) or info.modified >= fence:
            kept.append(object_id)
            continue
        with suppress(IntegrityError, ObjectMissing):
            keys.add(files.key_id(object_id))
        objects.delete(object_name(CATALOG, object_id))
        deleted.append(object_id)
    return MaintenanceReport(tuple(deleted), tuple(kept), tuple(sorted(keys)))


__all__ = ["CatalogKeys", "DuckLakeLease", "Lockable", "sweep"]
