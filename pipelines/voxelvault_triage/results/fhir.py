"""A result as FHIR R4: a collection of DiagnosticReport, Observation, Patient, ImagingStudy and Device.

References
----------
HL7 FHIR 4.0.1: Bundle, DiagnosticReport, Observation, Patient, ImagingStudy, Device.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from voxelvault_triage.model import Verdict, sentences
from voxelvault_triage.results.about import About
from voxelvault_triage.results.reading import Recorded
from voxelvault_triage.results.vocabulary import SCHEME, SCHEME_UID, Code

Resource = dict[str, Any]

SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "LN": "http://loinc.org",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    SCHEME: f"urn:oid:{SCHEME_UID}",
}
"""Code systems by DICOM's designator."""

_TERMS = "http://terminology.hl7.org/CodeSystem"
_UCUM = "http://unitsofmeasure.org"
_GENDER = {"M": "male", "F": "female", "O": "other"}
_FLAG = {Verdict.POSITIVE: ("POS", "Positive"), Verdict.NEGATIVE: ("NEG", "Negative")}

VOLUME = Code("118565006", "SCT", "Volume")
IMAGING_STUDY = Code("18748-4", "LN", "Diagnostic imaging study")


def bundle(result: Recorded) -> Resource:
    """Return a result as a FHIR Bundle of type ``collection``.

    Parameters
    ----------
    result : Recorded
        As `read_result` gives it. Its status is ``preliminary``: nobody has verified it.

    Returns
    -------
    dict
        JSON: nothing in it is empty. It names the patient.
    """
    about = About.of(result.header)
    urls = {role: _url(result, role) for role in ("report", "finding", "patient", "study", "device")}
    resources = {
        "report": _report(result, about, urls),
        "finding": _observation(result, about, urls),
        "patient": _patient(about),
        "study": _study(about, urls),
        "device": _device(result),
    }
    entries = [
        {"fullUrl": urls[role], "resource": _without_empty(resource)} for role, resource in resources.items()
    ]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def fhir_json(result: Recorded) -> bytes:
    """Return the bundle as UTF-8 JSON."""
    return json.dumps(bundle(result), ensure_ascii=False, indent=1).encode()


def _url(result: Recorded, role: str) -> str:
    # The patient and the study are the same in all of their results.
    about = result.StudyInstanceUID if role in ("patient", "study") else result.SOPInstanceUID
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{about} {role}").urn


def _report(result: Recorded, about: About, urls: Mapping[str, str]) -> Resource:
    procedure = result.procedure if result.procedure.scheme == "LN" else IMAGING_STUDY
    return {
        "resourceType": "DiagnosticReport",
        "identifier": [_uid(result.SOPInstanceUID)],
        "basedOn": [_order(about)],
        "status": "preliminary",
        "category": [_concept(Code("RAD", f"{_TERMS}/v2-0074", "Radiology"))],
        "code": _concept(procedure),
        "subject": {"reference": urls["patient"]},
        "effectiveDateTime": _date(about.study_date),
        "issued": result.written.isoformat(timespec="milliseconds"),
        "result": [{"reference": urls["finding"]}],
        "imagingStudy": [{"reference": urls["study"]}],
        "conclusion": " ".join(f"{one.removesuffix('.')}." for one in conclusion(result)),
    }


def _order(about: About) -> Resource:
    if not about.accession:
        return {}
    kind = _concept(Code("ACSN", f"{_TERMS}/v2-0203", "Accession ID"))
    return {"type": "ServiceRequest", "identifier": {"type": kind, "value": about.accession}}


def conclusion(result: Recorded) -> list[str]:
    """Return the result in a few sentences; they name nobody."""
    said = {
        Verdict.POSITIVE: f"Flagged: {result.finding.meaning}, score {result.score or 0:.3f}.",
        Verdict.NEGATIVE: f"Not flagged: {result.finding.meaning}, score {result.score or 0:.3f}.",
        Verdict.NOT_ANALYSED: "Not analysed; this says nothing about the patient.",
    }[result.verdict]
    return [said, *(reason.sentence for reason in result.reasons), *result.comments]


def _observation(result: Recorded, about: About, urls: Mapping[str, str]) -> Resource:
    flag = _FLAG.get(result.verdict)
    unit = "probability" if result.probability else "severity"
    made: Resource = {
        "resourceType": "Observation",
        "status": "preliminary",
        "category": [_concept(Code("imaging", f"{_TERMS}/observation-category", "Imaging"))],
        "code": _concept(result.finding),
        "subject": {"reference": urls["patient"]},
        "effectiveDateTime": _date(about.study_date),
        "issued": result.written.isoformat(timespec="milliseconds"),
        "interpretation": [_concept(Code(flag[0], f"{_TERMS}/v3-ObservationInterpretation", flag[1]))]
        if flag
        else [],
        "note": [{"text": text} for text in result.comments],
        "derivedFrom": [{"reference": urls["study"]}],
        "device": {"reference": urls["device"]},
    }
    if result.score is None:
        absent = _concept(Code("not-performed", f"{_TERMS}/data-absent-reason", "Not Performed"))
        return made | {"dataAbsentReason": {**absent, "text": sentences(result.reasons)}}
    return made | {
        "valueQuantity": _quantity(result.score, "1", unit),
        "referenceRange": [{"high": _quantity(result.threshold, "1", unit), "text": "flagged at and above"}],
        "component": _components(result, unit),
    }


def _components(result: Recorded, unit: str) -> list[Resource]:
    found = [(_concept(VOLUME), _quantity(result.volume_ml, "mL", "mL"))]
    if result.uncertainty:
        name = {"text": "Standard deviation of the score over an ensemble"}
        found.append((name, _quantity(result.uncertainty, "1", unit)))
    found += [
        (_concept(Code(name, SCHEME, f"Score of {name}")), _quantity(score, "1", unit))
        for name, score in result.types.items()
    ]
    return [{"code": code, "valueQuantity": quantity} for code, quantity in found if quantity]


def _patient(about: About) -> Resource:
    family, given, middle, prefix, suffix = about.name
    return {
        "resourceType": "Patient",
        "identifier": [{"value": about.patient_id, "assigner": {"display": about.issuer}}]
        if about.patient_id
        else [],
        "name": [
            {
                "family": family,
                "given": [*given.split(), *middle.split()],
                "prefix": [prefix],
                "suffix": [suffix],
            }
        ],
        "gender": _GENDER.get(about.sex, "unknown"),
        "birthDate": _date(about.birth_date),
    }


def _study(about: About, urls: Mapping[str, str]) -> Resource:
    return {
        "resourceType": "ImagingStudy",
        "identifier": [_uid(about.study_uid)],
        "status": "available",
        "subject": {"reference": urls["patient"]},
        "started": _date(about.study_date),
        "description": about.description,
    }


def _device(result: Recorded) -> Resource:
    return {
        "resourceType": "Device",
        "identifier": [{"type": {"text": "SHA-256 of the model"}, "value": result.model}]
        if result.model
        else [],
        "manufacturer": "voxelvault",
        "deviceName": [{"name": result.pipeline, "type": "model-name"}],
        # R4 Device.version.type says of what.
        "version": [
            {"type": {"text": kind}, "value": value}
            for kind, value in (("pipeline", result.version), ("model", result.model_name))
            if value
        ],
        "note": [{"text": text} for text in result.comments[:1]],
    }


def _uid(uid: str) -> Resource:
    return {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"} if uid else {}


def _concept(code: Code) -> Resource:
    system = SYSTEMS.get(code.scheme) or (code.scheme if code.scheme.startswith("http") else "")
    coding = [{"system": system, "code": code.value, "display": code.meaning}] if system else []
    return {"coding": coding, "text": code.meaning}


def _quantity(value: float | None, code: str, unit: str) -> Resource:
    return {} if value is None else {"value": round(value, 6), "unit": unit, "system": _UCUM, "code": code}


def _date(date: str) -> str:
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if date else ""


def _without_empty(value: Any) -> Any:
    """Leave out what is empty, all the way down: FHIR has no empty strings, lists or objects."""
    if isinstance(value, dict):
        kept = {key: _without_empty(inner) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if inner not in ("", [], {}, None)}
    if isinstance(value, list):
        return [inner for inner in map(_without_empty, value) if inner not in ("", [], {}, None)]
    return value


__all__ = ["bundle", "conclusion", "fhir_json"]
