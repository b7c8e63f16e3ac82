"""The report as values: a period of one pipeline and model, its summaries and alerts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from voxelvault.errors import UsageError
from voxelvault_triage.merit import Proportion
from voxelvault_triage.monitoring.alerts import Alert, Limits, alerts
from voxelvault_triage.monitoring.rows import Row
from voxelvault_triage.monitoring.summary import Period, Summary, summarise


@dataclass(frozen=True, slots=True)
class Report:
    """What `triage report` says.

    Parameters
    ----------
    pipeline, model : str
        Name, and digest of the model of its newest study.
    others : int
        Studies of both periods that another model analysed; they are left out.
    reference, period : Period
        What is compared.
    summaries : tuple of Summary
        All scanners together, then each.
    alerts : tuple of Alert
        What to look at.
    limits : Limits
        Beyond which.
    prevalences : tuple of float
        For predictive values.
    before, current : tuple of Row
        Of both periods, by arrival.
    """

    pipeline: str
    model: str
    others: int
    reference: Period
    period: Period
    summaries: tuple[Summary, ...]
    alerts: tuple[Alert, ...]
    limits: Limits
    prevalences: tuple[float, ...]
    before: tuple[Row, ...]
    current: tuple[Row, ...]


def make(
    rows: Sequence[Row],
    pipeline: str | None,
    reference: Period,
    period: Period,
    limits: Limits,
    prevalences: Sequence[float] = (0.05, 0.1, 0.2),
) -> Report:
    """Return the report on a period.

    Parameters
    ----------
    rows : sequence of Row
        Of the vault; other pipelines and times are left out here.
    pipeline : str or None
        None where there is one only.
    reference, period : Period
        What is compared.
    limits : Limits
        Beyond which an alert is raised.
    prevalences : sequence of float
        For predictive values, 0 to 1.

    Raises
    ------
    UsageError
        There are no analyses, none of that pipeline, or several pipelines and none is named; or a
        prevalence is out of bounds.
    """
    if not all(0 <= prevalence <= 1 for prevalence in prevalences):
        raise UsageError("a prevalence lies between 0 and 1")
    name = _named(rows, pipeline)
    own = sorted((row for row in rows if row.pipeline == name), key=lambda row: row.arrived)
    model = own[-1].model
    within = [row for row in own if reference.begin <= row.arrived < period.end]
    same = [row for row in within if row.model == model]
    before, current = reference.of(same), period.of(same)
    share = (period.end - period.begin) / (reference.end - reference.begin)
    summaries = summarise(current, before, share)
    return Report(
        pipeline=name,
        model=model,
        others=len(within) - len(same),
        reference=reference,
        period=period,
        summaries=summaries,
        alerts=alerts(summaries, limits),
        limits=limits,
        prevalences=tuple(prevalences),
        before=tuple(before),
        current=tuple(current),
    )


def _named(rows: Sequence[Row], pipeline: str | None) -> str:
    known = sorted({row.pipeline for row in rows})
    if not known:
        raise UsageError("no study was analysed yet; run `triage run` or `triage watch` first")
    if pipeline is None and len(known) > 1:
        raise UsageError(f"several pipelines have run; choose one with --pipeline: {', '.join(known)}")
    if pipeline is not None and pipeline not in known:
        raise UsageError(f"that pipeline has analysed nothing here; these have: {', '.join(known)}")
    return pipeline or known[0]


def document(report: Report) -> dict[str, Any]:
    """Return the report for programs; rates and intervals beside their counts, no study by itself."""
    found = {name: getattr(report, name) for name in ("pipeline", "model", "others", "reference", "period")}
    return {
        **found,
        "limits": report.limits,
        "alerts": report.alerts,
        "scanners": [_told(summary, report.prevalences) for summary in report.summaries],
    }


def _told(summary: Summary, prevalences: Sequence[float]) -> dict[str, Any]:
    told = {name: _plain(getattr(summary, name)) for name in Summary.__dataclass_fields__}
    found = summary.agreement
    if found is not None:
        told["agreement"] = {
            "sensitivity": _plain(found.sensitivity),
            "specificity": _plain(found.specificity),
            "ppv_observed": _plain(found.observed),
            "ppv_at": {str(prevalence): found.predictive_value(prevalence) for prevalence in prevalences},
        }
    if summary.calibration is not None:
        bins = [{"score": one.score, "positive": _plain(one.positive)} for one in summary.calibration.bins]
        told["calibration"] = {**asdict(summary.calibration), "bins": bins}
    return told


def _plain(value: Any) -> Any:
    if isinstance(value, Proportion):
        low, high = value.interval
        return {"hits": value.hits, "cases": value.cases, "rate": value.rate, "low": low, "high": high}
    return value
