"""`sql`: ask the catalog."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from typing import Any

import click

from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.command import Session, pass_session, verb
from voxelvault.interfaces.cli.output import emit, plain, table


@verb(
    "sql",
    'voxelvault --vault ~/vault sql "select Modality, count(*) as n from series group by 1"',
    'voxelvault --vault ~/vault sql --csv "select * from studies" > studies.csv',
    "voxelvault --vault ~/vault sql - < query.sql",
)
@click.argument("query")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values with a header line.")
@pass_session
def sql(session: Session, query: str, as_csv: bool, as_json: bool) -> None:
    """Run a query on the catalog.

    QUERY is SQL; - reads it from stdin. Every query is an audit entry.

    Tables: patients, studies, series, instances, stacks, frames, packs, quarantine, conflicts,
    merges, moves, and audit for the log.
    """
    if as_csv and as_json:
        raise UsageError("choose one of --csv and --json")
    text = sys.stdin.read() if query == "-" else query
    with session.open() as vault:
        result = vault.sql(text)
        columns, rows = result.columns, result.fetchall()
    if as_csv:
        _write_csv(columns, rows)
        return
    names = _unique(columns)
    document = {"columns": names, "rows": [dict(zip(names, row, strict=True)) for row in rows]}
    emit(document, [*table(columns, rows), f"({len(rows)} rows)"], as_json)


def _write_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([plain(value) for value in row] for row in rows)


def _unique(columns: Sequence[str]) -> list[str]:
    """Return the names with a number where one occurs twice: a JSON object would lose the first."""
    found: list[str] = []
    for name in columns:
        number, candidate = 1, name
        while candidate in found:
            number += 1
            candidate = f"{name}_{number}"
        found.append(candidate)
    return found
