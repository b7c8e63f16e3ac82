"""The embedded catalog: DuckLake in an encrypted database file, its data as sealed objects, no server.

Together with `ducklake_sql` all that knows DuckLake. One writer at a time holds a lease on the
catalog file; readers work on a private copy of it, which is small and encrypted as it is.
"""

from __future__ import annotations

import base64
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from voxelvault.catalog.catalog import Change, CommitInfo, MaintenanceReport
from voxelvault.catalog.catalog_file import CatalogFile, LocalDocument, NoDocument
from voxelvault.catalog.ducklake_sql import (
    DATA,
    EXTENSIONS,
    LAKE,
    attach,
    attach_source,
    copy_source,
    create_tables,
    flush,
    head,
    most_rows,
)
from voxelvault.catalog.engine import Connection, connect, one_thread, threads_for, translated
from voxelvault.catalog.lease import CatalogKeys, DuckLakeLease, sweep
from voxelvault.catalog.readers import RENEWED, Params, Readers
from voxelvault.catalog.remote_document import RemoteDocument
from voxelvault.catalog.schema import Table, schema
from voxelvault.catalog.user_sql import UserSession
from voxelvault.crypto.key_tree import Role
from voxelvault.errors import CatalogError, IntegrityError, KeyUnavailable, NoPermission, ObjectMissing
from voxelvault.model import ObjectStore
from voxelvault.storage.mounts import require_local
from voxelvault.storage.sealed_fs import SealedFileSystem

LEASE = "catalog"
"""Name of the lock that a writer holds."""

_WAIT = 60.0
_DAY = 86_400.0

T = TypeVar("T")


class DuckLakeCatalog:
    """The catalog of a vault on a local disk, or of a small team's in object storage. See `Catalog`.

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
        root = getattr(objects, "root", None)
        self._folder = None if root is None else Path(root)
        self._file = CatalogFile(
            RemoteDocument(objects) if self._folder is None else LocalDocument(objects, self._folder)
        )
        paths_key = keys.sub_key(keys.keys_of(Role.PATHS)[0], "catalog-paths")
        self._files = SealedFileSystem(objects, keys, vault_id=keys.vault_id, paths_key=paths_key)
        self._guard = threading.Lock()
        self._writer: Connection | None = None
        self._readers: Readers | None = None
        self._columns_checked = False
        self._leases = 0

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
            if catalog._file.present() is None:
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

    @classmethod
    def unopened(
        cls,
        objects: ObjectStore,
        keys: CatalogKeys,
        typed: Mapping[str, Mapping[str, str]] | None = None,
        *,
        read_only: bool = False,
    ) -> DuckLakeCatalog:
        """Return a vault's catalog, whether it is there or not, for `anew`; parameters as in `create`."""
        return cls(objects, keys, schema(typed), read_only)

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
        with self._objects.lock(LEASE, timeout), self._attached() as lease:
            yield lease

    @contextmanager
    def _attached(self) -> Iterator[DuckLakeLease]:
        connection = self._attached_writer()
        lease = DuckLakeLease(connection, self._tables, self._keys, self._file, self._files)
        try:
            if not self._columns_checked:
                lease.add_columns()
                self._columns_checked = True
            yield lease
        finally:
            lease.let_go()
            self._detach_writer(connection)

    def query(self, sql: str, params: Params = None) -> pa.Table:
        """Return the rows of a trusted, parameterised query as of the last commit."""
        return self._read(lambda readers: readers.query(sql, params))

    def head(self) -> CommitInfo:
        """Return the state as of the last commit."""

        def find(readers: Readers) -> CommitInfo:
            with readers.cursor() as (cursor, alias):
                return head(cursor, alias)

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
            return UserSession(self._rekeyed(), more, info, LAKE, [DATA])

    def maintain(self, grace: float = _DAY) -> MaintenanceReport:
        """Join small files, rewrite files with deleted rows, sweep what nothing references."""
        with self.lease() as lease:
            lease.compact(grace)
            return sweep(self._objects, self._files, lease.referenced(), grace, self._file.settled)

    def rebuild(self) -> MaintenanceReport:
        """Write the catalog anew under a fresh key, so that the old key opens nothing current."""
        self._may_write()
        with self._objects.lock(LEASE, _WAIT):
            before, old = self._file.pull(), tuple(self._keys.keys_of(Role.CATALOG))
            key_id, new = self._keys.new_key(Role.CATALOG), self._file.fresh()
            with translated("rebuild its file"):
                connection = self._writer_instance()
                try:
                    self._copy_database(connection, self._file.path, new, _password(self._keys.dek(key_id)))
                    self._keys.commit()
                    self._file.install(new, before)
                finally:
                    self._file.drop(new)
        return MaintenanceReport((), (), old)

    @contextmanager
    def anew(self) -> Iterator[DuckLakeLease]:
        """Hold an empty catalog under a fresh key; it takes this one's place when all went well.

        Nobody else writes meanwhile; readers keep what they have.
        """
        self._may_write()
        with self._objects.lock(LEASE, _WAIT):
            before = self._file.present()
            self._keys.new_key(Role.CATALOG)
            self._keys.commit()
            other = DuckLakeCatalog(self._objects, self._keys, self._tables, read_only=False)
            other._file = CatalogFile(NoDocument())
            try:
                other._make()
                with other._attached() as lease:
                    yield lease
                self._file.install(other._file.path, before)
            finally:
                other.close()

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
        if self._folder is not None:
            require_local(self._folder)

    def _make(self) -> None:
        new, connection = self._file.fresh(), self._writer_instance()
        dek = self._keys.dek(self._keys.keys_of(Role.CATALOG)[-1])
        try:
            with translated("make its file"):
                attach(connection, LAKE, new, _password(dek))
                create_tables(connection, self._tables, self._keys.vault_id)
                flush(connection)
                connection.execute(f"DETACH {LAKE}")
                self._file.install(new, None)
        finally:
            self._file.drop(new)

    def _instance(self) -> Connection:
        connection = connect(EXTENSIONS, spill=self._file.fresh())
        connection.register_filesystem(self._files)
        return connection

    def _writer_instance(self) -> Connection:
        with self._guard:
            if self._writer is None:
                self._writer = self._instance()
                one_thread(self._writer)
            return self._writer

    def _attached_writer(self) -> Connection:
        connection = self._writer_instance()
        with translated("open its file"):
            self._file.pull()
            self._with_known_key(lambda password: attach(connection, LAKE, self._file.path, password))
        self._file.flush = partial(flush, connection)
        return connection

    def _detach_writer(self, connection: Connection) -> None:
        self._file.flush = None
        self._leases += 1
        try:
            with translated("close its file"):
                connection.execute(f"DETACH {LAKE}")
        except CatalogError:
            # A broken instance would hold the file for good.
            self._drop_writer(connection)
            raise
        if self._leases % RENEWED == 0:
            self._drop_writer(connection)

    def _drop_writer(self, connection: Connection) -> None:
        with self._guard:
            self._writer = None
        connection.close()

    def _with_known_key(self, use: Callable[[str], object]) -> None:
        """Try the catalog's keys, newest first: a rebuild may have died between key and file."""
        for refreshed in (False, True):
            if refreshed:
                # Another process may have rebuilt the file under a key that this one hasn't seen.
                self._keys.refresh()
            for key_id in reversed(self._keys.keys_of(Role.CATALOG)):
                with suppress(duckdb.Error):
                    use(_password(self._keys.dek(key_id)))
                    return
        raise IntegrityError(
            "the catalog file opens with none of the vault's keys, so it is damaged or not this vault's: "
            "restore the newest catalog/, or write it anew with `voxelvault verify --rebuild-catalog`"
        )

    def _reading(self) -> Readers:
        if self._readers is None:
            self._readers = Readers(self._file, self._instance, self._attach_copy)
        return self._readers

    def _attach_copy(self, connection: Connection, alias: str, path: Path) -> None:
        self._with_known_key(lambda password: attach(connection, alias, path, password, read_only=True))
        threads_for(connection, most_rows(connection, alias))

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
            connection = connect(EXTENSIONS, spill=self._file.fresh())
            connection.register_filesystem(self._files.restricted(allowed))
            attach(connection, LAKE, private, key, read_only=True)
        finally:
            self._file.drop(copy)
            self._file.drop(private)
        return connection

    def _copy_database(self, connection: Connection, source: Path, target: Path, key: str) -> list[str]:
        """Copy the file to one under another key; return the paths of the present snapshot's files."""
        self._with_known_key(lambda password: attach_source(connection, source, password))
        return copy_source(connection, target, key)


def _password(key: bytes) -> str:
    """Return a key as the engine takes it, as text; all of its 256 random bits are in it."""
    return base64.b64encode(key).decode()


__all__ = ["LEASE", "DuckLakeCatalog"]
