"""A PostgreSQL server: its address, its connections, and its errors turned into ours.

Whatever the server says stays here: its messages carry addresses, names of people and statements.
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from voxelvault.errors import (
    CatalogError,
    ForkedProcess,
    LockTimeout,
    MissingExtra,
    NoPermission,
    NoSpace,
    StorageError,
    Unanswered,
    UsageError,
    VoxelVaultError,
)

if TYPE_CHECKING:
    import psycopg

SCHEME = "postgresql://"

_CONNECT_SECONDS = 10
_SECRETS = frozenset({"password", "sslpassword"})
# Both ends notice within half a minute that the other has gone, so a dead writer's lock is freed.
_ALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
# A line on which an answer is under way is not idle: that has a limit of its own, by default a quarter hour.
_SERVER_ALIVE = " ".join(
    f"-c tcp_{name}"
    for name in ("keepalives_idle=10", "keepalives_interval=5", "keepalives_count=3", "user_timeout=30000")
)

T = TypeVar("T")


def is_postgres(catalog: str) -> bool:
    """Say whether vault.toml's `catalog` names a PostgreSQL server."""
    return catalog.startswith(SCHEME)


def checked_url(url: str) -> str:
    """Return the address of a catalog's database if it may stand in the public vault.toml.

    Parameters
    ----------
    url : str
        `postgresql://[user@]host[:port]/database[?parameter=value]`.

    Raises
    ------
    UsageError
        It is no such address, or it has a password in it.

    References
    ----------
    PostgreSQL documentation, 34.1.1.2 (connection URIs) and 34.15 (environment variables).
    """
    malformed = UsageError("a catalog is `embedded` or postgresql://host[:port]/database: write it so")
    if not re.fullmatch(r"[!#-&(-\[\]-_a-~]+", url) or not is_postgres(url):
        raise malformed
    try:
        parts = urlsplit(url)
        _ = parts.port
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise malformed from None
    if parts.password is not None or _SECRETS & {name.lower() for name in query}:
        raise UsageError(
            "vault.toml is public, so no password goes into the catalog's address: leave it out, and "
            "give it by PGPASSWORD, ~/.pgpass or a service file"
        )
    if len(parts.path) < 2:
        raise malformed
    return url


class PostgresServer:
    """Connections to one database, opened when needed, kept for the next, shared by threads.

    Parameters
    ----------
    url : str
        Its address; what is secret comes from libpq's environment, password or service file.

    Raises
    ------
    UsageError
        See `checked_url`.
    MissingExtra
        psycopg is not installed.
    """

    def __init__(self, url: str) -> None:
        self._url = checked_url(url)
        self._driver = _driver()
        self._idle: list[psycopg.Connection[Any]] = []
        self._guard = threading.Lock()
        self._pid = os.getpid()
        weakref.finalize(self, _close_all, self._idle, self._pid)

    @contextmanager
    def connection(self, *, fresh: bool = False) -> Iterator[psycopg.Connection[Any]]:
        """Lend a connection in autocommit mode; one that failed is not lent again.

        Parameters
        ----------
        fresh : bool
            Not one that waited, which the server may have left meanwhile.
        """
        lent = self._take(fresh)
        try:
            with self.translated():
                yield lent
        except BaseException:
            with suppress(self._driver.Error):
                lent.close()
            raise
        if not lent.closed:
            with self._guard:
                self._idle.append(lent)

    def ask(self, question: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Read from the server; asked again once if the connection had been left meanwhile."""
        try:
            with self.connection() as connection:
                return question(connection)
        except StorageError:
            self.forget()
            with self.connection(fresh=True) as connection:
                return question(connection)

    def forget(self) -> None:
        """Close the connections that wait."""
        with self._guard:
            idle = self._idle.copy()
            self._idle.clear()
        _close_all(idle, self._pid)

    def _take(self, fresh: bool) -> psycopg.Connection[Any]:
        if os.getpid() != self._pid:
            raise ForkedProcess(
                "a server's connection doesn't survive a fork: start children with spawn or forkserver"
            )
        with self._guard:
            if self._idle and not fresh:
                return self._idle.pop()
        with self.translated():
            made: psycopg.Connection[Any] = self._driver.connect(
                self._url,
                autocommit=True,
                connect_timeout=_CONNECT_SECONDS,
                application_name="voxelvault",
                options=_SERVER_ALIVE,
                **_ALIVE,
            )
            return made

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the server's errors into ours."""
        try:
            yield
        except self._driver.Error as error:
            raise _ours(error, self._driver) from None


def _close_all(connections: list[psycopg.Connection[Any]], pid: int) -> None:
    # A forked child shares the sockets: to close them there would end its parent's sessions.
    if os.getpid() == pid:
        for connection in connections:
            connection.close()


def _driver() -> Any:
    try:
        import psycopg
    except ImportError:
        raise MissingExtra("psycopg is not installed: pip install 'voxelvault[postgres]'") from None
    return psycopg


def _ours(error: Exception, driver: Any) -> VoxelVaultError:
    errors = driver.errors
    kinds: tuple[tuple[type[Exception], VoxelVaultError], ...] = (
        (
            errors.LockNotAvailable,
            LockTimeout(
                "another writer or a backup held the catalog too long: let it finish, then run again"
            ),
        ),
        (
            errors.InsufficientPrivilege,
            NoPermission("PostgreSQL denies this to your role: ask the administrator for access"),
        ),
        (errors.DiskFull, NoSpace("the disk of the PostgreSQL server is full: free some, then run again")),
        (
            errors.ReadOnlySqlTransaction,
            NoPermission("this PostgreSQL server only reads, as a standby does: name the primary to write"),
        ),
        (
            driver.OperationalError,
            Unanswered(
                "the catalog's PostgreSQL server can't be reached or turned us away: check server, network "
                "and password (PGPASSWORD, ~/.pgpass), then run again"
            ),
        ),
    )
    for kind, ours in kinds:
        if isinstance(error, kind):
            return ours
    code = getattr(error, "sqlstate", None) or type(error).__name__
    return CatalogError(f"PostgreSQL refused (code {code}): look into the server's log, then run again")


__all__ = ["SCHEME", "PostgresServer", "checked_url", "is_postgres"]
