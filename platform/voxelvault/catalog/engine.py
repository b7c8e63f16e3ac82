"""One private SQL engine instance: offline, quiet, and spilling nothing in clear."""

from __future__ import annotations

import importlib
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from voxelvault.errors import CatalogError, StorageError, VoxelVaultError

Connection = duckdb.DuckDBPyConnection

SMALL = 100_000
"""Rows; below it, threads cost a query more than they save."""

_verified: set[str] = set()
"""Extensions whose signature the engine checked in this process, and which are loaded since."""

# What these say of is the SQL text alone; every other class may quote a stored value.
_ABOUT_THE_TEXT = (
    duckdb.ParserException,
    duckdb.SyntaxException,
    duckdb.BinderException,
    duckdb.CatalogException,
)


def connect(extensions: Sequence[str], *, spill: Path | None = None) -> Connection:
    """Open an in-memory instance with extensions from installed wheels.

    Parameters
    ----------
    extensions : sequence of str
        Packages that carry the extensions.
    spill : Path, optional
        Folder for encrypted temporary files.

    Raises
    ------
    CatalogError
        A wheel is absent or of another version.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        # Else the person's own stored secrets would be in it.
        "allow_persistent_secrets": False,
        # Checking a signature takes 100 ms and more: once a process, not once an instance.
        "allow_unsigned_extensions": _verified >= set(extensions),
        # By default a large query spills plain rows to disk.
        "temp_file_encryption": True,
        "temp_directory": str(spill) if spill else "",
    }
    connection = duckdb.connect(":memory:", config=config)
    # Otherwise a table name in SQL also finds the caller's Python variables.
    connection.execute("SET python_enable_replacements=false")
    connection.execute("SET enable_progress_bar=false")
    for package in extensions:
        with translated("load its extensions"):
            connection.execute(f"LOAD {literal(str(extension_file(package)))}")
        _verified.add(package)
    connection.execute("SET allow_unsigned_extensions=false")
    return connection


def one_thread(connection: Connection) -> None:
    """Let an instance work without threads: a commit takes a third less of the processor."""
    connection.execute("SET threads=1")


def threads_for(connection: Connection, rows: int) -> None:
    """Let an instance that answers queries use threads only where tables are large.

    A query on a few thousand rows takes twice the processor time with threads, and no less time.

    Parameters
    ----------
    connection : Connection
        Of the instance.
    rows : int
        Of the largest table.
    """
    connection.execute("SET threads=1" if rows < SMALL else "RESET threads")


@contextmanager
def all_threads(connection: Connection) -> Iterator[None]:
    """Let an instance use every core for a long piece of work."""
    before = connection.execute("SELECT current_setting('threads')").fetchall()[0][0]
    connection.execute("RESET threads")
    try:
        yield
    finally:
        connection.execute(f"SET threads={before}")


def extension_file(package: str) -> Path:
    """Return the extension inside an installed wheel.

    Raises
    ------
    CatalogError
        The wheel is absent, or was built for another version of the engine.
    """
    try:
        folder = Path(str(importlib.import_module(package).__file__)).parent
        return next((folder / "extensions" / f"v{duckdb.__version__}").glob("*.duckdb_extension"))
    except (ImportError, StopIteration):
        wheel = f"{package.replace('_', '-')}=={duckdb.__version__}"
        raise CatalogError(f"the catalog needs an extension: pip install {wheel}") from None


def literal(text: str) -> str:
    """Return a SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def bound(sql: str, params: Mapping[str, Any] | None) -> str:
    """Return a query of ours with the values of its `$name` parameters written in as literals.

    The engine's own binding imports pandas at its first parameter, a third of a second in every
    process. Values may be None, numbers, text, and lists of text.

    Raises
    ------
    CatalogError
        A parameter is missing, or of another type.
    """
    if params is None:
        return sql
    try:
        return _PARAMETER.sub(lambda name: _value(params[name[1]]), sql)
    except KeyError:
        raise CatalogError("a query's parameters are incomplete; report this as a bug") from None


_PARAMETER = re.compile(r"\$([a-z_]+)\b")


def _value(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, str):
        # A statement ends at a zero byte, a text need not.
        return "(" + " || chr(0) || ".join(literal(part) for part in value.split("\0")) + ")"
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return f"[{', '.join(map(_value, value))}]::VARCHAR[]"
    raise CatalogError("a query's parameter has a type that is not passed on; report this as a bug")


def quoted(name: str) -> str:
    """Return a SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def private_folder(owner: object) -> Path:
    """Make a folder that only this user may enter, removed when its owner goes."""
    folder = tempfile.mkdtemp(prefix="voxelvault-")
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def safe_message(error: Exception) -> str:
    """Return what may be shown of an engine's error: its first line when it only speaks of the SQL."""
    if isinstance(error, _ABOUT_THE_TEXT):
        return str(error).partition("\n")[0]
    return f"{type(error).__name__}, whose text is withheld since it may quote stored values"


@contextmanager
def translated(doing: str, failure: Callable[[], VoxelVaultError | None] | None = None) -> Iterator[None]:
    """Turn the engine's errors, which carry paths, keys and values, into ours.

    Parameters
    ----------
    doing : str
        What the catalog was to do.
    failure : callable, optional
        Returns the error of ours that the engine wrapped, if there was one.

    Raises
    ------
    CatalogError
        In place of any error of the engine.
    StorageError, IntegrityError
        The cause, when the file system refused.
    """
    try:
        yield
    except duckdb.Error as error:
        ours = failure() if failure else None
        if ours is None and "No space left" in str(error):
            ours = StorageError("the disk is full: free some space, then run again")
        ours = ours or CatalogError(
            f"the catalog could not {doing} ({safe_message(error)}): {_advice(error)}"
        )
    else:
        return
    raise ours from None


def _advice(error: duckdb.Error) -> str:
    if isinstance(error, _ABOUT_THE_TEXT):
        return "run `voxelvault verify`"
    return (
        "run `voxelvault verify`; if that ends like this, the catalog file is damaged: "
        "write it anew with `voxelvault verify --rebuild-catalog`"
    )


def interrupted(error: BaseException) -> bool:
    """Say whether Ctrl-C ended a query: DuckDB turns it into an error of its own.

    Parameters
    ----------
    error : BaseException
        What the query raised.
    """
    return type(error) is RuntimeError and str(error) == "Query interrupted"


__all__ = [
    "SMALL",
    "Connection",
    "all_threads",
    "connect",
    "extension_file",
    "interrupted",
    "literal",
    "one_thread",
    "private_folder",
    "quoted",
    "safe_message",
    "threads_for",
    "translated",
]
