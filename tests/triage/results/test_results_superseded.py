"""The same analysis is written once; a newer one says what it replaces, and the older one is marked."""

from __future__ import annotations

from pathlib import Path

import pytest
from triage_results_support import analysis_of, errors_of, file_of, filled, read

import voxelvault as vv
from voxelvault.errors import UnknownUID
from voxelvault.testing import synthetic
from voxelvault_triage.results import Written, read_result, read_results, write_results, writing


@pytest.fixture
def vault(tmp_path: Path) -> vv.Vault:
    return filled(tmp_path, synthetic.ct_series(3, 16, 16))


def written(vault: vv.Vault, content: str, **options: object) -> Written:
    analysis = analysis_of(vault, content=content)
    with vault.series(analysis.gated.SeriesInstanceUID or "") as series:
        return write_results(vault, series, analysis, **options)  # type: ignore[arg-type]


def test_the_same_analysis_is_written_once(vault: vv.Vault) -> None:
    first, again = written(vault, "c"), written(vault, "c")
    assert (first.new, again.new) == (True, False)
    assert again.instance_ids == first.instance_ids
    assert vault.sql("select count(origin) from instances").fetchall() == [(3,)]


def test_two_that_write_at_once_leave_one_result(vault: vv.Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    written(vault, "c")
    # The other one looked before this one's commit, and its clock tells another time.
    monkeypatch.setattr(writing, "reports", lambda *_: [])
    other = written(vault, "c")
    (found,) = read_results(vault, analysis_of(vault).study)
    assert found.instance_id == other.report
    assert found.mask(vault) is not None
    assert vault.verify(progress=False).ok


def test_a_newer_result_replaces_the_older(vault: vv.Vault, tmp_path: Path) -> None:
    first, second = written(vault, "c"), written(vault, "d")
    older, newer = read_results(vault, analysis_of(vault).study)
    assert (older.instance_id, older.superseded) == (first.report, True)
    assert (newer.instance_id, newer.superseded) == (second.report, False)
    assert read_result(vault, analysis_of(vault).study) == newer
    report = read(file_of(vault, second.report))
    (study,) = report.PredecessorDocumentsSequence
    (named,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert named.ReferencedSOPInstanceUID == older.SOPInstanceUID
    assert not errors_of(file_of(vault, second.report), tmp_path)
    assert tracked(report) == tracked(read(file_of(vault, first.report))) != []
    vault.compact(progress=False)
    assert [one.superseded for one in read_results(vault, analysis_of(vault).study)] == [True, False]


def tracked(item: object) -> list[str]:
    """Return every tracking UID of a report, in order."""
    found: list[str] = []
    for child in getattr(item, "ContentSequence", ()):
        names = getattr(child, "ConceptNameCodeSequence", ())
        if names and names[0].CodeValue == "112040":
            found.append(str(child.UID))
        found += tracked(child)
    return found


def test_a_content_that_comes_back_is_written_again(vault: vv.Vault) -> None:
    first, _, third = written(vault, "c"), written(vault, "d"), written(vault, "c")
    assert third.new
    assert third.report != first.report
    assert [one.superseded for one in read_results(vault, analysis_of(vault).study)] == [True, True, False]
    assert not written(vault, "c").new


def test_two_pipelines_results_stand_side_by_side(vault: vv.Vault) -> None:
    written(vault, "c")
    other = analysis_of(vault, pipeline="geometry-check", fit=False)
    write_results(vault, None, other)
    found = read_results(vault, other.study)
    assert [one.superseded for one in found] == [False, False]
    latest = read_result(vault, other.study, "head-ct-hemorrhage")
    assert latest is not None
    assert latest.pipeline == "head-ct-hemorrhage"


def test_what_to_replace_can_be_named(vault: vv.Vault) -> None:
    written(vault, "c")
    written(vault, "d", supersedes=[])
    found = read_results(vault, analysis_of(vault).study)
    assert [one.superseded for one in found] == [False, False]
    third = written(vault, "e", supersedes=[found[0].instance_id])
    assert [one.superseded for one in read_results(vault, analysis_of(vault).study)] == [True, False, False]
    with pytest.raises(UnknownUID, match="is not in this study"):
        written(vault, "f", supersedes=["0" * 32])
    assert third.new
