"""Whose image is this: subjects, studies and series from what headers say. Decides, touches nothing.

A subject is issuer + PatientID. The same id with a contradicting birth date, sex or name becomes a
separate, provisional subject; an empty id makes one subject per study; objects without a patient
belong to a subject of the vault's own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from voxelvault.dicom.read import Header
from voxelvault.model import UID

PATIENTLESS = frozenset(
    {
        "1.2.840.10008.5.1.4.38.1",  # Hanging Protocol
        "1.2.840.10008.5.1.4.39.1",  # Color Palette
        "1.2.840.10008.5.1.4.43.1",  # Generic Implant Template
        "1.2.840.10008.5.1.4.44.1",  # Implant Assembly Template
        "1.2.840.10008.5.1.4.45.1",  # Implant Template Group
        "1.2.840.10008.5.1.4.1.1.200.1",  # CT Defined Procedure Protocol
        "1.2.840.10008.5.1.4.1.1.200.3",  # Protocol Approval
        "1.2.840.10008.5.1.4.1.1.200.7",  # XA Defined Procedure Protocol
        "1.2.840.10008.5.1.4.1.1.201.1",  # Inventory
    }
)
"""SOP classes of the non-patient information model (PS3.4 GG, PS3.3 A)."""


@dataclass(frozen=True, slots=True)
class Person:
    """What a header says of the patient; text as in the header, stripped, empty when absent.

    `only_study` is the Study Instance UID (or, without one, another UID of the object) where
    PatientID is empty: then it alone says who is meant.
    """

    issuer: str
    patient_id: str
    name: str = ""
    birth_date: str = ""
    sex: str = ""
    only_study: str = ""
    patientless: bool = False


@dataclass(frozen=True, slots=True)
class KnownSubject:
    """A subject of the vault, as far as identity goes; `merged_into` is the one it ended up in."""

    subject_id: str
    person: Person
    provisional: bool = False
    studies: frozenset[str] = frozenset()
    merged_into: str = ""

    @property
    def final(self) -> str:
        """The subject that stands for it now."""
        return self.merged_into or self.subject_id


@dataclass(frozen=True, slots=True)
class Decision:
    """Which subject an object belongs to.

    Parameters
    ----------
    subject_id : str or None
        A known subject, or None: make a new one.
    provisional : bool
        The new subject shares its id with another that contradicts it.
    conflict_with : str or None
        That other subject.
    reason : str
        ``birth_date``, ``sex``, ``name`` or ``undetermined``; empty without a conflict.
    """

    subject_id: str | None
    provisional: bool = False
    conflict_with: str | None = None
    reason: str = ""


_UIDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
)


def valid_uids(header: Header) -> bool:
    """Tell whether the identifying UIDs are absent, or safe to go by.

    The standard wants digits and dots (PS3.5 9.1). Public data sets have hashes and words such as
    ``ID_0a1b2c3d`` all the same: common and harmless, as leading zeros are. What could be a path, or
    markup, is not.
    """
    found = (str(header.get(keyword) or "").strip(" \0") for keyword in _UIDS)
    return all(UID.fullmatch(uid) for uid in found if uid)


def person_of(header: Header, issuer: str, sha256: str) -> Person:
    """Return what a header says of its patient.

    Parameters
    ----------
    header : Header
        The object's header.
    issuer : str
        Stands in where there is no IssuerOfPatientID.
    sha256 : str
        Of the file; stands in where no UID tells whose it is.
    """

    def text(keyword: str) -> str:
        return str(header.get(keyword) or "").strip(" \0")

    if text("SOPClassUID") in PATIENTLESS:
        return Person("", "", patientless=True)
    patient_id = text("PatientID")
    return Person(
        text("IssuerOfPatientID") or issuer,
        patient_id,
        text("PatientName"),
        _iso(text("PatientBirthDate")),
        text("PatientSex"),
        "" if patient_id else text("StudyInstanceUID") or text("SOPInstanceUID") or sha256,
    )


def _iso(date: str) -> str:
    """Return a DA value as the catalog's dates print, empty when it is none (PS3.5 6.2)."""
    digits = date.replace(".", "").replace("-", "")
    try:
        return datetime.strptime(digits, "%Y%m%d").date().isoformat()
    except ValueError:
        return ""


def name_words(name: str) -> frozenset[str]:
    """Return the words of a person name, folded so that spelling variants of one name are equal."""
    folded = unicodedata.normalize("NFKD", name.split("=")[0]).casefold()
    folded = "".join(c for c in folded if not unicodedata.combining(c))
    return frozenset(word for word in re.split(r"[\W_]+", folded) if word)


def contradiction(one: Person, other: Person) -> str:
    """Return what two headers contradict each other in, or an empty string.

    A value that is missing on one side contradicts nothing; of two names one may leave words out.
    """
    if one.birth_date and other.birth_date and one.birth_date != other.birth_date:
        return "birth_date"
    if one.sex and other.sex and one.sex.upper() != other.sex.upper():
        return "sex"
    left, right = name_words(one.name), name_words(other.name)
    if left and right and not (left <= right or right <= left):
        return "name"
    return ""


def decide(person: Person, study_uid: str, known: Sequence[KnownSubject]) -> Decision:
    """Say which subject an object of this person belongs to.

    Parameters
    ----------
    person : Person
        From the object's header.
    study_uid : str
        Its StudyInstanceUID; tells apart people whose headers don't.
    known : sequence of KnownSubject
        The vault's subjects with the same issuer and PatientID, oldest first; for an empty
        PatientID, those of the same study.
    """
    if person.patientless:
        return Decision(known[0].subject_id if known else None)
    fitting = [subject for subject in known if not contradiction(person, subject.person)]
    if fitting:
        return _among(person, study_uid, fitting)
    if known:
        return Decision(None, True, known[0].subject_id, contradiction(person, known[0].person))
    return Decision(None)


def _among(person: Person, study_uid: str, fitting: Sequence[KnownSubject]) -> Decision:
    exact = [subject for subject in fitting if _told(subject.person) == _told(person)]
    of_study = [subject for subject in fitting if study_uid in subject.studies]
    for alike in (fitting, exact, of_study):
        # Subjects that were merged are one, whatever their headers say.
        if len({subject.final for subject in alike}) == 1:
            return Decision(alike[0].subject_id)
    # Never pick: who it is stays open until somebody merges.
    return Decision(None, True, fitting[0].subject_id, "undetermined")


def _told(person: Person) -> tuple[frozenset[str], str, str]:
    return name_words(person.name), person.birth_date, person.sex.upper()


def fill_in(known: Person, seen: Iterable[Person]) -> Person:
    """Return the known person with what later headers, none of which contradicts, tell beyond it."""
    name, birth_date, sex = known.name, known.birth_date, known.sex
    for person in seen:
        # The fuller name is kept: else two that contradict each other could both fit the shorter one.
        name = person.name if name_words(name) < name_words(person.name) else name
        birth_date = birth_date or person.birth_date
        sex = sex or person.sex
    return replace(known, name=name, birth_date=birth_date, sex=sex)
