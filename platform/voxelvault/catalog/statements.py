"""From a change to the SQL that brings it in, by the table's key and repeatable.

The engine has no primary keys, so these statements are exact only under the catalog's lease.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from voxelvault.catalog.catalog import Change
from voxelvault.catalog.engine import Connection, quoted
from voxelvault.catalog.schema import Table
from voxelvault.errors import CatalogError

INCOMING = "incoming_rows"


def apply(connection: Connection, lake: str, table: Table, change: Change, known: Sequence[str]) -> None:
    """Run one change in the open transaction.

    Parameters
    ----------
    connection : Connection
        Holds the lease.
    lake : str
        Name under which the catalog is attached.
    table : Table
        The change's table.
    change : Change
        What to bring in.
    known : sequence of str
        Packs that were there before this transaction.

    Raises
    ------
    CatalogError
        A column is unknown, a key is absent, empty or given twice.
    """
    rows = new_rows(table, change, known)
    if not rows.num_rows:
        return
    check_columns(table, change, rows.column_names)
    if change.mode != "delete":
        check_keys(table, rows)
    connection.register(INCOMING, rows)
    try:
        connection.execute(statement(lake, table, change.mode, rows.column_names))
    finally:
        connection.unregister(INCOMING)


def statement(lake: str, table: Table, mode: str, columns: Sequence[str]) -> str:
    """Return the SQL that brings the incoming rows' columns into a table."""
    target = f"{quoted(lake)}.main.{quoted(table.name)}"
    source = cast(table, columns)
    if mode == "delete":
        by = table.key if set(table.key) <= set(columns) else columns
        return f"DELETE FROM {target} WHERE ({_names(by)}) IN (SELECT {_names(by)} FROM ({source}))"  # noqa: S608
    if mode == "insert" and table.unit:
        return f"INSERT INTO {target} ({_names(columns)}) {source}"
    match = " AND ".join(f"t.{quoted(k)} = r.{quoted(k)}" for k in table.key)
    if mode == "insert":
        new = f"NOT EXISTS (SELECT 1 FROM {target} AS t WHERE {match})"  # noqa: S608
        return f"INSERT INTO {target} ({_names(columns)}) SELECT * FROM ({source}) AS r WHERE {new}"  # noqa: S608
    insert = f"WHEN NOT MATCHED THEN INSERT ({_names(columns)}) VALUES ({_names(columns, 'r.')})"  # noqa: S608
    return f"MERGE INTO {target} AS t USING ({source}) AS r ON ({match}) {_update(table, columns)} {insert}"


def units(changes: Iterable[Change], tables: dict[str, Table] | Any) -> list[str]:
    """Return the packs that the insertions of these changes name."""
    ids: set[str] = set()
    for change in changes:
        if change.mode == "insert" and tables[change.table].unit and "pack_id" in change.rows.column_names:
            ids.update(pc.unique(change.rows["pack_id"]).to_pylist())
    return sorted(ids - {None})


def first_digest(vault_id: str) -> str:
    """Return the digest of a new, empty catalog, hexadecimal."""
    return hashlib.sha256(b"voxelvault/1/catalog/" + bytes.fromhex(vault_id)).hexdigest()


def digest(previous: str, changes: Iterable[Change]) -> str:
    """Return the SHA-256 of the former digest and the changes, hexadecimal."""
    total = hashlib.sha256(bytes.fromhex(previous))
    for change in changes:
        total.update(f"\n{change.table} {change.mode} {change.rows.num_rows}\n".encode())
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, change.rows.schema) as stream:
            stream.write_table(change.rows)
        total.update(sink.getvalue())
    return total.hexdigest()


def new_rows(table: Table, change: Change, known: Sequence[str]) -> pa.Table:
    """Return the rows of a change but those of packs that were there before."""
    if not (known and change.mode == "insert" and table.unit):
        return change.rows
    return change.rows.filter(pc.invert(pc.is_in(change.rows["pack_id"], pa.array(known, pa.string()))))


def check_columns(table: Table, change: Change, columns: Sequence[str]) -> None:
    """Refuse unknown columns, an unknown mode and rows without their key with a `CatalogError`."""
    unknown = [column for column in columns if column not in table.columns]
    if unknown:
        raise CatalogError(f"{table.name} has no column {unknown[0]!r}: extend the tag list, then re-index")
    if change.mode not in ("insert", "merge", "delete"):
        raise CatalogError(f"a change is insert, merge or delete, not {change.mode!r}: pass one of these")
    if change.mode != "delete" and not set(table.key) <= set(columns):
        raise CatalogError(f"rows for {table.name} need its key: pass {', '.join(table.key)}")


def check_keys(table: Table, rows: pa.Table) -> None:
    """Refuse a key that is empty or there twice with a `CatalogError`."""
    keys = rows.select(list(table.key))
    if any(column.null_count for column in keys.columns) or (
        keys.group_by(keys.column_names, use_threads=False).aggregate([]).num_rows != keys.num_rows
    ):
        raise CatalogError(f"a key of {table.name} is empty or twice in one change: send each row once")


def _update(table: Table, columns: Sequence[str]) -> str:
    rest = [column for column in columns if column not in table.key]
    if not rest:
        return ""
    # An unchanged row stays where it is: a repeated merge writes nothing.
    differs = " OR ".join(f"t.{quoted(c)} IS DISTINCT FROM r.{quoted(c)}" for c in rest)
    assign = ", ".join(f"{quoted(c)} = r.{quoted(c)}" for c in rest)
    return f"WHEN MATCHED AND ({differs}) THEN UPDATE SET {assign}"


def cast(table: Table, columns: Sequence[str]) -> str:
    """Return the SQL that gives the incoming rows' columns the table's types."""
    casts = ", ".join(f"CAST({quoted(c)} AS {table.columns[c]}) AS {quoted(c)}" for c in columns)
    return f"SELECT {casts} FROM {INCOMING}"  # noqa: S608 - names are quoted, types come from the schema


def _names(columns: Iterable[str], prefix: str = "") -> str:
    return ", ".join(prefix + quoted(column) for column in columns)


__all__ = [
    "INCOMING",
    "apply",
    "cast",
    "check_columns",
    "check_keys",
    "digest",
    "first_digest",
    "new_rows",
    "statement",
    "units",
]
