"""One file de-identified: every part in its order, and the written bytes searched before they leave.

References
----------
DICOM PS3.15 E.1.1 (de-identifier).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from voxelvault.deid import conformance
from voxelvault.deid.apply import rewrite
from voxelvault.deid.classes import DOCUMENTS, Content, content_of
from voxelvault.deid.documents import put_document
from voxelvault.deid.faces.finding import Faces
from voxelvault.deid.leak_check import Searcher
from voxelvault.deid.model import Context, Option, Policy, Refused, Rewritten
from voxelvault.deid.normal import stored
from voxelvault.deid.pixels import PixelCleaner, PixelReport
from voxelvault.deid.source import Source
from voxelvault.deid.waveforms import put_samples
from voxelvault.deid.writing import file_bytes
from voxelvault.dicom.read import frame_spec, number_of_frames
from voxelvault.errors import DicomError, VoxelVaultError

_SOP_CLASS, _INSTANCE, _PATIENT_ID = 0x00080016, 0x00080018, 0x00100020
_STUDY, _SERIES = 0x0020000D, 0x0020000E
_CONTOUR, _POINTS = 0x30060050, 0x00660016
_SURFACE_SCANS = "1.2.840.10008.5.1.4.1.1.68."


@dataclass(frozen=True, slots=True)
class Result:
    """One file as it is released.

    Parameters
    ----------
    data : bytes
        The file.
    study_uid, series_uid, sop_uid : str
        Its new UIDs.
    actions : mapping of str to int
        Elements per action.
    verdicts : mapping of str to str
        What the checks found: `pixels`, `faces`, `leaks`.
    pixels : PixelReport or None
        What was blanked.
    patient_id : str
        As it came; for the ledger alone.
    new_patient_id : str
        As it is released: by a site's rule it may be no pseudonym of the patient's, a constant, or empty.
    """

    data: bytes = field(repr=False)
    study_uid: str
    series_uid: str
    sop_uid: str
    actions: Mapping[str, int]
    verdicts: Mapping[str, str]
    pixels: PixelReport | None = field(default=None, repr=False)
    patient_id: str = field(default="", repr=False)
    new_patient_id: str = field(default="", repr=False)


def deidentify(
    source: Source, context: Context, searcher: Searcher, pixels: PixelCleaner, faces: Faces
) -> Result:
    """De-identify one file.

    Parameters
    ----------
    source : Source
        The file as it came; its data set is used up.
    context : Context
        Policy, pseudonyms, person and cleaner.
    searcher : Searcher
        The second reader, with the patient's values.
    pixels : PixelCleaner
        Looks for text in pictures.
    faces : Faces
        Of the file's study.

    Returns
    -------
    Result
        The new file, searched.

    Raises
    ------
    Refused
        It can't be released, and why; a leak that was found among them.
    """
    try:
        return _deidentified(source, context, searcher, pixels, faces)
    except Refused:
        raise
    except DicomError:
        raise Refused("data_set_malformed") from None
    except (VoxelVaultError, MemoryError):
        raise
    except Exception:  # of pydicom, which raises what it likes, and quotes values in it
        raise Refused("data_set_malformed") from None


def _deidentified(
    source: Source, context: Context, searcher: Searcher, pixels: PixelCleaner, faces: Faces
) -> Result:
    content = content_of(source.text(_SOP_CLASS))
    rewritten = rewrite(source.dataset, context)
    verdicts = {"faces": "none" if faces.searched else "not_searched"}
    report = None
    if content is Content.IMAGE:
        report = _put_pixels(source, rewritten, context, pixels, faces, verdicts)
    elif content is Content.WAVEFORM:
        put_samples(source.dataset, rewritten.dataset)
    elif content in DOCUMENTS:
        vertices = put_document(
            content, source.dataset, rewritten, context.policy.options, pixels.clean_page(context)
        )
        if faces.touch(vertices):
            raise Refused("face_unmapped")
    elif faces.searched:
        _require_no_face(source.dataset, faces)
    conformance.mark(rewritten, rewritten.applied)
    made = file_bytes(rewritten)
    _search(made, searcher, context.policy)
    verdicts["leaks"] = "none"
    actions = {str(action): count for action, count in rewritten.counts.items()}
    patient_id = source.text(_PATIENT_ID)
    new_id = _text(rewritten.dataset, _PATIENT_ID)
    return Result(made, *_uids(rewritten.dataset), actions, verdicts, report, patient_id, new_id)


def _put_pixels(
    source: Source,
    rewritten: Rewritten,
    context: Context,
    pixels: PixelCleaner,
    faces: Faces,
    verdicts: dict[str, str],
) -> PixelReport | None:
    if source.part10.pixels is None:
        return None
    header = source.header
    try:
        spec, count = frame_spec(header), number_of_frames(header)
    except DicomError:
        raise Refused("pixels_undecodable") from None
    face = faces.on(header, (count, spec.rows, spec.columns))
    report = pixels.put(source.part10, header, rewritten, context, face)
    verdicts["pixels"] = report.verdict
    if face is not None:
        verdicts["faces"] = "removed"
        rewritten.applied.add(Option.CLEAN_FACES.code)
    return report


def _require_no_face(source: Dataset, faces: Faces) -> None:
    """Refuse contours and surfaces that trace a face, and scans of a body's surface, which may be one."""
    if str(source.get("SOPClassUID")).startswith(_SURFACE_SCANS):
        raise Refused("face_unmapped")
    if faces.masks and any(map(faces.touch, _points(source))):
        raise Refused("face_unmapped")


def _points(source: Dataset) -> Iterator[npt.NDArray[np.float64]]:
    """Yield the points (n, 3), mm, of contours and surfaces at any depth."""
    _, little = source.original_encoding
    for element in source.iterall():
        if element.tag not in (_CONTOUR, _POINTS) or not element.value:
            continue
        value = element.value
        numbers = np.frombuffer(value, "<f4" if little else ">f4") if isinstance(value, bytes) else value
        points = np.asarray(numbers, dtype=np.float64)
        yield points[: points.size // 3 * 3].reshape(-1, 3)


def _search(made: bytes, searcher: Searcher, policy: Policy) -> None:
    """Refuse what still holds a value of the patient, but where somebody chose to keep just that."""
    try:
        found = searcher.file(made)
    except DicomError:
        raise Refused("data_set_malformed") from None
    if any(hit.tag is None or not policy.retains(hit.tag) for hit in found):
        raise Refused("leak_found")


def _text(dataset: Dataset, tag: int) -> str:
    """Return the first value of a text that was written in UTF-8; empty where there is none."""
    found = stored(dataset.get_item(tag)).value if tag in dataset else b""
    text = found.decode("utf-8", "replace") if isinstance(found, bytes) else ""
    return text.split("\\")[0].strip("\0 ")


def _uids(dataset: Dataset) -> tuple[str, str, str]:
    study, series, sop = (_text(dataset, tag) for tag in (_STUDY, _SERIES, _INSTANCE))
    if not (study and series and sop):
        raise Refused("uid_missing")
    return study, series, sop


__all__ = ["Result", "deidentify"]
