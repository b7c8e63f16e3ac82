"""The short moment of an ingest that meets others: whose images these are, and the commit.

Held under the catalog's lease: two ingests at once see each other's subjects, studies and series,
so the same patient never gets two ids, and a file that both bring is stored once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa

from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.catalog.catalog import Change, CommitInfo, Mode
from voxelvault.crypto.keyring import Role
from voxelvault.crypto.streaming_aead import Kind as SealedKind
from voxelvault.dicom.read import Header, columns
from voxelvault.dicom.sources import Source
from voxelvault.identity import Decision, KnownSubject, Person, decide, fill_in
from voxelvault.model import SealedRef, new_id
from voxelvault.quarantine import Quarantined, Refused, seal_aside
from voxelvault.resources import Resources
from voxelvault.rows import Row, changes, frame_rows, instance_row, pack_row, stack_row
from voxelvault.storage.pack import (
    MANIFEST_LABEL,
    InstanceRecord,
    Manifest,
    SeriesIdentity,
    StackRecord,
    manifest_to_bytes,
)
from voxelvault.storage.pack_writer import PackWriter

Query = Callable[..., pa.Table]

MODES: Mapping[str, Mode] = {
    "patients": "merge",
    "studies": "merge",
    "series": "merge",
    "packs": "insert",
    "instances": "insert",
    "stacks": "insert",
    "frames": "insert",
    "quarantine": "insert",
    "conflicts": "insert",
}

MANIFESTS_AN_ENTRY = 256
"""Manifest digests that one audit entry names; a leaf has 64 KiB at most."""


@dataclass(frozen=True, slots=True)
class Member:
    """One instance of a draft: its record, header, how its pixels are, and its source."""

    record: InstanceRecord
    header: Header
    transfer_syntax: str
    pixels: str
    source: Source


@dataclass(slots=True)
class Draft:
    """A pack whose objects are written and whose place isn't decided yet."""

    pack_id: str
    dek: bytes
    writer: PackWriter
    person: Person
    study_uid: str
    series_uid: str
    codec: str
    members: list[Member] = field(default_factory=list)
    stacks: tuple[StackRecord, ...] = ()
    headers: SealedRef | None = None
    header_chunks: tuple[tuple[int, int], ...] = ()

    def finish(self) -> None:
        """Write what the pack's writer still holds."""
        self.stacks, _, self.headers, self.header_chunks = self.writer.finish()


@dataclass(slots=True)
class Committed:
    """What one commit brought."""

    stored: int = 0
    duplicates: int = 0
    versions: int = 0
    bytes: int = 0
    series: int = 0
    manifests: dict[str, str] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    info: CommitInfo | None = None
    record_digest: str = ""


class KnownInstance(NamedTuple):
    """An instance of the catalog with what tells it apart."""

    instance_id: str
    subject_id: str
    sop_uid: str
    sha256: str
    version: int
    superseded: bool
    issuer: str
    patient_id: str


def known_instances(query: Query, sop_uids: Iterable[str]) -> list[KnownInstance]:
    """Return the vault's instances with one of these SOP Instance UIDs."""
    table = query(
        "select i.instance_id, i.subject_id, coalesce(i.SOPInstanceUID, ''), i.sha256, i.version,"
        " i.superseded, coalesce(p.IssuerOfPatientID, ''), coalesce(p.PatientID, '')"
        " from instances i join patients p using (subject_id)"
        " where coalesce(i.SOPInstanceUID, '') in (select unnest($uids))",
        {"uids": sorted(set(sop_uids))},
    )
    return [KnownInstance(*row.values()) for row in table.to_pylist()]


class Directory:
    """Subjects, studies, series and instances that a batch may belong to; grows as it places them."""

    def __init__(self, query: Query, drafts: Sequence[Draft]) -> None:
        self.rows: dict[str, list[Row]] = {table: [] for table in MODES}
        self.superseded: list[str] = []
        self._patients: dict[str, dict[str, Any]] = {}
        self._subjects = _known_subjects(query, drafts)
        self._final = {row["subject_id"]: row["final"] for row in _finals(query)}
        studies = query(
            "select study_id, subject_id, key_id, StudyInstanceUID as uid from studies"
            " where coalesce(StudyInstanceUID, '') in (select unnest($uids))",
            {"uids": sorted({draft.study_uid for draft in drafts})},
        ).to_pylist()
        self.studies = {(row["subject_id"], row["uid"] or ""): row for row in studies}
        series = query(
            "select series_id, study_id, SeriesInstanceUID as uid from series"
            " where coalesce(SeriesInstanceUID, '') in (select unnest($uids))",
            {"uids": sorted({draft.series_uid for draft in drafts})},
        ).to_pylist()
        self.series = {(row["study_id"], row["uid"] or ""): row["series_id"] for row in series}
        self.instances: dict[tuple[str, str], list[KnownInstance]] = {}
        uids = {member.record.sop_instance_uid for draft in drafts for member in draft.members}
        for known in known_instances(query, uids):
            self.instances.setdefault((known.subject_id, known.sop_uid), []).append(known)

    def place(self, resources: Resources, draft: Draft) -> tuple[SeriesIdentity, str]:
        """Return the ids of a draft's subject, study and series, and the study's key; new ones are made."""
        header = draft.members[0].header
        subject_id = self._subject(resources, draft, header)
        study = self.studies.get((subject_id, draft.study_uid))
        if study is None:
            study_id = new_id()
            key_id = resources.keys.new_key(Role.STUDY, parent_id=self._subject_key(subject_id))
            study = {"study_id": study_id, "subject_id": subject_id, "key_id": key_id}
            self.studies[subject_id, draft.study_uid] = study
            self.rows["studies"].append(
                {**columns(header, "studies"), **study, "StudyInstanceUID": draft.study_uid}
            )
        series_id = self.series.get((study["study_id"], draft.series_uid))
        if series_id is None:
            series_id = self.series[study["study_id"], draft.series_uid] = new_id()
            self.rows["series"].append(
                {
                    **columns(header, "series"),
                    "series_id": series_id,
                    "study_id": study["study_id"],
                    "subject_id": subject_id,
                    "StudyInstanceUID": draft.study_uid,
                    "SeriesInstanceUID": draft.series_uid,
                }
            )
        person = draft.person
        identity = SeriesIdentity(
            subject_id,
            study["study_id"],
            series_id,
            person.issuer,
            person.patient_id,
            draft.study_uid,
            draft.series_uid,
        )
        return identity, study["key_id"]

    def version(self, member: Member, subject_id: str) -> tuple[int, list[KnownInstance]] | None:
        """Return the version a new instance gets and those it supersedes; None for a duplicate."""
        uid, sha256 = member.record.sop_instance_uid, member.record.sha256
        known = self.instances.setdefault((subject_id, uid), [])
        if any(instance.sha256 == sha256 for instance in known):
            return None
        older = [instance for instance in known if not instance.superseded] if uid else []
        version = 1 + max((instance.version for instance in known), default=0) if uid else 1
        known[:] = [instance._replace(superseded=True) for instance in known] if uid else known
        known.append(
            KnownInstance(member.record.instance_id, subject_id, uid, sha256, version, False, "", "")
        )
        return version, older

    def _subject(self, resources: Resources, draft: Draft, header: Header) -> str:
        person = draft.person
        known = self._subjects.setdefault(_identity_key(person), [])
        decision = decide(person, draft.study_uid, known)
        if decision.subject_id is None:
            return self._new_subject(resources, draft, header, decision, known)
        place = next(i for i, subject in enumerate(known) if subject.subject_id == decision.subject_id)
        filled = fill_in(known[place].person, [person])
        if filled != known[place].person:
            self._patients.setdefault(decision.subject_id, {}).update(
                _patient_row(header, decision.subject_id, filled)
            )
        known[place] = replace(known[place], person=filled, studies=known[place].studies | {draft.study_uid})
        return str(self._final.get(decision.subject_id, decision.subject_id))

    def _new_subject(
        self,
        resources: Resources,
        draft: Draft,
        header: Header,
        decision: Decision,
        known: list[KnownSubject],
    ) -> str:
        subject_id = new_id()
        key_id = resources.keys.new_key(Role.SUBJECT, key_id=subject_id)
        known.append(
            KnownSubject(subject_id, draft.person, decision.provisional, frozenset({draft.study_uid}))
        )
        row = _patient_row(header, subject_id, draft.person)
        self._patients[subject_id] = {**row, "key_id": key_id, "provisional": decision.provisional}
        if decision.conflict_with:
            self.conflict(
                "subject",
                detail=decision.reason,
                subject_id=subject_id,
                other_subject_id=decision.conflict_with,
            )
        return subject_id

    def conflict(self, kind: str, **values: str) -> None:
        """Note a conflict for somebody to resolve."""
        self.rows["conflicts"].append(
            {"conflict_id": new_id(), "kind": kind, "found": _now(), "resolved": False, **values}
        )

    def changes(self) -> list[Change]:
        """Return all that is to be committed."""
        found = changes("patients", list(self._patients.values()), "merge")
        for table, rows in self.rows.items():
            found += changes(table, rows, MODES[table])
        older = [{"instance_id": instance_id, "superseded": True} for instance_id in self.superseded]
        return found + changes("instances", older, "merge")

    @staticmethod
    def _subject_key(subject_id: str) -> str:
        # A subject's key has the subject's id: subjects are never rolled, only merged or destroyed.
        return subject_id


def _identity_key(person: Person) -> tuple[str, str, str, bool]:
    if person.patientless:
        return "", "", "", True
    return ("" if person.only_study else person.issuer), person.patient_id, person.only_study, False


def _known_subjects(
    query: Query, drafts: Sequence[Draft]
) -> dict[tuple[str, str, str, bool], list[KnownSubject]]:
    people = [draft.person for draft in drafts]
    rows = query(
        "select p.subject_id, p.IssuerOfPatientID, p.PatientID, p.PatientName, p.PatientBirthDate,"
        " p.PatientSex, p.only_study, p.patientless, p.provisional,"
        " list(s.StudyInstanceUID) filter (where s.StudyInstanceUID is not null) as studies"
        " from patients p left join studies s using (subject_id)"
        " where (p.PatientID != '' and p.PatientID in (select unnest($ids)))"
        " or (p.only_study != '' and p.only_study in (select unnest($studies))) or p.patientless"
        " group by all order by p.provisional, p.subject_id",
        {
            "ids": sorted({person.patient_id for person in people}),
            "studies": sorted({person.only_study for person in people}),
        },
    ).to_pylist()
    found: dict[tuple[str, str, str, bool], list[KnownSubject]] = {}
    for row in rows:
        person = Person(
            row["IssuerOfPatientID"] or "",
            row["PatientID"] or "",
            row["PatientName"] or "",
            row["PatientBirthDate"].isoformat() if row["PatientBirthDate"] else "",
            row["PatientSex"] or "",
            row["only_study"] or "",
            bool(row["patientless"]),
        )
        subject = KnownSubject(
            row["subject_id"], person, bool(row["provisional"]), frozenset(row["studies"] or ())
        )
        found.setdefault(_identity_key(person), []).append(subject)
    return found


def _finals(query: Query) -> list[dict[str, Any]]:
    """Return which subject each merged one ended up in."""
    found: list[dict[str, Any]] = query(
        "with recursive chain(subject_id, final) as ("
        " select subject_id, merged_into from patients where merged_into is not null"
        " union select c.subject_id, p.merged_into from chain c join patients p on p.subject_id = c.final"
        " where p.merged_into is not null)"
        " select c.subject_id, c.final from chain c join patients p on p.subject_id = c.final"
        " where p.merged_into is null"
    ).to_pylist()
    return found


def _patient_row(header: Header, subject_id: str, person: Person) -> Row:
    row = {} if person.patientless else columns(header, "patients")
    return {
        **row,
        "subject_id": subject_id,
        "IssuerOfPatientID": person.issuer,
        "PatientID": person.patient_id,
        "only_study": person.only_study,
        "patientless": person.patientless,
    }


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


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
    resources: Resources, action: str, drafts: Sequence[Draft], aside: Sequence[Refused]
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

    Returns
    -------
    Committed
        What is now in the vault, with the digests that the log's outcome carries.
    """
    done = Committed()
    drafts = [draft for draft in drafts if draft.members]
    log_intent(resources, action, "quarantine", [refused.quarantine_id for refused in aside])
    with resources.catalog.lease() as lease:
        directory = Directory(lease.query, drafts)
        for draft in drafts:
            _commit_draft(resources, directory, draft, done)
        for refused in aside:
            item, row = seal_aside(resources, refused)
            directory.rows["quarantine"].append(row)
            done.quarantined.append(item)
        done.info = lease.commit(directory.changes(), resources.keys.commit)
    _log_outcome(resources, action, done)
    return done


def _log_outcome(resources: Resources, action: str, done: Committed) -> None:
    manifests = sorted(done.manifests.items())
    parts = [manifests[at : at + MANIFESTS_AN_ENTRY] for at in range(0, len(manifests), MANIFESTS_AN_ENTRY)]
    counts = {
        "instances": done.stored,
        "series": done.series,
        "bytes": done.bytes,
        "duplicates": done.duplicates,
        "quarantined": len(done.quarantined),
    }
    digests = {"record": resources.keys.record_digest}
    digests |= {"catalog": done.info.digest} if done.info else {}
    resources.audit.append(
        [
            Event(
                kind=Kind.INGEST,
                who=resources.who,
                purpose=resources.purpose,
                action=action,
                counts=counts if number == 0 else {},
                digests=digests,
                manifests=dict(part),
            )
            for number, part in enumerate(parts or [[]])
        ]
    )


def _commit_draft(resources: Resources, directory: Directory, draft: Draft, done: Committed) -> None:
    identity, key_id = directory.place(resources, draft)
    kept: list[tuple[Member, int]] = []
    for member in draft.members:
        found = directory.version(member, identity.subject_id)
        if found is None:
            done.duplicates += 1
            continue
        version, older = found
        kept.append((member, version))
        done.sources.append(member.source)
        for instance in older:
            directory.superseded.append(instance.instance_id)
            directory.conflict(
                "version",
                detail="same SOP Instance UID, other bytes",
                subject_id=identity.subject_id,
                instance_id=member.record.instance_id,
                study_id=identity.study_id,
            )
    if not kept:
        for ref in draft.writer.written:
            resources.sealed.delete(ref.object_id)
        return
    manifest, ref = _seal_manifest(resources, draft, identity, key_id)
    rows = directory.rows
    rows["packs"].append(pack_row(manifest, ref, draft.codec))
    rows["stacks"] += [stack_row(manifest, number, stack) for number, stack in enumerate(manifest.stacks)]
    for member, version in kept:
        row = instance_row(
            manifest, member.record, member.header, member.transfer_syntax, member.pixels, version
        )
        rows["instances"].append(row)
        rows["frames"] += frame_rows(manifest, member.record, member.header)
        done.bytes += member.record.length
        done.versions += version > 1
    done.stored += len(kept)
    done.series += 1
    done.manifests[draft.pack_id] = ref.sha256


# The manifest's object has the pack's id, so that the log's intent names it before it exists.
def _seal_manifest(
    resources: Resources, draft: Draft, identity: SeriesIdentity, key_id: str
) -> tuple[Manifest, SealedRef]:
    manifest = Manifest(
        vault_id=resources.settings.vault_id,
        pack_id=draft.pack_id,
        study_key_id=key_id,
        wrapped_dek=resources.keys.wrap_dek(key_id, draft.pack_id, draft.dek),
        created=_now().isoformat(),
        identity=identity,
        stacks=draft.stacks,
        instances=tuple(member.record for member in draft.members),
        headers=draft.headers,
        header_chunks=draft.header_chunks,
    )
    ref = resources.sealed.put(
        SealedKind.MANIFEST,
        resources.keys.sub_key(key_id, MANIFEST_LABEL),
        key_id,
        [manifest_to_bytes(manifest)],
        object_id=draft.pack_id,
    )
    return manifest, ref
