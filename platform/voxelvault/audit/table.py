"""The log as a table, for SQL over `audit`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from voxelvault.audit.leaf import Entry

_BATCH = 4096
_TEXTS = pa.map_(pa.string(), pa.string())
_LISTS = pa.map_(pa.string(), pa.list_(pa.string()))

SCHEMA = pa.schema(
    [
        ("entry", pa.int64()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("kind", pa.string()),
        ("outcome", pa.string()),
        ("who", pa.string()),
        ("purpose", pa.string()),
        ("action", pa.string()),
        ("ids", _LISTS),
        ("counts", pa.map_(pa.string(), pa.int64())),
        ("digests", _TEXTS),
        ("manifests", _TEXTS),
        ("codes", _LISTS),
        ("text_id", pa.string()),
    ]
)
"""Columns of the table `audit`; maps are read in SQL as `counts['instances']`."""


def to_arrow(entries: Iterable[Entry]) -> pa.Table:
    """Return entries as a table.

    Parameters
    ----------
    entries : iterable of Entry
        For example `log.entries()`.

    Returns
    -------
    pyarrow.Table
        One row an entry, columns as in `SCHEMA`.
    """
    return pa.Table.from_batches(_batches(iter(entries)), SCHEMA)


def _batches(entries: Iterator[Entry]) -> Iterator[pa.RecordBatch]:
    while rows := [_row(entry) for entry in islice(entries, _BATCH)]:
        yield pa.RecordBatch.from_pylist(rows, SCHEMA)


def _row(entry: Entry) -> dict[str, Any]:
    maps = ("ids", "counts", "digests", "manifests", "codes")
    return {
        "entry": entry.index,
        "time": entry.when,
        "text_id": entry.text and entry.text.text_id,
        **{name: list(getattr(entry, name).items()) for name in maps},
        **{name: getattr(entry, name) for name in ("kind", "outcome", "who", "purpose", "action")},
    }
