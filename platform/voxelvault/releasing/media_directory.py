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
from collections.abc import Iterator
from struct import pack, pack_into

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.fileset import DIRECTORY_RECORDERS
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from voxelvault.deid.scratch import temporary
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


_SCHEMA = """
create table records (
    patient text, study text default '', series text default '', file text default '', data blob,
    primary key (patient, study, series, file)
) without rowid
"""
_LEVELS = (("PATIENT", "PatientID"), ("STUDY", "StudyInstanceUID"), ("SERIES", "SeriesInstanceUID"))
_COLUMNS = ("patient", "study", "series", "file")
_THERE = "select 1 from records where patient = ? and study = ? and series = ? and file = ?"


class MediaDirectory:
    """A DICOMDIR in the making; its records lie on the disk."""

    def __init__(self) -> None:
        self._rows = temporary(_SCHEMA)
        self._every = hashlib.sha256()

    def add(self, path: str, data: bytes) -> None:
        """Enter a file.

        Parameters
        ----------
        path : str
            With slashes; the same files in the same order make the same directory.
        data : bytes
            Its content.
        """
        source = dcmread(io.BytesIO(data), stop_before_pixels=True, force=True)
        self._every.update(f"{path}\0{source.SOPInstanceUID}\0".encode())
        _fill(source)
        place: tuple[str, ...] = ()
        for kind, keyword in _LEVELS:
            # No key is empty: an empty one stands for the level above.
            place += (f"={source[keyword].value}",)
            if self._rows.execute(_THERE, _padded(place)).fetchone() is None:
                self._put(place, _encoded(kind, _described(kind, source)))
        kind = record_type(str(source.SOPClassUID))
        record = _described(kind, source)
        record.ReferencedFileID = path.split("/")
        record.ReferencedSOPClassUIDInFile = source.SOPClassUID
        record.ReferencedSOPInstanceUIDInFile = source.SOPInstanceUID
        record.ReferencedTransferSyntaxUIDInFile = source.file_meta.TransferSyntaxUID
        self._put((*place, f"={path}"), _encoded(kind, record))

    def parts(self) -> Iterator[bytes]:
        """Yield the file, piece by piece."""
        meta = _meta(f"2.25.{int.from_bytes(self._every.digest()[:16], 'big')}")
        head = len(meta) + len(_group(0, 0)) + 12  # the sequence's own header
        whole, last = self._size(()), self._size(self._last())
        ends = (head, head + whole - last) if whole else (0, 0)
        yield meta + _group(*ends) + pack("<HH2sHI", 0x0004, 0x1220, b"SQ", 0, whole)
        at, stops = head, [head + whole]
        for *place, data in self._rows.execute("select * from records order by 1, 2, 3, 4"):
            named = tuple(part for part in place if part)
            stop = at + self._size(named)
            record, below = bytearray(data), at + len(data)
            del stops[len(named) :]
            pack_into("<I", record, _NEXT, stop if stop < stops[-1] else 0)
            pack_into("<I", record, _LOWER, below if below < stop else 0)
            stops.append(stop)
            yield bytes(record)
            at = below

    def _put(self, place: tuple[str, ...], data: bytes) -> None:
        self._rows.execute("insert into records values (?, ?, ?, ?, ?)", (*_padded(place), data))

    def _size(self, place: tuple[str, ...]) -> int:
        """Return the length of a record and of all below it, in bytes."""
        query = f"select coalesce(sum(length(data)), 0) from records {_where(place)}"  # noqa: S608
        return int(self._rows.execute(query, place).fetchone()[0])

    def _last(self) -> tuple[str, ...]:
        """Return the place of the last patient; none where there is no file."""
        return self._rows.execute("select patient from records order by 1 desc limit 1").fetchone() or ()


def _padded(place: tuple[str, ...]) -> tuple[str, ...]:
    return (*place, *[""] * (len(_COLUMNS) - len(place)))


def _where(place: tuple[str, ...]) -> str:
    wanted = " and ".join(f"{column} = ?" for column, _ in zip(_COLUMNS, place, strict=False))
    return f"where {wanted}" if wanted else ""


def record_type(sop_class: str) -> str:
    """Return the type of the record of an instance (PS3.3 F.4)."""
    keyword = UID(sop_class).keyword
    return next((kind for part, kind in _BY_KEYWORD if part in keyword), "IMAGE")


def _fill(source: Dataset) -> None:
    """Put into the data set what records must have."""
    for keyword, value in _UNSAID.items():
        if keyword not in source or source[keyword].is_empty:
            setattr(source, keyword, value)


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


def _encoded(kind: str, record: Dataset) -> bytes:
    """Return an item, its offsets 0."""
    record.OffsetOfTheNextDirectoryRecord = 0
    record.RecordInUseFlag = 0xFFFF
    record.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    record.DirectoryRecordType = kind
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    write_dataset(out, record)
    data = out.getvalue()
    return _ITEM + pack("<I", len(data)) + data


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


__all__ = ["NAME", "MediaDirectory", "record_type"]
