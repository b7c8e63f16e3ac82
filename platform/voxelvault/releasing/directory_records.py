"""What the record of a DICOMDIR says of a released file, by the record's type.

References
----------
DICOM PS3.3 F.4 (record types by SOP class), F.5 (their keys).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from pydicom.uid import UID

from voxelvault.dicom.part10 import Element, Part10
from voxelvault.dicom.vr import public_vr, tags_by_keyword
from voxelvault.dicom.write import Encoder, element, sequence

UNKNOWN = "UNKNOWN"
"""PatientID of whom the files name none."""

_DAY, _TIME, _LABEL = "19000101", "000000", "UNNAMED"
_UNSAID = {
    **dict.fromkeys(["StudyDate", "ContentDate", "PresentationCreationDate", "InstanceCreationDate"], _DAY),
    **dict.fromkeys(["StudyTime", "ContentTime", "PresentationCreationTime"], _TIME),
    **dict.fromkeys(["ContentLabel", "StructureSetLabel", "RTPlanLabel"], _LABEL),
    **dict.fromkeys(["SeriesNumber", "InstanceNumber"], "0"),
    "PatientID": UNKNOWN,
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

_TITLED = "InstanceNumber ContentDate ContentTime ContentLabel ContentDescription? ContentCreatorName?"
_REPORT = "InstanceNumber ContentDate ContentTime ConceptNameCodeSequence ContentSequence~"
_KEYS = {
    "PATIENT": "PatientName? PatientID",
    "STUDY": "StudyDate StudyTime StudyDescription? StudyInstanceUID StudyID AccessionNumber?",
    "SERIES": "Modality SeriesInstanceUID SeriesNumber",
    "IMAGE": "InstanceNumber",
    "RT DOSE": "InstanceNumber DoseSummationType",
    "RT STRUCTURE SET": "InstanceNumber StructureSetLabel StructureSetDate? StructureSetTime?",
    "RT PLAN": "InstanceNumber RTPlanLabel RTPlanDate? RTPlanTime?",
    "RT TREAT RECORD": "InstanceNumber TreatmentDate? TreatmentTime?",
    "PRESENTATION": "PresentationCreationDate PresentationCreationTime InstanceNumber ContentLabel"
    " ContentDescription? ContentCreatorName? ReferencedSeriesSequence~ BlendingSequence~",
    "SR DOCUMENT": f"CompletionFlag VerificationFlag VerificationDateTime~ {_REPORT}",
    "KEY OBJECT DOC": _REPORT,
    "SPECTROSCOPY": "ImageType ContentDate ContentTime InstanceNumber ReferencedImageEvidenceSequence~"
    " NumberOfFrames Rows Columns DataPointRows DataPointColumns",
    "ENCAP DOC": "ContentDate? ContentTime? InstanceNumber DocumentTitle? HL7InstanceIdentifier~"
    " ConceptNameCodeSequence? MIMETypeOfEncapsulatedDocument",
    "STEREOMETRIC": "",
    "SURFACE SCAN": "ContentDate ContentTime",
    "ASSESSMENT": "InstanceNumber InstanceCreationDate InstanceCreationTime?",
    **dict.fromkeys(["WAVEFORM", "RAW DATA"], "InstanceNumber ContentDate ContentTime"),
    **dict.fromkeys(["REGISTRATION", "FIDUCIAL", "VALUE MAP", "MEASUREMENT", "SURFACE", "TRACT"], _TITLED),
}
"""Keys by record type: `?` may be empty (type 2), `~` is there where the file has it (type 1C)."""

_CHARACTER_SET, _CONTENT, _RELATION = 0x00080005, 0x0040A730, 0x0040A010
_PAD = b"\0 "


@dataclass(frozen=True, slots=True)
class _Key:
    """One element of a record: what stands there, encoded, where the file has no value; or nothing."""

    tag: int
    missing: bytes


def record(kind: str, file: Part10, more: Mapping[int, bytes] | None = None) -> bytes:
    """Return the elements of a record, without those that all have.

    Parameters
    ----------
    kind : str
        Type of the record.
    file : Part10
        The released file.
    more : mapping of int to bytes, optional
        Further elements, encoded.
    """
    encoder = Encoder(file.data, big_endian=file.big_endian)
    made = dict(more or {})
    if _CHARACTER_SET in file.dataset:
        made[_CHARACTER_SET] = encoder.one(file.dataset[_CHARACTER_SET])
    for key in _keys(kind):
        found = file.dataset.get(key.tag)
        if found is not None and not _is_empty(file, found):
            made[key.tag] = _content(encoder, file, found) if key.tag == _CONTENT else encoder.one(found)
        elif key.missing:
            made[key.tag] = key.missing
    return b"".join(made[tag] for tag in sorted(made))


@lru_cache(maxsize=512)
def record_type(sop_class: str) -> str:
    """Return the type of the record of an instance (PS3.3 F.4)."""
    keyword = UID(sop_class).keyword
    return next((kind for part, kind in _BY_KEYWORD if part in keyword), "IMAGE")


def plain(file: Part10, tag: int) -> bytes:
    """Return a value without its padding."""
    return file.value(tag).strip(_PAD)


@cache
def _keys(kind: str) -> tuple[_Key, ...]:
    return tuple(_made(word.rstrip("?~"), word[-1]) for word in _KEYS[kind].split())


def _made(keyword: str, mark: str) -> _Key:
    tag = tags_by_keyword()[keyword]
    told = "" if mark == "?" else _UNSAID.get(keyword)
    vr = public_vr(tag)
    return _Key(tag, b"" if told is None or mark == "~" else element(tag, vr, told.encode()))


def _is_empty(file: Part10, found: Element) -> bool:
    if found.items is not None:
        return not found.items
    return not bytes(file.data[found.start : found.stop]).strip(_PAD)


def _content(encoder: Encoder, file: Part10, found: Element) -> bytes:
    """Return of a report's content what modifies its title; nothing where nothing does."""
    items = [item for item in found.items or () if _relation(file, item) == b"HAS CONCEPT MOD"]
    return sequence(_CONTENT, map(encoder.item, items)) if items else b""


def _relation(file: Part10, item: Mapping[int, Element]) -> bytes:
    found = item.get(_RELATION)
    return b"" if found is None else bytes(file.data[found.start : found.stop]).strip(_PAD)


__all__ = ["UNKNOWN", "plain", "record", "record_type"]
