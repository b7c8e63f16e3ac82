"""A DICOMDIR for released files, made from them alone: which patient, study and series each is of.

What a record must have and a file lacks is given a value that says nothing, as a released file lacks
its study's date by the Basic Profile.

References
----------
DICOM PS3.3 F.3 (directory information), F.5 (directory records), PS3.10 8 (file IDs and DICOMDIR).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from struct import pack, pack_into

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.fileset import DIRECTORY_RECORDERS
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag
from pydicom.uid import UID

from voxelvault.dicom.sources import MEDIA_DIRECTORY
from voxelvault.dicom.write import IMPLEMENTATION, IMPLEMENTATION_NAME, element

NAME = "DICOMDIR"

_EXPLICIT = b"1.2.840.10008.1.2.1"
_ITEM = pack("<HH", 0xFFFE, 0xE000)
_NEXT, _LOWER = 16, 38
"""Where a record's two offsets stand in its item, in bytes."""

_DAY, _TIME, _LABEL = "19000101", "000000", "UNNAMED"
_UNSAID = {
    **dict.fromkeys(["StudyDate", "ContentDate", "PresentationCreationDate", "InstanceCreationDate"], _DAY),
    **dict.fromkeys(["StudyTime", "ContentTime", "PresentationCreationTime"], _TIME),
    **dict.fromkeys(["ContentLabel", "StructureSetLabel", "RTPlanLabel"], _LABEL),
    **dict.fromkeys(["SeriesNumber", "InstanceNumber"], "0"),
    "PatientID": "UNKNOWN",
    "StudyID": "0",
    "Modality": "OT",
    "CompletionFlag": "PARTIAL",
    "VerificationFlag": "UNVERIFIED",
    "DoseSummationType": "PLAN",
}
"""For what a record must have (type 1)."""

_BY_KEYWORD = (
    ("Waveform", "WAVEFORM"),
    ("PresentationState", "PRESENTATION"),
    ("BasicStructuredDisplay", "PRESENTATION"),
    ("KeyObjectSelection", "KEY OBJECT DOC"),
    ("SRStorage", "SR DOCUMENT"),
    ("ProcedureLog", "SR DOCUMENT"),
    ("SpectaclePrescriptionReport", "SR DOCUMENT"),
    ("MacularGrid", "SR DOCUMENT"),
    ("Encapsulated", "ENCAP DOC"),
    ("TreatmentRecord", "RT TREAT RECORD"),
    ("TreatmentSummaryRecord", "RT TREAT RECORD"),
    ("RTDose", "RT DOSE"),
    ("RTStructureSet", "RT STRUCTURE SET"),
    ("RTPlan", "RT PLAN"),
    ("RTIonPlan", "RT PLAN"),
    ("MRSpectroscopy", "SPECTROSCOPY"),
    ("RawData", "RAW DATA"),
    ("SpatialRegistration", "REGISTRATION"),
    ("SpatialFiducials", "FIDUCIAL"),
    ("RealWorldValueMapping", "VALUE MAP"),
    ("StereometricRelationship", "STEREOMETRIC"),
    ("SurfaceSegmentation", "SURFACE"),
    ("SurfaceScan", "SURFACE SCAN"),
    ("Tractography", "TRACT"),
    ("ContentAssessment", "ASSESSMENT"),
    ("Measurements", "MEASUREMENT"),
)
"""Record types by a part of the SOP class's keyword, the first that fits; any other is an IMAGE."""


@dataclass(slots=True)
class _Record:
    """One record, encoded but for its offsets, and those below it."""

    data: bytearray
    below: dict[str, _Record] = field(default_factory=dict)
    at: int = 0

    def walk(self) -> Iterator[_Record]:
        yield self
        for record in self.below.values():
            yield from record.walk()


def media_directory(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a DICOMDIR.

    Parameters
    ----------
    files : iterable of (str, bytes)
        Path, with slashes, and content; the same files in the same order make the same directory.

    Returns
    -------
    bytes
        The file.
    """
    patients: dict[str, _Record] = {}
    every = hashlib.sha256()
    for path, data in files:
        source = dcmread(io.BytesIO(data), stop_before_pixels=True, force=True)
        every.update(f"{path}\0{source.SOPInstanceUID}\0".encode())
        _enter(patients, path, source)
    meta = _meta(f"2.25.{int.from_bytes(every.digest()[:16], 'big')}")
    head = len(meta) + len(_group(0, 0)) + 12  # the sequence's own header
    records = _placed(patients, head)
    body = b"".join(bytes(record.data) for record in records)
    roots = list(patients.values())
    ends = (roots[0].at, roots[-1].at) if roots else (0, 0)
    return meta + _group(*ends) + pack("<HH2sHI", 0x0004, 0x1220, b"SQ", 0, len(body)) + body


def _enter(patients: dict[str, _Record], path: str, source: Dataset) -> None:
    filled = _filled(source)
    level = patients
    for kind, keyword in (
        ("PATIENT", "PatientID"),
        ("STUDY", "StudyInstanceUID"),
        ("SERIES", "SeriesInstanceUID"),
    ):
        key = str(filled[keyword].value)
        if key not in level:
            level[key] = _Record(_encoded(kind, _described(kind, filled)))
        level = level[key].below
    kind = record_type(str(source.SOPClassUID))
    record = _described(kind, filled)
    record.ReferencedFileID = path.split("/")
    record.ReferencedSOPClassUIDInFile = source.SOPClassUID
    record.ReferencedSOPInstanceUIDInFile = source.SOPInstanceUID
    record.ReferencedTransferSyntaxUIDInFile = source.file_meta.TransferSyntaxUID
    level[path] = _Record(_encoded(kind, record))


def record_type(sop_class: str) -> str:
    """Return the type of the record of an instance (PS3.3 F.4)."""
    keyword = UID(sop_class).keyword
    return next((kind for part, kind in _BY_KEYWORD if part in keyword), "IMAGE")


def _filled(source: Dataset) -> Dataset:
    """Return the data set with what records must have."""
    filled = Dataset()
    filled.update(source)
    for keyword, value in _UNSAID.items():
        if keyword not in filled or filled[keyword].is_empty:
            setattr(filled, keyword, value)
    return filled


def _described(kind: str, filled: Dataset) -> Dataset:
    try:
        record = DIRECTORY_RECORDERS[kind](filled)
    except ValueError:  # a file that lacks what its class must have: the record lacks it too
        record = Dataset()
        record.InstanceNumber = filled.InstanceNumber
    if "ContentSequence" in record:
        kept = [item for item in record.ContentSequence if item.get("RelationshipType") == "HAS CONCEPT MOD"]
        record.ContentSequence = kept
        if not kept:
            del record.ContentSequence
    if "SpecificCharacterSet" in filled:
        record.SpecificCharacterSet = filled.SpecificCharacterSet
    return record


def _encoded(kind: str, record: Dataset) -> bytearray:
    """Return an item, its offsets 0."""
    record.OffsetOfTheNextDirectoryRecord = 0
    record.RecordInUseFlag = 0xFFFF
    record.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    record.DirectoryRecordType = kind
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    ordered = Dataset()
    for tag in sorted(record.keys()):
        ordered[Tag(tag)] = record[tag]
    write_dataset(out, ordered)
    data = out.getvalue()
    return bytearray(_ITEM + pack("<I", len(data)) + data)


def _placed(patients: dict[str, _Record], head: int) -> list[_Record]:
    """Give every record its place and its offsets; return them in their order."""
    records = [record for patient in patients.values() for record in patient.walk()]
    at = head
    for record in records:
        record.at, at = at, at + len(record.data)
    _chained(list(patients.values()))
    for record in records:
        below = list(record.below.values())
        pack_into("<I", record.data, _LOWER, below[0].at if below else 0)
        _chained(below)
    return records


def _chained(siblings: list[_Record]) -> None:
    for record, following in pairwise(siblings):
        pack_into("<I", record.data, _NEXT, following.at)


def _group(first: int, last: int) -> bytes:
    return (
        element(0x00041130, "CS", b"")
        + element(0x00041200, "UL", pack("<I", first))
        + element(0x00041202, "UL", pack("<I", last))
        + element(0x00041212, "US", pack("<H", 0))
    )


def _meta(uid: str) -> bytes:
    elements = (
        element(0x00020001, "OB", b"\0\1")
        + element(0x00020002, "UI", MEDIA_DIRECTORY.encode())
        + element(0x00020003, "UI", uid.encode())
        + element(0x00020010, "UI", _EXPLICIT)
        + element(0x00020012, "UI", IMPLEMENTATION)
        + element(0x00020013, "SH", IMPLEMENTATION_NAME)
    )
    return bytes(128) + b"DICM" + element(0x00020000, "UL", pack("<I", len(elements))) + elements


__all__ = ["NAME", "media_directory", "record_type"]
