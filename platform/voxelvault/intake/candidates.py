"""One file on its way in: read, parsed and told apart, or why it can't come in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

from voxelvault.dicom.elements import TooLarge
from voxelvault.dicom.json_model import Repeated
from voxelvault.dicom.part10 import Part10, parse
from voxelvault.dicom.read import Header
from voxelvault.dicom.sources import MEDIA_DIRECTORY, Source
from voxelvault.errors import DicomError, NotDicom, StorageError
from voxelvault.intake.identity import Person, person_of, valid_uids
from voxelvault.intake.quarantine import Reason, Refused
from voxelvault.model import Buffer

DICOM_NAMES = (".dcm", ".dicom", ".ima")
"""Endings by which a file claims to be DICOM: then it is kept aside rather than passed over."""

_MEDIA_SOP_CLASS = 0x00020002


class Arrival(Protocol):
    """A file on its way in: what tells it apart, wherever its bytes are."""

    @property
    def source(self) -> Source:
        """Where it comes from."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def cells(self) -> int:
        """What its header takes in memory here, in cells of about 512 bytes."""

    @property
    def sha256(self) -> str:
        """Of its bytes, hexadecimal."""

    @property
    def person(self) -> Person:
        """Whom its header names."""

    @property
    def sop_uid(self) -> str:
        """SOP Instance UID."""

    @property
    def group(self) -> tuple[Person, str, str]:
        """What must be equal for two files to share a pack: finer than the subject, on purpose."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One parsed file on its way in; `part10` without its elements, which `header` has."""

    source: Source
    data: Buffer
    sha256: str
    part10: Part10
    header: Header
    person: Person
    study_uid: str
    series_uid: str
    sop_uid: str

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    @property
    def cells(self) -> int:
        """What its header takes in memory, in cells of about 512 bytes."""
        return self.header.cells

    @property
    def group(self) -> tuple[Person, str, str]:
        """Person, study and series."""
        return self.person, self.study_uid, self.series_uid


def examine(source: Source, issuer: str, repeated: Repeated | None = None) -> Candidate | Refused | None:
    """Read and parse one file: a candidate, None when it isn't DICOM, or why it can't come in.

    Headers that were read with the same `repeated` share what they have in common.
    """
    data: Buffer | None = None
    try:
        with source.open() as data:
            part10 = parse(data)
            if part10.value(_MEDIA_SOP_CLASS).strip(b"\0 ") == MEDIA_DIRECTORY.encode():
                return Refused(source, Reason.MEDIA_DIRECTORY, data)
            header = Header.from_part10(part10, repeated)
            if not valid_uids(header):
                return Refused(source, Reason.INVALID_UID, data)
            return _candidate(source, data, part10, header, issuer)
    except NotDicom:
        named = source.display.lower().endswith(DICOM_NAMES)
        return Refused(source, Reason.UNRECOGNISED, data) if named else None
    except TooLarge:
        return Refused(source, Reason.HEADER_TOO_LARGE, data)
    except DicomError:
        return Refused(source, Reason.MALFORMED if data is not None else Reason.UNREADABLE, data)
    except (OSError, StorageError):
        return Refused(source, Reason.UNREADABLE, None)
    except Exception:
        # A stranger's bytes found a fault of ours: that file is kept aside, and the batch goes on.
        return Refused(source, Reason.UNFORESEEN if data is not None else Reason.UNREADABLE, data)


def _candidate(source: Source, data: Buffer, part10: Part10, header: Header, issuer: str) -> Candidate:
    digest = hashlib.sha256(data).hexdigest()
    return Candidate(
        source,
        data,
        digest,
        part10.without_elements(),
        header,
        person_of(header, issuer, digest),
        str(header.get("StudyInstanceUID") or ""),
        str(header.get("SeriesInstanceUID") or ""),
        str(header.get("SOPInstanceUID") or ""),
    )


def has_changed(candidate: Candidate) -> bool:
    """Tell whether a file was written to while it was taken in.

    A file held in memory can't; one that is mapped shows what its sender writes.
    """
    if isinstance(candidate.data, bytes):
        return False
    return hashlib.sha256(candidate.data).hexdigest() != candidate.sha256
