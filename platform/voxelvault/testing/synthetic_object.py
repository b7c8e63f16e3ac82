"""Objects of nobody, written as valid Part 10 files: the same bytes for the same arguments.

Every file carries the `PLANTED` values, so that a test can search outputs, logs and disks for them.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

PATIENT_NAME = "Plantedworth^Quillfeather"
PATIENT_ID = "PLANTED-ID-7731"
BIRTH_DATE = "19410203"
STUDY_DATE = "20190817"
ACCESSION = "PLANTEDACC99"
INSTITUTION = "Planted Hospital of Nowhere"
PHYSICIAN = "Plantedphys^Ostrander"
COMMENT = "planted comment: Quillfeather fell off a ladder"

PLANTED: tuple[str, ...] = (
    "Plantedworth",
    "Quillfeather",
    PATIENT_ID,
    BIRTH_DATE,
    STUDY_DATE,
    ACCESSION,
    INSTITUTION,
    "Plantedphys",
    COMMENT,
)
"""What identifies the patient who does not exist."""

IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
)

Pixels = npt.NDArray[Any]

_CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "OT": "1.2.840.10008.5.1.4.1.1.7",
}


def uid(*parts: object) -> str:
    """Return a UID that depends on nothing but `parts`.

    Parameters
    ----------
    *parts : object
        Whatever tells this UID from others.

    Returns
    -------
    str
        A UUID-derived UID under 2.25.

    References
    ----------
    DICOM PS3.5 B.2.
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def header(
    modality: str = "OT",
    *,
    sop_class: str | None = None,
    seed: int = 0,
    series: int = 1,
    instance: int = 1,
    transfer_syntax: str = EXPLICIT,
    attributes: Mapping[str, object] | None = None,
) -> Dataset:
    """Begin an object: patient, study, series and instance, no pixels.

    Parameters
    ----------
    modality : str
        Modality.
    sop_class : str, optional
        SOP Class UID; the modality's own by default.
    seed : int
        Another seed is another study of the same patient.
    series, instance : int
        SeriesNumber and InstanceNumber, which make the UIDs.
    transfer_syntax : str
        Transfer syntax UID.
    attributes : mapping, optional
        Keyword to value, set last; a value of None removes the attribute.

    Returns
    -------
    pydicom.Dataset
        To be finished and written with `to_bytes`.
    """
    made = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    made.file_meta.TransferSyntaxUID = UID(transfer_syntax)
    made.SOPClassUID = sop_class or _CLASSES.get(modality, _CLASSES["OT"])
    made.SOPInstanceUID = uid(seed, series, instance)
    made.StudyInstanceUID, made.SeriesInstanceUID = uid(seed), uid(seed, series)
    made.FrameOfReferenceUID = uid(seed, "frame of reference")
    made.Modality, made.SeriesNumber, made.InstanceNumber = modality, series, instance
    made.PatientName, made.PatientID, made.PatientBirthDate = PATIENT_NAME, PATIENT_ID, BIRTH_DATE
    made.PatientSex, made.StudyDate, made.StudyTime, made.AccessionNumber = (
        "O",
        STUDY_DATE,
        "101112",
        ACCESSION,
    )
    made.InstitutionName, made.ReferringPhysicianName, made.ImageComments = INSTITUTION, PHYSICIAN, COMMENT
    made.StudyID, made.StudyDescription, made.SeriesDescription = (
        "1",
        "synthetic study",
        f"synthetic {modality}",
    )
    for keyword, value in (attributes or {}).items():
        if value is None:
            made.pop(keyword, None)
        else:
            setattr(made, keyword, value)
    return made


def to_bytes(dataset: Dataset) -> bytes:
    """Write a Part 10 file.

    Parameters
    ----------
    dataset : pydicom.Dataset
        From `header`.

    Returns
    -------
    bytes
        The file.

    References
    ----------
    DICOM PS3.10 7.1.
    """
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    syntax, buffer = str(dataset.file_meta.TransferSyntaxUID), io.BytesIO()
    if _known(syntax):
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
        return buffer.getvalue()
    dataset.file_meta.TransferSyntaxUID = UID(_STAND_IN)  # pydicom writes no syntax that it does not know
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    return _with_syntax(buffer.getvalue(), _STAND_IN, syntax)


def _known(syntax: str) -> bool:
    try:
        return bool(UID(syntax).is_transfer_syntax)
    except ValueError:
        return False


_STAND_IN = "1.2.840.10008.1.2.4.90"


def _with_syntax(file: bytes, old: str, new: str) -> bytes:
    """Exchange the transfer syntax of a file and mend the group length."""
    before, after = (b"\x02\x00\x10\x00UI" + len(v).to_bytes(2, "little") + v for v in map(_even, (old, new)))
    length = int.from_bytes(file[140:144], "little") + len(after) - len(before)
    return file[:140] + length.to_bytes(4, "little") + file[144:].replace(before, after, 1)


def _even(value: str) -> bytes:
    return value.encode() + b"\0" * (len(value) % 2)


def put_pixels(
    dataset: Dataset, frames: Pixels, *, bits_stored: int | None = None, photometric: str | None = None
) -> Dataset:
    """Give an object native pixels.

    Parameters
    ----------
    dataset : pydicom.Dataset
        From `header`.
    frames : numpy.ndarray
        (row, column), (frame, row, column) or (frame, row, column, 3): 8- to 64-bit integers,
        floats (FloatPixelData, DoubleFloatPixelData), or bool (1 bit).
    bits_stored : int, optional
        All bits by default.
    photometric : str, optional
        MONOCHROME2 or RGB by default.

    Returns
    -------
    pydicom.Dataset
        `dataset`.
    """
    several = frames[None] if frames.ndim == 2 else frames
    bits = 1 if frames.dtype == bool else 8 * frames.dtype.itemsize
    dataset.SamplesPerPixel = several.shape[3] if several.ndim == 4 else 1
    dataset.PhotometricInterpretation = photometric or ("RGB" if several.ndim == 4 else "MONOCHROME2")
    dataset.Rows, dataset.Columns = several.shape[1:3]
    if len(several) > 1:
        dataset.NumberOfFrames = len(several)
    if several.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = bits
    name = {"f4": "FloatPixelData", "f8": "DoubleFloatPixelData"}.get(frames.dtype.str[1:], "PixelData")
    if name == "PixelData":
        dataset.BitsStored = bits_stored or bits
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(frames.dtype.kind == "i")
    value = _wire(several, dataset.file_meta.TransferSyntaxUID == BIG_ENDIAN)
    setattr(dataset, name, value + b"\0" * (len(value) % 2))
    if name == "PixelData":
        dataset["PixelData"].VR = "OB" if bits <= 8 else "OW"
    return dataset


def _wire(frames: Pixels, big_endian: bool) -> bytes:
    if frames.dtype == bool:
        return np.packbits(frames, bitorder="little").tobytes()
    return frames.astype(frames.dtype.newbyteorder(">" if big_endian else "<")).tobytes()


def image(
    frames: Pixels,
    modality: str = "OT",
    *,
    bits_stored: int | None = None,
    photometric: str | None = None,
    **begun: Any,
) -> bytes:
    """Return one file with native pixels.

    Parameters
    ----------
    frames, bits_stored, photometric
        As for `put_pixels`.
    modality : str
        Modality.
    **begun
        As for `header`.

    Returns
    -------
    bytes
        The file.
    """
    return to_bytes(
        put_pixels(header(modality, **begun), frames, bits_stored=bits_stored, photometric=photometric)
    )


def encapsulated(
    codestreams: Sequence[bytes],
    transfer_syntax: str,
    like: Pixels,
    *,
    offsets: bool = True,
    series: int = 10,
    **changes: Any,
) -> bytes:
    """Return a file with encapsulated pixels.

    Parameters
    ----------
    codestreams : sequence of bytes
        One for each frame.
    transfer_syntax : str
        Their transfer syntax UID.
    like : numpy.ndarray
        One frame, (row, column[, sample]), to describe the pixels by.
    offsets : bool
        Fill the basic offset table.
    series : int
        SeriesNumber.
    **changes
        Attributes set last.

    Returns
    -------
    bytes
        The file.

    References
    ----------
    DICOM PS3.5 A.4.
    """
    made = put_pixels(header("OT", series=series, transfer_syntax=transfer_syntax), like[None])
    if len(codestreams) > 1:
        made.NumberOfFrames = len(codestreams)
    made.PixelData = encapsulate(list(codestreams), has_bot=offsets)
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    for keyword, value in changes.items():
        setattr(made, keyword, value)
    return to_bytes(made)


__all__ = [
    "ACCESSION",
    "BIG_ENDIAN",
    "BIRTH_DATE",
    "COMMENT",
    "DEFLATED",
    "EXPLICIT",
    "IMPLICIT",
    "INSTITUTION",
    "PATIENT_ID",
    "PATIENT_NAME",
    "PHYSICIAN",
    "PLANTED",
    "STUDY_DATE",
    "Pixels",
    "encapsulated",
    "header",
    "image",
    "put_pixels",
    "to_bytes",
    "uid",
]
