"""What the parts of de-identification hand to each other.

Everything is a pure function of a source data set and a `Context`: no clock, no disk, no chance.

References
----------
DICOM PS3.15 Annex E; PS3.16 CID 7050 (de-identification methods).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from pydicom.dataset import Dataset

from voxelvault.errors import DicomError


class Action(StrEnum):
    """What becomes of one element; the letters of PS3.15 Table E.1-1, and three of our own."""

    KEEP = "K"
    REMOVE = "X"
    ZERO = "Z"
    DUMMY = "D"
    CLEAN = "C"
    UID = "U"
    HASH = "H"
    SHIFT = "S"
    REPLACE = "R"


class Option(StrEnum):
    """The options beside the Basic Profile (PS3.15 E.3); `code` is the one of CID 7050."""

    CLEAN_PIXELS = "clean_pixels"
    CLEAN_FACES = "clean_visual_features"
    CLEAN_GRAPHICS = "clean_graphics"
    CLEAN_STRUCTURED = "clean_structured"
    CLEAN_DESCRIPTORS = "clean_descriptors"
    RETAIN_FULL_DATES = "retain_full_dates"
    RETAIN_MODIFIED_DATES = "retain_modified_dates"
    RETAIN_PATIENT_CHARACTERISTICS = "retain_patient_characteristics"
    RETAIN_DEVICE = "retain_device"
    RETAIN_UIDS = "retain_uids"
    RETAIN_SAFE_PRIVATE = "retain_safe_private"
    RETAIN_INSTITUTION = "retain_institution"

    @property
    def code(self) -> str:
        """The code value of CID 7050, coding scheme DCM."""
        return _CODES[self]


BASIC = "113100"
"""Basic Application Confidentiality Profile (CID 7050)."""

FIRST_OPTION = 113101
"""Codes of the options follow each other in the order of `Option`."""
_CODES = {option: str(FIRST_OPTION + place) for place, option in enumerate(Option)}

REASONS = {
    "class_unknown": "nothing here can clean what an object of this SOP class holds, so it stays out",
    "content_unclean": "the content of this object can't be cleaned, so it stays out",
    "uid_missing": "the file has no Study, Series or SOP Instance UID, so it stays out",
    "uid_twice": "another file of the study has the same SOP Instance UID; one of them is released",
    "data_set_malformed": "the data set can't be read to its end; repair the file to release it",
    "pixels_undecodable": "the pixels can't be decoded, so nobody sees what is burned in; it stays out",
    "pixels_unclean": "text stayed readable in the pixels after blanking; blank it by hand to release it",
    "face_refused": "a face can be made out, and faces=refuse was chosen",
    "face_unmapped": "the mask of the face can't be mapped onto this object; only faces=keep lets it through",
    "not_a_volume": "not every image of the series fits the format; release it as dicom, or resample it",
    "leak_found": "a value of the patient was found in the written file; the whole study is left out",
}
"""Why an instance is refused: code and what to say of it."""


class Refused(DicomError):
    """An instance that can't be released; it goes to quarantine, never through.

    Attributes
    ----------
    reason : str
        One of `REASONS`.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(REASONS[reason])


@dataclass(frozen=True)
class Decision:
    """What to do with one element, and the list and row that said so."""

    action: Action
    rule: str
    value: str | None = None


@dataclass(frozen=True)
class Person:
    """The patient's own values, from all headers of this patient in the run.

    Attributes
    ----------
    subject : str
        What pseudonyms are made of: the vault's random subject id, or issuer and patient ID.
    names, ids, texts : frozenset of str
        As they stand in the headers; `texts` holds addresses, institutions, physicians, phones.
    dates : frozenset of str
        As YYYYMMDD.
    """

    subject: str
    names: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    dates: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()


class Policy(Protocol):
    """Which action an element gets, and why."""

    @property
    def options(self) -> frozenset[Option]:
        """The options in force."""

    @property
    def name(self) -> str:
        """The preset, or the preset with what was added."""

    @property
    def digest(self) -> str:
        """SHA-256 of all rules in force, hexadecimal."""

    @property
    def edition(self) -> str:
        """The edition of PS3.15 that the rules are taken from."""

    def decide(self, tag: int, vr: str, creator: str | None, sop_class: str, nested: bool) -> Decision:
        """Return the action for one element.

        Parameters
        ----------
        tag : int
            Group and element; of a private element with its block.
        vr : str
            The VR that the element ought to have.
        creator : str or None
            Of a private element, stripped; None when it has none, or the element is public.
        sop_class : str
            UID of the instance's SOP class.
        nested : bool
            True inside a sequence.
        """

    def retains(self, tag: int) -> bool:
        """Say whether an option or a site's rule keeps this public element as it came, whatever it tells."""


class Pseudonyms(Protocol):
    """Values made of a project's key; the same input gives the same output within a project."""

    def uid(self, value: str) -> str:
        """Return the UID that stands for this one; registered UIDs stay."""

    def patient(self, subject: str) -> str:
        """Return the patient's pseudonym."""

    def study_id(self, value: str) -> str:
        """Return what stands for a Study ID."""

    def accession(self, value: str) -> str:
        """Return what stands for an accession number."""

    def device(self, value: str) -> str:
        """Return what stands for a device's serial number or name."""

    def other(self, value: str) -> str:
        """Return what stands for any other identifier."""

    def days(self, subject: str) -> int:
        """Return by how many days this patient's dates move: negative, whole days."""

    def digest(self, data: bytes) -> str:
        """Return the keyed digest of a file, for receipts; hexadecimal."""


class Cleaner(Protocol):
    """Text with the patient's own values and every unknown token taken out."""

    def text(self, value: str) -> str:
        """Return the descriptor cleaned: own values masked, UIDs mapped, dates moved."""

    def machine(self, value: str) -> str:
        """Return what a machine or its software is called, cleaned, where short designations stay."""

    def harmless(self, text: str) -> bool:
        """Say whether a string read from pixels may stay."""


@dataclass(frozen=True)
class Context:
    """All that rewriting depends on beside the source itself."""

    policy: Policy
    pseudonyms: Pseudonyms
    person: Person
    cleaner: Cleaner


@dataclass
class Rewritten:
    """A new data set in the making, without pixels, overlays and encapsulated documents at first.

    Attributes
    ----------
    dataset : Dataset
        Holds only what a rule let through.
    counts : Counter of Action
        Elements per action, at every depth.
    applied : set of str
        Codes of CID 7050 of what was really done.
    """

    dataset: Dataset
    counts: Counter[Action] = field(default_factory=Counter)
    applied: set[str] = field(default_factory=set)
