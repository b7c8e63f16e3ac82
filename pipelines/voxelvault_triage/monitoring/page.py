"""The report as one HTML file that needs no network."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence
from html import escape

from voxelvault.display.html import table
from voxelvault_triage.merit import Figure, Proportion
from voxelvault_triage.monitoring.plots import pictures
from voxelvault_triage.monitoring.report import Report
from voxelvault_triage.monitoring.summary import SCORE, Period, Summary
from voxelvault_triage.notice import GENERAL

_STYLE = """
body{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em;color:#222}
img{max-width:100%;display:block} h1{font-size:1.5em} h2{font-size:1.15em;margin-top:1.8em}
.notice{border-left:4px solid #c8553d;padding:.3em .8em;background:#f6f1ef}
"""
# Nothing is fetched, even if a value held markup that got through.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_NOTES = """
Intervals are Wilson's, 95 %; of a predictive value at a prevalence, the ends of both intervals that it
follows from, together. The population stability index compares with the reference; an alert needs
more than its limit and more than samples of that size give by chance once in a hundred times. Sensitivity,
specificity and calibration count studies whose outcome is known alone: where outcomes are looked up for
flagged studies more often than for others, they flatter the model. Times are UTC.
"""


def page(report: Report) -> bytes:
    """Return the whole page, UTF-8.

    Raises
    ------
    MissingExtra
        Matplotlib is not installed.
    """
    body = "".join(_body(report))
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>Triage report</title><style>{_STYLE}</style>"
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'.encode()


def _body(report: Report) -> Iterator[str]:
    yield f'<h1>Triage report: {escape(report.pipeline)}</h1><p class="notice">{escape(GENERAL)}</p>'
    when = f"{_dates(report.period)}, against {_dates(report.reference)}"
    yield f"<p>{when}. Model {_short(report.model)}.{_left(report)}</p>"
    yield "<h2>Alerts</h2>" + _alerts(report)
    yield "<h2>By scanner</h2>" + _scanners(report.summaries)
    yield from _labelled(report)
    yield from _reasons(report.summaries[0])
    for title, picture in pictures(report).items():
        data = base64.b64encode(picture).decode()
        yield f'<h2>{title}</h2><img alt="{title}" src="data:image/svg+xml;base64,{data}">'
    yield f"<h2>How to read this</h2><p>{_NOTES}</p>"


def _dates(period: Period) -> str:
    return f"{period.begin:%Y-%m-%d %H:%M} to {period.end:%Y-%m-%d %H:%M}"


def _short(model: str) -> str:
    return f"<code>{escape(model[:12])}</code>" if model else "none"


def _left(report: Report) -> str:
    return f" {report.others} studies of another model are left out." if report.others else ""


def _alerts(report: Report) -> str:
    if not report.alerts:
        return "<p>None.</p>"
    rows = [(one.code, one.scanner, one.quantity, *one.figures, one.sentence) for one in report.alerts]
    return table(("alert", "scanner", "quantity", "value", "limit", "what to do"), rows)


def _scanners(summaries: Sequence[Summary]) -> str:
    heads = ("scanner", "studies", "flagged", "flagged before", "not analysed", "failed", "overridden")
    rows = [
        (
            one.scanner,
            one.studies,
            *(share(part) for part in (one.flagged, one.flagged_before, one.not_analysed, one.failed)),
            share(one.overridden),
            "" if one.latency is None else f"{one.latency.p50:.1f} / {one.latency.p95:.1f} s",
            f"{one.moved[SCORE].index:.2f}" if SCORE in one.moved else "",
        )
        for one in summaries
    ]
    return table((*heads, "listed after, p50 / p95", "PSI of score"), rows)


def share(part: Proportion) -> str:
    """Return a share in words: rate, interval and counts; a dash without cases."""
    if not part.cases:
        return "-"
    low, high = part.interval
    return f"{part.rate:.1%} ({low:.1%} to {high:.1%}), {part.hits}/{part.cases}"


def expected(value: Figure) -> str:
    """Return a predictive value and its interval in words; empty where it isn't known."""
    return "" if math.isnan(value.value) else f"{value.value:.1%} ({value.low:.1%} to {value.high:.1%})"


def _labelled(report: Report) -> Iterator[str]:
    known = [one for one in report.summaries if one.agreement is not None]
    if not known:
        return
    heads = ("scanner", "sensitivity", "specificity", "PPV observed", "Brier", "ECE")
    at = [f"PPV at {prevalence:.0%}" for prevalence in report.prevalences]
    rows = [_accuracy(one, report.prevalences) for one in known]
    yield "<h2>Against what is known</h2>" + table((*heads, *at), rows)


def _accuracy(one: Summary, prevalences: Sequence[float]) -> tuple[object, ...]:
    found, scores = one.agreement, one.calibration
    if found is None or scores is None:
        return (one.scanner,)
    values = [found.predictive_value(prevalence) for prevalence in prevalences]
    return (
        one.scanner,
        *(share(part) for part in (found.sensitivity, found.specificity, found.observed)),
        f"{scores.brier:.3f}",
        f"{scores.ece:.3f}",
        *map(expected, values),
    )


def _reasons(every: Summary) -> Iterator[str]:
    if every.reasons:
        yield "<h2>Why studies were not analysed</h2>"
        yield table(("reason", "studies"), list(every.reasons.items()))
