"""A department that stays as it was raises nothing; each change raises what it should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from triage_rows import NOW, row, weeks

from voxelvault.errors import UsageError
from voxelvault_triage.model import Verdict
from voxelvault_triage.monitoring.alerts import Limits
from voxelvault_triage.monitoring.report import Report, document, make
from voxelvault_triage.monitoring.rows import Row
from voxelvault_triage.monitoring.summary import periods

REFERENCE, PERIOD = periods(NOW, 7, 56)
SENSITIVE = Limits(sensitivity=0.2, specificity=0.8)


def report(rows: list[Row], limits: Limits = SENSITIVE, pipeline: str | None = None) -> Report:
    return make(rows, pipeline, REFERENCE, PERIOD, limits)


def codes(found: Report) -> set[str]:
    return {alert.code for alert in found.alerts}


def changed(rows: list[Row], change: Callable[[Row], Row], every: int = 1) -> list[Row]:
    """Change every n-th row of the period."""
    return [
        change(one) if one.arrived >= PERIOD.begin and place % every == 0 else one
        for place, one in enumerate(rows)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_nothing_changed_nothing_raised(seed: int) -> None:
    found = report([*weeks(seed), *weeks(seed + 100, scanner="B", a_day=5)])
    assert found.alerts == ()
    assert [one.scanner for one in found.summaries] == ["all scanners", "A", "B"]
    assert [one.studies for one in found.summaries] == [175, 140, 35]


def failed(one: Row) -> Row:
    return replace(one, verdict=None, score=None, seconds=None)


def not_analysed(one: Row) -> Row:
    return replace(one, verdict=Verdict.NOT_ANALYSED, score=None, reasons=("tilt",))


def doubled(one: Row) -> Row:
    score = min(1.0, (one.score or 0) * 3 + 0.1)
    return replace(one, score=score, verdict=Verdict.POSITIVE if score >= 0.5 else Verdict.NEGATIVE)


@pytest.mark.parametrize(
    ("change", "every", "code"),
    [
        (failed, 10, "failed"),
        (not_analysed, 2, "not-analysed"),
        (doubled, 1, "drift"),
        (doubled, 1, "flag-rate"),
        (doubled, 1, "calibration"),
        (lambda one: replace(one, seconds=900.0), 10, "latency"),
        (lambda one: replace(one, overridden=True), 2, "overridden"),
        (lambda one: replace(one, inputs={"SliceThickness": 0.6}), 1, "drift"),
        (lambda one: replace(one, verdict=Verdict.NEGATIVE), 1, "sensitivity"),
        (lambda one: replace(one, verdict=Verdict.POSITIVE), 1, "specificity"),
    ],
)
def test_each_change_raises_its_alert(change: Callable[[Row], Row], every: int, code: str) -> None:
    assert code in codes(report(changed(weeks(), change, every)))


def test_one_scanner_of_two_is_named() -> None:
    quiet = changed(weeks(), lambda one: replace(one, inputs={"SliceThickness": 0.6}))
    found = report([*quiet, *weeks(9, scanner="B", a_day=80)])
    assert {alert.scanner for alert in found.alerts} == {"all scanners", "A"}
    assert {alert.quantity for alert in found.alerts} == {"SliceThickness"}


def test_silence() -> None:
    before = [one for one in weeks(a_day=1) if one.arrived < PERIOD.begin]
    found = report(before)
    assert [(alert.code, alert.scanner) for alert in found.alerts] == [("silent", "all scanners")]
    gone = report([*before, *weeks(1, scanner="B")])
    assert [(alert.code, alert.scanner) for alert in gone.alerts] == [("silent", "A")]
    # Who sends once in a fortnight may well have sent nothing in a week.
    seldom = [replace(one, scanner="B") for one in before[::14]]
    assert {alert.scanner for alert in report([*seldom, *weeks()]).alerts} == set()


def test_few_studies_are_no_evidence() -> None:
    bad = [failed(row(NOW - timedelta(hours=1))), row(NOW - timedelta(hours=2), 0.9)]
    assert codes(report([*weeks(days=30, a_day=1), *bad])) <= {"failed"}
    assert "failed" not in codes(report([*weeks(), bad[0]]))


def test_a_handful_raises_nothing_and_one_late_study_of_many_is_chance() -> None:
    late = [row(NOW - timedelta(hours=place + 1), 0.9, seconds=1079.4) for place in range(12)]
    assert codes(report(late[:9])) == set()
    (found,) = (alert for alert in report(late).alerts if alert.code == "latency")
    assert found.figures == ("1079.4 s", "300.0 s")
    assert codes(report([*weeks(days=1), late[0], late[1]])) == set()


def test_another_models_scores_are_left_out() -> None:
    old = [replace(one, model="m0", score=0.9) for one in weeks() if one.arrived < PERIOD.begin]
    found = report([*old, *weeks(days=7)])
    assert found.others == len(old)
    assert found.model == "m1"
    assert found.alerts == ()
    assert found.before == ()


def test_pipelines_are_kept_apart() -> None:
    rows = [*weeks(days=3), *(replace(one, pipeline="geometry") for one in weeks(days=2))]
    with pytest.raises(UsageError, match="bleed, geometry"):
        report(rows)
    assert report(rows, pipeline="geometry").summaries[0].studies == 40
    with pytest.raises(UsageError, match="analysed nothing"):
        report(rows, pipeline="other")
    with pytest.raises(UsageError, match="no study"):
        report([])


def test_bounds() -> None:
    with pytest.raises(UsageError):
        periods(NOW, 0, 1)
    with pytest.raises(UsageError):
        make(weeks(days=1), None, REFERENCE, PERIOD, Limits(), (2.0,))


def test_the_document_counts_and_names_no_study() -> None:
    rows = [replace(one, study=f"secret-{place}") for place, one in enumerate(weeks())]
    found = document(report([*rows, row(NOW - timedelta(hours=1), None)]))
    every = found["scanners"][0]
    assert every["flagged"]["cases"] == every["studies"] - 1
    assert every["reasons"] == {"thickness": 1}
    assert set(every["agreement"]["ppv_at"]) == {"0.05", "0.1", "0.2"}
    assert every["calibration"]["bins"][0]["positive"]["cases"] > 0
    assert "secret" not in repr(found)
