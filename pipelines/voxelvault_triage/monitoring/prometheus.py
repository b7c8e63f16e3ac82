"""Figures as Prometheus reads them: for node_exporter's textfile collector."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC

from voxelvault_triage.merit import Proportion
from voxelvault_triage.monitoring.alerts import Alert
from voxelvault_triage.monitoring.report import Report
from voxelvault_triage.monitoring.summary import Summary

_PREFIX = "voxelvault_triage_"
_HELP = {
    "report_seconds": "When the report was made, seconds since the epoch.",
    "alerts": "Alerts raised, by code and scanner.",
    "studies": "Studies that came in within the period.",
    "flagged_ratio": "Share flagged of those analysed.",
    "not_analysed_ratio": "Share not analysed of all.",
    "failed_ratio": "Share whose analysis failed.",
    "overridden_ratio": "Share whose priority a reader changed.",
    "latency_seconds": "From arrival to listed, by quantile.",
    "stability_index": "Population stability index against the reference, by quantity.",
    "sensitivity_ratio": "Of the flag, where outcomes are known.",
    "specificity_ratio": "Of the flag, where outcomes are known.",
    "brier_score": "Mean squared distance of score and outcome.",
    "calibration_error": "Expected calibration error of the score.",
}

Sample = tuple[str, Mapping[str, str], float]


def exposition(report: Report) -> str:
    """Return the report as Prometheus text, one gauge a figure; what isn't known is left out.

    References
    ----------
    Prometheus, Exposition formats, text format 0.0.4.
    """
    when = report.period.end.replace(tzinfo=UTC).timestamp()
    samples = [("report_seconds", {}, when), *_counted(report.alerts)]
    samples += [sample for summary in report.summaries for sample in _samples(summary)]
    shared = {"pipeline": report.pipeline}
    lines: list[str] = []
    for name, words in _HELP.items():
        lines += [f"# HELP {_PREFIX}{name} {words}", f"# TYPE {_PREFIX}{name} gauge"]
        lines += [
            f"{_PREFIX}{name}{_labels({**shared, **labels})} {value!r}"
            for sample, labels, value in samples
            if sample == name and not math.isnan(value)
        ]
    return "\n".join(lines) + "\n"


def _counted(alerts: Sequence[Alert]) -> Iterator[Sample]:
    pairs = [(alert.code, alert.scanner) for alert in alerts]
    for code, scanner in dict.fromkeys(pairs):
        yield "alerts", {"code": code, "scanner": scanner}, float(pairs.count((code, scanner)))


def _samples(summary: Summary) -> Iterator[Sample]:
    of = {"scanner": summary.scanner}
    yield "studies", of, float(summary.studies)
    for name, share in _shares(summary).items():
        yield f"{name}_ratio", of, share.rate
    if summary.latency is not None:
        yield "latency_seconds", {**of, "quantile": "0.5"}, summary.latency.p50
        yield "latency_seconds", {**of, "quantile": "0.95"}, summary.latency.p95
    for name, moved in summary.moved.items():
        yield "stability_index", {**of, "quantity": name}, moved.index
    if summary.calibration is not None:
        yield "brier_score", of, summary.calibration.brier
        yield "calibration_error", of, summary.calibration.ece


def _shares(summary: Summary) -> dict[str, Proportion]:
    found = {
        "flagged": summary.flagged,
        "not_analysed": summary.not_analysed,
        "failed": summary.failed,
        "overridden": summary.overridden,
    }
    if summary.agreement is not None:
        found |= {
            "sensitivity": summary.agreement.sensitivity,
            "specificity": summary.agreement.specificity,
        }
    return found


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
