"""What readers do with studies on the list: claim, put back, complete, give another priority.

A study is read once, whatever listed it: each change takes all items that it is given, in one commit or
not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from voxelvault import Vault
from voxelvault.audit.events import Kind
from voxelvault.errors import UsageError
from voxelvault.tasks import Query, Step, now, record
from voxelvault_triage.worklist.states import ItemState, Priority, require_item

Row = dict[str, Any]


def claim(vault: Vault, item_ids: Sequence[str]) -> None:
    """Claim a study for reading.

    Parameters
    ----------
    vault : Vault
        Open for writing.
    item_ids : sequence of str
        Items of one study; those that this reader has claimed already stay so.

    Raises
    ------
    UsageError
        One isn't waiting, or all are this reader's already; nothing was changed.
    """
    _change(vault, item_ids, ItemState.CLAIMED, Kind.READING_CLAIMED, lambda: {"claimed": now()})


def release(vault: Vault, item_ids: Sequence[str]) -> None:
    """Put a claimed study back; as `claim`, but for who claimed it."""
    _change(vault, item_ids, ItemState.WAITING, Kind.READING_RELEASED, dict)


def finish(vault: Vault, item_ids: Sequence[str]) -> None:
    """Say that a claimed study was read; as `claim`, but for who claimed it."""
    _change(vault, item_ids, ItemState.COMPLETED, Kind.READING_COMPLETED, lambda: {"completed": now()})


def override(vault: Vault, item_ids: Sequence[str], priority: Priority, reason: str) -> None:
    """Give a study another priority; results that come later leave it.

    Parameters
    ----------
    vault : Vault
        Open for writing.
    item_ids : sequence of str
        Items of one study.
    priority : Priority
        That it gets.
    reason : str
        For the log; kept sealed.

    Raises
    ------
    UsageError
        There is no reason, or the study was read; nothing was changed.
    """
    if not reason.strip():
        raise UsageError("say why: --reason TEXT; it is kept sealed")

    def decide(query: Query) -> list[Step]:
        if any(row["state"] == ItemState.COMPLETED or row["superseded"] for row in _items(query, item_ids)):
            raise UsageError("this study was read, or gave way to a newer item; look at the list again")
        values = {"priority": priority, "reason": reason}
        return [Step(Kind.READING_OVERRIDDEN, {"item_id": one, **values}) for one in item_ids]

    record(vault.resources, decide)


def _change(
    vault: Vault,
    item_ids: Sequence[str],
    then: ItemState,
    kind: Kind,
    values: Callable[[], dict[str, datetime]],
) -> None:
    who = vault.resources.who

    def decide(query: Query) -> list[Step]:
        rows = _items(query, item_ids)
        # One item of the study can have come so far before the others were listed.
        wanting = [row for row in rows if row["state"] != then or row["claimed_by"] not in (None, who)]
        for row in wanting or rows:
            require_item(row["state"], then, row["claimed_by"], who, superseded=row["superseded"])
        return [Step(kind, {"item_id": row["item_id"], **values()}) for row in wanting]

    record(vault.resources, decide)


def _items(query: Query, item_ids: Sequence[str]) -> list[Row]:
    rows: list[Row] = query(
        "select * from reading_items where item_id in (select unnest($ids))", {"ids": list(item_ids)}
    ).to_pylist()
    if not rows or len(rows) != len(item_ids):
        raise UsageError("there is no such study on the list; `triage worklist` shows it")
    return rows


__all__ = ["claim", "finish", "override", "release"]
