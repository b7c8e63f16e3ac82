"""The short moment of an ingest that meets others: whose images these are, and the commit.

Held under the catalog's lease: two ingests at once see each other's subjects, studies and series,
so the same patient never gets two ids, and a file that both bring is stored once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.catalog.catalog import CommitInfo
from voxelvault.crypto.streaming_aead import Kind as SealedKind
from voxelvault.dicom.geometry import FrameAttributes
from voxelvault.dicom.read import Header
from voxelvault.errors import AuditError, ObjectMissing, StorageError
from voxelvault.intake.directory import Directory, Newcomer, utc_now
from voxelvault.intake.identity import Person
from voxelvault.intake.quarantine import Quarantined, Refused, seal_aside
from voxelvault.model import SealedRef
from voxelvault.resources import Resources
from voxelvault.rows import Row, frame_rows, instance_row, pack_row, stack_row
from voxelvault.storage.pack import (
    MANIFEST_LABEL,
    InstanceRecord,
    Manifest,
    SeriesIdentity,
    StackRecord,
    manifest_to_bytes,
)
from voxelvault.storage.sealed_objects import SealedObjects

MANIFESTS_AN_ENTRY = 256
"""Manifest digests that one audit entry names; a leaf has 64 KiB at most."""


@dataclass(frozen=True, slots=True)
class Member:
    """One instance of a draft: its record, what its row takes from its header, frames and pixels."""

    record: InstanceRecord
    values: Row
    frames: Sequence[FrameAttributes]
    transfer_syntax: str
    pixels: str


class Wrote(Protocol):
    """Whatever knows which objects it wrote."""

    @property
    def written(self) -> list[SealedRef]:
        """All of them."""


@dataclass(slots=True)
class Draft:
    """A pack whose objects are written and whose place isn't decided yet."""

    pack_id: str
    dek: bytes
    writer: Wrote
    person: Person
    study_uid: str
    series_uid: str
    codec: str
    header: Header | None = None
    """Of the first member: it describes patient, study and series."""
    members: list[Member] = field(default_factory=list)
    stacks: tuple[StackRecord, ...] = ()
    headers: SealedRef | None = None
    header_chunks: tuple[tuple[int, int], ...] = ()
    study_id: str = ""
    """Where it must be placed, if anywhere: opaque id."""

    def newcomer(self) -> Newcomer:
        """Return what the directory must know to place it."""
        uids = tuple(member.record.sop_instance_uid for member in self.members)
        return Newcomer(self.person, self.study_uid, self.series_uid, self.header or Header({}), uids)


@dataclass(slots=True)
class Committed:
    """What one commit brought."""

    stored: int = 0
    duplicates: int = 0
    versions: int = 0
    undecodable: int = 0
    bytes: int = 0
    series: int = 0
    manifests: dict[str, str] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)
    info: CommitInfo | None = None


def log_intent(resources: Resources, action: str, role: str, ids: Sequence[str]) -> None:
    """Enter which packs, or files for the quarantine, are about to be written under this action."""
    parts = [tuple(ids[at : at + MANIFESTS_AN_ENTRY]) for at in range(0, len(ids), MANIFESTS_AN_ENTRY)]
    resources.audit.append(
        [
            Event(
                kind=Kind.INGEST,
                who=resources.who,
                purpose=resources.purpose,
                outcome=Outcome.INTENT,
                action=action,
                ids={role: part},
            )
            for part in parts
        ]
    )


def commit_batch(
    resources: Resources,
    action: str,
    drafts: Sequence[Draft],
    aside: Sequence[Refused],
    origin: str = "",
) -> Committed:
    """Place the drafts, seal their manifests, and commit keys and catalog.

    Parameters
    ----------
    resources : Resources
        The open vault.
    action : str
        Joins intent and outcome in the log.
    drafts : sequence of Draft
        Packs whose objects are durable.
    aside : sequence of Refused
        Files for the quarantine.
    origin : str
        Which pipeline made them; the log names it.

    Returns
    -------
    Committed
        What is now in the vault, with the digests that the log's outcome carries.

    Raises
    ------
    AuditError
        Without a commit nothing is stored; the message says so if only the outcome is missing.
    UsageError
        A draft belongs to another study than it must.
    CatalogError, StorageError
        Nothing of it is stored.
    """
    done = Committed()
    drafts = [draft for draft in drafts if draft.members]
    log_intent(resources, action, "quarantine", [refused.quarantine_id for refused in aside])
    # Others wait for the lease: what may be large is written before.
    sealed = [seal_aside(resources, refused) for refused in aside]
    with resources.catalog.lease() as lease:
        for draft in drafts:
            check_written(resources, draft.writer)
        _check_there(resources, [row["object_id"] for _, row in sealed if "object_id" in row])
        directory = Directory(lease.query, [draft.newcomer() for draft in drafts])
        for draft in drafts:
            _commit_draft(resources, directory, draft, done)
        for item, row in sealed:
            directory.rows["quarantine"].append(row)
            done.quarantined.append(item)
        done.info = lease.commit(directory.changes(), resources.keys.commit)
    try:
        _log_outcome(resources, action, done, origin)
    except AuditError:
        raise AuditError(
            "the last files were stored, but the log could not take the outcome: put right what keeps it "
            "from growing, then run `voxelvault verify --repair`"
        ) from None
    return done


def check_written(resources: Resources, writer: Wrote) -> None:
    """Make sure that nobody swept a pack's objects for left behind: repair does so under the lease.

    Raises
    ------
    StorageError
        Some are gone.
    """
    _check_there(resources, [ref.object_id for ref in writer.written])


def _check_there(resources: Resources, object_ids: Iterable[str]) -> None:
    for object_id in object_ids:
        try:
            resources.objects.size(resources.sealed.name(object_id))
        except ObjectMissing:
            raise StorageError(
                "a repair swept what this run had written, as if it were left behind; run it again"
            ) from None


def _log_outcome(resources: Resources, action: str, done: Committed, origin: str) -> None:
    manifests = sorted(done.manifests.items())
    parts = [manifests[at : at + MANIFESTS_AN_ENTRY] for at in range(0, len(manifests), MANIFESTS_AN_ENTRY)]
    counts = {
        "instances": done.stored,
        "series": done.series,
        "bytes": done.bytes,
        "duplicates": done.duplicates,
        "quarantined": len(done.quarantined),
    }
    heads = {"record_number": resources.keys.number}
    heads |= {"snapshot": done.info.snapshot} if done.info else {}
    digests = {"record": resources.keys.record_digest}
    digests |= {"catalog": done.info.digest} if done.info else {}
    resources.audit.append(
        [
            Event(
                kind=Kind.INGEST,
                who=resources.who,
                purpose=resources.purpose,
                action=action,
                counts=(counts if number == 0 else {}) | heads,
                digests=digests,
                manifests=dict(part),
                codes={"origin": (origin,)} if origin else {},
            )
            for number, part in enumerate(parts or [[]])
        ]
    )


def _commit_draft(resources: Resources, directory: Directory, draft: Draft, done: Committed) -> None:
    directory.now = utc_now()
    identity, key_id = directory.place(resources, draft.newcomer(), draft.study_id)
    versions = [directory.admit(member.record, identity) for member in draft.members]
    kept = [(member, version) for member, version in zip(draft.members, versions, strict=True) if version]
    done.duplicates += len(versions) - len(kept)
    if not kept:
        discard(resources, draft.writer)
        return
    manifest, ref = _seal_manifest(resources, draft, identity, key_id, directory.now, versions)
    rows = directory.rows
    rows["packs"].append(pack_row(manifest, ref))
    rows["stacks"] += [stack_row(manifest, number, stack) for number, stack in enumerate(manifest.stacks)]
    for member, version in kept:
        row = instance_row(
            manifest,
            member.record,
            member.values,
            transfer_syntax=member.transfer_syntax,
            pixels=member.pixels,
            version=version,
        )
        rows["instances"].append(row)
        rows["frames"] += frame_rows(manifest, member.record, member.frames)
        done.bytes += member.record.length
        done.versions += version > 1
        done.undecodable += member.pixels == "undecodable"
    done.stored += len(kept)
    done.series += 1
    done.manifests[draft.pack_id] = ref.sha256


def discard(resources: Resources, writer: Wrote) -> None:
    """Remove the objects of a pack that will not be committed, as far as the disk lets."""
    discard_objects(resources.sealed, writer.written)


def discard_objects(sealed: SealedObjects, written: Sequence[SealedRef]) -> None:
    """Remove objects that nothing refers to, as far as the disk lets."""
    for ref in written:
        with suppress(StorageError):
            sealed.delete(ref.object_id)


def _seal_manifest(
    resources: Resources,
    draft: Draft,
    identity: SeriesIdentity,
    key_id: str,
    now: datetime,
    versions: Sequence[int],
) -> tuple[Manifest, SealedRef]:
    manifest = Manifest(
        vault_id=resources.settings.vault_id,
        pack_id=draft.pack_id,
        study_key_id=key_id,
        wrapped_dek=resources.keys.wrap_dek(key_id, draft.pack_id, draft.dek),
        created=now.isoformat(),
        identity=identity,
        stacks=draft.stacks,
        instances=tuple(member.record for member in draft.members),
        headers=draft.headers,
        header_chunks=draft.header_chunks,
        codec=draft.codec,
        versions=tuple(versions),
    )
    # The manifest's object has the pack's id, so that the log's intent names it before it exists.
    return manifest, seal_manifest(resources, manifest, draft.pack_id)


def seal_manifest(resources: Resources, manifest: Manifest, object_id: str) -> SealedRef:
    """Store a manifest, sealed under its study's key, as an object that the log's intent has named."""
    return resources.sealed.put(
        SealedKind.MANIFEST,
        resources.keys.sub_key(manifest.study_key_id, MANIFEST_LABEL),
        manifest.study_key_id,
        [manifest_to_bytes(manifest)],
        object_id=object_id,
    )
