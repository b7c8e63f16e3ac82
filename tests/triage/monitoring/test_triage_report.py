"""`triage report` on a vault: rows out of its tables, files for people and programs, exit codes for cron."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import voxelvault as vv
from voxelvault import tasks
from voxelvault.audit.events import Kind
from voxelvault.model import new_id
from voxelvault.tasks import Step, record
from voxelvault.testing.synthetic import ct_series
from voxelvault_triage.model import Verdict
from voxelvault_triage.monitoring.reading import labels_of, rows_of

MODEL = "ab" * 32


def steps(
    study: str,
    series: str | None,
    arrived: datetime,
    score: float | None,
    *,
    model: str = MODEL,
    later: timedelta = timedelta(),
) -> Iterator[Step]:
    """One analysis, listed five seconds after its schedule; without a score it was not analysed."""
    task, item = new_id(), new_id()
    key = {"task_id": task}
    planned = {"study_id": study, "arrived": arrived, "scheduled": arrived + later, "content": "cd" * 32}
    planned |= {"model": model, "pipeline": "bleed", "version": "1", "priority": "MEDIUM", "attempt": 1}
    yield Step(Kind.TASK_SCHEDULED, key | planned)
    listed = {"item_id": item, "study_id": study, **key, "arrived": arrived, "listed": arrived + later}
    yield Step(Kind.READING_LISTED, {**listed, "priority": "MEDIUM"})
    yield Step(Kind.TASK_STARTED, {**key, "transaction_uid": "2.25.77", "started": arrived + later})
    done: dict[str, Any] = {"ended": arrived + later + timedelta(seconds=5)}
    if score is None:
        done |= {"verdict": Verdict.NOT_ANALYSED.value, "reasons": ["thickness"], "reason": "Too thick."}
    else:
        verdict = Verdict.POSITIVE if score >= 0.5 else Verdict.NEGATIVE
        done |= {"series_id": series, "verdict": verdict.value, "score": score, "threshold": 0.5}
    yield Step(Kind.TASK_COMPLETED, key | done)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault with four studies, the last of them not analysed, labels of all, and its keys."""
    place = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(place / "configuration"))
        fill(place)
    return place


@pytest.fixture
def made(template: Path, configuration: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The vault; nothing here changes it."""
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(template / "configuration"))
    return template / "vault"


def fill(tmp_path: Path) -> None:
    (tmp_path / "dicom").mkdir()
    for person in range(4):
        scanner = {
            "Manufacturer": "MAKER",
            "ManufacturerModelName": "MODEL",
            "ConvolutionKernel": ["H30", "1"],
        }
        files = ct_series(4, 16, 16, seed=person, attributes={"PatientID": f"P{person}", **scanner})
        for number, data in enumerate(files):
            (tmp_path / "dicom" / f"{person}-{number}.dcm").write_bytes(data)
    with vv.create(tmp_path / "vault", codec="fast") as vault:
        vault.ingest(tmp_path / "dicom", progress=False)
        series = vault.sql(
            "select study_id, series_id from series where Modality = 'CT' order by 1"
        ).fetchall()
        at = tasks.now() - timedelta(hours=1)
        scores = (0.9, 0.1, 0.2, None)
        told = [steps(*series[1], at, 0.7, model="ef" * 32)]
        # The second was analysed by another model before.
        again = [timedelta(), timedelta(minutes=30), timedelta(), timedelta()]
        pairs = zip(series, scores, again, strict=True)
        told += [steps(*ids, at, score, later=later) for ids, score, later in pairs]
        record(vault.resources, lambda _query: [step for one in told for step in one])
        uids = vault.sql("select StudyInstanceUID from studies order by study_id").fetchall()
    lines = [f"{uid},{truth}" for (uid,), truth in zip(uids, (1, 0, 1, 0), strict=True)]
    (tmp_path / "outcomes.csv").write_text("\n".join(["StudyInstanceUID,bled", *lines]))


def test_rows_of_a_vault(made: Path) -> None:
    with vv.open(made) as vault:
        labels = labels_of(vault, made.parent / "outcomes.csv", "bled")
        rows = rows_of(vault, datetime(2000, 1, 1), labels)
        assert rows_of(vault, datetime(2999, 1, 1)) == []
    assert [row.score for row in rows if row.model != MODEL] == [0.7]
    found = sorted((row for row in rows if row.model == MODEL), key=lambda row: row.score or 0)
    assert [row.score for row in found] == [None, 0.1, 0.2, 0.9]
    assert [row.label for row in found] == [False, False, True, True]
    assert found[0].verdict is Verdict.NOT_ANALYSED
    assert found[0].reasons == ("thickness",)
    assert {row.seconds for row in found} == {5.0}
    assert {row.scanner for row in found} == {"MAKER MODEL"}
    assert found[0].inputs == {}
    assert found[1].inputs["slices"] == 4
    assert found[1].inputs["ConvolutionKernel"] == "H30\\1"


def test_it_prints_writes_and_tells_cron(run: Callable[..., Any], made: Path, tmp_path: Path) -> None:
    page, figures = tmp_path / "new" / "report.html", tmp_path / "triage.prom"
    words = ("--vault", made, "triage", "report", "--out", page, "--prometheus", figures)
    found = run(*words)
    assert found.code == 0, found.err
    assert "bleed" in found.out
    assert "No alerts." in found.out
    assert "Not a medical device" in found.out
    assert page.read_bytes().startswith(b"<!doctype html>")
    assert 'voxelvault_triage_studies{pipeline="bleed",scanner="all scanners"} 4.0' in figures.read_text()
    page.write_text("the one before")
    assert run(*words, "--limit", "p95_seconds=1").code == 0
    late = run(*words, "--limit", "p95_seconds=1", "--limit", "studies=4")
    assert late.code == 4
    assert page.read_bytes().startswith(b"<!doctype html>")
    assert "alert: latency, all scanners: 5.0 s (limit 1.0 s);" in late.out
    assert "33.3%, 1/3" in late.out


def test_json_and_labels(run: Callable[..., Any], made: Path) -> None:
    words = ("--vault", made, "triage", "report", "--json", "--labels", made.parent / "outcomes.csv")
    found = run(*words, "--label", "bled")
    assert found.code == 0, found.err
    every = found.json["scanners"][0]
    assert every["agreement"]["sensitivity"]["hits"] == 1
    assert every["agreement"]["sensitivity"]["cases"] == 2
    assert every["latency"]["p95"] == 5.0


def test_the_terminal_tells_what_the_labels_say(run: Callable[..., Any], made: Path) -> None:
    words = ("--vault", made, "triage", "report")
    told = run(*words, "--labels", made.parent / "outcomes.csv", "--label", "bled").out
    assert "where the outcome is known" in told
    assert "1/2" in told
    assert re.search(r"PPV at 5% .*\n.*\n.*\d% \(\d.*% to \d.*%\)", told)
    # Nothing came in before the period, and a blank would look like none flagged.
    assert "before: nothing to compare with; no study of the 56 days before" in told
    assert "where the outcome is known" not in run(*words).out


def test_a_column_that_is_not_there_is_told_in_the_words_of_the_command(
    run: Callable[..., Any], made: Path
) -> None:
    labels = made.parent / "outcomes.csv"
    for words in (
        ("report", "--labels", labels, "--label", "bleed"),
        ("calibrate", "head-ct-hemorrhage", labels, "--label", "bleed"),
        ("calibrate", "head-ct-hemorrhage", "--from-reports", "--label", "bleed"),
        ("calibrate", "head-ct-hemorrhage", labels, "--label", "bled", "--on", "magic"),
    ):
        found = run("--vault", made, "triage", *words)
        assert (found.code, found.err.count("\n"), "=" in found.err) == (2, 1, False), found.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--labels", "x.csv"), "go together"),
        (("--limit", "x=1"), "choose of"),
        (("--limit", "failed"), "a name and a number"),
        (("--pipeline", "other"), "bleed"),
        (("--days", "0"), "0<x"),
    ],
)
def test_wrong_options_are_told(
    run: Callable[..., Any], made: Path, words: tuple[str, ...], told: str
) -> None:
    found = run("--vault", made, "triage", "report", *words)
    assert found.code == 2
    assert told in found.err


def test_a_vault_where_nothing_was_analysed(run: Callable[..., Any], tmp_path: Path) -> None:
    with vv.create(tmp_path / "empty"):
        pass
    found = run("--vault", tmp_path / "empty", "triage", "report")
    assert found.code == 2
    assert "triage watch" in found.err
