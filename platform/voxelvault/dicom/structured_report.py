"""What a structured report found: measurements, codes and sentences, as a flat list of values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from voxelvault.dicom.coding import Code, code_of
from voxelvault.dicom.coerce import HeaderLike, as_integer, as_number, as_text, first_item

SOP_CLASSES = tuple(
    f"1.2.840.10008.5.1.4.1.1.88.{number}" for number in (11, 22, 33, 34, 35, 40, 50, 65, 67, 68)
)
"""Text, Enhanced, Comprehensive (3D) SR, their kin for mammography, chest, colon, dose."""

DEEPEST = 64
"""Content nested deeper than in any real report is left out."""

_GROUP = {"125007"}
_TRACKING = {"112039"}
_FINDING = {"121071"}
_SITE = {"363698007", "G-C0E3"}
_LIBRARY = {"111028"}
_CONTEXT = ("HAS OBS CONTEXT", "HAS CONCEPT MOD", "HAS ACQ CONTEXT")


@dataclass(frozen=True, slots=True)
class Reference:
    """An object that a finding is about.

    Parameters
    ----------
    sop_class, instance : str
        SOP class and SOP instance UID.
    frames, segments : tuple of int
        Frame and segment numbers; empty: all of it.
    """

    sop_class: str
    instance: str = field(repr=False)
    frames: tuple[int, ...] = ()
    segments: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a report says.

    Parameters
    ----------
    kind : str
        NUM, CODE or TEXT.
    concept : Code or None
        What was asked, such as "Finding" or "Volume".
    value : float, Code, str or None
        The answer; None for a measurement that failed. Free text is kept out of reprs.
    unit : Code or None
        Of a measurement.
    headings : tuple of str
        Headings that it stands under, the outermost first.
    group : int or None
        Number of its measurement group, from 0; None outside of one.
    tracking : str or None
        Identifier of the thing measured, the same in later reports.
    finding, site : Code or None
        What the group's measurements are of, and where.
    references : tuple of Reference
        Images and segments that it, or its group, names.

    References
    ----------
    DICOM PS3.3 C.17.3 (content), PS3.16 TID 1500, 1501, 1411, 1419 (measurement report).
    """

    kind: str
    concept: Code | None
    value: float | Code | str | None = field(repr=False)
    unit: Code | None = None
    headings: tuple[str, ...] = ()
    group: int | None = None
    tracking: str | None = field(default=None, repr=False)
    finding: Code | None = None
    site: Code | None = None
    references: tuple[Reference, ...] = ()


def findings(header: HeaderLike) -> list[Finding]:
    """Return what a structured report says, in its order.

    What describes the report itself (language, observer, the library of images) is left out, and so
    are names, dates and UIDs.

    Parameters
    ----------
    header : HeaderLike
        Of a structured report.

    Returns
    -------
    list of Finding
        Measurements, codes and texts.
    """
    return list(_Reader().children(header, Finding("", None, None), ()))


def referenced_series(header: HeaderLike) -> frozenset[str]:
    """Return SeriesInstanceUIDs of the evidence that a report names.

    Parameters
    ----------
    header : HeaderLike
        A header, or as much of one as has the evidence sequences.
    """
    names = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
    studies = [study for name in names for study in header.items_of(name)]
    series = [item for study in studies for item in study.items_of("ReferencedSeriesSequence")]
    uids = (as_text(item.get("SeriesInstanceUID")) for item in series)
    return frozenset(uid for uid in uids if uid)


class _Reader:
    """Walks a content tree; knows how many measurement groups it has met."""

    def __init__(self) -> None:
        self._groups = 0

    def children(self, item: HeaderLike, about: Finding, headings: tuple[str, ...]) -> Iterator[Finding]:
        """Yield what an item contains; `about` holds what its measurement group says of all of them."""
        if len(headings) > DEEPEST:
            return
        for child in item.items_of("ContentSequence"):
            if (as_text(child.get("RelationshipType")) or "") not in _CONTEXT:
                yield from self._item(child, about, headings)

    def _item(self, item: HeaderLike, about: Finding, headings: tuple[str, ...]) -> Iterator[Finding]:
        concept = code_of(item, "ConceptNameCodeSequence")
        kind = as_text(item.get("ValueType")) or ""
        if kind == "CONTAINER":
            if _is(concept, _LIBRARY):
                return
            if _is(concept, _GROUP):
                about = self._group(item)
            yield from self.children(item, about, (*headings, str(concept or "")))
            return
        if kind in _VALUES:
            value, unit = _VALUES[kind](item)
            near = tuple(_references(item)) or about.references
            yield replace(
                about, kind=kind, concept=concept, value=value, unit=unit, headings=headings, references=near
            )
        yield from self.children(item, about, headings)

    def _group(self, item: HeaderLike) -> Finding:
        """Return what a measurement group says of each of its members."""
        number, self._groups = self._groups, self._groups + 1
        named = [
            (code_of(child, "ConceptNameCodeSequence"), child) for child in item.items_of("ContentSequence")
        ]
        codes = [(concept, code_of(child, "ConceptCodeSequence")) for concept, child in named]
        return Finding(
            "",
            None,
            None,
            group=number,
            tracking=next(
                (as_text(child.get("TextValue")) for name, child in named if _is(name, _TRACKING)), None
            ),
            finding=next((code for name, code in codes if _is(name, _FINDING)), None),
            site=next((code for name, code in codes if _is(name, _SITE)), None),
            references=tuple(_references(item)),
        )


def _is(concept: Code | None, values: set[str]) -> bool:
    return concept is not None and concept.value in values


def _references(item: HeaderLike) -> Iterator[Reference]:
    """Yield the objects that an item names: its image children, and those of its regions."""
    for child in item.items_of("ContentSequence"):
        kind = as_text(child.get("ValueType"))
        if kind in ("IMAGE", "COMPOSITE"):
            for named in child.items_of("ReferencedSOPSequence"):
                yield Reference(
                    as_text(named.get("ReferencedSOPClassUID")) or "",
                    as_text(named.get("ReferencedSOPInstanceUID")) or "",
                    _integers(named.values("ReferencedFrameNumber")),
                    _integers(named.values("ReferencedSegmentNumber")),
                )
        elif kind in ("SCOORD", "SCOORD3D"):
            yield from _references(child)


def _integers(values: Sequence[object]) -> tuple[int, ...]:
    return tuple(number for number in map(as_integer, values) if number is not None)


def _number(item: HeaderLike) -> tuple[float | None, Code | None]:
    measured = first_item(item, "MeasuredValueSequence")
    if measured is None:
        return None, None
    number = as_number(measured.get("FloatingPointValue"))
    if number is None:
        number = as_number(measured.get("NumericValue"))
    return number, code_of(measured, "MeasurementUnitsCodeSequence")


def _code(item: HeaderLike) -> tuple[Code | None, None]:
    return code_of(item, "ConceptCodeSequence"), None


def _text(item: HeaderLike) -> tuple[str | None, None]:
    return as_text(item.get("TextValue")), None


_VALUES = {"NUM": _number, "CODE": _code, "TEXT": _text}

__all__ = ["Finding", "Reference", "SOP_CLASSES", "findings", "referenced_series"]
