"""Results as FHIR, HL7 v2 and JSON: judged by other people's libraries, hostile text included."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from triage_results_support import MODEL, MODEL_NAME, REASONS, analysis_of, filled, study_of

import voxelvault as vv
from voxelvault.errors import UnknownUID, UsageError
from voxelvault.formats.report import LeavesTheVault
from voxelvault.testing import synthetic
from voxelvault_triage.model import Analysis, Gated, Verdict
from voxelvault_triage.results import Recorded, export_results, read_result, read_results, write_results
from voxelvault_triage.results.about import About
from voxelvault_triage.results.fhir import bundle
from voxelvault_triage.results.hl7 import escaped, oru_r01
from voxelvault_triage.results.reading import reports
from voxelvault_triage.results.vocabulary import SCHEME_UID
from voxelvault_triage.studies import read_studies

WHO = {
    "PatientName": "Müller^Jörg Karl^^Dr.",
    "PatientID": "A|B^C&D~E",
    "IssuerOfPatientID": "St. Mary's",
    "PatientBirthDate": "19500228",
    "PatientSex": "M",
    "AccessionNumber": "ACC-1",
    "SpecificCharacterSet": "ISO_IR 192",
}
NOBODY = {**dict.fromkeys([*WHO, "StudyDate", "StudyDescription"], ""), "SpecificCharacterSet": "ISO_IR 192"}


def result_of(folder: Path, attributes: dict[str, str] | None = None, **options: Any) -> Recorded:
    files = synthetic.ct_series(3, 16, 16, attributes=attributes or WHO)
    return written(filled(folder, files), **options)


def written(vault: vv.Vault, **options: Any) -> Recorded:
    analysis = analysis_of(vault, **options)
    with vault.series(study_of(vault)[1]) as series:
        write_results(vault, series if analysis.finding else None, analysis)
    found = read_result(vault, analysis.study)
    assert found is not None
    return found


def checked(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Let the models of FHIR judge a bundle; return its resources by type.

    Those of R4B: of these five resources nothing differs there from R4 (4.0.1).
    """
    get_fhir_model_class("Bundle").model_validate(document)
    resources = {}
    for entry in document["entry"]:
        kind = entry["resource"]["resourceType"]
        get_fhir_model_class(kind).model_validate(entry["resource"])
        resources[kind] = entry["resource"]
    known = {entry["fullUrl"] for entry in document["entry"]}
    named = [*references(document)]
    assert named
    assert set(named) <= known
    return resources


def references(value: Any) -> list[str]:
    """Return what a document refers to."""
    if isinstance(value, dict):
        own = [value["reference"]] if "reference" in value else []
        return own + [one for inner in value.values() for one in references(inner)]
    return [one for inner in value for one in references(inner)] if isinstance(value, list) else []


def segments(message: str) -> dict[str, list[list[str]]]:
    """Return the fields of each segment by its name."""
    found: dict[str, list[list[str]]] = {}
    for line in message.rstrip("\r").split("\r"):
        fields = line.split("|")
        found.setdefault(fields[0], []).append(fields)
    return found


def test_a_flagged_study_as_fhir(tmp_path: Path) -> None:
    result = result_of(tmp_path)
    made = checked(bundle(result))
    observation, patient = made["Observation"], made["Patient"]
    assert observation["code"]["coding"][0] == {
        "system": "http://snomed.info/sct",
        "code": "1386000",
        "display": "Intracranial hemorrhage",
    }
    assert observation["valueQuantity"]["value"] == 0.8125
    quantities = [part["valueQuantity"]["value"] for part in observation["component"]]
    assert quantities == [round(value, 6) for value in quantities]
    assert observation["interpretation"][0]["coding"][0]["code"] == "POS"
    assert {one["code"]["text"] for one in observation["component"]} >= {"Volume", "Score of subdural"}
    ours = [part["code"]["coding"][0] for part in observation["component"] if "subdural" in str(part["code"])]
    assert [(code["system"], code["code"]) for code in ours] == [(f"urn:oid:{SCHEME_UID}", "subdural")]
    assert patient["name"] == [{"family": "Müller", "given": ["Jörg", "Karl"], "prefix": ["Dr."]}]
    assert (patient["birthDate"], patient["gender"]) == ("1950-02-28", "male")
    assert patient["identifier"] == [{"value": "A|B^C&D~E", "assigner": {"display": "St. Mary's"}}]
    assert made["DiagnosticReport"]["status"] == "preliminary"
    assert datetime.now(UTC) - datetime.fromisoformat(observation["issued"]) < timedelta(minutes=5)
    assert made["DiagnosticReport"]["basedOn"][0]["identifier"]["value"] == "ACC-1"
    assert made["Device"]["identifier"][0]["value"] == MODEL
    assert {one["type"]["text"]: one["value"] for one in made["Device"]["version"]} == {
        "pipeline": result.version,
        "model": MODEL_NAME,
    }
    for kind in ("Observation", "DiagnosticReport", "Device"):
        assert "not a medical device" in json.dumps(made[kind])


def test_a_flagged_study_as_hl7(tmp_path: Path) -> None:
    result = result_of(tmp_path)
    message = oru_r01(result)
    assert parse_message(message, validation_level=VALIDATION_LEVEL.STRICT).validate()
    found = segments(message)
    (pid,) = found["PID"]
    assert pid[3] == r"A\F\B\S\C\T\D\R\E^^^St. Mary's"
    assert pid[5] == "Müller^Jörg Karl^^^Dr."
    assert (pid[7], pid[8]) == ("19500228", "M")
    (obr,) = found["OBR"]
    assert (obr[2], obr[18], obr[25]) == ("ACC-1", "ACC-1", "P")
    assert obr[4] == "24725-4^CT Head^LN"
    (msh,) = found["MSH"]
    for time in (msh[6], obr[22]):
        assert datetime.strptime(time, "%Y%m%d%H%M%S%z") == result.written.replace(microsecond=0)
    flagged, score, *_ = found["OBX"]
    assert flagged[3:6] == ["1386000^Intracranial hemorrhage^SCT", "1", "121053^Present^DCM"]
    assert (score[5], score[7], score[8]) == ("0.8125", "<0.5", "A")
    assert found["OBX"][-2][5].startswith(
        f"pipeline {result.pipeline} {result.version}, model {MODEL_NAME} {MODEL}"
    )
    assert "not a medical device" in message


def test_a_study_that_is_not_analysed_has_no_value(tmp_path: Path) -> None:
    result = result_of(tmp_path, fit=False)
    observation = checked(bundle(result))["Observation"]
    assert "valueQuantity" not in observation
    assert "interpretation" not in observation
    assert observation["dataAbsentReason"]["coding"][0]["code"] == "not-performed"
    first, last = (reason.sentence for reason in REASONS)
    assert observation["dataAbsentReason"]["text"] == f"{first.rstrip('.')}; {last}"
    found = segments(oru_r01(result))
    assert found["OBR"][0][25] == "X"
    assert found["OBX"][0][5] == "121059^Presence Undetermined^DCM"
    assert not [one for one in found["OBX"] if one[2] == "NM"]
    assert result.verdict is Verdict.NOT_ANALYSED


def test_a_result_without_a_model_and_with_many_reasons(tmp_path: Path) -> None:
    result = result_of(tmp_path, fit=False, model="")
    assert [one["type"]["text"] for one in checked(bundle(result))["Device"]["version"]] == ["pipeline"]
    message = oru_r01(result)
    assert parse_message(message, validation_level=VALIDATION_LEVEL.STRICT).validate()
    texts = [one for one in segments(message)["OBX"] if one[2] == "TX"]
    assert [one[5] for one in texts[1:3]] == [escaped(reason.sentence) for reason in REASONS]
    assert [one[4] for one in texts] == ["1", "2", "3", "4"]


def test_a_patient_of_whom_nothing_is_known(tmp_path: Path) -> None:
    result = result_of(tmp_path, NOBODY)
    made = checked(bundle(result))
    assert made["Patient"] == {"resourceType": "Patient", "gender": "unknown"}
    assert "basedOn" not in made["DiagnosticReport"]
    assert segments(oru_r01(result))["PID"] == [["PID", "1", "", "", "", "^^^^^^U"]]


def test_who_has_no_id_is_left_out_of_hl7(tmp_path: Path, run: Callable[..., Any]) -> None:
    nobody = synthetic.ct_series(3, 16, 16, attributes=NOBODY)
    vault = filled(tmp_path, [*synthetic.ct_series(3, 16, 16, seed=2, attributes=WHO), *nobody])
    ids = vault.sql("select study_id from studies").fetchall()
    for one in read_studies(vault, [study_id for (study_id,) in ids]):
        write_results(vault, None, Analysis(one.study, "head-ct", "1", "", Gated(None, reasons=REASONS)))
    unnamed = [one for one in reports(vault, None) if not About.of(one.header).patient_id]
    with pytest.raises(UsageError, match="PatientID"):
        export_results(vault, tmp_path / "none", "hl7", unnamed)
    vault.close()
    export = "--vault", tmp_path / "vault", "triage", "results", "--all", "--out", tmp_path / "out"
    done = run(*export, "--format", "hl7")
    assert (done.code, "1 left out since they have no PatientID" in done.out) == (3, True)
    assert run(*export, "--format", "fhir", "--json").json["files"] == 2


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("a|b", r"a\F\b"),
        ("^&~", r"\S\\T\\R\ "[:-1]),
        ("\\X0D\\", r"\E\X0D\E\ "[:-1]),
        ("two\r\nlines", r"two\X0D\\X0A\lines"),
        ("bell\x07\x00\x0b\x1c", "bell"),
        ("Ω 日本", "Ω 日本"),
    ],
)
def test_nothing_in_a_field_ends_it(text: str, field: str) -> None:
    assert escaped(text) == field


def test_files_are_written_once_and_logged(tmp_path: Path) -> None:
    vault = filled(tmp_path, synthetic.ct_series(3, 16, 16, attributes=WHO))
    written(vault)
    result = written(vault, content="d")
    out = tmp_path / "out"
    everything = read_results(vault, study_of(vault)[0])
    assert everything == read_results(vault, result.StudyInstanceUID)
    assert everything == read_results(vault, result.study_id)
    with pytest.raises(UnknownUID):
        read_results(vault, "1.2.3")
    assert result.SeriesInstanceUID == result.series
    for format_, ending in (("fhir", ".fhir.json"), ("hl7", ".hl7"), ("json", ".json")):
        with pytest.warns(LeavesTheVault):
            report = export_results(vault, out, format_, everything[-1:])
        assert report.files == 1
        assert (out / f"{result.instance_id}{ending}").is_file()
        with pytest.warns(LeavesTheVault):
            again = export_results(vault, out, format_, everything[-1:])
        assert (again.files, again.kept) == (0, 1)
    logged = [entry for entry in vault.audit.log() if entry.kind == "export" and entry.outcome == "ok"]
    assert [entry.codes["format"][0] for entry in logged[::2]] == ["fhir-r4", "hl7-v2.5", "json"]
    assert logged[0].ids["study"] == (study_of(vault)[0].study_id,)
    document = json.loads((out / f"{result.instance_id}.json").read_text())
    assert "ller" not in json.dumps(document, ensure_ascii=False)
    (out / f"{result.instance_id}.hl7").write_text("something else")
    with pytest.warns(LeavesTheVault), pytest.raises(UsageError, match="there already"):
        export_results(vault, out, "hl7", everything[-1:])


def test_the_command_lists_and_writes(tmp_path: Path, run: Callable[..., Any]) -> None:
    vault = filled(tmp_path, synthetic.ct_series(3, 16, 16, attributes=WHO))
    written(vault)
    newest = written(vault, content="d")
    vault.close()
    place, study = ("--vault", tmp_path / "vault"), newest.StudyInstanceUID
    listed = run(*place, "triage", "results", "--study", study)
    assert listed.code == 0
    assert "superseded" in listed.out
    last = next(line for line in listed.out.splitlines() if " current " in line)
    assert (last.split()[0], last.split()[-1]) == (study, newest.instance_id)
    assert last.split()[2] == newest.model[:8]
    assert "not a medical device" in listed.out
    shown = run(*place, "triage", "results", "--all", "--json").json
    assert [one["superseded"] for one in shown] == [True, False]
    assert shown[1]["score"] == 0.8125
    assert shown[1]["report"] == newest.instance_id
    done = run(*place, "triage", "results", "--all", "--format", "hl7", "--out", tmp_path / "out", "--json")
    assert done.json["files"] == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"{newest.instance_id}.hl7"]
    assert run(*place, "triage", "results").code == 2
    assert run(*place, "triage", "results", "--all", "--format", "hl7").code == 2
    assert run(*place, "triage", "results", "--study", "1.2.3").code == 2
