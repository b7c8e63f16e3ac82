"""Stand-ins for the other rooms of de-identification, and plants that are independent of the rules."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from voxelvault.deid.apply import rewrite
from voxelvault.deid.model import Context, Option, Person, Policy, Rewritten
from voxelvault.deid.profile import profile

CT = "1.2.840.10008.5.1.4.1.1.2"


class Masks:
    """A cleaner that lets through what it was told, and masks everything else."""

    def __init__(self, *known: str) -> None:
        self.known = frozenset(known)

    def text(self, value: str) -> str:
        return " ".join(word if word in self.known else "XXX" for word in value.split())

    def machine(self, value: str) -> str:
        return self.text(value)

    def harmless(self, text: str) -> bool:
        return text in self.known


class Hashes:
    """Pseudonyms by a plain hash: enough to see that two are the same."""

    def uid(self, value: str) -> str:
        if value.startswith("1.2.840.10008.") or not value:
            return value
        return "2.25." + str(int(hashlib.sha256(value.encode()).hexdigest()[:30], 16))

    def patient(self, subject: str) -> str:
        return "P" + self._short(subject)

    def study_id(self, value: str) -> str:
        return "S" + self._short(value)

    def accession(self, value: str) -> str:
        return "A" + self._short(value)

    def device(self, value: str) -> str:
        return "D" + self._short(value)

    def other(self, value: str) -> str:
        return "X" + self._short(value)

    def days(self, subject: str) -> int:
        return -100

    def digest(self, data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    def _short(self, value: str) -> str:
        return hashlib.sha256(value.encode()).hexdigest()[:12].upper()


def context(
    policy: Policy | None = None,
    *,
    options: Iterable[Option] = (),
    preset: str = "research",
    person: Person | None = None,
    known: Iterable[str] = (),
) -> Context:
    """Give a context of stand-ins."""
    return Context(policy or profile(preset, options), Hashes(), person or Person("subject"), Masks(*known))


def image(sop_class: str = CT) -> Dataset:
    """Give an empty object of a class."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = "1.2.3.4.5"
    return dataset


def reread(dataset: Dataset) -> Dataset:
    """Give the data set as it is read from a file: elements not converted yet."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return pydicom.dcmread(buffer)


def rewritten(dataset: Dataset, **how: object) -> Rewritten:
    """Rewrite with stand-ins."""
    return rewrite(dataset, context(**how))  # type: ignore[arg-type]
