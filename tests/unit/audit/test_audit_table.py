"""The log as a table that DuckDB reads."""

from __future__ import annotations

import duckdb
from few_keys import FewKeys

from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.audit.log import AuditLog
from voxelvault.audit.table import SCHEMA, to_arrow

ID, DIGEST = "0123456789abcdef" * 2, "ab" * 32


def test_entries_are_rows(log: AuditLog) -> None:
    log.append(
        [
            Event(
                kind=Kind.INGEST,
                who="alice",
                purpose="IRB-1",
                counts={"instances": 2},
                manifests={ID: DIGEST},
            ),
            Event(
                kind=Kind.QUERY, who="bob", outcome=Outcome.DENIED, codes={"reason": ("policy",)}, text="x"
            ),
        ]
    )
    table = to_arrow(log.entries())
    connection = duckdb.connect()
    connection.register("audit", table)
    rows = connection.sql(
        "select entry, kind, outcome, purpose, counts['instances'], manifests[?], codes['reason'], "
        "text_id, time from audit order by entry",
        params=[ID],
    ).fetchall()
    entries = list(log.entries())
    assert entries[1].text is not None
    assert rows[0] == (0, "ingest", "ok", "IRB-1", 2, DIGEST, None, None, entries[0].when)
    assert rows[1] == (
        1,
        "query",
        "denied",
        None,
        None,
        None,
        ["policy"],
        entries[1].text.text_id,
        entries[1].when,
    )


def test_an_empty_log_is_an_empty_table(keys: FewKeys) -> None:
    assert to_arrow([]).schema == SCHEMA


def test_more_entries_than_a_batch(log: AuditLog) -> None:
    log.append([Event(kind=Kind.QUERY, who="a", counts={"rows": i}) for i in range(5000)])
    table = to_arrow(log.entries())
    assert table.num_rows == 5000
    assert table["entry"].to_pylist() == list(range(5000))
