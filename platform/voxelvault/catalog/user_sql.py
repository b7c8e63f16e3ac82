"""Users' SQL: an instance that holds no key, no file and no secret worth having.

The session that attached the catalog gives everything away: its metadata, the file functions, the
list of databases. So users get a second instance, closed before it is handed over.
"""

from __future__ import annotations

import html
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from voxelvault.catalog.catalog import CommitInfo
from voxelvault.catalog.engine import Connection, interrupted, literal, quoted, safe_message
from voxelvault.errors import MissingExtra, QueryError

_SHOWN = 20
_INCOMING = "incoming_table"


@dataclass(frozen=True)
class Result:
    """All rows of a query.

    Parameters
    ----------
    table : pyarrow.Table
        The rows.
    identifying : bool
        Whether reprs may show values: what a notebook shows is saved in its file.
    """

    table: pa.Table
    identifying: bool = False

    def arrow(self) -> pa.Table:
        """Return the rows as a pyarrow table."""
        return self.table

    def df(self) -> Any:
        """Return the rows as a pandas data frame."""
        return self.table.to_pandas()

    def pl(self) -> Any:
        """Return the rows as a polars data frame.

        Raises
        ------
        MissingExtra
            polars is not installed.
        """
        try:
            import polars
        except ImportError:
            raise MissingExtra("polars is not installed: pip install polars, or use .df()") from None
        return polars.from_arrow(self.table)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the rows as tuples."""
        columns = [column.to_pylist() for column in self.table.columns]
        return list(zip(*columns, strict=True)) if columns else []

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.table.column_names)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.fetchall())

    def __repr__(self) -> str:
        about = ", ".join(f"{field.name} {field.type}" for field in self.table.schema)
        return f"<{len(self)} rows: {about}; .df() .pl() .arrow() .fetchall()>"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        if not self.identifying:
            return f"<table><tr>{head}</tr></table><p>{len(self)} rows; .df() shows them</p>"
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>"
            for row in Result(self.table.slice(0, _SHOWN)).fetchall()
        )
        return f"<table><tr>{head}</tr>{body}</table><p>{len(self)} rows</p>"


class UserSession:
    """A closed engine instance that answers a user's SQL.

    Parameters
    ----------
    connection : Connection
        An instance of its own, with what the user may read attached.
    tables : mapping of str to pyarrow.Table
        Rows to copy into it under these names.
    info : CommitInfo
        The catalog's state that the session shows; open a new one when `Catalog.head` moved on.
    database : str, optional
        The attached database whose tables are the default.
    folders : sequence of str
        The only places that the instance may go on reading.

    Notes
    -----
    This is no boundary against someone who runs code in the same process.
    """

    def __init__(
        self,
        connection: Connection,
        tables: Mapping[str, pa.Table],
        info: CommitInfo,
        database: str | None = None,
        folders: Sequence[str] = (),
    ) -> None:
        self._connection = connection
        self._guard = threading.Lock()
        self.info = info
        for name, rows in tables.items():
            connection.register(_INCOMING, rows)
            connection.execute(f"CREATE TABLE memory.main.{quoted(name)} AS FROM {_INCOMING}")
            connection.unregister(_INCOMING)
        path = f"{database}.main,memory.main" if database else "memory.main"
        # Order matters: each of these closes the door behind the one before.
        for setting in (
            f"search_path={literal(path)}",
            f"allowed_directories=[{', '.join(map(literal, folders))}]",
            "enable_external_access=false",
            "lock_configuration=true",
        ):
            connection.execute(f"SET {setting}")

    def sql(
        self, text: str, params: Sequence[Any] | Mapping[str, Any] | None = None, *, identifying: bool = False
    ) -> Result:
        """Run a user's SQL and return all its rows.

        Parameters
        ----------
        text : str
            One statement or several; the last one's rows are returned.
        params : sequence or mapping, optional
            Values for `?` or `$name`.
        identifying : bool
            Whether the result's reprs may show values.

        Raises
        ------
        QueryError
            The SQL was refused or failed.
        """
        # Not a cursor: a cursor starts without the search path, and the configuration is locked.
        with self._guard, _user_errors(self._connection):
            return Result(self._connection.execute(text, params).to_arrow_table(), identifying)

    def close(self) -> None:
        """Let go of the instance."""
        self._connection.close()

    def __enter__(self) -> UserSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def _user_errors(connection: Connection) -> Iterator[None]:
    try:
        yield
    except duckdb.PermissionException:
        message = "the query reaches outside the catalog's tables: use these only"
    except duckdb.InvalidInputException as error:
        reads = "read-only" not in str(error)
        message = safe_message(error) if reads else "the catalog is only read here: use a select"
    except duckdb.Error as error:
        message = f"the query failed: {safe_message(error)}"
    except RuntimeError as error:
        if interrupted(error):
            # The engine's threads are still at it; the next query would wait for them.
            connection.interrupt()
            raise KeyboardInterrupt from None
        raise
    else:
        return
    raise QueryError(message) from None


__all__ = ["Result", "UserSession"]
