"""The embedded catalog: DuckLake in an encrypted DuckDB file, its Parquet on `sealed://`.

The only file that knows DuckLake. One writer at a time holds a lease on the catalog file; readers
work on a private copy of it, which is small and encrypted as it is.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import duckdb
import pyarrow as pa

from voxelvault.catalog import statements
from voxelvault.catalog.catalog import Change, CommitInfo, MaintenanceReport
from voxelvault.catalog.catalog_file import CatalogFile
from voxelvault.catalog.engine import Connection, connect, literal, quoted, translated
from voxelvault.catalog.readers import Params, Readers
from voxelvault.catalog.schema import LARGE, Table, schema
from voxelvault.catalog.user_sql import UserSession
from voxelvault.crypto.key_tree import Role
from voxelvault.errors import CatalogError, IntegrityError, KeyUnavailable, NoPermission, ObjectMissing
from voxelvault.model import ObjectStore
from voxelvault.storage.layout import CATALOG, object_id_of, object_name
from voxelvault.storage.mounts import require_local
from voxelvault.storage.sealed_fs import FileKeys, SealedFileSystem

LEASE = "catalog"

_DATA = "sealed://lake/"
_LAKE = "lake"
_META = f"__ducklake_metadata_{_LAKE}"
_WAIT = 60.0
_DAY = 86_400.0
_BLOCK = 16_384
_EXTENSIONS = ("duckdb_extension_httpfs", "duckdb_extension_ducklake")
_OPTIONS: Mapping[str, str | int] = {
    "parquet_compression": "zstd",
    # Small enough that an erasure, which rewrites each file naming a subject, stays cheap.
    "target_file_size": "64MB",
    # A commit of a few rows goes into the encrypted file: a third of the sealed files to open later.
    "data_inlining_row_limit": 20,
}
_ROW_GROUP = 20_000
# From this share of deleted rows on, maintenance rewrites a file.
_REWRITE_FROM = 0.2

T = TypeVar("T")


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


class DuckLakeCatalog:
    """The catalog of a vault on a local disk, or of one in memory. See `Catalog` for the methods.

    Made by `create` or `open`. Threads may share it; a forked child may not use it.
    """

    def __init__(
        self, objects: ObjectStore, keys: CatalogKeys, tables: Mapping[str, Table], read_only: bool
    ) -> None:
        if not keys.keys_of(Role.PATHS):
            raise KeyUnavailable("the vault has no key for catalog names: run `voxelvault verify`")
        self._objects = objects
        self._keys = keys
        self._tables = tables
        self._read_only = read_only
        self._file = CatalogFile(objects)
        paths_key = keys.sub_key(keys.keys_of(Role.PATHS)[0], "catalog-paths")
        self._files = SealedFileSystem(objects, keys, vault_id=keys.vault_id, paths_key=paths_key)
        self._guard = threading.Lock()
        self._writer: Connection | None = None
        self._readers: Readers | None = None
        self._columns_checked = False

    @classmethod
    def create(
        cls, objects: ObjectStore, keys: CatalogKeys, typed: Mapping[str, Mapping[str, str]] | None = None
    ) -> DuckLakeCatalog:
        """Make the catalog of a new vault; one that is there already is opened.

        Parameters
        ----------
        objects : ObjectStore
            The vault's objects.
        keys : CatalogKeys
            The vault's key ring.
        typed : mapping of str to mapping of str to str, optional
            The tag list: table to DICOM keyword to SQL type.

        Raises
        ------
        NetworkFileSystem
            Embedded writing needs a local disk.
        """
        for role in (Role.PATHS, Role.CATALOG):
            if not keys.keys_of(role):
                keys.new_key(role)
        catalog = cls(objects, keys, schema(typed), read_only=False)
        catalog._may_write()
        with objects.lock(LEASE, _WAIT):
            # The keys are durable before a file depends on them.
            keys.commit()
            if not catalog._file.exists():
                catalog._make()
        return catalog

    @classmethod
    def open(
        cls,
        objects: ObjectStore,
        keys: CatalogKeys,
        typed: Mapping[str, Mapping[str, str]] | None = None,
        *,
        read_only: bool = False,
    ) -> DuckLakeCatalog:
        """Open a vault's catalog; parameters as in `create`.

        Raises
        ------
        CatalogError
            There is none.
        """
        catalog = cls(objects, keys, schema(typed), read_only)
        catalog._file.state()
        return catalog

    def commit(
        self, changes: Sequence[Change], before_commit: Callable[[], object] | None = None
    ) -> CommitInfo:
        """Take the lease, commit the changes all or none, let the lease go."""
        with self.lease() as lease:
            return lease.commit(changes, before_commit)

    @contextmanager
    def lease(self, timeout: float = _WAIT) -> Iterator[DuckLakeLease]:
        """Hold the catalog for several commits."""
        self._may_write()
        with self._objects.lock(LEASE, timeout):
            connection = self._attached_writer()
            lease = DuckLakeLease(connection, self._tables, self._keys, self._file, self._files)
            try:
                if not self._columns_checked:
                    lease.add_columns()
                    self._columns_checked = True
                yield lease
            finally:
                self._detach_writer(connection)

    def query(self, sql: str, params: Params = None) -> pa.Table:
        """Return the rows of a trusted, parameterised query as of the last commit."""
        return self._read(lambda readers: readers.query(sql, params))

    def head(self) -> CommitInfo:
        """Return the state as of the last commit."""

        def find(readers: Readers) -> CommitInfo:
            with readers.cursor() as (cursor, alias):
                return _head(cursor, alias)

        return self._read(find)

    def user_session(
        self, allowed: Mapping[str, str] | None = None, extra: Mapping[str, pa.Table] | None = None
    ) -> UserSession:
        """Open a session fit to be handed to a user; see `Catalog.user_session`."""
        info, more = self.head(), dict(extra or {})
        if allowed is not None:
            rows = {name: self.query(sql) for name, sql in allowed.items()}
            return UserSession(connect((), spill=self._file.fresh()), {**rows, **more}, info)
        with translated("open a session", self._files.failures.take):
            return UserSession(self._rekeyed(), more, info, _LAKE, [_DATA])

    def maintain(self, grace: float = _DAY) -> MaintenanceReport:
        """Join small files, rewrite files with deleted rows, sweep what nothing references."""
        with self.lease() as lease:
            lease.compact(grace)
            return lease.sweep(self._objects, grace)

    def rebuild(self) -> MaintenanceReport:
        """Write the catalog anew under a fresh key, so that the old key opens nothing current."""
        self._may_write()
        with self._objects.lock(LEASE, _WAIT), self._file.locked():
            old = tuple(self._keys.keys_of(Role.CATALOG))
            key_id, new = self._keys.new_key(Role.CATALOG), self._file.beside()
            with translated("rebuild its file"):
                connection = self._writer_instance()
                try:
                    self._copy_database(connection, self._file.path, new, _password(self._keys.dek(key_id)))
                    self._keys.commit()
                    self._file.install(new)
                finally:
                    self._file.drop(new)
        return MaintenanceReport((), (), old)

    def close(self) -> None:
        """Let go of files and memory."""
        with self._guard:
            for part in (self._readers, self._writer):
                if part is not None:
                    part.close()
            self._readers = self._writer = None

    def __reduce__(self) -> Any:
        """Refuse: keys stay in their process."""
        raise TypeError("a catalog holds keys and can't be pickled: open the vault there instead")

    def _may_write(self) -> None:
        if self._read_only:
            raise NoPermission("the vault was opened read-only: open it for writing")
        if self._file.local:
            require_local(self._file.path.parent)

    def _make(self) -> None:
        new, connection = self._file.beside(), self._writer_instance()
        dek = self._keys.dek(self._keys.keys_of(Role.CATALOG)[-1])
        try:
            with translated("make its file"):
                _attach(connection, _LAKE, new, _password(dek))
                _create_tables(connection, self._tables, self._keys.vault_id)
                connection.execute(f"DETACH {_LAKE}")
                self._file.install(new)
        finally:
            self._file.drop(new)

    def _instance(self) -> Connection:
        connection = connect(_EXTENSIONS, spill=self._file.fresh())
        connection.register_filesystem(self._files)
        return connection

    def _writer_instance(self) -> Connection:
        with self._guard:
            if self._writer is None:
                self._writer = self._instance()
            return self._writer

    def _attached_writer(self) -> Connection:
        self._file.state()
        connection = self._writer_instance()
        # After a crash, attaching replays the journal into the file.
        with self._file.locked(), translated("open its file"):
            self._with_known_key(lambda password: _attach(connection, _LAKE, self._file.path, password))
        return connection

    def _detach_writer(self, connection: Connection) -> None:
        try:
            with self._file.locked(), translated("close its file"):
                connection.execute(f"DETACH {_LAKE}")
        except CatalogError:
            # A broken instance would hold the file for good: drop it.
            with self._guard:
                self._writer = None
            connection.close()
            raise

    def _with_known_key(self, use: Callable[[str], object]) -> None:
        """Try the catalog's keys, newest first: a rebuild may have died between key and file."""
        for key_id in reversed(self._keys.keys_of(Role.CATALOG)):
            with suppress(duckdb.Error):
                use(_password(self._keys.dek(key_id)))
                return
        raise IntegrityError("the catalog file opens with none of the vault's keys: run `voxelvault verify`")

    def _reading(self) -> Readers:
        if self._readers is None:
            self._readers = Readers(self._file, self._instance(), self._attach_copy)
        return self._readers

    def _attach_copy(self, connection: Connection, alias: str, path: Path) -> None:
        self._with_known_key(lambda password: _attach(connection, alias, path, password, read_only=True))

    def _read(self, use: Callable[[Readers], T]) -> T:
        with translated("answer a query", self._files.failures.take):
            with self._guard:
                readers = self._reading()
            try:
                return use(readers)
            except duckdb.Error:
                # Maintenance may have swept a file between copy and query: the next copy knows.
                if not isinstance(self._files.failures.last, ObjectMissing):
                    raise
                return use(readers)

    def _rekeyed(self) -> Connection:
        """Return an instance that sees the tables and knows none of the vault's keys."""
        copy, _ = self._file.copy()
        private, key = self._file.fresh(), _password(secrets.token_bytes(32))
        try:
            with self._guard:
                paths = self._copy_database(self._reading().connection.cursor(), copy, private, key)
            allowed = [self._files.object_id(path) for path in paths]
            connection = connect(_EXTENSIONS, spill=self._file.fresh())
            connection.register_filesystem(self._files.restricted(allowed))
            _attach(connection, _LAKE, private, key, read_only=True)
        finally:
            self._file.drop(copy)
            self._file.drop(private)
        return connection

    def _copy_database(self, connection: Connection, source: Path, target: Path, key: str) -> list[str]:
        """Copy the file to one under another key; return the paths of the present snapshot's files."""
        attach = f"ATTACH {literal(str(source))} AS source (READ_ONLY, ENCRYPTION_KEY "
        self._with_known_key(lambda password: connection.execute(f"{attach}'{password}')"))
        try:
            connection.execute(
                f"ATTACH {literal(str(target))} AS target (BLOCK_SIZE {_BLOCK}, ENCRYPTION_KEY '{key}')"
            )
            connection.execute("COPY FROM DATABASE source TO target")
            paths = _files(connection, "target.main", current=True)
            connection.execute("DETACH target")
        finally:
            connection.execute("DETACH source")
        return paths


class DuckLakeLease:
    """The catalog held for writing. Valid only inside `DuckLakeCatalog.lease`, in one thread."""

    def __init__(
        self,
        connection: Connection,
        tables: Mapping[str, Table],
        keys: CatalogKeys,
        file: CatalogFile,
        files: SealedFileSystem,
    ) -> None:
        self._connection = connection
        self._tables = tables
        self._keys = keys
        self._file = file
        self._files = files

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
                statements.apply(self._connection, _LAKE, self._tables[change.table], change, known)
            if before_commit is not None:
                before_commit()

        self._transaction(bring_in, statements.digest(_head(self._connection, _LAKE).digest, changes))
        return _head(self._connection, _LAKE)

    def query(self, sql: str, params: Params = None) -> pa.Table:
        """Return rows as of the last commit."""
        with translated("answer a query", self._files.failures.take):
            self._connection.execute(f"USE {_LAKE}")
            try:
                return self._connection.execute(sql, params).to_arrow_table()
            finally:
                self._connection.execute("USE memory")

    def add_columns(self) -> None:
        """Add the columns that the schema has and the file lacks."""
        found = self._connection.execute(
            "SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = ?", [_LAKE]
        ).fetchall()
        have = {(table, column.lower()) for table, column in found}
        missing = [
            f"ALTER TABLE {_LAKE}.main.{quoted(table.name)} ADD COLUMN {quoted(column)} {sql_type}"
            for table in self._tables.values()
            for column, sql_type in table.columns.items()
            if (table.name, column.lower()) not in have
        ]
        if missing:
            self._transaction(lambda: [self._connection.execute(sql) for sql in missing])

    def compact(self, grace: float) -> None:
        """Rewrite what has deleted rows, join small files, forget states older than the grace period."""
        threshold = _REWRITE_FROM if grace else 0.0
        for table in map(literal, self._tables):
            # Two calls in one transaction would each join the same files: rows would be there twice.
            for call in (
                f"CALL ducklake_flush_inlined_data('{_LAKE}', table_name => {table})",
                f"CALL ducklake_rewrite_data_files('{_LAKE}', {table}, delete_threshold => {threshold})",
                f"CALL ducklake_merge_adjacent_files('{_LAKE}', {table})",
            ):
                self._transaction(lambda call=call: self._connection.execute(call).fetchall())  # type: ignore[misc]
        older = f"older_than => now() - to_microseconds({int(grace * 1e6)}::BIGINT)"
        for call in (
            f"CALL ducklake_expire_snapshots('{_LAKE}', {older})",
            f"CALL ducklake_cleanup_old_files('{_LAKE}', cleanup_all => true)",
        ):
            with self._file.locked(), translated("expire former states", self._files.failures.take):
                self._connection.execute(call).fetchall()

    def sweep(self, objects: ObjectStore, grace: float) -> MaintenanceReport:
        """Delete the sealed files that no snapshot references and that are older than the grace period."""
        with translated("list its files"):
            referenced = {
                self._files.object_id(path) for path in _files(self._connection, _META, current=False)
            }
        limit = time.time() - grace
        deleted, kept, keys = [], [], set()
        for info in list(objects.list(f"{CATALOG}/")):
            object_id = object_id_of(info.name)
            if object_id is None or object_id in referenced:
                continue
            if grace and info.modified > limit:
                kept.append(object_id)
                continue
            with suppress(IntegrityError, ObjectMissing):
                keys.add(self._files.key_id(object_id))
            objects.delete(object_name(CATALOG, object_id))
            deleted.append(object_id)
        return MaintenanceReport(tuple(deleted), tuple(kept), tuple(sorted(keys)))

    def _known(self, pack_ids: Sequence[str]) -> list[str]:
        if not pack_ids:
            return []
        found = self._connection.execute(
            f"SELECT pack_id FROM {_LAKE}.main.packs WHERE list_contains(?, pack_id)",  # noqa: S608
            [list(pack_ids)],
        )
        return [row[0] for row in found.fetchall()]

    def _transaction(self, work: Callable[[], object], digest: str | None = None) -> None:
        """Run the work in one transaction that carries the digest on; keys first, then the commit."""
        with translated("commit", self._files.failures.take):
            digest = digest or _head(self._connection, _LAKE).digest
            self._connection.execute("BEGIN")
            try:
                work()
                _set_digest(self._connection, digest)
                self._keys.commit()
                with self._file.locked():
                    self._connection.execute("COMMIT")
            except BaseException:
                with suppress(duckdb.Error):
                    self._connection.execute("ROLLBACK")
                raise


def _attach(
    connection: Connection, alias: str, path: Path, password: str, *, read_only: bool = False
) -> None:
    options = [f"DATA_PATH '{_DATA}'", f"META_ENCRYPTION_KEY '{password}'", f"META_BLOCK_SIZE {_BLOCK}"]
    if read_only:
        options.append("READ_ONLY")
    connection.execute(f"ATTACH {literal(f'ducklake:{path}')} AS {quoted(alias)} ({', '.join(options)})")


def _password(key: bytes) -> str:
    """Return a key as the engine takes it: base64 of 32 bytes is used as AES-256 key material."""
    return base64.b64encode(key).decode()


def _create_tables(connection: Connection, tables: Mapping[str, Table], vault_id: str) -> None:
    connection.execute("BEGIN")
    for table in tables.values():
        columns = ", ".join(f"{quoted(name)} {sql_type}" for name, sql_type in table.columns.items())
        connection.execute(f"CREATE TABLE {_LAKE}.main.{quoted(table.name)} ({columns})")
    _set_digest(connection, hashlib.sha256(b"voxelvault/1/catalog/" + bytes.fromhex(vault_id)).hexdigest())
    connection.execute("COMMIT")
    for name, value in _OPTIONS.items():
        connection.execute(f"CALL {_LAKE}.set_option('{name}', '{value}')")
    for name in LARGE:
        connection.execute(
            f"CALL {_LAKE}.set_option('parquet_row_group_size', {_ROW_GROUP}, table_name => '{name}')"
        )


def _set_digest(connection: Connection, digest: str) -> None:
    connection.execute(f"CALL {_LAKE}.set_commit_message(NULL, NULL, extra_info => '{digest}')")


def _head(connection: Connection, alias: str) -> CommitInfo:
    found = connection.execute(
        "SELECT max(snapshot_id), arg_max(commit_extra_info, snapshot_id) "  # noqa: S608 - our own alias
        f"FROM __ducklake_metadata_{alias}.ducklake_snapshot_changes"
    ).fetchall()
    return CommitInfo(*found[0])


def _files(connection: Connection, meta: str, *, current: bool) -> list[str]:
    """Return the paths of the data and delete files of the present snapshot, or of any."""
    only = "WHERE f.end_snapshot IS NULL" if current else ""
    found = connection.execute(
        " UNION ALL ".join(
            "SELECT s.path, t.path, f.path, "  # noqa: S608 - our own names
            "s.path_is_relative AND t.path_is_relative AND f.path_is_relative "
            f"FROM {meta}.{files} f JOIN {meta}.ducklake_table t USING (table_id) "
            f"JOIN {meta}.ducklake_schema s USING (schema_id) {only}"
            for files in ("ducklake_data_file", "ducklake_delete_file")
        )
    ).fetchall()
    if not all(relative for *_, relative in found):
        raise CatalogError("the catalog names a file outside the vault: run `voxelvault verify`")
    return [_DATA + schema_path + table_path + path for schema_path, table_path, path, _ in found]


__all__ = ["LEASE", "CatalogKeys", "DuckLakeCatalog", "DuckLakeLease"]
