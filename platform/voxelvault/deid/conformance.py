"""What a released object says of its de-identification: only what was done.

References
----------
DICOM PS3.3 C.7.1.1 (Patient Identity Removed), C.12.1 (Longitudinal Temporal Information Modified), C.7.6.1
(Burned In Annotation, Recognizable Visual Features); PS3.15 E.2; PS3.16 CID 7050.
"""

from __future__ import annotations

from collections.abc import Set

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

from voxelvault.deid.model import BASIC, Option, Rewritten
from voxelvault.deid.normal import raw_element
from voxelvault.deid.tables import EDITION

MEANINGS = {
    BASIC: "Basic Application Confidentiality Profile",
    Option.CLEAN_PIXELS.code: "Clean Pixel Data Option",
    Option.CLEAN_FACES.code: "Clean Recognizable Visual Features Option",
    Option.CLEAN_GRAPHICS.code: "Clean Graphics Option",
    Option.CLEAN_STRUCTURED.code: "Clean Structured Content Option",
    Option.CLEAN_DESCRIPTORS.code: "Clean Descriptors Option",
    Option.RETAIN_FULL_DATES.code: "Retain Longitudinal Temporal Information Full Dates Option",
    Option.RETAIN_MODIFIED_DATES.code: "Retain Longitudinal Temporal Information Modified Dates Option",
    Option.RETAIN_PATIENT_CHARACTERISTICS.code: "Retain Patient Characteristics Option",
    Option.RETAIN_DEVICE.code: "Retain Device Identity Option",
    Option.RETAIN_UIDS.code: "Retain UIDs Option",
    Option.RETAIN_SAFE_PRIVATE.code: "Retain Safe Private Option",
    Option.RETAIN_INSTITUTION.code: "Retain Institution Identity Option",
}
"""Code meanings of CID 7050."""

_REMOVED, _METHOD, _CODES = Tag(0x00120062), Tag(0x00120063), Tag(0x00120064)
_BURNED_IN, _FACES, _DATES = Tag(0x00280301), Tag(0x00280302), Tag(0x00280303)
METHOD = f"voxelvault, PS3.15 {EDITION}"


def mark(rewritten: Rewritten, applied: Set[str]) -> None:
    """Write into the data set what was done to it.

    Parameters
    ----------
    rewritten : Rewritten
        Changed in place; what an earlier de-identification said of itself stays beside ours.
    applied : set of str
        Codes of CID 7050 of what was really done to this object, pixels and content included.
    """
    dataset = rewritten.dataset
    _put(dataset, _REMOVED, "CS", "YES")
    methods = [method for method in _texts(dataset) if method != METHOD]
    _put(dataset, _METHOD, "LO", "\\".join([*methods, METHOD]))
    _add_codes(dataset, applied)
    _put(dataset, _DATES, "CS", _dates(applied))
    if Option.CLEAN_PIXELS.code in applied:
        _put(dataset, _BURNED_IN, "CS", "NO")
    if Option.CLEAN_FACES.code in applied:
        _put(dataset, _FACES, "CS", "NO")


def _put(dataset: Dataset, tag: BaseTag, vr: str, text: str) -> None:
    """Put text in as it stands in a file: nothing has to convert it again."""
    dataset[tag] = raw_element(tag, vr, text.encode())


def _texts(dataset: Dataset) -> list[str]:
    value = dataset[_METHOD].value or [] if _METHOD in dataset else []
    return [value] if isinstance(value, str) else [str(part) for part in value]


def _add_codes(dataset: Dataset, applied: Set[str]) -> None:
    items = list(dataset[_CODES].value or []) if _CODES in dataset else []
    said = {str(item.get("CodeValue")) for item in items}
    items += [_code(code) for code in sorted(applied - said)]
    if items:
        dataset[_CODES] = DataElement(_CODES, "SQ", Sequence(items))


def _code(value: str) -> Dataset:
    texts = (
        (Tag(0x00080100), "SH", value),
        (Tag(0x00080102), "SH", "DCM"),
        (Tag(0x00080104), "LO", MEANINGS[value]),
    )
    return Dataset({tag: raw_element(tag, vr, text.encode()) for tag, vr, text in texts})


def _dates(applied: Set[str]) -> str:
    if Option.RETAIN_FULL_DATES.code in applied:
        return "UNMODIFIED"
    return "MODIFIED" if Option.RETAIN_MODIFIED_DATES.code in applied else "REMOVED"


__all__ = ["MEANINGS", "METHOD", "mark"]
