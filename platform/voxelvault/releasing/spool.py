"""The entries of a release in the making: on the disk, in the order in which they are signed for."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from voxelvault.deid.receipt import Receipt, Refusal, order
from voxelvault.deid.scratch import temporary

Entry: TypeAlias = Receipt | Refusal

_SCHEMA = """
create table entries (source text, place text, reason text, blanked int, met int, body text);
create index by_source on entries (source);
create index by_place on entries (place);
"""


class Spool:
    """Entries by source and by path; holds none of them in memory."""

    def __init__(self) -> None:
        self._rows = temporary(_SCHEMA)

    def add(self, entries: Iterable[Entry], *, met: bool) -> None:
        """Take entries of this run, whose sources were met, or of an earlier one."""
        self._rows.executemany(
            "insert into entries values (?, ?, ?, ?, ?, ?)", (_row(entry, met) for entry in entries)
        )

    def leave_out(self, path: str, reason: str) -> None:
        """Make a refusal of a receipt."""
        self._rows.execute("update entries set reason = ? where place = ?", (reason, order(path)))

    def meet(self, source: str) -> bool:
        """Tell whether there is an entry of a source, and keep in mind that the source is there."""
        return bool(self._rows.execute("update entries set met = 1 where source = ?", (source,)).rowcount)

    def reasons(self, source: str) -> list[str]:
        """Return why files of a source were refused, a reason a file."""
        found = self._rows.execute(
            "select reason from entries where source = ? and reason is not null", (source,)
        )
        return [str(reason) for (reason,) in found]

    def holds(self, path: str) -> bool:
        """Tell whether a receipt is of this path."""
        found = self._rows.execute("select 1 from entries where place = ? and reason is null", (order(path),))
        return found.fetchone() is not None

    def of_source(self, source: str) -> Iterator[Receipt]:
        """Yield the receipts of a source."""
        return self._receipts("where source = ? and reason is null", source)

    def receipts(self) -> Iterator[Receipt]:
        """Yield the receipts by their paths."""
        return self._receipts("where reason is null order by place")

    def refusals(self) -> Iterator[Refusal]:
        """Yield the refusals by their sources, each once."""
        found = self._rows.execute(
            "select distinct source, reason from entries where reason is not null order by 1, 2"
        )
        return (Refusal(*row) for row in found)

    def count(self, condition: str) -> int:
        """Return how many entries there are: all, `reason is null`, `blanked`, `not met`."""
        row = self._rows.execute(f"select count(*) from entries where {condition}").fetchone()  # noqa: S608
        return int(row[0])

    def _receipts(self, how: str, *values: str) -> Iterator[Receipt]:
        found: sqlite3.Cursor = self._rows.execute(f"select body from entries {how}", values)  # noqa: S608
        return (receipt_from(json.loads(body)) for (body,) in found)


def _row(entry: Entry, met: bool) -> tuple[object, ...]:
    if isinstance(entry, Refusal):
        return entry.source, None, entry.reason, 0, met, None
    return entry.source, order(entry.path), None, bool(entry.boxes), met, json.dumps(vars(entry))


def receipt_from(body: dict[str, Any]) -> Receipt:
    """Return a receipt that JSON was made of."""
    return Receipt(**{**body, "boxes": tuple(map(tuple, body["boxes"]))})


__all__ = ["Entry", "Spool", "receipt_from"]
