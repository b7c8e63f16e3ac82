"""Results read back from the reports in a study: what the worklist, monitoring and exports go by.

A report is superseded when another one of the study names it as its predecessor: nothing is ever
changed in it, and any PACS sees the same.

References
----------
DICOM PS3.3 C.17.2 (predecessor documents), PS3.16 TID 1500.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from voxelvault import Vault
from voxelvault.dicom.read import Header
from voxelvault_triage.model import Reason, Study, Verdict
from voxelvault_triage.results.vocabulary import GENERIC, IMAGING, Code
from voxelvault_triage.studies import with_uids

REPORT = "1.2.840.10008.5.1.4.1.1.88.34"
"""SOP class of a Comprehensive 3D SR."""

_MODEL, _MODEL_NAME = "model-sha256=", "model="


@dataclass(frozen=True, slots=True)
class Recorded:
    """One result, as its report says.

    Parameters
    ----------
    instance_id : str
        Opaque id of the report.
    study_id : str
        Opaque id of its study.
    pipeline, version, model : str
        Which algorithm; `model` is the SHA-256, empty where there was none.
    model_name : str
        Name and version of the model; empty where there was none, or the report doesn't say.
    verdict : Verdict
        What it said.
    finding, procedure : Code
        What was looked for; what was done to the patient.
    score, threshold, volume_ml, uncertainty : float or None
        None where the study was not analysed; `score` is a probability, 0 to 1.
    types : mapping of str to float
        Score of each type.
    key_frame : int or None
        Slice that shows it best, in the order of frames, from 0.
    probability : bool
        Scores are probabilities; else they say how far something is out of bounds.
    reasons : tuple of Reason
        Why it was not analysed.
    comments : tuple of str
        The notice, and what else stands at the head.
    series : str
        SeriesInstanceUID of the images that it is about.
    segmentations : tuple of str
        SOP Instance UIDs of the mask.
    replaces : tuple of str
        SOP Instance UIDs of the reports that it replaces.
    superseded : bool
        Another report replaces it.
    written : datetime
        When it came into the vault, UTC.
    header : Header
        The report's own, with patient and study.
    """

    instance_id: str
    study_id: str
    pipeline: str
    version: str
    model: str
    model_name: str
    verdict: Verdict
    finding: Code
    procedure: Code
    score: float | None
    threshold: float | None
    volume_ml: float | None
    uncertainty: float | None
    types: Mapping[str, float]
    key_frame: int | None
    probability: bool
    reasons: tuple[Reason, ...]
    comments: tuple[str, ...]
    series: str = field(repr=False)
    segmentations: tuple[str, ...] = field(repr=False)
    replaces: tuple[str, ...] = field(repr=False)
    header: Header = field(repr=False)
    written: datetime = field(repr=False)
    superseded: bool = False

    @property
    def SOPInstanceUID(self) -> str:
        """Of the report."""
        return str(self.header.get("SOPInstanceUID"))

    @property
    def StudyInstanceUID(self) -> str:
        """Of the study."""
        return str(self.header.get("StudyInstanceUID"))

    @property
    def SeriesInstanceUID(self) -> str:
        """Of the images that it is about; empty where none were analysed."""
        return self.series

    def reference(self) -> Dataset:
        """Return what another report says of this one when it replaces it."""
        named = Dataset()
        for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
            setattr(named, keyword, str(self.header.get(keyword)))
        return named

    def mask(self, vault: Vault, stack: int = 0) -> npt.NDArray[np.bool_] | None:
        """Return the mask on the source series' grid, (slice, row, column); None where nothing is marked."""
        if not self.segmentations:
            return None
        rows = vault.sql(
            "select instance_id from instances where not superseded"
            " and SOPInstanceUID in (select unnest($uids))",
            {"uids": list(self.segmentations)},
        ).fetchall()
        with vault.series(self.series, study=self.StudyInstanceUID) as series:
            parts = [np.asarray(series.mask(source=row[0], stack=stack)) > 0 for row in rows]
        return np.asarray(np.logical_or.reduce(parts)) if parts else None


def read_results(vault: Vault, study: Study | str) -> list[Recorded]:
    """Return every result of a study, the oldest first; older ones that were replaced are `superseded`.

    Parameters
    ----------
    study : Study or str
        The study, its StudyInstanceUID, or its opaque id.

    Raises
    ------
    UnknownUID
        No study of this vault has that StudyInstanceUID.
    """
    if isinstance(study, Study):
        return reports(vault, study.study_id)
    # A UID has dots; an opaque id has none.
    ids = with_uids(vault, [study]) if "." in study else [study]
    return [one for study_id in ids for one in reports(vault, study_id)]


def read_result(vault: Vault, study: Study | str, pipeline: str | None = None) -> Recorded | None:
    """Return the latest result of a study that no other replaces, of one pipeline if asked; None: none.

    The study is named as for `read_results`.
    """
    current = [one for one in read_results(vault, study) if not one.superseded]
    wanted = [one for one in current if pipeline in (None, one.pipeline)]
    return wanted[-1] if wanted else None


def reports(vault: Vault, study_id: str | None) -> list[Recorded]:
    """Return the results that this vault's pipelines wrote into a study, or into all."""
    rows = vault.sql(
        "select instance_id, study_id, origin, header, received from instances where origin is not null"
        " and ($study is null or study_id = $study) and SOPClassUID = $report and not superseded"
        " order by received, instance_id",
        {"study": study_id, "report": REPORT},
    ).fetchall()
    found = [recorded(*row) for row in rows]
    replaced = {uid for one in found for uid in one.replaces}
    return [replace(one, superseded=one.SOPInstanceUID in replaced) for one in found]


def recorded(instance_id: str, study_id: str, pipeline: str, header: str, received: datetime) -> Recorded:
    """Return what a report says.

    Parameters
    ----------
    header : str
        The report's header as DICOM JSON.
    received : datetime
        When it came into the vault, UTC, without a zone.
    """
    report = Header.from_json(header)
    groups = [_Item(item) for item in _groups(report)]
    overall = next((group for group in groups if group.code("verdict")), _Item(Header({})))
    typed = [group for group in groups if not group.code("verdict") and not group.segments()]
    percents = overall.numbers()
    score = "severity" if "severity" in percents else "111012"
    return Recorded(
        instance_id,
        study_id,
        pipeline,
        overall.text("111003") or "",
        overall.parameter(_MODEL),
        overall.parameter(_MODEL_NAME),
        Verdict(overall.code("verdict") or Verdict.NOT_ANALYSED),
        _said(overall.group, "121071") or GENERIC.finding,
        _said(report, "121058") or IMAGING,
        _share(percents.get(score)),
        _share(percents.get("122411")),
        percents.get("118565006"),
        _share(percents.get(f"{score} deviation", 0.0)) if score in percents else None,
        {group.name(pipeline): _share(group.numbers().get(score)) or 0.0 for group in typed},
        int(percents["key-frame"]) - 1 if "key-frame" in percents else None,
        score == "111012",
        overall.reasons(),
        tuple(_texts(report, "121106")),
        _series_of(report),
        tuple(uid for group in groups for uid in group.segments()),
        tuple(_predecessors(report)),
        report,
        received.replace(tzinfo=UTC),
    )


def _share(percent: float | None) -> float | None:
    # A percentage of a float is off by its last digit.
    return None if percent is None else round(percent / 100, 12)


def _groups(item: Header) -> Iterator[Header]:
    for child in item.items_of("ContentSequence"):
        if _concept(child) == "125007":
            yield child
        elif child.get("ValueType") == "CONTAINER":
            yield from _groups(child)


def _concept(item: Header, name: str = "ConceptNameCodeSequence") -> str:
    for code in item.items_of(name):
        return str(code.get("CodeValue") or code.get("LongCodeValue") or "")
    return ""


def _said(item: Header, concept: str) -> Code | None:
    """Return the code that an item's child has as its value."""
    for child in item.items_of("ContentSequence"):
        if _concept(child) == concept:
            for code in child.items_of("ConceptCodeSequence"):
                value = code.get("CodeValue") or code.get("LongCodeValue")
                return Code(str(value), str(code.get("CodingSchemeDesignator")), str(code.get("CodeMeaning")))
    return None


def _texts(item: Header, concept: str) -> Iterator[str]:
    for child in item.items_of("ContentSequence"):
        if _concept(child) == concept and child.get("ValueType") == "TEXT":
            yield str(child.get("TextValue") or "")


def _predecessors(report: Header) -> Iterator[str]:
    for study in report.items_of("PredecessorDocumentsSequence"):
        for series in study.items_of("ReferencedSeriesSequence"):
            for named in series.items_of("ReferencedSOPSequence"):
                yield str(named.get("ReferencedSOPInstanceUID"))


_OURS = ("1.2.840.10008.5.1.4.1.1.66.4",)


def _series_of(report: Header) -> str:
    """Return the series that the evidence names, segmentations left out."""
    for study in report.items_of("CurrentRequestedProcedureEvidenceSequence"):
        for series in study.items_of("ReferencedSeriesSequence"):
            named = series.items_of("ReferencedSOPSequence")
            if not any(one.get("ReferencedSOPClassUID") in _OURS for one in named):
                return str(series.get("SeriesInstanceUID") or "")
    return ""


@dataclass(frozen=True, slots=True)
class _Item:
    """One group of measurements."""

    group: Header

    def children(self) -> Sequence[Header]:
        return self.group.items_of("ContentSequence")

    def code(self, concept: str) -> str:
        found = (_concept(one, "ConceptCodeSequence") for one in self.children() if _concept(one) == concept)
        return next(found, "")

    def text(self, concept: str) -> str:
        return next(_texts(self.group, concept), "")

    def parameter(self, name: str) -> str:
        """Return the algorithm's parameter that begins so (TID 4019), without that; empty: none."""
        named = (text for text in _texts(self.group, "111002") if text.startswith(name))
        return next(named, name).removeprefix(name)

    def name(self, pipeline: str) -> str:
        return self.text("112039").removeprefix(f"{pipeline} ")

    def numbers(self) -> dict[str, float]:
        """Return the measurements by concept; a standard deviation has ``deviation`` behind it."""
        found: dict[str, float] = {}
        for child in self.children():
            for value in child.items_of("MeasuredValueSequence"):
                derived = any(_concept(one) == "121401" for one in child.items_of("ContentSequence"))
                number: Any = value.get("FloatingPointValue")
                number = value.get("NumericValue") if number is None else number
                found[_concept(child) + (" deviation" if derived else "")] = float(number)
        return found

    def segments(self) -> list[str]:
        """Return the SOP Instance UIDs of the segmentations that the group names."""
        return [
            str(named.get("ReferencedSOPInstanceUID"))
            for child in self.children()
            for named in child.items_of("ReferencedSOPSequence")
            if named.get("ReferencedSOPClassUID") in _OURS
        ]

    def reasons(self) -> tuple[Reason, ...]:
        codes = [_concept(one, "ConceptCodeSequence") for one in self.children() if _concept(one) == "reason"]
        return tuple(map(Reason, codes, _texts(self.group, "121106")))


__all__ = ["Recorded", "read_result", "read_results", "recorded", "reports"]
