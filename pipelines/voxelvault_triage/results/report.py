"""The result as a structured report: Comprehensive 3D SR by TID 1500, with what IHE AIR wants of it.

One group of measurements says what the analysis as a whole says; one names the segment; one each the
types that a model tells apart. A study that wasn't analysed has the first alone, with the reasons.

References
----------
DICOM PS3.16 TID 1500, 1411, 1501, 4019; IHE Radiology, AI Results (AIR).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import highdicom as hd
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from voxelvault_triage.model import Analysis, Finding, Verdict
from voxelvault_triage.results.segmentation import MAKER, coded, equipment
from voxelvault_triage.results.source import Source, put_identity, quietly
from voxelvault_triage.results.uids import ResultUIDs
from voxelvault_triage.results.vocabulary import CT, IMAGING, SCHEME, SCHEME_UID, Code, Vocabulary

CERTAINTY = Code("111012", "DCM", "Certainty of Finding")
SEVERITY = Code("severity", SCHEME, "Severity, 0 to 1")
THRESHOLD = Code("122411", "DCM", "Threshold Value")
VOLUME = Code("118565006", "SCT", "Volume")
DEVIATION = Code("386136009", "SCT", "Standard Deviation")
PRESENCE = Code("121052", "DCM", "Presence of property")
COMMENT = Code("121106", "DCM", "Comment")
VERDICT = Code("verdict", SCHEME, "Verdict of the analysis")
REASON = Code("reason", SCHEME, "Reason why it was not analysed")
MODEL, MODEL_NAME = "model-sha256=", "model="
KEY_FRAME = Code("key-frame", SCHEME, "Slice that shows it best, from 1")

PRESENT = {
    Verdict.POSITIVE: Code("121053", "DCM", "Present"),
    Verdict.NEGATIVE: Code("121054", "DCM", "Absent"),
    Verdict.NOT_ANALYSED: Code("121059", "DCM", "Presence Undetermined"),
}

MEASUREMENTS = CodedConcept("126010", "DCM", "Imaging Measurements")
PERCENT = CodedConcept("%", "UCUM", "Percent")
MILLILITRE = CodedConcept("mL", "UCUM", "mL")
ONE = CodedConcept("1", "UCUM", "no units")


def report(
    analysis: Analysis,
    source: Source,
    segmentations: Sequence[Dataset],
    uids: ResultUIDs,
    words: Vocabulary,
    comments: Sequence[str],
    previous: Sequence[Dataset],
) -> Dataset:
    """Return the report.

    Parameters
    ----------
    comments : sequence of str
        Sentences at its head; the notice first.
    previous : sequence of Dataset
        Reports that this one replaces: SOP class and instance, series and study UIDs.
    """
    with quietly():
        content = _content(analysis, source, segmentations, uids, words)
        items = content[0].ContentSequence
        measured = next(at for at, item in enumerate(items) if item.name == MEASUREMENTS)
        content[0].ContentSequence = hd.sr.ContentSequence(items[:measured])
        first, *others = source.images
        made = hd.sr.Comprehensive3DSR(
            evidence=[_of_known_class(first), *others, *segmentations],
            content=content,
            series_instance_uid=uids.series("SR"),
            series_number=9002,
            sop_instance_uid=uids.instance("SR"),
            instance_number=1,
            is_complete=True,
            is_final=False,
            is_verified=False,
            previous_versions=list(previous) or None,
            series_description="AI result, report",
            coding_schemes=[CodingSchemeIdentificationItem(SCHEME, name=MAKER, uid=SCHEME_UID)],
            **equipment(analysis),
        )
        evidence = made.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
        evidence.ReferencedSOPSequence[0].ReferencedSOPClassUID = first.SOPClassUID
        # Only now: highdicom copies what it is given, item by item, which takes longer than all else.
        # What is no image, such as a plan or a text, is named as evidence alone.
        library = [_library(source)] if "Rows" in first else []
        made.ContentSequence.extend([*library, *items[measured:], *map(_comment, comments)])
    put_identity(made, source.identity)
    return made


def _of_known_class(image: Dataset) -> Dataset:
    """Return an image under a class that highdicom knows: it copies by class, and of retired ones nothing."""
    known = Dataset()
    known.update(image)
    known.add_new("SOPClassUID", "UI", SecondaryCaptureImageStorage)
    return known


def _content(
    analysis: Analysis,
    source: Source,
    segmentations: Sequence[Dataset],
    uids: ResultUIDs,
    words: Vocabulary,
) -> hd.sr.MeasurementReport:
    groups: list[Any] = [_overall(analysis, source, uids, words)]
    groups += [_segment(analysis, source, one, uids, words) for one in segmentations]
    if analysis.finding:
        groups += [
            _type(analysis, name, score, uids, words) for name, score in analysis.finding.types.items()
        ]
    return hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=_observer(analysis, uids)),
        procedure_reported=coded(_procedure(source, words)),
        imaging_measurements=groups,
        title=CodedConcept("126000", "DCM", "Imaging Measurement Report"),
    )


def _procedure(source: Source, words: Vocabulary) -> Code:
    return CT if words.procedure is IMAGING and source.modality == "CT" else words.procedure


def _library(source: Source) -> hd.sr.ContainerContentItem:
    """Return the image library (TID 1600): every image by name, what they share once for all.

    highdicom's own repeats position and size for each image, which made up nine tenths of a report,
    and takes no multi-frame image.
    """
    kinds = hd.sr.RelationshipTypeValues
    first = source.images[0]
    group = hd.sr.ContainerContentItem(
        CodedConcept("126200", "DCM", "Image Library Group"), relationship_type=kinds.CONTAINS
    )
    group.ContentSequence = hd.sr.ContentSequence()
    if source.modality == "CT":
        modality = CodedConcept("CT", "DCM", "Computed Tomography")
        group.ContentSequence.append(
            hd.sr.CodeContentItem(
                CodedConcept("121139", "DCM", "Modality"), modality, relationship_type=kinds.HAS_ACQ_CONTEXT
            )
        )
    if frame := first.get("FrameOfReferenceUID"):
        group.ContentSequence.append(
            hd.sr.UIDRefContentItem(
                CodedConcept("112227", "DCM", "Frame of Reference UID"),
                frame,
                relationship_type=kinds.HAS_ACQ_CONTEXT,
            )
        )
    kind = CodedConcept("260753009", "SCT", "Source")
    for image in source.images:
        group.ContentSequence.append(
            hd.sr.ImageContentItem(
                kind,
                image.SOPClassUID,
                image.SOPInstanceUID,
                relationship_type=kinds.CONTAINS,
            )
        )
    library = hd.sr.ContainerContentItem(
        CodedConcept("111028", "DCM", "Image Library"), relationship_type=kinds.CONTAINS
    )
    library.ContentSequence = hd.sr.ContentSequence([group])
    return library


def _observer(analysis: Analysis, uids: ResultUIDs) -> hd.sr.ObserverContext:
    identity = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=uids.device,
        name=analysis.pipeline,
        manufacturer_name=MAKER,
        model_name=analysis.pipeline,
        serial_number=analysis.model or "none",
    )
    return hd.sr.ObserverContext(
        observer_type=CodedConcept("121007", "DCM", "Device"), observer_identifying_attributes=identity
    )


def algorithm(analysis: Analysis) -> hd.sr.AlgorithmIdentification:
    """Return which algorithm it was, with its model's name and digest and its threshold (TID 4019)."""
    parameters = [f"{MODEL}{analysis.model}"] if analysis.model else []
    if analysis.model_name:
        parameters.append(f"{MODEL_NAME}{analysis.model_name}")
    if analysis.finding:
        parameters.append(f"threshold={analysis.finding.threshold:g}")
    return hd.sr.AlgorithmIdentification(
        name=analysis.pipeline, version=analysis.version, parameters=parameters or None, manufacturer=MAKER
    )


def _overall(
    analysis: Analysis, source: Source, uids: ResultUIDs, words: Vocabulary
) -> hd.sr.MeasurementsAndQualitativeEvaluations:
    finding = analysis.finding
    said = [
        hd.sr.QualitativeEvaluation(coded(VERDICT), _word(analysis.verdict.value)),
        hd.sr.QualitativeEvaluation(coded(PRESENCE), coded(PRESENT[analysis.verdict])),
    ]
    said += [
        hd.sr.QualitativeEvaluation(coded(REASON), _word(reason.code, reason.sentence))
        for reason in analysis.gated.reasons
    ]
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uids.tracking("study"), f"{analysis.pipeline} study"),
        finding_type=coded(words.finding),
        algorithm_id=algorithm(analysis),
        finding_sites=[hd.sr.FindingSite(coded(words.site))] if words.site else None,
        measurements=_measurements(finding, words) if finding else None,
        qualitative_evaluations=said,
        source_images=_key(source, finding) if finding else None,
    )
    for reason in analysis.gated.reasons:
        group[0].ContentSequence.append(_comment(reason.sentence or reason.code))
    return group


def _measurements(finding: Finding, words: Vocabulary) -> list[hd.sr.Measurement]:
    found = [
        _score(words, finding.score),
        _percent(THRESHOLD, finding.threshold),
        _volume(finding),
        hd.sr.Measurement(coded(KEY_FRAME), int(finding.key_frame) + 1, ONE),
    ]
    if finding.uncertainty:
        found.append(_score(words, finding.uncertainty, derivation=coded(DEVIATION)))
    return found


def _volume(finding: Finding) -> hd.sr.Measurement:
    return hd.sr.Measurement(
        coded(VOLUME),
        round(float(finding.volume_ml), 3),
        MILLILITRE,
        method=CodedConcept("126030", "DCM", "Sum of segmented voxel method for volume"),
    )


def _score(words: Vocabulary, score: float, derivation: CodedConcept | None = None) -> hd.sr.Measurement:
    return _percent(SEVERITY if words.severity else CERTAINTY, score, derivation)


def _percent(name: Code, share: float, derivation: CodedConcept | None = None) -> hd.sr.Measurement:
    return hd.sr.Measurement(coded(name), round(100.0 * float(share), 6), PERCENT, derivation=derivation)


def _key(source: Source, finding: Finding) -> list[hd.sr.SourceImageForMeasurementGroup] | None:
    if not 0 <= finding.key_frame < len(source.places):
        return None
    number, frame = source.places[finding.key_frame]
    image = source.images[number]
    several = int(image.get("NumberOfFrames") or 1) > 1
    return [
        hd.sr.SourceImageForMeasurementGroup(
            image.SOPClassUID, image.SOPInstanceUID, [frame] if several else None
        )
    ]


def _segment(
    analysis: Analysis, source: Source, segmentation: Dataset, uids: ResultUIDs, words: Vocabulary
) -> hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    assert analysis.finding is not None  # noqa: S101 - there is no mask without a finding
    # `from_segmentation` fails on a segmentation of one segment (highdicom 0.28.2).
    segment = hd.sr.ReferencedSegment(
        segmentation.SOPClassUID,
        segmentation.SOPInstanceUID,
        1,
        source_series=hd.sr.SourceSeriesForSegmentation(source.images[0].SeriesInstanceUID),
    )
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uids.tracking(words.label), f"{analysis.pipeline} {words.label}"
        ),
        referenced_segment=segment,
        finding_type=coded(words.segment),
        algorithm_id=algorithm(analysis),
        finding_sites=[hd.sr.FindingSite(coded(words.site))] if words.site else None,
        measurements=[_volume(analysis.finding)],
    )


def _type(
    analysis: Analysis, name: str, score: float, uids: ResultUIDs, words: Vocabulary
) -> hd.sr.MeasurementsAndQualitativeEvaluations:
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uids.tracking(f"type {name}"), f"{analysis.pipeline} {name}"
        ),
        finding_type=coded(words.type_named(name)),
        algorithm_id=algorithm(analysis),
        measurements=[_score(words, score)],
    )


def _word(code: str, meaning: str = "") -> CodedConcept:
    """Return a word of ours as a code.

    A meaning has 64 characters at most (PS3.5 6.2, LO); some readers count bytes.
    """
    told = (meaning or code).encode()
    if len(told) > 64:
        told = told[:61].decode(errors="ignore").encode() + b"..."
    return CodedConcept(code, SCHEME, told.decode())


def _comment(sentence: str) -> hd.sr.TextContentItem:
    return hd.sr.TextContentItem(
        coded(COMMENT), sentence, relationship_type=hd.sr.RelationshipTypeValues.CONTAINS
    )


__all__ = ["report"]
