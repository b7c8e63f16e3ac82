"""Results go out as files for other systems: FHIR, HL7 v2, or plain JSON; what is superseded stays here."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from voxelvault import Vault
from voxelvault.errors import UsageError
from voxelvault.formats.made import MadeReport, export_made
from voxelvault_triage.results.about import About
from voxelvault_triage.results.fhir import fhir_json
from voxelvault_triage.results.hl7 import oru_r01
from voxelvault_triage.results.reading import Recorded, reports


@dataclass(frozen=True, slots=True)
class Format:
    """How results are written: files' ending, the log's word, what makes one, whether patients need an id."""

    ending: str
    code: str
    make: Callable[[Recorded], bytes]
    needs_patient: bool = False


def plain(result: Recorded) -> dict[str, Any]:
    """Return a result as plain JSON values; of the patient's identity it has the study's UID alone."""
    return {
        "report": result.instance_id,
        "StudyInstanceUID": result.StudyInstanceUID,
        "SeriesInstanceUID": result.series,
        "SOPInstanceUID": result.SOPInstanceUID,
        "pipeline": result.pipeline,
        "version": result.version,
        "model": result.model,
        "model_name": result.model_name,
        "verdict": result.verdict.value,
        "score": result.score,
        "threshold": result.threshold,
        "volume_ml": result.volume_ml,
        "uncertainty": result.uncertainty,
        "types": dict(result.types),
        "key_frame": result.key_frame,
        "reasons": [{"code": reason.code, "sentence": reason.sentence} for reason in result.reasons],
        "comments": list(result.comments),
        "superseded": result.superseded,
    }


def _json(result: Recorded) -> bytes:
    return json.dumps(plain(result), ensure_ascii=False, indent=1).encode()


FORMATS: Mapping[str, Format] = {
    "fhir": Format(".fhir.json", "fhir-r4", fhir_json),
    "hl7": Format(".hl7", "hl7-v2.5", lambda result: oru_r01(result).encode(), needs_patient=True),
    "json": Format(".json", "json", _json),
}


def export_results(
    vault: Vault, out: str | os.PathLike[str], format: str, results: Sequence[Recorded]
) -> MadeReport:
    """Write results into a folder, each named by the opaque id of its report.

    FHIR and HL7 v2 name the patient; an HL7 message can't without a PatientID, so results on studies that
    have none are left out there, and counted. What is there already with the same bytes is left alone.

    Parameters
    ----------
    out : path
        Folder; made if need be.
    format : {"fhir", "hl7", "json"}
        FHIR R4 bundles, ORU^R01 messages, or plain JSON.
    results : sequence of Recorded
        As `read_results` gives them.

    Raises
    ------
    UsageError
        No such format, nothing to write, or another file is in the way.
    PolicyDenied, AuditError, StorageError
        As of any export.
    """
    chosen = FORMATS.get(format)
    if chosen is None:
        raise UsageError(f"no such format; choose one of {', '.join(FORMATS)}")
    written = [one for one in results if _named(one) or not chosen.needs_patient]
    if results and not written:
        raise UsageError("an HL7 message has to name a patient, and these studies have no PatientID")
    documents = {f"{one.instance_id}{chosen.ending}": chosen.make(one) for one in written}
    report = export_made(vault.resources, out, [one.study_id for one in written], chosen.code, documents)
    return replace(report, nameless=len(results) - len(written))


def _named(result: Recorded) -> bool:
    return bool(About.of(result.header).patient_id)


def current(vault: Vault, study_id: str | None = None) -> list[Recorded]:
    """Return the results of one study, or of all, that no other replaces."""
    return [one for one in reports(vault, study_id) if not one.superseded]


__all__ = ["FORMATS", "current", "export_results", "plain"]
