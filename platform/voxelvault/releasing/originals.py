"""What is to be de-identified, one patient and one study at a time: from a vault, or from a folder.

A vault knows who is who. A folder does not: there a patient is issuer + PatientID as the headers have
them, a study's own where the id is empty, and two people under one id are told apart as at ingest.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Protocol, TypeVar

from voxelvault.deid.scratch import SealedTexts
from voxelvault.deid.words import like_designations
from voxelvault.dicom.archives import Member
from voxelvault.dicom.part10 import Part10, parse
from voxelvault.dicom.read import Header
from voxelvault.dicom.sources import MEDIA_DIRECTORY, Refusal, Source, find_files
from voxelvault.errors import DicomError, NotDicom, StorageError, UsageError
from voxelvault.export import checked, instance_rows, reader_of
from voxelvault.intake.identity import KnownSubject, Person, decide, person_of, valid_uids
from voxelvault.reading.packs import PackCache
from voxelvault.resources import Resources

LINK_OUTSIDE = "link_outside"
"""Reason code of a link that leads out of the folder."""

_MEDIA_SOP_CLASS = 0x00020002
_IDENTITY = (
    *(0x00080005, 0x00080016, 0x00080018),  # character set, class and instance
    *(0x00100010, 0x00100020, 0x00100021, 0x00100030, 0x00100040),  # name, id, issuer, birth date, sex
    *(0x0020000D, 0x0020000E),  # study and series
)
"""Elements that say whose a file is."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Original:
    """One file as it came.

    Parameters
    ----------
    place : str
        Path in a folder, or instance id in a vault; it may name a patient, so it is never logged.
    read : callable
        Gives the bytes.
    pack : str
        Opaque id of the pack that holds it, in a vault.
    """

    place: str = field(repr=False)
    read: Callable[[], bytes] = field(default=bytes, repr=False)
    pack: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """One patient's files, study by study.

    Parameters
    ----------
    subject : str
        What pseudonyms are made from: the vault's random id, or the normalised header values.
    studies : sequence of sequences of Original
        In no order that tells anything.
    """

    subject: str = field(repr=False)
    studies: Sequence[Sequence[Original]] = field(repr=False)


class Originals(Protocol):
    """Where originals come from.

    Attributes
    ----------
    issuer : str
        Of patient ids whose header names none: part of what pseudonyms are made of.
    """

    issuer: str

    @property
    def refused(self) -> Sequence[tuple[str, str]]:
        """Place and reason code of what can't be read at all."""

    def __len__(self) -> int:
        """Files to do."""

    def subjects(self) -> Iterator[Subject]:
        """Yield the patients, one after the other."""

    def like_designations(self) -> Set[str]:
        """Return the ids among all patients' that read as what a machine is called (AB123)."""


class VaultOriginals:
    """Files of some series of an open vault, the newest version of each.

    Parameters
    ----------
    resources : Resources
        The open vault.
    series_ids : sequence of str, optional
        Opaque ids; everything by default.
    """

    issuer = ""
    refused: Sequence[tuple[str, str]] = ()

    def __init__(self, resources: Resources, series_ids: Sequence[str] | None = None) -> None:
        self._resources = resources
        rows = resources.catalog.query(
            "select subject_id, series_id, count(*) as files from instances where not superseded"
            " and ($ids is null or series_id in (select unnest($ids))) group by 1, 2 order by 1, 2",
            {"ids": None if series_ids is None else list(series_ids)},
        ).to_pylist()
        if not rows:
            raise UsageError("there is nothing to de-identify; widen the selection, or `ingest` first")
        self._count: int = sum(row["files"] for row in rows)
        self._series: dict[str, list[str]] = {}
        for row in rows:
            self._series.setdefault(row["subject_id"], []).append(row["series_id"])

    def __len__(self) -> int:
        return self._count

    def subjects(self) -> Iterator[Subject]:
        """Yield the patients, by their random ids, in no order that tells anything."""
        packs = PackCache(self._resources, threads=1)
        for subject_id in _shuffled(self._series):
            studies: dict[str, list[Original]] = {}
            for row in instance_rows(self._resources, series_ids=self._series[subject_id]):
                if not row["superseded"]:
                    original = Original(row["instance_id"], self._reading(packs, row), row["pack_id"])
                    studies.setdefault(row["study_id"], []).append(original)
            yield _subject_of(subject_id, studies)

    def like_designations(self) -> Set[str]:
        """Return the ids, of all patients in the vault, that read as what a machine is called (AB123)."""
        rows = self._resources.catalog.query("select distinct PatientID as id from patients where id <> ''")
        return like_designations(rows["id"].to_pylist())

    def _reading(self, packs: PackCache, row: dict[str, str]) -> Callable[[], bytes]:
        def read() -> bytes:
            reader = reader_of(self._resources, packs, row)
            record = reader.manifest.instance(row["instance_id"])
            return b"".join(bytes(part) for part in checked(reader.instance_bytes(record), record.sha256))

        return read


class FolderOriginals:
    """DICOM files below a folder, in archives too. What is no DICOM is left where it is.

    Where each file lies is put aside, sealed; in memory are its patients and studies.

    Parameters
    ----------
    folder : Path
        Where to look.
    issuer : str
        Of patient ids whose header names none.
    advance : callable
        Called for each file that was looked at.
    follow_links : bool
        Follow links that lead out of the folder; by default they are refused.
    """

    def __init__(
        self,
        folder: Path,
        issuer: str = "",
        advance: Callable[[], object] = lambda: None,
        *,
        follow_links: bool = False,
    ) -> None:
        self._folder, self.issuer = folder, issuer
        self._people: dict[tuple[str, str], dict[tuple[Person, str], array[int]]] = {}
        self._places = SealedTexts()
        self.refused: list[tuple[str, str]] = []
        self._count = 0
        for found in find_files([folder], inside=not follow_links):
            self._take(found)
            advance()

    def __len__(self) -> int:
        return self._count

    def subjects(self) -> Iterator[Subject]:
        """Yield the patients, in no order that tells anything."""
        for group in _shuffled(self._people.values()):
            yield from self._told_apart(group)

    def like_designations(self) -> Set[str]:
        """Return the ids in the folder that read as what a machine is called (AB123)."""
        return like_designations(patient_id for _, patient_id in self._people)

    def _take(self, found: Source | Refusal) -> None:
        if isinstance(found, Refusal):
            reason = LINK_OUTSIDE if found.kind == "outside" else "unreadable"
            self.refused.append((self._relative(found.path), reason))
            return
        place = self._relative(found.display)
        try:
            with found.open() as data:
                part10 = parse(data)
                if part10.value(_MEDIA_SOP_CLASS).strip(b"\0 ") == MEDIA_DIRECTORY.encode():
                    self.refused.append((place, "media_directory"))
                    return
                header = Header.from_part10(_of_identity(part10))
                digest = hashlib.sha256(data).hexdigest()
        except NotDicom:
            self.refused.append((place, "not_dicom"))
            return
        except (DicomError, StorageError, OSError):
            self.refused.append((place, "unreadable"))
            return
        if not valid_uids(header):
            self.refused.append((place, "invalid_uid"))
            return
        person = person_of(header, self.issuer, digest)
        study = str(header.get("StudyInstanceUID") or "")
        key = (_folded(person.issuer), _folded(person.patient_id) or person.only_study)
        files = self._people.setdefault(key, {}).setdefault((person, study), array("Q"))
        files.append(self._places.put(_text(found)))
        self._count += 1

    def _told_apart(self, group: Mapping[tuple[Person, str], array[int]]) -> Iterator[Subject]:
        """Yield the people who share an id: one, unless headers contradict each other."""
        known: list[KnownSubject] = []
        files: dict[str, dict[str, list[Original]]] = {}
        # In an order of the headers' own, so that a second run tells them apart in the same way.
        for person, study in sorted(group, key=lambda one: (_told(one[0]), one[1])):
            subject = decide(person, study, known).subject_id
            if subject is None:
                subject = _subject(person, first=not known)
                known.append(KnownSubject(subject, person, studies=frozenset([study])))
            found = (_source(self._places.get(place)) for place in group[person, study])
            files.setdefault(subject, {}).setdefault(study, []).extend(map(self._original, found))
        for subject in _shuffled(files):
            yield _subject_of(subject, files[subject])

    def _original(self, source: Source) -> Original:
        return Original(self._relative(source.display), partial(_bytes, source))

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self._folder)


def _subject_of(subject: str, studies: dict[str, list[Original]]) -> Subject:
    return Subject(subject, [_shuffled(files) for files in _shuffled(studies.values())])


def _shuffled(items: Iterable[T]) -> list[T]:
    """Return items by chance, so that the order of a release tells nothing of its source's."""
    found = list(items)
    SystemRandom().shuffle(found)
    return found


def _of_identity(part10: Part10) -> Part10:
    """Return a file without what says nothing of whose it is: that much need not be converted."""
    return replace(part10, dataset={tag: part10.dataset[tag] for tag in _IDENTITY if tag in part10.dataset})


def _text(source: Source) -> str:
    member = None if source.member is None else asdict(source.member)
    return json.dumps([str(source.path), source.size, member])


def _source(text: str) -> Source:
    path, size, member = json.loads(text)
    return Source(Path(path), size, None if member is None else Member(**member))


def _bytes(source: Source) -> bytes:
    return bytes(source.read())


def _subject(person: Person, *, first: bool) -> str:
    """Return what pseudonyms are made from; who comes second under an id is told by the rest as well."""
    key = [_folded(person.issuer), _folded(person.patient_id), person.only_study]
    return "\n".join(key if first else [*key, *_told(person)])


def _told(person: Person) -> tuple[str, str, str]:
    return person.birth_date, person.sex.upper(), _folded(person.name)


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


__all__ = ["LINK_OUTSIDE", "FolderOriginals", "Original", "Originals", "Subject", "VaultOriginals"]
