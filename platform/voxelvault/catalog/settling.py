"""Bringing a server's entries into DuckLake's tables, and maintaining those, on a private file.

What happens here counts only once the file is published: killed on the way, it leaves sealed files
that nothing references, which maintenance sweeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pyarrow as pa

from voxelvault.catalog.ducklake_sql import (
    EXTENSIONS,
    LAKE,
    attach,
    attach_source,
    copy_source,
    create_tables,
)
from voxelvault.catalog.engine import Connection, connect, quoted, translated
from voxelvault.catalog.lease import CatalogKeys, DuckLakeLease
from voxelvault.catalog.replica import Replica, put, take_out
from voxelvault.catalog.schema import Table
from voxelvault.storage.sealed_fs import SealedFileSystem


class PrivateFile:
    """Stands in for the shared file of an embedded catalog: nobody else has this one open."""

    def locked(self) -> nullcontext[None]:
        """Hold it still, as it is anyway."""
        return nullcontext()


def new_file(path: Path, password: str, tables: Mapping[str, Table], vault_id: str) -> None:
    """Write the metadata file of a new catalog."""
    connection = connect(EXTENSIONS)
    with _closing(connection), translated("make its file"):
        attach(connection, LAKE, path, password)
        create_tables(connection, tables, vault_id)
        connection.execute(f"DETACH {LAKE}")


def rekeyed(source: Path, opens: str, target: Path, password: str) -> list[str]:
    """Copy a metadata file to one under another key; return the paths of the present files."""
    connection = connect(EXTENSIONS)
    with _closing(connection), translated("rebuild its file"):
        attach_source(connection, source, opens)
        return copy_source(connection, target, password)


@contextmanager
def settled(
    replica: Replica,
    path: Path,
    tables: Mapping[str, Table],
    keys: CatalogKeys,
    files: SealedFileSystem,
    spill: Path,
) -> Iterator[DuckLakeLease]:
    """Attach a private copy of a replica's file for writing, its entries brought in; the file is whole after.

    Parameters
    ----------
    replica : Replica
        As of the last commit.
    path : Path
        The copy.
    tables : mapping of str to Table
        The schema.
    keys, files : CatalogKeys, SealedFileSystem
        The vault's.
    spill : Path
        Folder for encrypted temporary files.
    """
    with attached(path, replica.password, tables, keys, files, spill) as (connection, lease):
        lease.add_columns()
        with replica.cursor() as cursor:
            tail = list(replica.touched(cursor))
        if tail:
            lease.transaction(lambda: _bring_in(connection, tail), replica.info.digest)
        yield lease


@contextmanager
def attached(
    path: Path,
    password: str,
    tables: Mapping[str, Table],
    keys: CatalogKeys,
    files: SealedFileSystem,
    spill: Path,
) -> Iterator[tuple[Connection, DuckLakeLease]]:
    """Attach a private metadata file for writing; it is whole once this ended well.

    Parameters
    ----------
    path, password : Path, str
        The file, and what opens it.
    tables, keys, files, spill : mapping, CatalogKeys, SealedFileSystem, Path
        As for `settled`.
    """
    connection = connect(EXTENSIONS, spill=spill)
    connection.register_filesystem(files)
    with _closing(connection):
        with translated("open its file", files.failures.take):
            attach(connection, LAKE, path, password)
        lease = DuckLakeLease(connection, tables, keys, PrivateFile(), files)
        yield connection, lease
        lease.let_go()
        with translated("close its file"):
            connection.execute(f"DETACH {LAKE}")


def _bring_in(connection: Connection, tail: Iterable[tuple[Table, pa.Table, pa.Table]]) -> None:
    for table, hidden, rows in tail:
        target = f"{LAKE}.main.{quoted(table.name)}"
        take_out(connection, target, table, hidden)
        put(connection, target, rows)


@contextmanager
def _closing(connection: Connection) -> Iterator[None]:
    try:
        yield
    finally:
        connection.close()


__all__ = ["PrivateFile", "attached", "new_file", "rekeyed", "settled"]
