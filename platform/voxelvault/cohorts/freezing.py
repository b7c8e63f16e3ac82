"""Freezing a selection: its members, digests and labels become rows of the catalog."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from voxelvault.access import identifies
from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.catalog.catalog import Catalog, Change, CommitInfo, Lease
from voxelvault.catalog.user_sql import Result
from voxelvault.cohorts.digests import keyed_digest, members_digest
from voxelvault.cohorts.labels import NO_LABELS, Labels, of_series
from voxelvault.cohorts.selecting import Chosen
from voxelvault.errors import IntegrityError, UsageError
from voxelvault.intake.directory import utc_now
from voxelvault.model import new_id
from voxelvault.policy.access import Request, require
from voxelvault.readonly import require_writable
from voxelvault.resources import Resources
from voxelvault.rows import changes

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")

_MEMBERS = "instance_id, series_id, study_id, subject_id, sha256"


@dataclass(frozen=True)
class Frozen:
    """What the catalog says of a cohort.

    Parameters
    ----------
    cohort_id, name : str
        Opaque id, and what people call it.
    frozen : datetime
        When, UTC.
    catalog_digest, catalog_snapshot : str, int
        State of the catalog that it was frozen from.
    members, subjects : int
        Instances and subjects, then.
    members_sha256 : str
        Over the SHA-256 of every instance.
    selection : mapping
        `digest` (keyed) of what was asked for, its `text` where that names nobody, and `subjects`:
        opaque ids, to tell later who was erased.
    labels : mapping
        `columns`, `reduced` and a keyed `digest`.
    split : mapping or None
        Recipe of its split.
    """

    cohort_id: str
    name: str
    frozen: datetime
    catalog_digest: str
    catalog_snapshot: int
    members: int
    subjects: int
    members_sha256: str
    selection: Mapping[str, Any] = field(repr=False)
    labels: Mapping[str, Any] = field(repr=False)
    split: Mapping[str, Any] | None = field(default=None, repr=False)


def freeze(chosen: Chosen, series_ids: Sequence[str], name: str) -> Frozen:
    """Store a selection's members and labels under a name, or find them stored so already.

    Raises
    ------
    UsageError
        The name is taken by other content or is no name, or nothing is selected.
    PolicyDenied, AuditError, NoPermission, NetworkFileSystem
        Then nothing was stored.
    """
    resources = chosen.resources
    if not NAME.fullmatch(name):
        raise UsageError("a cohort's name is a letter, then up to 63 letters, digits, dots, _ or -")
    require(
        resources.policy, Request(Kind.COHORT_FROZEN, tuple(series_ids), resources.purpose, resources.who)
    )
    if every(resources, name):
        return _the_same(chosen, find(resources, name), _members(resources.catalog, series_ids))
    require_writable(resources)
    with resources.catalog.lease() as lease:
        if lease.query("select 1 from cohorts where name = $name", {"name": name}).num_rows:
            raise UsageError("a cohort of this name was frozen just now; freeze again to compare with it")
        members = _members(lease, series_ids)
        frozen = _described(chosen, name, members)
        action = new_id()
        resources.audit.append([_event(resources, frozen, action, Outcome.INTENT)])
        info = lease.commit(_rows(chosen.labels, frozen, members))
    resources.audit.append([_event(resources, frozen, action, Outcome.OK, info)])
    return frozen


def _the_same(chosen: Chosen, frozen: Frozen, members: pa.Table) -> Frozen:
    """Return the cohort that has the name, if its content is what would be frozen: an access to it.

    Raises
    ------
    UsageError
        It has other members or other labels; the message counts.
    """
    _enter_access(chosen.resources, frozen)
    now = _described(chosen, frozen.name, members)
    if now.members_sha256 != frozen.members_sha256:
        unlike = _other_members(chosen.resources, frozen, now, Counter(members["sha256"].to_pylist()))
    elif _content(now.labels) != _content(frozen.labels):
        then, new = (len(labels.get("columns", ())) for labels in (frozen.labels, now.labels))
        unlike = f"the same {now.members} instances, but other labels: {then} columns then, {new} now"
    else:
        return frozen
    raise UsageError(
        f"a cohort of this name is there already, with other content ({unlike}); take another name"
    )


def _content(labels: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return labels as they compare: whatever the order of their columns."""
    return {**labels, "columns": sorted(labels.get("columns", ()))}


def _other_members(resources: Resources, frozen: Frozen, now: Frozen, here: Counter[str]) -> str:
    """Return in counts how a cohort's members differ from what there is now."""
    found = resources.catalog.query(
        "select sha256 from cohort_members where cohort_id = $id", {"id": frozen.cohort_id}
    )
    there = Counter(found["sha256"].to_pylist())
    erased = frozen.members - there.total()
    told = [f"{(here - there).total()} new", f"{(there - here).total()} not among them any more"]
    told += [f"{erased} erased since"] if erased else []
    return (
        f"{frozen.members} instances of {frozen.subjects} subjects then, {now.members} of {now.subjects}"
        f" now: {', '.join(told)}"
    )


def _enter_access(resources: Resources, frozen: Frozen) -> None:
    ids = {"cohort": (frozen.cohort_id,)}
    require(resources.policy, Request(Kind.QUERY, ids["cohort"], resources.purpose, resources.who))
    found = Event(
        kind=Kind.QUERY, who=resources.who, purpose=resources.purpose, ids=ids, text="frozen already"
    )
    resources.audit.append([found])


def _members(catalog: Catalog | Lease, series_ids: Sequence[str]) -> pa.Table:
    """Return the instances that series have now; `UsageError` where there are none."""
    found = catalog.query(
        f"select {_MEMBERS} from instances where not superseded"  # noqa: S608 - names of ours
        " and series_id in (select unnest($ids)) order by instance_id",
        {"ids": list(series_ids)},
    )
    if not found.num_rows:
        raise UsageError("there is nothing to freeze: no series is selected")
    return found


def _described(chosen: Chosen, name: str, members: pa.Table) -> Frozen:
    resources, head = chosen.resources, chosen.resources.catalog.head()
    subjects = sorted(set(members["subject_id"].to_pylist()))
    # The text may name people and would outlive their erasure: the log has it, sealed and erasable.
    text = None if identifies(chosen.text) else chosen.text
    return Frozen(
        cohort_id=new_id(),
        name=name,
        frozen=utc_now(),
        catalog_digest=head.digest,
        catalog_snapshot=head.snapshot,
        members=members.num_rows,
        subjects=len(subjects),
        members_sha256=members_digest(members["sha256"].to_pylist()),
        selection={
            "digest": keyed_digest(resources, chosen.text),
            "text": text,
            "subjects": subjects,
        },
        labels=described_labels(resources, chosen.labels, members),
    )


def described_labels(resources: Resources, labels: Labels, members: pa.Table) -> dict[str, Any]:
    """Return columns and keyed digest of the labels of these members."""
    if not labels.columns:
        return {}
    digest = keyed_digest(
        resources, list(zip(members["sha256"].to_pylist(), _json(labels, members), strict=True))
    )
    return {"columns": list(labels.columns), "reduced": dict(labels.reduced), "digest": digest}


def _json(labels: Labels, members: pa.Table) -> list[str | None]:
    """Return each member's labels as JSON; None where there are none."""
    found = []
    for series_id, instance_id in zip(
        members["series_id"].to_pylist(), members["instance_id"].to_pylist(), strict=True
    ):
        row = labels.of(series_id, instance_id)
        found.append(json.dumps(row, sort_keys=True) if row else None)
    return found


def _rows(labels: Labels, frozen: Frozen, members: pa.Table) -> list[Change]:
    row = {
        **{name: getattr(frozen, name) for name in _PLAIN},
        "selection": json.dumps(frozen.selection),
        "labels": json.dumps(frozen.labels) if frozen.labels else None,
        "split": None,
    }
    cohort = pa.array([frozen.cohort_id] * members.num_rows, pa.string())
    rows = members.append_column("cohort_id", cohort)
    rows = rows.append_column("label", pa.array(_json(labels, members), pa.string()))
    return [*changes("cohorts", [row], "insert"), Change("cohort_members", rows, "insert")]


_PLAIN = "cohort_id name frozen catalog_digest catalog_snapshot members subjects members_sha256".split()


def _event(
    resources: Resources, frozen: Frozen, action: str, outcome: Outcome, info: CommitInfo | None = None
) -> Event:
    counts = {"members": frozen.members, "subjects": frozen.subjects}
    digests = {"members": frozen.members_sha256}
    return Event(
        kind=Kind.COHORT_FROZEN,
        who=resources.who,
        purpose=resources.purpose,
        action=action,
        outcome=outcome,
        ids={"cohort": (frozen.cohort_id,)},
        counts=counts | ({"snapshot": info.snapshot} if info else {}),
        digests=digests | ({"catalog": info.digest} if info else {}),
    )


def find(resources: Resources, name: str) -> Frozen:
    """Return the cohort of a name.

    Raises
    ------
    UsageError
        There is none.
    IntegrityError
        The members are not those that were frozen.
    """
    found = every(resources, name)
    if not found:
        raise UsageError("there is no cohort of this name; vault.cohorts() lists them")
    frozen = found[0]
    left = resources.catalog.query(
        "select sha256 from cohort_members where cohort_id = $id", {"id": frozen.cohort_id}
    )["sha256"].to_pylist()
    # Erasure takes members away, nothing adds or changes one.
    if len(left) > frozen.members or (
        len(left) == frozen.members and members_digest(left) != frozen.members_sha256
    ):
        raise IntegrityError("the cohort's members are not those that were frozen; run `voxelvault verify`")
    return frozen


def every(resources: Resources, name: str | None = None) -> list[Frozen]:
    """Return the vault's cohorts, oldest first; or the one of a name."""
    rows = resources.catalog.query(
        "select * from cohorts where $name is null or name = $name order by frozen, cohort_id",
        {"name": name},
    ).to_pylist()
    return [_frozen(row) for row in rows]


def listed(resources: Resources) -> Result:
    """Return a row a cohort: name, when, how many then and now, label columns, whether it is split."""
    rows = resources.catalog.query(
        "select c.name, c.frozen, c.members, c.subjects, count(m.instance_id)::BIGINT as members_left,"
        " count(distinct m.series_id)::BIGINT as series, c.split is not null as split, c.cohort_id"
        " from cohorts c left join cohort_members m using (cohort_id)"
        " group by all order by c.frozen, c.cohort_id"
    )
    return Result(rows, identifying=True)


def _frozen(row: Mapping[str, Any]) -> Frozen:
    return Frozen(
        **{name: row[name] for name in _PLAIN},
        selection=json.loads(row["selection"]),
        labels=json.loads(row["labels"]) if row["labels"] else {},
        split=json.loads(row["split"]) if row["split"] else None,
    )


def series_of(resources: Resources, frozen: Frozen) -> tuple[str, ...]:
    """Return the opaque ids of the series that the members left are in, in order."""
    rows = resources.catalog.query(
        "select distinct series_id from cohort_members where cohort_id = $id order by series_id",
        {"id": frozen.cohort_id},
    )
    return tuple(rows["series_id"].to_pylist())


def labels_of(resources: Resources, frozen: Frozen) -> Labels:
    """Return a cohort's labels: an identifying read, in the log before it is made.

    Where a merge of subjects made one series of two with different labels, it has none.

    Raises
    ------
    PolicyDenied, AuditError
        Then nothing was read.
    """
    if not frozen.labels:
        return NO_LABELS
    _enter_labels(resources, frozen)
    columns, reduced = tuple(frozen.labels["columns"]), dict(frozen.labels["reduced"])
    which = "series_id, label" + (", instance_id" if reduced else "")
    rows = resources.catalog.query(
        f"select distinct {which} from cohort_members where cohort_id = $id and label is not null",  # noqa: S608
        {"id": frozen.cohort_id},
    ).to_pylist()
    return _labels(columns, reduced, [{**row, "label": json.loads(row["label"])} for row in rows])


def _enter_labels(resources: Resources, frozen: Frozen) -> None:
    kind, ids = Kind.IDENTIFYING_READ, {"cohort": (frozen.cohort_id,)}
    require(resources.policy, Request(kind, ids["cohort"], resources.purpose, resources.who))
    resources.audit.append(
        [Event(kind=kind, who=resources.who, purpose=resources.purpose, ids=ids, text="labels of a cohort")]
    )


def _labels(columns: tuple[str, ...], reduced: dict[str, str], rows: Sequence[Mapping[str, Any]]) -> Labels:
    series: dict[str, dict[str, set[Any]]] = {}
    instances: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        for name, value in row["label"].items():
            if name in reduced:
                own = instances.setdefault(row["series_id"], {}).setdefault(row["instance_id"], {})
                own[name] = value
            else:
                told = series.setdefault(row["series_id"], {}).setdefault(name, set())
                told.add(json.dumps(value))
    found: dict[str, dict[str, Any]] = {
        series_id: {name: json.loads(next(iter(told))) for name, told in row.items() if len(told) == 1}
        for series_id, row in series.items()
    }
    for series_id, by_instance in instances.items():
        found.setdefault(series_id, {}).update(of_series(by_instance, reduced))
    flat = {key: value for by_instance in instances.values() for key, value in by_instance.items()}
    return Labels(columns, {key: row for key, row in found.items() if row}, flat, reduced)


__all__ = ["Frozen", "every", "find", "freeze", "labels_of", "listed", "series_of"]
