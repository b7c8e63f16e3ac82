"""Which subjects, studies, series and instances a batch belongs to; new ones are made.

Used under the catalog's lease, so that two ingests at once never make two of one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import pyarrow as pa

from voxelvault.catalog.catalog import Change, Mode
from voxelvault.crypto.keyring import Role
from voxelvault.dicom.columns import Tags
from voxelvault.dicom.read import Header, columns
from voxelvault.errors import UsageError
from voxelvault.intake.identity import Decision, KnownSubject, Person, contradiction, decide, fill_in
from voxelvault.model import new_id
from voxelvault.resources import Resources
from voxelvault.rows import Row, changes
from voxelvault.storage.pack import InstanceRecord, SeriesIdentity

Query = Callable[..., pa.Table]

# A merge costs the engine several times an insertion: only rows that may be there already are merged.
MODES: Mapping[str, Mode] = {
    "patients": "merge",
    "studies": "insert",
    "series": "insert",
    "packs": "insert",
    "instances": "insert",
    "stacks": "insert",
    "frames": "insert",
    "quarantine": "insert",
    "conflicts": "insert",
}


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A series that wants a place: who, which study and series, and a header to describe them."""

    person: Person
    study_uid: str
    series_uid: str
    header: Header
    sop_uids: tuple[str, ...]


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

    def __init__(self, query: Query, newcomers: Sequence[Newcomer]) -> None:
        self.rows: dict[str, list[Row]] = {table: [] for table in MODES}
        self.superseded: list[str] = []
        self.now = utc_now()
        self._patients: dict[str, dict[str, Any]] = {}
        self._final = _finals(query)
        self._subjects = _known_subjects(query, newcomers, self._final)
        self._moved = _moves(query, newcomers)
        studies = query(
            "select study_id, subject_id, key_id, StudyInstanceUID as uid from studies"
            " where coalesce(StudyInstanceUID, '') in (select unnest($uids))",
            {"uids": sorted({newcomer.study_uid for newcomer in newcomers})},
        ).to_pylist()
        self.studies = {(row["subject_id"], row["uid"] or ""): row for row in studies}
        series = query(
            "select series_id, study_id, SeriesInstanceUID as uid from series"
            " where coalesce(SeriesInstanceUID, '') in (select unnest($uids))",
            {"uids": sorted({newcomer.series_uid for newcomer in newcomers})},
        ).to_pylist()
        self.series = {(row["study_id"], row["uid"] or ""): row["series_id"] for row in series}
        self.instances: dict[tuple[str, str], list[KnownInstance]] = {}
        uids = {uid for newcomer in newcomers for uid in newcomer.sop_uids}
        for known in known_instances(query, uids):
            self.instances.setdefault((known.subject_id, known.sop_uid), []).append(known)

    def place(
        self, resources: Resources, newcomer: Newcomer, study_id: str = ""
    ) -> tuple[SeriesIdentity, str]:
        """Return a newcomer's subject, study and series, and the study's key; new ones are made.

        Raises
        ------
        UsageError
            It names another patient or study than `study_id`, for which it is.
        """
        header = newcomer.header
        if study_id:
            subject_id = self._owner(newcomer, study_id)
        else:
            subject_id = self._subject(resources, newcomer, header)
        study = self.studies.get((subject_id, newcomer.study_uid))
        study = study or self._new_study(resources, newcomer, subject_id)
        series_id = self.series.get((study["study_id"], newcomer.series_uid))
        series_id = series_id or self._new_series(resources, newcomer, study)
        person = newcomer.person
        identity = SeriesIdentity(
            subject_id,
            study["study_id"],
            series_id,
            person.issuer,
            person.patient_id,
            newcomer.study_uid,
            newcomer.series_uid,
        )
        return identity, study["key_id"]

    def _new_study(self, resources: Resources, newcomer: Newcomer, subject_id: str) -> dict[str, Any]:
        study_id, key_id = self._fresh_study(resources, subject_id)
        study = {"study_id": study_id, "subject_id": subject_id, "key_id": key_id}
        self.studies[subject_id, newcomer.study_uid] = study
        values = columns(newcomer.header, "studies", resources.tags)
        self.rows["studies"].append({**values, **study, "StudyInstanceUID": newcomer.study_uid})
        return study

    def _new_series(self, resources: Resources, newcomer: Newcomer, study: Row) -> str:
        series_id = self.series[study["study_id"], newcomer.series_uid] = self._fresh_series()
        self.rows["series"].append(
            {
                **columns(newcomer.header, "series", resources.tags),
                "series_id": series_id,
                "study_id": study["study_id"],
                "subject_id": study["subject_id"],
                "StudyInstanceUID": newcomer.study_uid,
                "SeriesInstanceUID": newcomer.series_uid,
            }
        )
        return series_id

    # What a rebuild of the catalog has on record is fresh only here.

    def _fresh_subject(self, resources: Resources) -> tuple[str, str]:
        subject_id = new_id()
        return subject_id, resources.keys.new_key(Role.SUBJECT, key_id=subject_id)

    def _fresh_study(self, resources: Resources, subject_id: str) -> tuple[str, str]:
        return new_id(), resources.keys.new_key(Role.STUDY, parent_id=self._subject_key(subject_id))

    def _fresh_series(self) -> str:
        return new_id()

    def version(self, record: InstanceRecord, subject_id: str) -> tuple[int, list[KnownInstance]] | None:
        """Return the version a new instance gets and those it supersedes; None for a duplicate."""
        uid, sha256 = record.sop_instance_uid, record.sha256
        known = self.instances.setdefault((subject_id, uid), [])
        if any(instance.sha256 == sha256 for instance in known):
            return None
        older = [instance for instance in known if not instance.superseded] if uid else []
        version = 1 + max((instance.version for instance in known), default=0) if uid else 1
        known[:] = [instance._replace(superseded=True) for instance in known] if uid else known
        known.append(KnownInstance(record.instance_id, subject_id, uid, sha256, version, False, "", ""))
        return version, older

    def admit(self, record: InstanceRecord, identity: SeriesIdentity) -> int:
        """Return the version that an instance gets, 0 for a duplicate; older ones count no more."""
        found = self.version(record, identity.subject_id)
        if found is None:
            return 0
        version, older = found
        self._supersede(older, record, identity)
        return version

    def _supersede(
        self, older: Iterable[KnownInstance], record: InstanceRecord, identity: SeriesIdentity
    ) -> None:
        for instance in older:
            self.superseded.append(instance.instance_id)
            self.conflict(
                "version",
                instance.instance_id,
                detail="same SOP Instance UID, other bytes",
                subject_id=identity.subject_id,
                instance_id=record.instance_id,
                study_id=identity.study_id,
            )

    def _subject(self, resources: Resources, newcomer: Newcomer, header: Header) -> str:
        person = newcomer.person
        known = self._subjects.setdefault(identity_key(person), [])
        decision = decide(person, newcomer.study_uid, known)
        if decision.subject_id is None:
            return self._new_subject(resources, newcomer, header, decision, known)
        place = next(i for i, subject in enumerate(known) if subject.subject_id == decision.subject_id)
        filled = fill_in(known[place].person, [person])
        if filled != known[place].person:
            self._patients.setdefault(decision.subject_id, {}).update(
                _patient_row(header, decision.subject_id, filled, resources.tags)
            )
        known[place] = replace(
            known[place], person=filled, studies=known[place].studies | {newcomer.study_uid}
        )
        return self._now(decision.subject_id, newcomer.study_uid)

    def _owner(self, newcomer: Newcomer, study_id: str) -> str:
        """Return whose study it is: of several who fit a newcomer it is for that one."""
        person, uid = newcomer.person, newcomer.study_uid
        owners = {
            whose for (whose, of), row in self.studies.items() if row["study_id"] == study_id and of == uid
        }
        for one in self._subjects.get(identity_key(person), ()):
            owner = self._now(one.subject_id, uid)
            if owner in owners and not contradiction(person, one.person):
                return owner
        raise UsageError(
            "the files name another patient or study than the one they are for; nothing was stored"
        )

    def _now(self, subject_id: str, study_uid: str) -> str:
        """Return whom a subject's study belongs to after merges and moves."""
        passed: set[str] = set()
        while subject_id not in passed:
            passed.add(subject_id)
            moved = self._moved.get((subject_id, study_uid))
            subject_id = moved or str(self._final.get(subject_id, subject_id))
        return subject_id

    def _new_subject(
        self,
        resources: Resources,
        newcomer: Newcomer,
        header: Header,
        decision: Decision,
        known: list[KnownSubject],
    ) -> str:
        subject_id, key_id = self._fresh_subject(resources)
        known.append(
            KnownSubject(subject_id, newcomer.person, decision.provisional, frozenset({newcomer.study_uid}))
        )
        row = _patient_row(header, subject_id, newcomer.person, resources.tags)
        self._patients[subject_id] = {**row, "key_id": key_id, "provisional": decision.provisional}
        if decision.conflict_with:
            self.conflict(
                "subject",
                decision.conflict_with,
                detail=decision.reason,
                subject_id=subject_id,
                other_subject_id=decision.conflict_with,
            )
        return subject_id

    def conflict(self, kind: str, other_id: str, **values: str) -> None:
        """Note a conflict with something known for somebody to resolve."""
        conflict_id = conflict_id_of(kind, other_id, **values)
        self.rows["conflicts"].append(
            {"conflict_id": conflict_id, "kind": kind, "found": self.now, "resolved": False, **values}
        )

    def changes(self) -> list[Change]:
        """Return all that is to be committed."""
        patients = self._patients.values()
        found = changes("patients", [row for row in patients if "key_id" in row], "insert")
        found += changes("patients", [row for row in patients if "key_id" not in row], "merge")
        for table, rows in self.rows.items():
            found += changes(table, rows, MODES[table])
        older = [{"instance_id": instance_id, "superseded": True} for instance_id in self.superseded]
        return found + changes("instances", older, "merge")

    @staticmethod
    def _subject_key(subject_id: str) -> str:
        # A subject's key has the subject's id: subjects are never rolled, only merged or destroyed.
        return subject_id


def identity_key(person: Person) -> tuple[str, str, str, bool]:
    """Return what people must share to be looked at as one at all."""
    if person.patientless:
        return "", "", "", True
    return ("" if person.only_study else person.issuer), person.patient_id, person.only_study, False


def _known_subjects(
    query: Query, newcomers: Sequence[Newcomer], final: Mapping[str, str]
) -> dict[tuple[str, str, str, bool], list[KnownSubject]]:
    people = [newcomer.person for newcomer in newcomers]
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
            row["subject_id"],
            person,
            bool(row["provisional"]),
            frozenset(row["studies"] or ()),
            final.get(row["subject_id"], ""),
        )
        found.setdefault(identity_key(person), []).append(subject)
    return found


def _finals(query: Query) -> dict[str, str]:
    """Return which subject each merged one ended up in."""
    found = query("select subject_id, merged_into from patients where merged_into is not null").to_pylist()
    into = {row["subject_id"]: row["merged_into"] for row in found}
    return {subject_id: _end(into, subject_id) for subject_id in into}


def _end(into: Mapping[str, str], subject_id: str) -> str:
    passed: set[str] = set()
    while subject_id in into and subject_id not in passed:
        passed.add(subject_id)
        subject_id = into[subject_id]
    return subject_id


def _moves(query: Query, newcomers: Sequence[Newcomer]) -> dict[tuple[str, str], str]:
    """Return where studies of these UIDs were moved: subject and study UID to the other subject."""
    found = query(
        "select subject_id, StudyInstanceUID as uid, into_subject_id as other from moves"
        " where StudyInstanceUID in (select unnest($uids))",
        {"uids": sorted({newcomer.study_uid for newcomer in newcomers})},
    ).to_pylist()
    return {(row["subject_id"], row["uid"]): row["other"] for row in found}


def _patient_row(header: Header, subject_id: str, person: Person, tags: Tags) -> Row:
    # What this header lacks, an earlier one may have told: absent columns stay as they are.
    row = {} if person.patientless else columns(header, "patients", tags)
    return {
        **{column: value for column, value in row.items() if value is not None},
        "subject_id": subject_id,
        "IssuerOfPatientID": person.issuer,
        "PatientID": person.patient_id,
        "PatientName": person.name or None,
        "PatientBirthDate": date.fromisoformat(person.birth_date) if person.birth_date else None,
        "PatientSex": person.sex or None,
        "only_study": person.only_study,
        "patientless": person.patientless,
    }


def conflict_id_of(kind: str, other_id: str, **values: str) -> str:
    """Return the id of a conflict: one that is found again, in a rebuild, has the same."""
    parts = (kind, other_id, *(values.get(name, "") for name in ("subject_id", "instance_id")))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def utc_now() -> datetime:
    """Return the time in UTC as the catalog's TIMESTAMP columns hold it."""
    return datetime.now(UTC).replace(tzinfo=None)
