"""Coded concepts: what a code sequence of a header says."""

from __future__ import annotations

from dataclasses import dataclass

from voxelvault.dicom.coerce import HeaderLike, as_text, first_item


@dataclass(frozen=True, slots=True)
class Code:
    """One coded concept.

    Parameters
    ----------
    value, scheme : str
        CodeValue and CodingSchemeDesignator, such as 10200004 and SCT; they identify the concept.
    meaning : str
        CodeMeaning, for people.

    References
    ----------
    DICOM PS3.3 section 8 (coded entries).
    """

    value: str
    scheme: str
    meaning: str

    def __str__(self) -> str:
        return self.meaning or f"{self.value} {self.scheme}".strip()


def code_of(item: HeaderLike, sequence: str) -> Code | None:
    """Return the first code of a sequence; None where there is none.

    Parameters
    ----------
    item : HeaderLike
        A header or an item of one.
    sequence : str
        Keyword of the code sequence.
    """
    coded = first_item(item, sequence)
    if coded is None:
        return None
    names = ("CodeValue", "LongCodeValue", "URNCodeValue")
    value = next((text for text in (as_text(coded.get(name)) for name in names) if text), "")
    scheme, meaning = as_text(coded.get("CodingSchemeDesignator")), as_text(coded.get("CodeMeaning"))
    return Code(value, scheme or "", meaning or "") if value or meaning else None


__all__ = ["Code", "code_of"]
