"""Studies are analysed from Python, as `triage run` does it."""

from __future__ import annotations

from pathlib import Path

import pytest
from fhir.resources.R4B import get_fhir_model_class
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from mean_hu import MeanHU
from runner_support import ct, reports, take

import voxelvault as vv
from voxelvault import plugins
from voxelvault.errors import UsageError
from voxelvault_triage.analysing import analyse
from voxelvault_triage.results.about import About
from voxelvault_triage.results.fhir import bundle
from voxelvault_triage.results.hl7 import oru_r01
from voxelvault_triage.results.reading import reports as written_reports
from voxelvault_triage.running.session import HERE, Hands

HANDS = Hands(HERE)


def test_new_studies_once_and_named_ones_again(
    vault: vv.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "load", lambda _group, _name: MeanHU)
    take(vault, tmp_path / "in", *ct(1), *ct(2))
    first = analyse(vault, MeanHU().name, hands=HANDS)
    assert (first.scheduled, first.report.studies, first.elsewhere) == (2, 2, False)
    assert str(first).startswith("studies: 2 scheduled; 2 analysed, 0 not analysed; ")
    again = analyse(vault, MeanHU().name, hands=HANDS)
    assert (again.scheduled, again.report.studies) == (0, 0)
    take(vault, tmp_path / "later", *ct(3))
    cohort = analyse(vault, MeanHU().name, cohort="Modality = 'MR'", hands=HANDS)
    assert cohort.scheduled == 0
    assert analyse(vault, MeanHU().name, cohort="Modality = 'CT'", hands=HANDS).scheduled == 1
    assert set(reports(vault).values()) == {1}
    with pytest.raises(UsageError, match="choose one"):
        analyse(vault, MeanHU().name, studies=["1.2"], cohort="true", hands=HANDS)


@pytest.mark.long
@pytest.mark.parametrize("pipeline", ["ct-geometry-check", "head-ct-hemorrhage"])
def test_every_study_of_real_files_gets_a_result_or_cannot_be_named(
    vault: vv.Vault, shared_dicom: Path, pipeline: str
) -> None:
    vault.ingest(shared_dicom, progress=False)
    told = analyse(vault, pipeline, hands=HANDS).report
    nameless = vault.sql("select count(*) from studies where coalesce(StudyInstanceUID, '') = ''").fetchall()
    assert told.given_up == {"no-study-uid": nameless[0][0]}
    assert told.studies > 90
    for one in written_reports(vault, None):
        get_fhir_model_class("Bundle").model_validate(bundle(one))
        if About.of(one.header).patient_id:
            assert parse_message(oru_r01(one), validation_level=VALIDATION_LEVEL.STRICT).validate()
    assert vault.verify(progress=False).ok
