"""Named locks on a PostgreSQL server, for vaults whose objects lie where there are none.

An advisory lock belongs to one connection, so the server lets it go when its holder dies. Whoever
writes on the same connection is fenced as well: no lock, no connection, no write.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from voxelvault.catalog.postgres_server import PostgresServer
from voxelvault.errors import LockTimeout

if TYPE_CHECKING:
    import psycopg


class PostgresLocks:
    """The locks of one vault; threads of this process queue before its connections.

    Parameters
    ----------
    server : PostgresServer
        Holds them.
    vault_id : str
        32 hexadecimal digits; vaults on one server don't wait for each other.

    References
    ----------
    PostgreSQL documentation, 13.3.5 (advisory locks).
    """

    def __init__(self, server: PostgresServer, vault_id: str) -> None:
        self._server = server
        self._vault_id = vault_id
        self._guard = threading.Lock()
        self._queues: dict[str, threading.Lock] = {}

    @contextmanager
    def lock(self, name: str, timeout: float) -> Iterator[Callable[[], object]]:
        """Hold the named lock across processes and hosts, as `ObjectStore.lock` does.

        Yields
        ------
        callable
            Raises `StorageError` once the lock is lost.

        Raises
        ------
        LockTimeout
            Somebody else held it all the time.
        StorageError
            The server can't be reached, or left while the lock was held.
        """
        with self.held(name, timeout) as connection:

            def check() -> None:
                with self._server.translated():
                    connection.execute("SELECT 1")

            yield check
            # What was done without the lock may have met somebody else's doing: not to be reported as done.
            check()

    @contextmanager
    def held(self, name: str, timeout: float) -> Iterator[psycopg.Connection[Any]]:
        """Hold the named lock and lend the connection that has it."""
        until = time.monotonic() + timeout
        with self._guard:
            queue = self._queues.setdefault(name, threading.Lock())
        if not queue.acquire(timeout=max(timeout, 0)):
            raise _too_late(name, timeout)
        try:
            with self.held_on_server(name, max(until - time.monotonic(), 0)) as connection:
                yield connection
        finally:
            queue.release()

    @contextmanager
    def held_on_server(self, name: str, timeout: float) -> Iterator[psycopg.Connection[Any]]:
        """Hold the named lock without the queue of this process, for who stands at its head."""
        from psycopg import Error
        from psycopg.errors import LockNotAvailable

        # Nothing was done yet: a connection that the server has left is exchanged for a fresh one.
        self._server.ask(lambda connection: connection.execute("SELECT 1"))
        key = self._key(name)
        # Zero would mean to wait for ever.
        wait = max(1, int(timeout * 1000))
        with self._server.connection() as connection:
            try:
                connection.execute(
                    f"SET lock_timeout = {wait}; SELECT pg_advisory_lock({key}); SET lock_timeout = 0"
                )
            except LockNotAvailable:
                raise _too_late(name, timeout) from None
            try:
                yield connection
            finally:
                try:
                    connection.execute(f"SELECT pg_advisory_unlock({key})")
                except Error:
                    # Lent again, it would hold the lock for as long as this process lives.
                    connection.close()

    def _key(self, name: str) -> int:
        digest = hashlib.sha256(f"voxelvault/1/lock/{self._vault_id}/{name}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)


def _too_late(name: str, timeout: float) -> LockTimeout:
    return LockTimeout(
        f"another writer held the vault's {name} lock for {timeout:.3g} s: let it finish, then run again"
    )


__all__ = ["PostgresLocks"]
