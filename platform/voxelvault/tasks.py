"""Work on studies: the tables `tasks` and `reading_items`, which follow from entries of the log.

Every change is entered in the log first and then made: the tables are what the entries make of them,
and nothing else. What a killed process entered and did not make is made by whoever comes next, and a
catalog that is lost is written anew from the log. Which change may follow which is not decided here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from voxelvault.audit.events import ALLOWED, Event, Kind
from voxelvault.audit.leaf import Entry
from voxelvault.catalog.catalog import Change, Lease
from voxelvault.catalog.schema import TABLES
from voxelvault.errors import UsageError
from voxelvault.policy.access import Request, require
from voxelvault.readonly import require_writable
from voxelvault.resources import Resources
from voxelvault.rows import changes

Row = dict[str, Any]
Query = Callable[..., pa.Table]
Text = Callable[[Entry], str | None]

TASKS, ITEMS = "tasks", "reading_items"

FIXED: Mapping[Kind, Row] = MappingProxyType(
    {
        Kind.TASK_SCHEDULED: {"state": "SCHEDULED", "superseded": False},
        Kind.TASK_STARTED: {"state": "IN PROGRESS"},
        Kind.TASK_COMPLETED: {"state": "COMPLETED"},
        Kind.TASK_CANCELED: {"state": "CANCELED"},
        Kind.TASK_SUPERSEDED: {"superseded": True},
        Kind.READING_LISTED: {"state": "waiting", "superseded": False, "overridden": False},
        Kind.READING_RANKED: {},
        Kind.READING_CLAIMED: {"state": "claimed"},
        Kind.READING_RELEASED: {"state": "waiting", "claimed": None, "claimed_by": None},
        Kind.READING_COMPLETED: {"state": "completed"},
        Kind.READING_OVERRIDDEN: {"overridden": True},
        Kind.READING_SUPERSEDED: {"superseded": True},
    }
)
"""Kinds of change, each with what it always sets. States of tasks are those of PS3.18 section 11.1.1."""

_EPOCH = datetime(1970, 1, 1)
_BILLION = 10**9


@dataclass(frozen=True, slots=True)
class Step:
    """One change of one row.

    Parameters
    ----------
    kind : Kind
        One of `FIXED`.
    values : mapping of str to object
        The row's key, and the columns that this kind sets: ids and digests as hexadecimal digits,
        times as datetimes in UTC, scores as floats from 0, `reasons` as a sequence of words.
    """

    kind: Kind
    values: Mapping[str, Any] = field(repr=False)


def record(resources: Resources, decide: Callable[[Query], Sequence[Step]]) -> list[Step]:
    """Decide under the catalog's lease, enter what was decided in the log, and make it.

    Parameters
    ----------
    resources : Resources
        The open vault.
    decide : callable
        Called with the query of the lease, which sees every change before; returns the steps, or
        raises, and then nothing is entered.

    Returns
    -------
    list of Step
        What was done.

    Raises
    ------
    PolicyDenied, AuditError, NoPermission, UsageError
        Then nothing was done.
    CatalogError, StorageError
        It is in the log; the tables follow at the next change.
    """
    require_writable(resources)
    with resources.catalog.lease() as lease:
        _catch_up(resources, lease)
        steps = list(decide(lease.query))
        if not steps:
            return []
        for step in steps:
            ids = (step.values[_key(step.kind)],)
            require(resources.policy, Request(step.kind, ids, resources.purpose, resources.who))
        events = [_event(resources, step) for step in steps]
        places = resources.audit.append(events)
        told = [_told_by_event(event, place) for event, place in zip(events, places, strict=True)]
        _commit(lease, told)
    return steps


def _catch_up(resources: Resources, lease: Lease) -> None:
    """Make what is in the log and not in the tables: somebody was killed between the two."""
    done = lease.query(
        f"select max(entry) as entry from (select entry from {TASKS} union all select entry from {ITEMS})"  # noqa: S608
    )["entry"].to_pylist()[0]
    start = -1 if done is None else done
    late = (entry for entry in resources.log.entries(start + 1) if entry.kind in FIXED)
    told = [_told_by_entry(entry, resources.log.text_of) for entry in late]
    if told:
        _commit(lease, told)


def replayed(entries: Iterable[Entry], text_of: Text) -> dict[str, list[Row]]:
    """Return the rows of both tables that the log makes, by table.

    Parameters
    ----------
    entries : iterable of Entry
        The whole log, in order.
    text_of : callable
        Returns an entry's free text; None where it was erased.
    """
    told = [_told_by_entry(entry, text_of) for entry in entries if entry.kind in FIXED]
    return {table: list(rows.values()) for table, rows in _folded(told, {TASKS: {}, ITEMS: {}}).items()}


def leaving(query: Query, study_ids: Iterable[str]) -> list[Change]:
    """Return the changes that take the rows of studies out."""
    found: list[Change] = []
    for table in (TASKS, ITEMS):
        (key,) = TABLES[table].key
        rows = query(
            f"select {key} from {table} where study_id in (select unnest($ids))",  # noqa: S608
            {"ids": sorted(study_ids)},
        ).to_pylist()
        found += changes(table, rows, "delete")
    return found


def orphaned(query: Query) -> list[Change]:
    """Return the changes that take the rows out whose study is not in the catalog."""
    rows = query(
        f"select study_id from {TASKS} union select study_id from {ITEMS} except select study_id from studies"  # noqa: S608
    )
    return leaving(query, rows["study_id"].to_pylist())


def forget(resources: Resources) -> int:
    """Erase the free texts of rows that are gone, and return how many; their entries in the log stay."""
    rows = resources.catalog.query(
        f"select task_id as id from {TASKS} union select item_id from {ITEMS}"  # noqa: S608
    )
    there, count = set(rows["id"].to_pylist()), 0
    for entry in resources.log.entries():
        if entry.kind not in FIXED or entry.text is None:
            continue
        role = "task" if _table(Kind(entry.kind)) == TASKS else "item"
        if entry.ids[role][0] not in there and resources.log.text_of(entry) is not None:
            resources.log.erase_text(entry)
            count += 1
    return count


def renamed(query: Query, study_id: str, into: str) -> list[Change]:
    """Return the changes by which the rows of one study are another's, which it joined."""
    found: list[Change] = []
    for table in (TASKS, ITEMS):
        (key,) = TABLES[table].key
        rows = query(f"select {key} from {table} where study_id = $id", {"id": study_id}).to_pylist()  # noqa: S608
        found += changes(table, [{**row, "study_id": into} for row in rows], "merge")
    return found


# --- from a step to an entry of the log, and from an entry to columns

_IDS = {"task": "task_id", "study": "study_id", "series": "series_id", "item": "item_id"}
_IDS |= {"former": "former_id"}
_TIMES = frozenset("arrived scheduled started ended listed ranked claimed completed".split())
_NUMBERS = frozenset("score threshold volume_ml".split())

Told = tuple[Kind, Row]
"""A kind and the columns that it sets, the key among them."""


def _table(kind: Kind) -> str:
    return TASKS if kind.startswith("task.") else ITEMS


def _key(kind: Kind) -> str:
    return TABLES[_table(kind)].key[0]


def _event(resources: Resources, step: Step) -> Event:
    allowed, values = ALLOWED[step.kind], {k: v for k, v in step.values.items() if v is not None}
    ids = {role: (values.pop(column),) for role, column in _IDS.items() if column in values}
    if "transaction_uid" in values:
        ids["transaction"] = (f"{int(values.pop('transaction_uid').removeprefix('2.25.')):032x}",)
    digests = {name: values.pop(name) for name in sorted(allowed.digests) if values.get(name)}
    # What a reason says is free text here, not a code.
    words = sorted(allowed.codes - {"reason"})
    codes = {name: _words(values.pop(name), name) for name in words if values.get(name)}
    counts = {name: _count(name, values.pop(name)) for name in sorted(allowed.counts) if name in values}
    text = values.pop("reason", None)
    if left := {name for name, value in values.items() if value not in ("", [], ())}:
        raise UsageError(f"a change of kind {step.kind} sets no {', '.join(sorted(left))}")
    return Event(
        kind=step.kind,
        who=resources.who,
        purpose=resources.purpose,
        ids=ids,
        counts=counts,
        digests=digests,
        codes=codes,
        text=None if text is None else json.dumps(text),
    )


def _words(value: Any, name: str) -> tuple[str, ...]:
    # A code starts with a letter, and versions don't.
    words = [f"v{value}"] if name == "version" else [value] if isinstance(value, str) else list(value)
    return tuple(str(word) for word in words)


def _count(name: str, value: Any) -> int:
    if name in _TIMES:
        return int((value - _EPOCH) // timedelta(microseconds=1))
    return round(value * _BILLION) if name in _NUMBERS else int(value)


def _told_by_event(event: Event, place: int) -> Told:
    return event.kind, _columns(event.kind, event, event.text, place)


def _told_by_entry(entry: Entry, text_of: Text) -> Told:
    kind = Kind(entry.kind)
    return kind, _columns(kind, entry, text_of(entry), entry.index)


def _columns(kind: Kind, found: Event | Entry, text: str | None, place: int) -> Row:
    row: Row = dict(FIXED[kind]) | {"entry": place}
    row |= {_IDS[role]: ids[0] for role, ids in found.ids.items() if role in _IDS}
    if "transaction" in found.ids:
        row["transaction_uid"] = f"2.25.{int(found.ids['transaction'][0], 16)}"
    row |= {name: _value(name, count) for name, count in found.counts.items()}
    row |= found.digests
    for name, words in found.codes.items():
        row[name] = list(words) if name == "reasons" else words[0].removeprefix("v" * (name == "version"))
    if text is not None:
        row["reason"] = json.loads(text)
    if kind is Kind.READING_CLAIMED:
        row["claimed_by"] = found.who
    return row


def _value(name: str, count: int) -> Any:
    if name in _TIMES:
        return _EPOCH + timedelta(microseconds=count)
    return count / _BILLION if name in _NUMBERS else count


# --- from columns to rows


def _folded(told: Iterable[Told], tables: dict[str, dict[str, Row]]) -> dict[str, dict[str, Row]]:
    for kind, columns in told:
        rows = tables[_table(kind)]
        key = columns[_key(kind)]
        rows[key] = {**rows.get(key, _empty(kind)), **columns}
    return tables


def _empty(kind: Kind) -> Row:
    return dict.fromkeys(TABLES[_table(kind)].columns)


def _commit(lease: Lease, told: Sequence[Told]) -> None:
    """Bring changes into the tables; where the row is gone with its study, so is the change."""
    there: dict[str, dict[str, Row]] = {TASKS: {}, ITEMS: {}}
    for table, rows in there.items():
        (key,) = TABLES[table].key
        ids = sorted({columns[key] for kind, columns in told if _table(kind) == table})
        found = lease.query(
            f"select * from {table} where {key} in (select unnest($ids))",  # noqa: S608
            {"ids": ids},
        ).to_pylist()
        rows.update({row[key]: row for row in found})
    made = _folded(told, there)
    named = {row["study_id"] for rows in made.values() for row in rows.values()} - {None}
    studies = lease.query(
        "select study_id from studies where study_id in (select unnest($ids))", {"ids": sorted(named)}
    )["study_id"].to_pylist()
    done: list[Change] = []
    for table, rows in made.items():
        done += changes(table, [row for row in rows.values() if row["study_id"] in studies], "merge")
    if done:
        lease.commit(done)


def now() -> datetime:
    """Return the time, UTC, as the tables hold it."""
    return datetime.now(UTC).replace(tzinfo=None)


__all__ = [
    "FIXED",
    "ITEMS",
    "TASKS",
    "Step",
    "forget",
    "leaving",
    "now",
    "orphaned",
    "record",
    "renamed",
    "replayed",
]
