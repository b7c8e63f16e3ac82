"""Putting right whose images they are: merging subjects, moving a study. Rewraps keys, moves no object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.catalog.catalog import Change, Lease
from voxelvault.errors import UnknownUID, UsageError
from voxelvault.model import new_id
from voxelvault.policy.access import Request, require
from voxelvault.resources import Resources
from voxelvault.rows import changes

_OF_STUDY = ("series", "packs", "instances", "stacks", "frames")
_KEYS = {
    "studies": "study_id",
    "series": "series_id",
    "packs": "pack_id",
    "instances": "instance_id",
    "stacks": "pack_id, stack",
    "frames": "pack_id, stack, frame",
}


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
    action = new_id()
    with resources.catalog.lease() as lease:
        _check_subjects(lease, subject_id, into)
        studies = lease.query(
            "select study_id, StudyInstanceUID as uid from studies where subject_id = $id", {"id": subject_id}
        ).to_pylist()
        ids = {
            "subject": (subject_id,),
            "into": (into,),
            "study": tuple(row["study_id"] for row in studies[:256]),
        }
        resources.audit.append([_event(resources, Kind.SUBJECT_MERGED, action, ids, Outcome.INTENT, reason)])
        found: list[Change] = []
        for study in studies:
            found += _moved(lease, resources, study, into)
        found += _merged(lease, subject_id, into)
        lease.commit(found, resources.keys.commit)
    resources.audit.append([_event(resources, Kind.SUBJECT_MERGED, action, ids, Outcome.OK, None)])


def move_study(resources: Resources, study_id: str, into: str, *, reason: str | None = None) -> None:
    """Move a misfiled study to the subject it belongs to: rewraps its keys, touches no object.

    Raises
    ------
    UnknownUID
        No such study or subject.
    """
    require(resources.policy, Request(Kind.STUDY_MOVED, (study_id, into), resources.purpose, resources.who))
    action = new_id()
    with resources.catalog.lease() as lease:
        found = lease.query(
            "select study_id, subject_id, StudyInstanceUID as uid from studies where study_id = $id",
            {"id": study_id},
        ).to_pylist()
        if not found:
            raise UnknownUID("no such study; `sql` on `studies` lists them")
        _check_subjects(lease, found[0]["subject_id"], into)
        ids = {"study": (study_id,), "subject": (found[0]["subject_id"],), "into": (into,)}
        resources.audit.append([_event(resources, Kind.STUDY_MOVED, action, ids, Outcome.INTENT, reason)])
        lease.commit(_moved(lease, resources, found[0], into), resources.keys.commit)
    resources.audit.append([_event(resources, Kind.STUDY_MOVED, action, ids, Outcome.OK, None)])


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


def _moved(lease: Lease, resources: Resources, study: Mapping[str, Any], into: str) -> list[Change]:
    """Rewrap the keys of a study, and return the rows that name its subject anew.

    Where the other subject has a study of that UID already, packs and series join it.
    """
    own = {"id": study["study_id"]}
    keys = lease.query(
        "select key_id from studies where study_id = $id union select key_id from packs where study_id = $id",
        own,
    ).to_pylist()
    for row in keys:
        resources.keys.reparent(row["key_id"], into)
    found = changes("studies", [{"study_id": study["study_id"], "subject_id": into}], "merge")
    for table in _OF_STUDY:
        rows = lease.query(f"select {_KEYS[table]} from {table} where study_id = $id", own).to_pylist()  # noqa: S608 - names of ours
        found += changes(table, [{**row, "subject_id": into} for row in rows], "merge")
    return found


def _merged(lease: Lease, subject_id: str, into: str) -> list[Change]:
    now = datetime.now(UTC).replace(tzinfo=None)
    rows: Sequence[Mapping[str, Any]] = [{"subject_id": subject_id, "merged_into": into}]
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


def _event(
    resources: Resources,
    kind: Kind,
    action: str,
    ids: Mapping[str, tuple[str, ...]],
    outcome: Outcome,
    text: str | None,
) -> Event:
    digests = {"record": resources.keys.record_digest} if outcome is Outcome.OK else {}
    return Event(
        kind=kind,
        who=resources.who,
        purpose=resources.purpose,
        action=action,
        outcome=outcome,
        ids=ids,
        digests=digests,
        text=text,
    )
