"""A process's replica of the catalog kept up to date with the server, and what it publishes there."""

from __future__ import annotations

import base64
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from voxelvault.catalog.catalog import CommitInfo
from voxelvault.catalog.ducklake_sql import EXTENSIONS
from voxelvault.catalog.engine import Connection, connect, private_folder, translated
from voxelvault.catalog.history import Found, History
from voxelvault.catalog.lease import CatalogKeys
from voxelvault.catalog.replica import Replica
from voxelvault.catalog.schema import Table
from voxelvault.catalog.sealed_entries import Base, Entry, open_base, open_entry, seal_base
from voxelvault.errors import IntegrityError, KeyUnavailable, RollbackDetected
from voxelvault.storage.sealed_fs import SealedFileSystem

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")


class Follower:
    """Keeps one replica; safe to share between threads.

    Parameters
    ----------
    history : History
        The server's tables.
    keys : CatalogKeys
        The vault's key ring.
    files : SealedFileSystem
        Where the settled tables' data are.
    tables : mapping of str to Table
        The schema.
    """

    def __init__(
        self, history: History, keys: CatalogKeys, files: SealedFileSystem, tables: Mapping[str, Table]
    ) -> None:
        self._history = history
        self._keys = keys
        self._files = files
        self._tables = tables
        self._private = private_folder(self)
        self._replica: Replica | None = None
        self.guard = threading.RLock()
        """Held by whoever changes the replica."""

    @contextmanager
    def present(self, *, asked: bool = True) -> Iterator[Replica]:
        """Lend the replica as of the last commit.

        Parameters
        ----------
        asked : bool
            Its cursors will be asked, so they must see that state.

        Raises
        ------
        RollbackDetected
            The server holds less than it did.
        IntegrityError
            What it holds is not what this vault's writers put there.
        StorageError
            It can't be reached.
        """
        with self.guard, translated("follow the server", self._files.failures.take):
            replica = self._fresh()
            if asked:
                replica.tell()
            replica.users += 1
        try:
            yield replica
        finally:
            with self.guard:
                replica.users -= 1
                self._retire(replica)

    def publish(self, connection: psycopg.Connection[Any], replica: Replica, file: Path, key_id: str) -> None:
        """Make a metadata file the new base, under a key; everybody's next look finds it."""
        base = Base(replica.info.digest, file.read_bytes(), key_id, replica.info.snapshot)
        # The keys are durable before a base depends on them.
        self._keys.commit()
        sealed = seal_base(self._keys, replica.number + 1, base)
        self._history.publish(connection, replica.number, replica.info.snapshot, sealed)

    def private_path(self) -> Path:
        """Return an unused path in a folder that goes with this object."""
        return self._private / secrets.token_hex(8)

    def close(self) -> None:
        """Let go of the replica."""
        with self.guard:
            replica, self._replica = self._replica, None
            if replica is not None:
                self._retire(replica)

    def _fresh(self) -> Replica:
        old = self._replica
        found = self._history.read(old.number, old.info.snapshot) if old else self._history.read()
        if old and (found.number < old.number or found.last < old.info.snapshot):
            raise RollbackDetected(
                "the catalog's server holds an older state than before: restore its newest backup, or "
                "open the vault anew to accept the restore"
            )
        replica = self._load(found) if found.base is not None else old
        if replica is None:
            raise IntegrityError("the catalog's server gave no base: run again")
        self._catch_up(replica, found)
        if replica is not old:
            self._replica = replica
            if old is not None:
                self._retire(old)
        return replica

    def _load(self, found: Found) -> Replica:
        base = self._opened(lambda: open_base(self._keys, found.number, found.base or b""))
        if base.seq != found.seq:
            raise IntegrityError(
                "the catalog's server says that its base is of another state than it is: restore its newest "
                "backup"
            )
        path = self.private_path()
        path.write_bytes(base.file)
        info = CommitInfo(found.seq, base.digest)
        return Replica(
            self._instance(),
            path,
            password(self._keys.dek(base.key_id)),
            self._tables,
            found.number,
            info,
            base.key_id,
        )

    def _catch_up(self, replica: Replica, found: Found) -> None:
        if not found.entries:
            return
        entries = [
            (seq, self._opened(lambda: open_entry(self._keys, seq, sealed)))  # noqa: B023
            for seq, sealed in found.entries
        ]
        info, step = replica.info, replica.step()
        for seq, entry in entries:
            _check_chain(info, seq, entry)
            step.apply(entry.changes)
            info = CommitInfo(seq, entry.digest)
        replica.install(step, info, sum(len(sealed) for _, sealed in found.entries))

    def _opened(self, opening: Callable[[], T]) -> T:
        try:
            return opening()
        except KeyUnavailable:
            # Another process may have made the key since.
            self._keys.refresh()
            return opening()

    def _instance(self) -> Connection:
        connection = connect(EXTENSIONS, spill=self.private_path())
        connection.register_filesystem(self._files)
        return connection

    def _retire(self, replica: Replica) -> None:
        if replica.users == 0 and replica is not self._replica:
            replica.close()


def _check_chain(info: CommitInfo, seq: int, entry: Entry) -> None:
    if seq != info.snapshot + 1 or entry.previous != info.digest:
        raise IntegrityError(
            "the catalog's entries on the server don't follow one another: restore its newest backup"
        )


def password(key: bytes) -> str:
    """Return a key as the engine takes it, as text; all of its 256 random bits are in it."""
    return base64.b64encode(key).decode()


__all__ = ["Follower", "password"]
