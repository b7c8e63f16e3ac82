"""What is DuckLake's own: attaching, its metadata tables and its maintenance calls.

Names in SQL here are ours or come from the schema.

References
----------
DuckLake 1.0 specification, https://ducklake.select/docs/stable/specification.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from voxelvault.catalog.catalog import CommitInfo
from voxelvault.catalog.engine import Connection, literal, quoted
from voxelvault.catalog.schema import LARGE, Table
from voxelvault.catalog.statements import first_digest
from voxelvault.errors import CatalogError

EXTENSIONS = ("duckdb_extension_httpfs", "duckdb_extension_ducklake")
"""Wheels; the first is what lets the engine write encrypted files."""

LAKE = "lake"
"""Name under which a catalog is attached."""

DATA = "sealed://lake/"
"""Where all data files are, as the engine believes."""

BLOCK = 16_384
"""Bytes in a block of the catalog file; the default makes small catalogs ten times larger."""

_OPTIONS: Mapping[str, str | int] = {
    "parquet_compression": "zstd",
    # Small enough that an erasure, which rewrites each file naming a subject, stays cheap.
    "target_file_size": "64MB",
    # A commit of a few rows goes into the encrypted file: a third of the sealed files to open later.
    "data_inlining_row_limit": 20,
}
_ROW_GROUP = 20_000
# From this share of deleted rows on, maintenance rewrites a file.
_REWRITE_FROM = 0.2


def metadata(alias: str) -> str:
    """Return the schema that holds an attached catalog's metadata tables."""
    return f"__ducklake_metadata_{alias}"


def attach(connection: Connection, alias: str, path: Path, password: str, *, read_only: bool = False) -> None:
    """Attach a catalog file, made if it is not there, under a name.

    What is committed to it is in the file only once it was flushed: there is no journal.
    """
    options = [f"DATA_PATH '{DATA}'", f"META_ENCRYPTION_KEY '{password}'", f"META_BLOCK_SIZE {BLOCK}"]
    # It is a private copy, so a journal, and an fsync of it at each commit, would serve nobody.
    options.append("READ_ONLY" if read_only else "META_RECOVERY_MODE 'no_wal_writes'")
    connection.execute(f"ATTACH {literal(f'ducklake:{path}')} AS {quoted(alias)} ({', '.join(options)})")


def flush(connection: Connection) -> None:
    """Bring what was committed into the attached catalog file."""
    connection.execute(f"CHECKPOINT {metadata(LAKE)}")


def create_tables(connection: Connection, tables: Mapping[str, Table], vault_id: str) -> None:
    """Make the tables of a new catalog, and fix how its files are written."""
    connection.execute("BEGIN")
    for table in tables.values():
        connection.execute(create_table(table))
    set_digest(connection, first_digest(vault_id))
    connection.execute("COMMIT")
    for name, value in _OPTIONS.items():
        connection.execute(f"CALL {LAKE}.set_option('{name}', '{value}')")
    for name in LARGE:
        connection.execute(
            f"CALL {LAKE}.set_option('parquet_row_group_size', {_ROW_GROUP}, table_name => '{name}')"
        )


def create_table(table: Table) -> str:
    """Return the statement that makes a table."""
    columns = ", ".join(f"{quoted(name)} {sql_type}" for name, sql_type in table.columns.items())
    return f"CREATE TABLE {LAKE}.main.{quoted(table.name)} ({columns})"


def set_digest(connection: Connection, digest: str) -> None:
    """Let the open transaction carry a digest, which `head` will return."""
    connection.execute(f"CALL {LAKE}.set_commit_message(NULL, NULL, extra_info => '{digest}')")


def head(connection: Connection, alias: str) -> CommitInfo:
    """Return the last snapshot and its digest."""
    found = connection.execute(
        "SELECT max(snapshot_id), arg_max(commit_extra_info, snapshot_id) "  # noqa: S608 - our own alias
        f"FROM __ducklake_metadata_{alias}.ducklake_snapshot_changes"
    ).fetchall()
    return CommitInfo(*found[0])


def most_rows(connection: Connection, alias: str) -> int:
    """Return how many rows the largest table under an attached catalog has had."""
    found = connection.execute(
        f"SELECT coalesce(max(record_count), 0) FROM {metadata(alias)}.ducklake_table_stats"  # noqa: S608 - our own alias
    ).fetchall()
    return int(found[0][0])


def column_types(connection: Connection, alias: str) -> dict[str, dict[str, str]]:
    """Return the columns of each table under an attached catalog, with their SQL types, in order."""
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in connection.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() "  # noqa: S608 - our own alias
        f"WHERE database_name = '{alias}' ORDER BY table_oid, column_index"
    ).fetchall():
        found.setdefault(table, {})[column] = kind
    return found


def attach_source(connection: Connection, path: Path, password: str) -> None:
    """Attach a catalog file as the plain database that `copy_source` copies."""
    connection.execute(f"ATTACH {literal(str(path))} AS source (READ_ONLY, ENCRYPTION_KEY '{password}')")


def copy_source(connection: Connection, target: Path, password: str) -> list[str]:
    """Copy the attached source to a file under another key, and detach it.

    Returns the paths of the present snapshot's files.
    """
    try:
        connection.execute(
            f"ATTACH {literal(str(target))} AS target (BLOCK_SIZE {BLOCK}, ENCRYPTION_KEY '{password}')"
        )
        connection.execute("COPY FROM DATABASE source TO target")
        paths = data_files(connection, "target.main", current=True)
        connection.execute("DETACH target")
    finally:
        connection.execute("DETACH source")
    return paths


def columns(connection: Connection) -> list[tuple[str, str]]:
    """Return table and name of every present column."""
    meta = metadata(LAKE)
    found: list[tuple[str, str]] = connection.execute(
        f"SELECT t.table_name, c.column_name FROM {meta}.ducklake_column c "  # noqa: S608 - our own names
        f"JOIN {meta}.ducklake_table t USING (table_id) WHERE c.end_snapshot IS NULL"
    ).fetchall()
    return found


def data_files(connection: Connection, meta: str, *, current: bool) -> list[str]:
    """Return the paths of the data and delete files of the present snapshot, or of any."""
    only = "WHERE f.end_snapshot IS NULL" if current else ""
    found = connection.execute(
        " UNION ALL ".join(
            "SELECT s.path, t.path, f.path, "  # noqa: S608 - our own names
            "s.path_is_relative AND t.path_is_relative AND f.path_is_relative "
            f"FROM {meta}.{files} f JOIN {meta}.ducklake_table t USING (table_id) "
            f"JOIN {meta}.ducklake_schema s USING (schema_id) {only}"
            for files in ("ducklake_data_file", "ducklake_delete_file")
        )
    ).fetchall()
    if not all(relative for *_, relative in found):
        raise CatalogError("the catalog names a file outside the vault: run `voxelvault verify`")
    return [DATA + schema_path + table_path + path for schema_path, table_path, path, _ in found]


def compactions(tables: Iterable[str], grace: float) -> Iterator[str]:
    """Yield the calls that write small and thinned files anew, each for a transaction of its own.

    Two calls in one transaction would each join the same files: every row would be there twice.
    """
    threshold = _REWRITE_FROM if grace else 0.0
    for table in map(literal, tables):
        yield f"CALL ducklake_flush_inlined_data('{LAKE}', table_name => {table})"
        yield f"CALL ducklake_rewrite_data_files('{LAKE}', {table}, delete_threshold => {threshold})"
        yield f"CALL ducklake_merge_adjacent_files('{LAKE}', {table})"


def expirations(grace: float) -> Iterator[str]:
    """Yield the calls that forget states older than the grace period in seconds."""
    older = f"older_than => now() - to_microseconds({int(grace * 1e6)}::BIGINT)"
    yield f"CALL ducklake_expire_snapshots('{LAKE}', {older})"
    # Our file system deletes nothing on its word; this only empties its list of wishes.
    yield f"CALL ducklake_cleanup_old_files('{LAKE}', cleanup_all => true)"


__all__ = [
    "BLOCK",
    "DATA",
    "EXTENSIONS",
    "LAKE",
    "attach",
    "attach_source",
    "column_types",
    "columns",
    "compactions",
    "copy_source",
    "create_table",
    "create_tables",
    "data_files",
    "expirations",
    "head",
    "metadata",
    "most_rows",
    "set_digest",
]
