"""Pictures of the report, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from voxelvault_triage.figures import figure, saved
from voxelvault_triage.merit import Proportion
from voxelvault_triage.monitoring.measures import Calibration
from voxelvault_triage.monitoring.report import Report
from voxelvault_triage.monitoring.rows import Row, scores
from voxelvault_triage.monitoring.summary import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NOW, _BEFORE, _LIMIT = "#c8553d", "#8a8f98", "#444444"
_MOST_STEPS = 60


def pictures(report: Report) -> dict[str, bytes]:
    """Return the pictures that there is something to show in, SVG by title.

    Raises
    ------
    MissingExtra
        Matplotlib is not installed.
    """
    rows = [*report.before, *report.current]
    found = {
        "Share flagged over time": _over_time(rows, report),
        "Scores": _score_histogram(report),
        "From arrival to listed": _latencies(rows, report),
        "Population stability index": _stability(report.summaries, report.limits.stability),
    }
    known = report.summaries[0].calibration
    if known is not None:
        found["Score and outcome"] = _reliability(known)
    return found


def _over_time(rows: Sequence[Row], report: Report) -> bytes:
    drawn = figure(9.0, 2.6)
    panel = drawn.subplots()
    steps = _steps(report.reference.begin, report.period.end)
    told = [(begin, _flagged(rows, begin, end)) for begin, end in pairwise(steps)]
    told = [(begin, share) for begin, share in told if share.cases]
    colours = [_NOW if begin >= report.period.begin else _BEFORE for begin, _ in told]
    when = _when([begin for begin, _ in told])
    panel.vlines(when, *_ends([share for _, share in told]), colors=colours, linewidth=1)
    panel.scatter(when, [share.rate for _, share in told], s=14, c=colours)
    panel.set_ylim(bottom=0)
    panel.set_ylabel("share flagged")
    _mark_period(panel, report)
    return saved(drawn, "svg")


def _when(times: Sequence[datetime]) -> npt.NDArray[np.datetime64]:
    return np.array(times, "datetime64[ms]")


def _ends(shares: Sequence[Proportion]) -> tuple[list[float], list[float]]:
    return [share.interval[0] for share in shares], [share.interval[1] for share in shares]


def _steps(begin: datetime, end: datetime) -> list[datetime]:
    """Return ends of whole days, or of as many days together as keep the picture readable."""
    days = max(1, -(-(end - begin) // timedelta(days=_MOST_STEPS)))
    count = -(-(end - begin) // timedelta(days=days))
    return [end - timedelta(days=days * step) for step in range(count, -1, -1)]


def _flagged(rows: Sequence[Row], begin: datetime, end: datetime) -> Proportion:
    here = [row.flagged for row in rows if row.analysed and begin <= row.arrived < end]
    return Proportion(sum(here), len(here))


def _score_histogram(report: Report) -> bytes:
    drawn = figure(9.0, 2.6)
    panel = drawn.subplots()
    edges = np.linspace(0, 1, 26).tolist()
    for rows, label, colour in ((report.before, "reference", _BEFORE), (report.current, "period", _NOW)):
        found = scores(rows)
        if found:
            weights = np.full(len(found), 1 / len(found))
            named = f"{label}, {len(found)} studies"
            panel.hist(found, edges, weights=weights, histtype="step", color=colour, label=named, linewidth=2)
    thresholds = sorted({row.threshold for row in report.current if row.threshold is not None})
    for threshold in thresholds:
        panel.axvline(threshold, color=_LIMIT, linestyle=":", label=f"threshold {threshold:.3g}")
    panel.set_xlabel("score")
    panel.set_ylabel("share of studies")
    if panel.get_legend_handles_labels()[0]:
        panel.legend(frameon=False)
    return saved(drawn, "svg")


def _latencies(rows: Sequence[Row], report: Report) -> bytes:
    drawn = figure(9.0, 2.6)
    panel = drawn.subplots()
    told = [(row.arrived, max(row.seconds, 0.01)) for row in rows if row.seconds is not None]
    if told:
        times, seconds = zip(*told, strict=True)
        panel.scatter(_when(times), seconds, s=6, color=_NOW, alpha=0.6)
        panel.set_yscale("log")
    panel.axhline(
        report.limits.p95_seconds, color=_LIMIT, linestyle=":", label="limit of the 95th percentile"
    )
    panel.legend(frameon=False)
    panel.set_ylabel("seconds")
    _mark_period(panel, report)
    return saved(drawn, "svg")


def _mark_period(panel: Axes, report: Report) -> None:
    first, begin, end = _when([report.reference.begin, report.period.begin, report.period.end])
    panel.axvspan(begin, end, color=_NOW, alpha=0.08, linewidth=0)
    panel.set_xlim(first, end)


def _stability(summaries: Sequence[Summary], limit: float) -> bytes:
    told = [
        (f"{summary.scanner}: {name}", moved)
        for summary in summaries
        for name, moved in summary.moved.items()
    ][:40]
    drawn = figure(9.0, 1.2 + 0.22 * len(told))
    panel = drawn.subplots()
    places = range(len(told))
    beyond = [moved.index > max(limit, moved.chance) for _, moved in told]
    panel.barh(places, [moved.index for _, moved in told], color=[_NOW if one else _BEFORE for one in beyond])
    panel.plot([moved.chance for _, moved in told], places, "|", color=_LIMIT, label="by chance, once in 100")
    panel.axvline(limit, color=_LIMIT, linestyle=":", label="limit")
    panel.set_yticks(places, [name for name, _ in told], fontsize=7)
    panel.invert_yaxis()
    panel.legend(frameon=False)
    return saved(drawn, "svg")


def _reliability(known: Calibration) -> bytes:
    drawn = figure(4.5, 4.0)
    panel = drawn.subplots()
    panel.plot([0, 1], [0, 1], color=_LIMIT, linestyle=":", label="calibrated")
    middle, shares = [one.score for one in known.bins], [one.positive for one in known.bins]
    panel.vlines(middle, *_ends(shares), colors=_NOW, linewidth=1)
    panel.scatter(middle, [one.rate for one in shares], s=[9 + one.cases for one in shares], color=_NOW)
    panel.set_xlabel("score")
    panel.set_ylabel("share positive")
    panel.legend(frameon=False)
    return saved(drawn, "svg")
