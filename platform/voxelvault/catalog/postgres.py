"""The catalog of a team: sealed entries on a PostgreSQL server, settled now and then into DuckLake.

A commit is one sealed entry. Every process has a replica of the catalog, brought up to date before
each use, and only whoever holds the lock adds an entry. The settled tables are DuckLake's, as in the
embedded catalog, but their metadata file is published whole and sealed: DuckLake never speaks to the
server, so neither its statistics nor its way with lost answers gets there.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb
import pyarrow as pa

from voxelvault.catalog import statements
from voxelvault.catalog.catalog import Change, CommitInfo, MaintenanceReport
from voxelvault.catalog.ducklake_sql import DATA, EXTENSIONS, LAKE, attach, column_types, head
from voxelvault.catalog.engine import bound, connect, quoted, translated
from voxelvault.catalog.following import Follower, password
from voxelvault.catalog.history import History
from voxelvault.catalog.lease import CatalogKeys, DuckLakeLease, sweep
from voxelvault.catalog.postgres_locks import PostgresLocks
from voxelvault.catalog.postgres_server import PostgresServer
from voxelvault.catalog.readers import Params
from voxelvault.catalog.replica import SETTLED, TAIL, Replica, overlay, put
from voxelvault.catalog.schema import Table, schema
from voxelvault.catalog.sealed_entries import Base, Entry, seal_base, seal_entry
from voxelvault.catalog.settling import attached, new_file, rekeyed, settled
from voxelvault.catalog.user_sql import UserSession
from voxelvault.crypto.key_tree import Role
from voxelvault.errors import (
    CatalogError,
    KeyUnavailable,
    LockTimeout,
    NoPermission,
    ObjectMissing,
    StorageError,
    VoxelVaultError,
)
from voxelvault.model import ObjectInfo, ObjectStore
from voxelvault.storage.sealed_fs import SealedFileSystem

if TYPE_CHECKING:
    import psycopg

LEASE = "catalog"
"""Name of the lock that a writer holds."""

SETTLE_ENTRIES, SETTLE_BYTES = 500, 8 << 20
"""From either on, whoever committed last settles the entries."""

_WAIT = 60.0
_DAY = 86_400.0
_DOUBT = 40.0
"""Seconds to ask whether a commit counted whose answer was lost; a dead line keeps its lock for thirty."""

T = TypeVar("T")


class PostgresCatalog:
    """The catalog of a vault whose writers may be on several hosts. See `Catalog` for the methods.

    Made by `create` or `open`. Threads may share it; a forked child may not use it.
    """

    def __init__(
        self,
        server: PostgresServer,
        objects: ObjectStore,
        keys: CatalogKeys,
        tables: Mapping[str, Table],
        read_only: bool,
    ) -> None:
        if not keys.keys_of(Role.PATHS):
            raise KeyUnavailable("the vault has no key for catalog names: run `voxelvault verify`")
        self._server = server
        self._objects = objects
        self._keys = keys
        self._tables = tables
        self._read_only = read_only
        self._locks = PostgresLocks(server, keys.vault_id)
        self._history = History(server, keys.vault_id)
        paths_key = keys.sub_key(keys.keys_of(Role.PATHS)[0], "catalog-paths")
        self._files = SealedFileSystem(objects, keys, vault_id=keys.vault_id, paths_key=paths_key)
        self._follower = Follower(self._history, keys, self._files, tables)

    @classmethod
    def create(
        cls,
        server: PostgresServer,
        objects: ObjectStore,
        keys: CatalogKeys,
        typed: Mapping[str, Mapping[str, str]] | None = None,
    ) -> PostgresCatalog:
        """Make the catalog of a new vault; one that is there already is opened.

        Parameters
        ----------
        server : PostgresServer
            With a database in which this role may make a schema.
        objects, keys, typed : ObjectStore, CatalogKeys, mapping
            As for the embedded catalog.

        Raises
        ------
        StorageError
            The server can't be reached, or denies it.
        """
        for role in (Role.PATHS, Role.CATALOG):
            if not keys.keys_of(role):
                keys.new_key(role)
        catalog = cls(server, objects, keys, schema(typed), read_only=False)
        with catalog._locks.held(LEASE, _WAIT) as connection:
            # The keys are durable before a file depends on them.
            keys.commit()
            if not catalog._history.exists():
                catalog._make(connection)
        return catalog

    @classmethod
    def open(
        cls,
        server: PostgresServer,
        objects: ObjectStore,
        keys: CatalogKeys,
        typed: Mapping[str, Mapping[str, str]] | None = None,
        *,
        read_only: bool = False,
    ) -> PostgresCatalog:
        """Open a vault's catalog; parameters as in `create`.

        Raises
        ------
        CatalogError
            There is none.
        StorageError
            The server can't be reached.
        """
        catalog = cls(server, objects, keys, schema(typed), read_only)
        with catalog._follower.present(asked=False):
            return catalog

    @classmethod
    def unopened(
        cls,
        server: PostgresServer,
        objects: ObjectStore,
        keys: CatalogKeys,
        typed: Mapping[str, Mapping[str, str]] | None = None,
        *,
        read_only: bool = False,
    ) -> PostgresCatalog:
        """Return a vault's catalog, whether it is there or not, for `anew`; parameters as in `create`."""
        return cls(server, objects, keys, schema(typed), read_only)

    def commit(
        self, changes: Sequence[Change], before_commit: Callable[[], object] | None = None
    ) -> CommitInfo:
        """Take the lease, commit the changes all or none, let the lease go."""
        with self.lease() as lease:
            return lease.commit(changes, before_commit)

    @contextmanager
    def lease(self, timeout: float = _WAIT) -> Iterator[PostgresLease]:
        """Hold the catalog for several commits."""
        self._may_write()
        with self._locks.held(LEASE, timeout) as connection:
            lease = PostgresLease(self, connection)
            try:
                yield lease
            finally:
                lease.over = True
            if lease.due:
                # What was committed counts without it, and the next one tries again.
                with suppress(VoxelVaultError):
                    self._settle(connection)

    def query(self, sql: str, params: Params = None) -> pa.Table:
        """Return the rows of a trusted, parameterised query as of the last commit."""

        def ask(replica: Replica) -> pa.Table:
            with replica.cursor() as cursor:
                return cursor.execute(bound(sql, params)).to_arrow_table()

        return self._read("answer a query", ask)

    def head(self) -> CommitInfo:
        """Return the state as of the last commit."""
        with self._follower.present(asked=False) as replica:
            return replica.info

    def user_session(
        self, allowed: Mapping[str, str] | None = None, extra: Mapping[str, pa.Table] | None = None
    ) -> UserSession:
        """Open a session fit to be handed to a user; see `Catalog.user_session`."""
        more = dict(extra or {})
        if allowed is not None:
            info, rows = self._read("open a session", lambda replica: _selected(replica, allowed))
            return UserSession(connect((), spill=self._follower.private_path()), {**rows, **more}, info)
        return self._read("open a session", lambda replica: self._session(replica, more))

    def maintain(self, grace: float = _DAY) -> MaintenanceReport:
        """Settle the entries, join small files, rewrite thinned ones, sweep what nothing references."""
        self._may_write()
        with self._locks.held(LEASE, _WAIT) as connection:
            referenced = self._settle(connection, lambda lease: lease.compact(grace))

            def still_held(_listed: Sequence[ObjectInfo]) -> float:
                # Whoever took the lock meanwhile may have written some of what was listed.
                connection.execute("SELECT 1")
                return inf

            return sweep(self._objects, self._files, referenced, grace, still_held)

    def rebuild(self) -> MaintenanceReport:
        """Write the catalog anew under a fresh key, so that the old key opens nothing current."""
        self._may_write()
        path = self._follower.private_path()
        with self._locks.held(LEASE, _WAIT) as connection:
            self._settle(connection)
            old = tuple(self._keys.keys_of(Role.CATALOG))
            key_id = self._keys.new_key(Role.CATALOG)
            try:
                with self._follower.present() as replica, self._server.translated():
                    rekeyed(replica.path, replica.password, path, password(self._keys.dek(key_id)))
                    self._follower.publish(connection, replica, path, key_id)
            finally:
                path.unlink(missing_ok=True)
        return MaintenanceReport((), (), old)

    @contextmanager
    def anew(self) -> Iterator[DuckLakeLease]:
        """Hold an empty catalog under a fresh key; it takes this one's place when all went well."""
        self._may_write()
        path, spill = self._follower.private_path(), self._follower.private_path()
        with self._locks.held(LEASE, _WAIT) as connection:
            key_id = self._keys.new_key(Role.CATALOG)
            self._keys.commit()
            opens = password(self._keys.dek(key_id))
            try:
                new_file(path, opens, self._tables, self._keys.vault_id)
                with attached(path, opens, self._tables, self._keys, self._files, spill) as (lake, lease):
                    yield lease
                    digest = head(lake, LAKE).digest
                file = path.read_bytes()

                def seal(number: int, seq: int) -> bytes:
                    return seal_base(self._keys, number, Base(digest, file, key_id, seq))

                with self._server.translated():
                    self._history.renew(connection, seal)
            finally:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of files, memory and connections."""
        self._follower.close()
        self._server.forget()

    def __reduce__(self) -> Any:
        """Refuse: keys stay in their process."""
        raise TypeError("a catalog holds keys and can't be pickled: open the vault there instead")

    def _may_write(self) -> None:
        if self._read_only:
            raise NoPermission("the vault was opened read-only: open it for writing")

    def _make(self, connection: psycopg.Connection[Any]) -> None:
        key_id, path = self._keys.keys_of(Role.CATALOG)[-1], self._follower.private_path()
        new_file(path, password(self._keys.dek(key_id)), self._tables, self._keys.vault_id)
        base = Base(statements.first_digest(self._keys.vault_id), path.read_bytes(), key_id, 0)
        path.unlink()
        with self._server.translated():
            self._history.make(connection, seal_base(self._keys, 1, base))

    def _read(self, doing: str, use: Callable[[Replica], T]) -> T:
        with translated(doing, self._files.failures.take):
            try:
                with self._follower.present() as replica:
                    return use(replica)
            except duckdb.Error:
                # Maintenance may have swept a file meanwhile: the next look at the server knows.
                if not isinstance(self._files.failures.last, ObjectMissing):
                    raise
            with self._follower.present() as replica:
                return use(replica)

    def _settle(
        self,
        connection: psycopg.Connection[Any],
        work: Callable[[DuckLakeLease], object] = lambda lease: None,
    ) -> set[str]:
        """Publish a base with all entries in it; return the ids of the sealed files that it references."""
        path, spill = self._follower.private_path(), self._follower.private_path()
        try:
            with self._follower.present() as replica:
                shutil.copyfile(replica.path, path)
                with settled(replica, path, self._tables, self._keys, self._files, spill) as lease:
                    work(lease)
                    referenced = lease.referenced()
                with self._server.translated():
                    self._follower.publish(connection, replica, path, replica.key_id)
        finally:
            path.unlink(missing_ok=True)
        return referenced

    def _session(self, replica: Replica, extra: Mapping[str, pa.Table]) -> UserSession:
        """Return a session on a copy of the replica under a throw-away key."""
        path, key = self._follower.private_path(), password(secrets.token_bytes(32))
        connection = connect(EXTENSIONS, spill=self._follower.private_path())
        try:
            allowed = rekeyed(replica.path, replica.password, path, key)
            connection.register_filesystem(
                self._files.restricted([self._files.object_id(name) for name in allowed])
            )
            attach(connection, SETTLED, path, key, read_only=True)
        finally:
            # The engine holds the open file.
            path.unlink(missing_ok=True)
        overlay(connection, self._tables, column_types(connection, SETTLED))
        info = replica.info
        with replica.cursor() as cursor:
            for table, hidden, rows in replica.touched(cursor):
                put(connection, f"{TAIL}.hidden.{quoted(table.name)}", hidden)
                put(connection, f"{TAIL}.main.{quoted(table.name)}", rows)
        return UserSession(connection, extra, info, LAKE, [DATA])


class PostgresLease:
    """The catalog held for writing. Valid only inside `PostgresCatalog.lease`, in one thread."""

    def __init__(self, catalog: PostgresCatalog, connection: psycopg.Connection[Any]) -> None:
        self._catalog = catalog
        self._connection = connection
        self.over = False
        self.due = False
        """Whether entries are to be settled."""

    def commit(
        self, changes: Sequence[Change], before_commit: Callable[[], object] | None = None
    ) -> CommitInfo:
        """Commit the changes, all or none; return the state, which is the former one if nothing changed."""
        own = self._catalog
        self._must_hold()
        for change in changes:
            if change.table not in own._tables:
                raise CatalogError(f"no table {change.table!r}: use one of {', '.join(own._tables)}")
        with (
            own._follower.guard,
            own._follower.present(asked=False) as replica,
            translated("commit", own._files.failures.take),
        ):
            step = replica.step()
            touched = step.apply(changes)
            if before_commit is not None:
                before_commit()
            if not touched:
                return replica.info
            before = replica.info
            entry = Entry(before.digest, statements.digest(before.digest, changes), changes)
            info = CommitInfo(before.snapshot + 1, entry.digest)
            sealed = seal_entry(own._keys, replica.key_id, info.snapshot, entry)
            self._append(replica.number, info.snapshot, sealed)
            replica.install(step, info, len(sealed))
            self.due = replica.entries >= SETTLE_ENTRIES or replica.weight >= SETTLE_BYTES
            return info

    def query(self, sql: str, params: Params = None) -> pa.Table:
        """Return rows as of the last commit."""
        self._must_hold()
        return self._catalog.query(sql, params)

    def _must_hold(self) -> None:
        if self.over:
            raise StorageError("the catalog's lock was lost with its connection: run again")

    def _append(self, number: int, seq: int, sealed: bytes) -> None:
        own = self._catalog
        try:
            with own._server.translated():
                own._history.append(self._connection, number, seq, sealed)
        except (LockTimeout, NoPermission):
            raise
        except StorageError:
            # The answer is lost; the entry may be there.
            self.over = True
            self._find_out(seq, sealed)

    def _find_out(self, seq: int, sealed: bytes) -> None:
        """Return if the entry counts.

        Raises
        ------
        StorageError
            It doesn't, or nobody can tell.
        """
        own, until = self._catalog, time.monotonic() + _DOUBT
        counted = None
        while time.monotonic() < until:
            # The lock comes free when the former connection's work has ended, one way or the other.
            with suppress(StorageError), own._locks.held_on_server(LEASE, until - time.monotonic()) as again:
                counted = own._history.holds(again, seq, sealed)
                break
            time.sleep(0.2)
        if counted is None:
            raise StorageError(
                "the PostgreSQL server was lost, and whether the last commit counts can't be told: do the "
                "same again, it won't be there twice"
            )
        if not counted:
            raise StorageError("the PostgreSQL server was lost before the commit counted: run again")


def _selected(replica: Replica, queries: Mapping[str, str]) -> tuple[CommitInfo, dict[str, pa.Table]]:
    """Return the rows of several queries as of one state."""
    info = replica.info
    with replica.cursor() as cursor:
        return info, {name: cursor.execute(sql).to_arrow_table() for name, sql in queries.items()}


__all__ = ["LEASE", "PostgresCatalog", "PostgresLease"]
