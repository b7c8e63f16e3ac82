"""What a result is about: images of the source series as data sets, and whose they are.

Only attributes that a result needs are taken over; a header is a stranger's claim, and whatever it
says of patient and study goes into the result as it stands, in the same character set.
"""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.charset import convert_encodings, decode_bytes, encode_string
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from voxelvault.errors import UsageError
from voxelvault.series import Series
from voxelvault_triage.results.uids import derived_uid

if TYPE_CHECKING:
    from voxelvault.dicom.read import Header

PATIENT_AND_STUDY = (
    "PatientName PatientID IssuerOfPatientID IssuerOfPatientIDQualifiersSequence TypeOfPatientID"
    " PatientBirthDate PatientBirthTime PatientSex OtherPatientIDsSequence PatientSpeciesDescription"
    " PatientIdentityRemoved DeidentificationMethod DeidentificationMethodCodeSequence"
    " StudyInstanceUID StudyDate StudyTime StudyID StudyDescription AccessionNumber"
    " IssuerOfAccessionNumberSequence ReferringPhysicianName PatientAge PatientSize PatientWeight"
    " ClinicalTrialSponsorName ClinicalTrialProtocolID ClinicalTrialProtocolName ClinicalTrialSiteID"
    " ClinicalTrialSiteName ClinicalTrialSubjectID ClinicalTrialSubjectReadingID TimezoneOffsetFromUTC"
).split()
"""Attributes of patient and study that all objects of a study share (PS3.3 C.7.1, C.7.2)."""

_TYPE_2 = (
    "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime StudyID AccessionNumber"
    " ReferringPhysicianName"
).split()

_IMAGE = (
    "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID Modality InstanceNumber"
    " BurnedInAnnotation FrameOfReferenceUID PositionReferenceIndicator Rows Columns NumberOfFrames"
    " PixelSpacing SliceThickness SpacingBetweenSlices ImageOrientationPatient ImagePositionPatient"
    " SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence DimensionOrganizationSequence"
    " DimensionIndexSequence DimensionOrganizationType"
).split()


_DELIMITERS = set(map(ord, "\\^="))
"""Where a string's character set begins anew (PS3.5 6.1.2.5.3)."""


@contextmanager
def quietly() -> Iterator[None]:
    """Let pydicom pass on values that break the standard: they are the sender's, and stay as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def taken(header: Header, keywords: Sequence[str]) -> Dataset:
    """Return some of a header's attributes as a data set."""
    tags = [f"{tag_for_keyword(keyword):08X}" for keyword in keywords]
    model = json.loads(header.json())
    with quietly():
        return Dataset.from_json({tag: model[tag] for tag in tags if tag in model})


def image_of(header: Header) -> Dataset:
    """Return what names an image and says where it lies; patient and study empty, to be put in at the end."""
    image = taken(header, _IMAGE)
    for keyword in _TYPE_2:
        setattr(image, keyword, "")
    if "ImagePositionPatient" in image and not image.get("FrameOfReferenceUID"):
        # Slices of one series share a frame of reference, also where their sender gave it no name.
        image.FrameOfReferenceUID = derived_uid("frame of reference", str(image.SeriesInstanceUID))
    return image


def identity_of(header: Header) -> Dataset:
    """Return patient and study as a header has them, with a character set that holds them."""
    identity = taken(header, PATIENT_AND_STUDY)
    declared = [str(value or "") for value in header.values("SpecificCharacterSet")]
    texts = [text for element in identity for text in _texts(element)]
    fitting = declared if _holds(declared, texts) else ["ISO_IR 192"]
    if fitting:
        identity.SpecificCharacterSet = fitting if len(fitting) > 1 else fitting[0]
    return identity


def _texts(element: pydicom.DataElement) -> Iterator[str]:
    if element.VR == "SQ":
        for item in element.value:
            for child in item:
                yield from _texts(child)
    elif element.VR in ("PN", "LO", "SH", "LT", "ST", "UT", "UC"):
        values = element.value if element.VM > 1 else [element.value]
        for value in values:
            # Each group of a name begins with its own character set.
            yield from re.split("[=^]", str(value or ""))


def _holds(declared: Sequence[str], texts: Sequence[str]) -> bool:
    """Tell whether all texts come back from a character set as they went in."""
    try:
        with quietly():
            known = convert_encodings(list(declared) or None)
            return all(decode_bytes(encode_string(text, known), known, _DELIMITERS) == text for text in texts)
    except (LookupError, ValueError):
        return False


def put_identity(made: Dataset, identity: Dataset) -> None:
    """Give an object the source's patient and study, verbatim."""
    made.pop("SpecificCharacterSet", None)
    for element in identity:
        made[element.tag] = element
    _put_times(made, datetime.now(_zone(identity)))


def _zone(identity: Dataset) -> tzinfo:
    """Return the zone that an object's dates and times are in: the source's, or this machine's.

    The attribute (0008,0201) stands for all dates of an object, also for those of the study: where the
    source says nothing, nothing is said, since this machine's zone may be another.
    """
    told = re.fullmatch(r"([+-])(\d\d)([0-5]\d)", str(identity.get("TimezoneOffsetFromUTC") or "").strip())
    if told is None:
        return datetime.now().astimezone().tzinfo or UTC
    ahead = timedelta(hours=int(told[2]), minutes=int(told[3]))
    return timezone(ahead if told[1] == "+" else -ahead)


def _put_times(made: Dataset, at: datetime) -> None:
    """Say when an object was made; where a zone fits in, with it (PS3.3 C.12.1.1.1, C.12.1.5)."""
    for name in ("InstanceCreation{}", "Content{}", "{}OfSecondaryCapture"):
        if name.format("Date") in made:
            setattr(made, name.format("Date"), at.strftime("%Y%m%d"))
            setattr(made, name.format("Time"), at.strftime("%H%M%S.%f"))
    for one in made.get("ContributingEquipmentSequence", ()):
        one.ContributionDateTime = at.strftime("%Y%m%d%H%M%S.%f%z")


def file_of(made: Dataset) -> bytes:
    """Return an object as a Part 10 file."""
    buffer = io.BytesIO()
    with quietly():
        pydicom.dcmwrite(buffer, made, enforce_file_format=True)
    return buffer.getvalue()


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """The images that a result is about.

    Parameters
    ----------
    identity : Dataset
        Patient and study.
    images : tuple of Dataset
        Instances, in the order in which slices first use them.
    places : tuple of (int, int)
        For each slice of the stack: which image, and which of its frames, from 1.
    """

    identity: Dataset
    images: tuple[Dataset, ...]
    places: tuple[tuple[int, int], ...] = ()

    @property
    def modality(self) -> str:
        """Modality of the source series."""
        return str(self.images[0].get("Modality") or "")


def source_of(series: Series, stack: int) -> Source:
    """Return the images of one stack of a series.

    Raises
    ------
    NoPixels, UsageError
        There is no such stack.
    """
    members = series.members(stack)
    by_id = dict(zip((instance_id for instance_id, _ in members), series.headers(stack), strict=True))
    order = {instance_id: number for number, instance_id in enumerate(by_id)}
    headers = list(by_id.values())
    places = tuple((order[instance_id], number) for instance_id, number in members)
    images = tuple(map(image_of, headers))
    step = _step(series.geometry(stack).positions)
    for image in images:
        if step and "ImagePositionPatient" in image and not image.get("SliceThickness"):
            image.SliceThickness = step
    return Source(identity_of(headers[0]), images, places)


def _step(positions: npt.NDArray[np.float64]) -> float:
    """Return the usual distance between slices in mm; 0 where there is none to tell."""
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    return round(float(np.median(steps)), 6) if len(steps) and np.isfinite(steps).all() else 0.0


def named_only(series: Series) -> Source:
    """Return one image of a series, for a result that says why nothing was analysed.

    Raises
    ------
    UsageError
        The series is empty.
    """
    if not len(series):
        raise UsageError("the series has no instance that a result could name; ingest it again")
    header = series.header(0)
    return Source(identity_of(header), (image_of(header),))


__all__ = [
    "Source",
    "file_of",
    "identity_of",
    "image_of",
    "named_only",
    "put_identity",
    "quietly",
    "source_of",
    "taken",
]
