"""A directory that finds subjects, studies, series and versions again as manifests have them on record.

The rebuild of a catalog takes the same decisions as the ingest took, so that conflicts and what
headers told of a patient come out the same; where what it decided on is gone, the record counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from voxelvault.dicom.read import Header
from voxelvault.intake.directory import Directory, KnownInstance, Newcomer, Query, identity_key
from voxelvault.intake.identity import Decision, decide
from voxelvault.resources import Resources
from voxelvault.storage.pack import InstanceRecord, Manifest, SeriesIdentity


class Recorded(Directory):
    """Subjects, studies, series and versions of packs that were committed before.

    Parameters
    ----------
    query : callable
        Asks the catalog as far as it is rebuilt.
    newcomers : sequence of Newcomer
        Of the packs that are about to be placed.
    """

    def __init__(self, query: Query, newcomers: Sequence[Newcomer]) -> None:
        super().__init__(query, newcomers)
        self._people = set(query("select subject_id from patients")["subject_id"].to_pylist())
        self.manifest: Manifest | None = None

    @property
    def identity(self) -> SeriesIdentity:
        """The identity on record of the pack at hand."""
        return self._record.identity

    @property
    def _record(self) -> Manifest:
        if self.manifest is None:
            raise AssertionError("set manifest before anything is placed")
        return self.manifest

    def restore(self, record: InstanceRecord, number: int) -> int:
        """Return the version on record of an instance, 0 for a duplicate; older ones count no more."""
        versions = self._record.versions
        if not versions:
            return self.admit(record, self.identity)
        version, uid = versions[number], record.sop_instance_uid
        if not version:
            return 0
        known = self.instances.setdefault((self.identity.subject_id, uid), [])
        older = [one for one in known if not one.superseded and one.version < version] if uid else []
        self._supersede(older, record, self.identity)
        known[:] = [one._replace(superseded=one.superseded or one in older) for one in known]
        known.append(
            KnownInstance(
                record.instance_id, self.identity.subject_id, uid, record.sha256, version, False, "", ""
            )
        )
        return version

    def _subject(self, resources: Resources, newcomer: Newcomer, header: Header) -> str:
        wanted = self.identity.subject_id
        known = self._subjects.setdefault(identity_key(newcomer.person), [])
        decision = decide(newcomer.person, newcomer.study_uid, known)
        if decision.subject_id is not None and self._now(decision.subject_id, newcomer.study_uid) == wanted:
            return super()._subject(resources, newcomer, header)
        if wanted not in self._people:
            if decision.subject_id is not None:
                decision = Decision(None, provisional=True)
            self._people.add(wanted)
            self._new_subject(resources, newcomer, header, decision, known)
        return wanted

    def _fresh_subject(self, resources: Resources) -> tuple[str, str]:
        # A subject's key has the subject's id.
        return self.identity.subject_id, self.identity.subject_id

    def _fresh_study(self, resources: Resources, subject_id: str) -> tuple[str, str]:
        return self.identity.study_id, self._record.study_key_id

    def _fresh_series(self) -> str:
        return self.identity.series_id


__all__ = ["Recorded"]
