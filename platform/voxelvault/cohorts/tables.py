"""Tables that people bring: pandas, polars, pyarrow, Parquet, CSV; all become arrow."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from voxelvault.cohorts.key_names import canonical
from voxelvault.cohorts.text_tables import file_text, text_table, typed, unreadable
from voxelvault.errors import UsageError


def is_table(what: Any) -> bool:
    """Tell whether this is a data frame or an arrow table."""
    shown = ("__arrow_c_stream__", "arrow")
    return isinstance(what, pa.RecordBatch) or any(hasattr(what, name) for name in shown) or _is_pandas(what)


def to_table(what: Any, keys: Collection[str] = ()) -> pa.Table:
    """Return a table as arrow.

    Parameters
    ----------
    what : pandas, polars or pyarrow table, mapping of lists, or path
        A path ends in ``.csv``, ``.tsv`` or ``.parquet``.
    keys : collection of str
        Columns, however spelt, that stay text when a text file is read: ``42`` and ``0042`` are two keys.

    Raises
    ------
    UsageError
        It is none of these, or can't be read as one.
    StorageError
        The file can't be read.
    """
    if isinstance(what, str | os.PathLike):
        return _read(Path(what).expanduser(), keys)
    try:
        if isinstance(what, pa.Table):
            return what
        if isinstance(what, pa.RecordBatch):
            return pa.Table.from_batches([what])
        if isinstance(what, Mapping):
            return pa.table(dict(what))
        if _is_pandas(what):
            return pa.Table.from_pandas(_named(what), preserve_index=False)
        if hasattr(what, "__arrow_c_stream__"):
            return pa.table(what)
        if hasattr(what, "arrow"):
            return to_table(what.arrow())
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError):
        # The engine's message may quote values.
        raise UsageError(
            "the table has a column of mixed or unusual types; give each column one type, such as str"
        ) from None
    raise UsageError(
        "pass a pandas, polars or pyarrow table (`.collect()` of a lazy one), or the path of a CSV or"
        " Parquet file"
    )


def _is_pandas(what: Any) -> bool:
    return type(what).__module__.partition(".")[0] == "pandas" and hasattr(what, "columns")


def _named(frame: Any) -> Any:
    """Return a pandas frame whose named index, where it has one, is a column."""
    named = any(name is not None and name not in frame.columns for name in frame.index.names)
    return frame.reset_index() if named else frame


def _read(path: Path, keys: Collection[str]) -> pa.Table:
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", ".parquet", ".pq"):
        raise UsageError("a file of labels ends in .csv, .tsv or .parquet")
    if suffix in (".csv", ".tsv"):
        table = text_table(file_text(path))
        columns = {name: table[name] for name in table.column_names}
        return pa.table({name: c if canonical(name) in keys else typed(c) for name, c in columns.items()})
    try:
        return pyarrow.parquet.read_table(path)
    except OSError as error:
        raise unreadable(error) from None
    except pa.ArrowInvalid:
        raise UsageError(
            "the file of labels is no table that can be read; write it again as Parquet"
        ) from None


__all__ = ["is_table", "to_table"]
