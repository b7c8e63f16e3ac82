"""The log replayed into an empty catalog: packs as they came in, merges and moves as they were made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from voxelvault.audit.events import Kind
from voxelvault.catalog.catalog import Change, Lease
from voxelvault.dicom.geometry import frame_attributes
from voxelvault.intake.directory import Newcomer
from voxelvault.intake.identity import Person, person_of
from voxelvault.intake.recorded import Recorded
from voxelvault.model import SealedRef
from voxelvault.reading.packs import open_reader
from voxelvault.resources import Resources
from voxelvault.rows import changes, frame_rows, header_values, instance_row, pack_row, stack_row
from voxelvault.storage.pack import InstanceRecord, Manifest
from voxelvault.storage.pack_reader import PackReader
from voxelvault.upkeep.headers import Parsed, parsed
from voxelvault.upkeep.ledger import Turn
from voxelvault.upkeep.lifecycle import merge_changes, move_changes


@dataclass(frozen=True, slots=True)
class Living:
    """A pack that the log commits and never took away, and where in the log it came in."""

    place: int
    manifest: Manifest
    ref: SealedRef


def replay(
    resources: Resources,
    lease: Lease,
    packs: Sequence[Living],
    made: Sequence[Turn],
    advance: Callable[[int], object] = lambda packs: None,
) -> int:
    """Bring packs, merges and moves into a catalog in the order of the log; return how many instances.

    Raises
    ------
    IntegrityError
        A pack is not what was stored.
    """
    groups: dict[int, list[Living]] = {}
    for living in sorted(packs, key=lambda one: (one.place, one.manifest.created)):
        groups.setdefault(living.place, []).append(living)
    steps: list[tuple[int, Sequence[Living] | Turn]] = [*groups.items()]
    steps += [(turn.place, turn) for turn in made]
    count = 0
    for _, step in sorted(steps, key=lambda one: one[0]):
        if isinstance(step, Turn):
            lease.commit(_turned(lease, step))
        else:
            count += _bring_in(resources, lease, step)
            advance(len(step))
    lease.commit(_versions_in_order(lease))
    return count


def _bring_in(resources: Resources, lease: Lease, packs: Sequence[Living]) -> int:
    """Commit packs that came in together."""
    readers = [open_reader(resources, living.manifest) for living in packs]
    newcomers = [
        _newcomer(living.manifest, _first(reader)) for living, reader in zip(packs, readers, strict=True)
    ]
    directory = Recorded(lease.query, newcomers)
    for living, reader in zip(packs, readers, strict=True):
        _place(resources, directory, living, reader)
    lease.commit(directory.changes())
    return len(directory.rows["instances"])


def _first(reader: PackReader) -> Parsed:
    return parsed(reader, reader.manifest.instances[0])


def _person(manifest: Manifest, record: InstanceRecord, found: Parsed) -> Person:
    return person_of(found.header, manifest.identity.issuer, record.sha256)


def _newcomer(manifest: Manifest, found: Parsed) -> Newcomer:
    identity = manifest.identity
    person = _person(manifest, manifest.instances[0], found)
    uids = tuple(record.sop_instance_uid for record in manifest.instances)
    return Newcomer(person, identity.study_uid, identity.series_uid, found.header, uids)


def _place(resources: Resources, directory: Recorded, living: Living, reader: PackReader) -> None:
    manifest, rows = living.manifest, directory.rows
    directory.manifest = manifest
    rows["packs"].append(pack_row(manifest, living.ref))
    rows["stacks"] += [stack_row(manifest, number, stack) for number, stack in enumerate(manifest.stacks)]
    last: Person | None = None
    for number, record in enumerate(manifest.instances):
        found = parsed(reader, record)
        came = manifest.received[number] if manifest.received else manifest.created
        directory.now = datetime.fromisoformat(came)
        person = _person(manifest, record, found)
        # A compacted pack has files of several ingests, each of which may have told more.
        if person != last:
            directory.place(resources, replace(_newcomer(manifest, found), person=person))
            last = person
        version = directory.restore(record, number)
        if version:
            rows["instances"].append(_instance(resources, manifest, record, found, version, directory.now))
            attributes = frame_attributes(found.header, record.count) if record.stack >= 0 else []
            rows["frames"] += frame_rows(manifest, record, attributes)


def _instance(
    resources: Resources,
    manifest: Manifest,
    record: InstanceRecord,
    found: Parsed,
    version: int,
    came: datetime,
) -> dict[str, Any]:
    row = instance_row(
        manifest,
        record,
        header_values(found.header, resources.tags),
        transfer_syntax=found.transfer_syntax,
        pixels=found.pixels,
        version=version,
    )
    return {**row, "received": came}


def _turned(lease: Lease, turn: Turn) -> list[Change]:
    """Return the changes of a merge or a move, as far as whom it was about is there."""
    (into,) = turn.ids["into"]
    (subject_id,) = turn.ids["subject"]
    people = lease.query(
        "select * from patients where subject_id in ($one, $two)", {"one": subject_id, "two": into}
    ).to_pylist()
    by_id = {row["subject_id"]: row for row in people}
    if turn.kind == Kind.SUBJECT_MERGED:
        if subject_id not in by_id:
            return []
        if into not in by_id:
            # Of the other, who is the same person, nothing of its own is left.
            same = {**by_id[subject_id], "subject_id": into, "key_id": into}
            lease.commit(changes("patients", [same], "insert"))
        return merge_changes(lease, subject_id, into, turn.when)
    studies = lease.query(
        "select study_id, subject_id, coalesce(StudyInstanceUID, '') as uid from studies"
        " where study_id = $id",
        {"id": turn.ids["study"][0]},
    ).to_pylist()
    if not studies:
        return []
    if into not in by_id:
        row = {"subject_id": into, "key_id": into, "provisional": True, "patientless": False}
        lease.commit(changes("patients", [row], "insert"))
    return move_changes(lease, studies[0], into, turn.when)


def _versions_in_order(lease: Lease) -> list[Change]:
    """Return the changes by which the newest version of each SOP instance counts, and no other."""
    rows = lease.query(
        "select instance_id, newer as superseded from (select instance_id, superseded, SOPInstanceUID != ''"
        " and row_number() over (partition by subject_id, SOPInstanceUID order by version desc) > 1 as newer"
        " from instances) where newer != superseded"
    ).to_pylist()
    return changes("instances", rows, "merge")


__all__ = ["Living", "replay"]
