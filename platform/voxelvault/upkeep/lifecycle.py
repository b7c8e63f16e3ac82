"""Putting right whose images they are: merging subjects, moving a study. Rewraps keys, moves no object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from voxelvault import tasks
from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.catalog.catalog import Change, CommitInfo, Lease
from voxelvault.errors import UnknownUID, UsageError
from voxelvault.intake.directory import conflict_id_of
from voxelvault.model import new_id
from voxelvault.policy.access import Request, require
from voxelvault.readonly import require_writable
from voxelvault.resources import Resources
from voxelvault.rows import changes

Row = Mapping[str, Any]

_OF_STUDY = {
    "series": "series_id",
    "packs": "pack_id",
    "instances": "instance_id",
    "stacks": "pack_id, stack",
    "frames": "pack_id, stack, frame",
    "cohort_members": "cohort_id, instance_id",
    "derived": "derived_id",
}
"""Tables whose rows name the study they belong to, each with its key."""


def merge_subjects(resources: Resources, subject_id: str, into: str, *, reason: str | None = None) -> None:
    """Say that two subjects are one person: `subject_id` goes up in `into`.

    Each study's key is wrapped again under the other subject's key; no object is touched. What
    comes in later under the merged subject's identity belongs to `into`.

    Parameters
    ----------
    resources : Resources
        The open vault.
    subject_id, into : str
        Opaque ids, from `patients` or `conflicts`.
    reason : str, optional
        Free text for the log; kept sealed.

    Raises
    ------
    UnknownUID
        No such subject.
    UsageError
        The two are one already, or one of them is the vault's own.
    """
    require(
        resources.policy,
        Request(Kind.SUBJECT_MERGED, (subject_id, into), resources.purpose, resources.who),
    )
    require_writable(resources)
    action = new_id()
    with resources.catalog.lease() as lease:
        _check_subjects(lease, subject_id, into)
        ids = {
            "subject": (subject_id,),
            "into": (into,),
            "study": tuple(row["study_id"] for row in _studies_of(lease, subject_id)[:256]),
        }
        intent = turn_event(resources, Kind.SUBJECT_MERGED, action, ids, Outcome.INTENT, reason)
        now = _entered(resources, intent)
        rows = merge_changes(lease, subject_id, into, now, resources.keys.reparent, resources.keys.parent_of)
        info = lease.commit(rows, resources.keys.commit)
    resources.audit.append([turn_event(resources, Kind.SUBJECT_MERGED, action, ids, Outcome.OK, None, info)])


def move_study(resources: Resources, study_id: str, into: str, *, reason: str | None = None) -> None:
    """Move a misfiled study to the subject it belongs to: rewraps its keys, touches no object.

    Raises
    ------
    UnknownUID
        No such study or subject.
    """
    require(resources.policy, Request(Kind.STUDY_MOVED, (study_id, into), resources.purpose, resources.who))
    require_writable(resources)
    action = new_id()
    with resources.catalog.lease() as lease:
        found = lease.query(
            "select study_id, subject_id, coalesce(StudyInstanceUID, '') as uid from studies"
            " where study_id = $id",
            {"id": study_id},
        ).to_pylist()
        if not found:
            raise UnknownUID("no such study; `sql` on `studies` lists them")
        _check_subjects(lease, found[0]["subject_id"], into)
        ids = {"study": (study_id,), "subject": (found[0]["subject_id"],), "into": (into,)}
        now = _entered(
            resources, turn_event(resources, Kind.STUDY_MOVED, action, ids, Outcome.INTENT, reason)
        )
        rows = move_changes(lease, found[0], into, now, resources.keys.reparent, resources.keys.parent_of)
        info = lease.commit(rows, resources.keys.commit)
    resources.audit.append([turn_event(resources, Kind.STUDY_MOVED, action, ids, Outcome.OK, None, info)])


def _entered(resources: Resources, intent: Event) -> datetime:
    """Enter an intent; return its time, which a rebuild of the catalog finds in the log again."""
    (index,) = resources.audit.append([intent])
    (entry,) = resources.audit.entries(index, index + 1)
    return entry.when.replace(tzinfo=None)


def _studies_of(lease: Lease, subject_id: str) -> list[Row]:
    found: list[Row] = lease.query(
        "select study_id, subject_id, coalesce(StudyInstanceUID, '') as uid from studies"
        " where subject_id = $id order by study_id",
        {"id": subject_id},
    ).to_pylist()
    return found


def _stays(_key_id: str, _parent_id: str | None = None) -> None:
    """Leave a key where it is: a rebuild finds all of them where they belong."""


def merge_changes(
    lease: Lease,
    subject_id: str,
    into: str,
    now: datetime,
    reparent: Callable[[str, str], object] = _stays,
    parent_of: Callable[[str], str | None] = _stays,
) -> list[Change]:
    """Return the changes by which a subject goes up in another; `reparent` moves the keys along."""
    studies, found = _studies_of(lease, subject_id), list[Change]()
    for study in studies:
        found += _moved(lease, study, into, reparent, parent_of)
    found += _versions(lease, [row["study_id"] for row in studies], into, now)
    return [*found, *_merged(lease, subject_id, into, now)]


def move_changes(
    lease: Lease,
    study: Row,
    into: str,
    now: datetime,
    reparent: Callable[[str, str], object] = _stays,
    parent_of: Callable[[str], str | None] = _stays,
) -> list[Change]:
    """Return the changes by which a study comes to another subject; `reparent` moves the keys along."""
    rows = _moved(lease, study, into, reparent, parent_of)
    return [*rows, *_versions(lease, [study["study_id"]], into, now), *_move(study, into, now)]


def _move(study: Row, into: str, now: datetime) -> list[Change]:
    """Return the rows by which later files of a moved study follow it."""
    back = [{"subject_id": into, "StudyInstanceUID": study["uid"]}]
    move = {"subject_id": study["subject_id"], "StudyInstanceUID": study["uid"], "into_subject_id": into}
    return [*changes("moves", back, "delete"), *changes("moves", [{**move, "moved": now}], "merge")]


def _check_subjects(lease: Lease, subject_id: str, into: str) -> None:
    rows = lease.query(
        "select subject_id, patientless from patients"
        " where subject_id in ($one, $two) and merged_into is null",
        {"one": subject_id, "two": into},
    ).to_pylist()
    if subject_id == into:
        raise UsageError("these are one subject already")
    if len(rows) < 2:
        raise UnknownUID("no such subject, or it was merged before; `sql` on `patients` lists them")
    if any(row["patientless"] for row in rows):
        raise UsageError("objects without a patient belong to the vault's own subject, which stays as it is")


def _moved(
    lease: Lease,
    study: Row,
    into: str,
    reparent: Callable[[str, str], object],
    parent_of: Callable[[str], str | None],
) -> list[Change]:
    """Hang a study's keys below another subject, and return the rows that say so.

    Where the other subject has a study of that UID, this one joins it: its key hangs below that
    study's key, so that destroying the one still erases all of it.
    """
    there = lease.query(
        "select study_id, key_id from studies"
        " where subject_id = $into and coalesce(StudyInstanceUID, '') = $uid",
        {"into": into, "uid": study["uid"]},
    ).to_pylist()
    target = there[0] if there else None
    keys = _keys_of(lease, study["study_id"])
    for key_id in keys:
        if parent_of(key_id) not in keys:
            reparent(key_id, target["key_id"] if target else into)
    if target is None:
        return [
            *changes("studies", [{"study_id": study["study_id"], "subject_id": into}], "merge"),
            *_renamed(lease, study["study_id"], {"subject_id": into}, {}),
        ]
    joined = _alike_series(lease, study["study_id"], target["study_id"])
    names = {"subject_id": into, "study_id": target["study_id"]}
    return [
        *_renamed(lease, study["study_id"], names, joined),
        *tasks.renamed(lease.query, study["study_id"], target["study_id"]),
        *changes("series", [{"series_id": series_id} for series_id in joined], "delete"),
        *changes("studies", [{"study_id": study["study_id"]}], "delete"),
    ]


def _keys_of(lease: Lease, study_id: str) -> set[str]:
    rows = lease.query(
        "select key_id from studies where study_id = $id union select key_id from packs where study_id = $id",
        {"id": study_id},
    ).to_pylist()
    return {row["key_id"] for row in rows}


def _alike_series(lease: Lease, study_id: str, other_id: str) -> dict[str, str]:
    """Return which series of a study is one with which of the other, by UID."""
    rows = lease.query(
        "select a.series_id as one, b.series_id as other from series a join series b"
        " on coalesce(a.SeriesInstanceUID, '') = coalesce(b.SeriesInstanceUID, '')"
        " where a.study_id = $one and b.study_id = $other",
        {"one": study_id, "other": other_id},
    ).to_pylist()
    return {row["one"]: row["other"] for row in rows}


def _renamed(
    lease: Lease, study_id: str, names: Mapping[str, str], joined: Mapping[str, str]
) -> list[Change]:
    """Return a study's rows with the names of whom and what they belong to now."""
    found: list[Change] = []
    for table, key in _OF_STUDY.items():
        rows = lease.query(
            f"select {key}, series_id from {table} where study_id = $id",  # noqa: S608 - names of ours
            {"id": study_id},
        ).to_pylist()
        kept = [row for row in rows if table != "series" or row["series_id"] not in joined]
        series = [{**row, "series_id": joined.get(row["series_id"], row["series_id"])} for row in kept]
        found += changes(table, [{**row, **names} for row in series], "merge")
    return found


def _versions(lease: Lease, study_ids: Sequence[str], into: str, now: datetime) -> list[Change]:
    """Return the rows that put instances of one SOP Instance UID in order: the newest counts.

    For studies about to come to a subject: there, where what was the same file twice stays, as
    versions; and where they leave, as what a leaving version hid counts again.
    """
    rows = lease.query(
        "with leaving as (select distinct SOPInstanceUID as uid, subject_id from instances"
        " where study_id in (select unnest($studies)) and SOPInstanceUID != '')"
        " select i.SOPInstanceUID as uid, i.instance_id, i.sha256, i.version, i.superseded,"
        " coalesce(i.received, p.created) as came,"
        " i.study_id in (select unnest($studies)) as moving,"
        " i.study_id not in (select unnest($studies)) and i.subject_id != $into as stays"
        " from instances i join packs p using (pack_id) where i.SOPInstanceUID in (select uid from leaving)"
        " and (i.subject_id = $into or (i.SOPInstanceUID, i.subject_id) in (select (uid, subject_id)"
        " from leaving)) order by uid, stays, came, i.version, i.instance_id",
        {"into": into, "studies": list(study_ids)},
    ).to_pylist()
    changed: list[Row] = []
    conflicts: list[Row] = []
    for (_, stays), group in groupby(rows, key=itemgetter("uid", "stays")):
        members = _in_order(list(group))
        newest = members[-1][1]
        for number, row in members:
            superseded = row is not newest
            if (row["version"], row["superseded"]) != (number, superseded):
                values = {"version": number, "superseded": superseded}
                changed.append({"instance_id": row["instance_id"], **values})
            if superseded and not stays and not row["superseded"] and row["sha256"] != newest["sha256"]:
                conflicts.append(_version_conflict(into, newest, row, now))
    return [*changes("instances", changed, "merge"), *changes("conflicts", conflicts, "merge")]


def _in_order(rows: Sequence[Row]) -> list[tuple[int, Row]]:
    """Return instances of one subject and UID, each with its version.

    Versions that were counted in two subjects can't be compared: then the time of storing counts.
    """
    if len({row["moving"] for row in rows}) > 1:
        return list(enumerate(rows, 1))
    return [(row["version"], row) for row in sorted(rows, key=itemgetter("version"))]


def _version_conflict(subject_id: str, newest: Row, older: Row, now: datetime) -> Row:
    ids = {"subject_id": subject_id, "instance_id": newest["instance_id"]}
    return {
        "conflict_id": conflict_id_of("version", older["instance_id"], **ids),
        "kind": "version",
        "detail": "same SOP Instance UID, other bytes",
        **ids,
        "found": now,
        "resolved": False,
    }


def _merged(lease: Lease, subject_id: str, into: str, now: datetime) -> list[Change]:
    rows = [{"subject_id": subject_id, "merged_into": into}]
    merges = [{"subject_id": subject_id, "into_subject_id": into, "merged": now}]
    conflicts = lease.query(
        "select conflict_id from conflicts where kind = 'subject' and ((subject_id = $one and"
        " other_subject_id = $two) or (subject_id = $two and other_subject_id = $one))",
        {"one": subject_id, "two": into},
    ).to_pylist()
    return [
        *changes("patients", rows, "merge"),
        *changes("merges", merges, "merge"),
        *changes("conflicts", [{**row, "resolved": True} for row in conflicts], "merge"),
    ]


def turn_event(
    resources: Resources,
    kind: Kind,
    action: str,
    ids: Mapping[str, tuple[str, ...]],
    outcome: Outcome,
    text: str | None,
    info: CommitInfo | None = None,
) -> Event:
    """Return the entry of a merge or a move; the catalog's state goes with one that was made."""
    counts: dict[str, int] = {}
    digests: dict[str, str] = {}
    if info is not None:
        counts = {"snapshot": info.snapshot, "record_number": resources.keys.number}
        digests = {"record": resources.keys.record_digest, "catalog": info.digest}
    return Event(
        kind=kind,
        who=resources.who,
        purpose=resources.purpose,
        action=action,
        outcome=outcome,
        ids=ids,
        counts=counts,
        digests=digests,
        text=text,
    )
