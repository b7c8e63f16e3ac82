"""The catalog's tables on a server: a numbered base, and the sealed entries that follow it.

Nothing in them is readable there but numbers, lengths and times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxelvault.catalog.postgres_server import PostgresServer
from voxelvault.errors import CatalogError

if TYPE_CHECKING:
    import psycopg

_READERS_WAIT = 3000
"""Milliseconds in which a new base must find no reader at the tables."""

_MISSING = "the vault's catalog isn't in this PostgreSQL database: check the address, or restore it"


@dataclass(frozen=True)
class Found:
    """What is new on the server.

    Parameters
    ----------
    number, seq : int
        The base's number, and the sequence number of the last entry that is in it.
    base : bytes or None
        Sealed; None if it is the one that the reader has.
    entries : tuple of (int, bytes)
        Sequence number and sealed entry, in order.
    last : int
        Sequence number of the last entry of all.
    """

    number: int
    seq: int
    last: int
    base: bytes | None
    entries: tuple[tuple[int, bytes], ...]


class History:
    """The tables of one vault, in a schema of its own.

    Parameters
    ----------
    server : PostgresServer
        Where they are.
    vault_id : str
        32 hexadecimal digits.
    """

    def __init__(self, server: PostgresServer, vault_id: str) -> None:
        self._server = server
        self._schema = f"voxelvault_{vault_id}"

    def read(self, number: int = 0, seq: int = 0) -> Found:
        """Return what follows an entry on a base; with the base itself if it is another one.

        Raises
        ------
        CatalogError
            There is no catalog.
        StorageError
            The server can't be reached.
        """
        return self._server.ask(lambda connection: self._read(connection, number, seq))

    def exists(self) -> bool:
        """Say whether the catalog was made."""
        found = self._server.ask(
            lambda connection: connection.execute(
                "SELECT to_regclass(%s) IS NOT NULL", (f"{self._schema}.base",)
            ).fetchone()
        )
        return bool(found and found[0])

    def make(self, connection: psycopg.Connection[Any], sealed: bytes) -> None:
        """Make the tables with base 1, all or none."""
        with connection.transaction():
            connection.execute(
                f"CREATE SCHEMA IF NOT EXISTS {self._schema};"
                f"CREATE TABLE {self._schema}.base (number bigint NOT NULL, seq bigint NOT NULL, "
                "sealed bytea NOT NULL);"
                f"CREATE TABLE {self._schema}.entries (seq bigint PRIMARY KEY, sealed bytea NOT NULL);"
                # Sealed bytes don't compress.
                f"ALTER TABLE {self._schema}.base ALTER sealed SET STORAGE EXTERNAL;"
                f"ALTER TABLE {self._schema}.entries ALTER sealed SET STORAGE EXTERNAL"
            )
            connection.execute(f"INSERT INTO {self._schema}.base VALUES (1, 0, %s)", (sealed,))  # noqa: S608

    def renew(self, connection: psycopg.Connection[Any], seal: Callable[[int, int], bytes]) -> None:
        """Put a base in the place of whatever is there, or make the tables with it.

        Parameters
        ----------
        connection : Connection
            Holds the lock.
        seal : callable
            Returns the base sealed for its number and that of the last entry before it.
        """
        if not self.exists():
            self.make(connection, seal(1, 0))
            return
        with connection.transaction():
            tables = self._locked(connection)
            number, seq = self._one(
                connection,
                "SELECT coalesce(max(number), 0) + 1, 1 + greatest(coalesce(max(seq), 0), "
                "(SELECT max(seq) FROM {schema}.entries)) FROM {schema}.base",
            )
            connection.execute(f"TRUNCATE {tables}")
            connection.execute(
                f"INSERT INTO {self._schema}.base VALUES (%s, %s, %s)",  # noqa: S608
                (number, seq, seal(number, seq)),
            )

    def append(self, connection: psycopg.Connection[Any], number: int, seq: int, sealed: bytes) -> None:
        """Add the entry that follows the last one; durable when it returns.

        Raises
        ------
        CatalogError
            Something else follows it already.
        """
        done = connection.execute(
            f"INSERT INTO {self._schema}.entries SELECT %(seq)s, %(sealed)s FROM {self._schema}.base "  # noqa: S608
            "WHERE number = %(number)s AND %(seq)s = 1 + "
            f"coalesce((SELECT max(seq) FROM {self._schema}.entries), seq)",
            {"seq": seq, "sealed": sealed, "number": number},
        )
        if done.rowcount != 1:
            raise CatalogError("another writer changed the catalog meanwhile: run again")

    def holds(self, connection: psycopg.Connection[Any], seq: int, sealed: bytes) -> bool | None:
        """Say whether an entry is there; None if it may be in the base, or somebody else's is."""
        base, found = self._one(
            connection,
            "SELECT seq, (SELECT sealed FROM {schema}.entries WHERE seq = %s) FROM {schema}.base",
            (seq,),
        )
        if base >= seq:
            return None
        return bool(found == sealed)

    def publish(self, connection: psycopg.Connection[Any], number: int, seq: int, sealed: bytes) -> None:
        """Put a new base that holds all entries in the place of the old one, and drop the entries.

        Truncated and made anew, not deleted: the old rows' files go at once, not with the next vacuum.

        Raises
        ------
        LockTimeout
            Somebody reads the tables all the time, as a backup does.
        """
        with connection.transaction():
            tables = self._locked(connection)
            last = self._one(
                connection,
                "SELECT number, greatest(seq, (SELECT max(seq) FROM {schema}.entries)) FROM {schema}.base",
            )
            if last != (number, seq):
                raise CatalogError("another writer changed the catalog meanwhile: run again")
            connection.execute(f"TRUNCATE {tables}")
            connection.execute(
                f"INSERT INTO {self._schema}.base VALUES (%s, %s, %s)",  # noqa: S608
                (number + 1, seq, sealed),
            )

    def _locked(self, connection: psycopg.Connection[Any]) -> str:
        """Keep readers off the tables for the rest of a transaction; return their names."""
        tables = f"{self._schema}.base, {self._schema}.entries"
        # Readers stand in line behind who waits for this, so that nobody waits for long.
        connection.execute(f"SET LOCAL lock_timeout = {_READERS_WAIT}")
        connection.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
        return tables

    def _one(self, connection: psycopg.Connection[Any], sql: str, params: Sequence[Any] = ()) -> Any:
        found = connection.execute(sql.format(schema=self._schema), params).fetchone()
        if found is None:
            raise CatalogError(_MISSING)
        return found

    def _read(self, connection: psycopg.Connection[Any], number: int, seq: int) -> Found:
        from psycopg.errors import InvalidSchemaName, UndefinedTable

        base, entries = f"{self._schema}.base", f"{self._schema}.entries"
        try:
            # One statement sees one state.
            rows = connection.execute(
                "SELECT 0, number, seq, CASE WHEN number <> %(number)s THEN sealed END, "  # noqa: S608
                f"greatest(seq, (SELECT max(seq) FROM {entries})) FROM {base} "
                f"UNION ALL SELECT 1, 0, e.seq, e.sealed, 0 FROM {entries} e, {base} b "
                "WHERE e.seq > CASE WHEN b.number <> %(number)s THEN b.seq ELSE %(seq)s END ORDER BY 1, 3",
                {"number": number, "seq": seq},
                binary=True,
            ).fetchall()
        except (UndefinedTable, InvalidSchemaName):
            raise CatalogError(_MISSING) from None
        if not rows:
            raise CatalogError(_MISSING)
        (_, base_number, base_seq, sealed, last), *rest = rows
        return Found(base_number, base_seq, last, sealed, tuple((row[2], row[3]) for row in rest))


__all__ = ["Found", "History"]
