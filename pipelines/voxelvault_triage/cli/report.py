"""`triage report`: whether the model still does here what it did, for people, cron and Prometheus."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.command import Session, pass_session, verb
from voxelvault.interfaces.cli.output import emit, shown, table
from voxelvault_triage.amounts import Amount

if TYPE_CHECKING:
    from voxelvault_triage.monitoring.alerts import Limits
    from voxelvault_triage.monitoring.report import Report
    from voxelvault_triage.monitoring.summary import Summary

ALERTED = 4
"""Exit code: the report was made, and something in it wants looking at."""

_FILE = click.Path(path_type=Path, dir_okay=False)


@verb(
    "report",
    "voxelvault --vault ~/vault triage report --out report.html",
    "voxelvault --vault ~/vault triage report --days 1 --reference 28 --json || mail-the-team",
    "voxelvault --vault ~/vault triage report --labels outcomes.csv --label hemorrhage --out report.html",
    "voxelvault --vault ~/vault triage report --prometheus /var/lib/node_exporter/triage.prom",
)
@click.option("--pipeline", metavar="NAME", help="Where several have run.")
@click.option(
    "--days",
    type=Amount(0, 36500, min_open=True),
    default=7,
    show_default=True,
    help="The period, up to now.",
)
@click.option(
    "--reference", type=Amount(0, 36500, min_open=True), default=56, show_default=True, help="Days before it."
)
@click.option("--labels", type=_FILE, metavar="FILE", help="Outcomes: .csv, .tsv or .parquet.")
@click.option("--label", metavar="COLUMN", help="Its column of 0 and 1; another is StudyInstanceUID.")
@click.option("--prevalence", type=Amount(0, 1), multiple=True, default=(0.05, 0.1, 0.2))
@click.option("--limit", "limits", multiple=True, metavar="NAME=VALUE", help="Such as p95_seconds=60.")
@click.option(
    "--out", type=_FILE, metavar="FILE", help="Write the page, HTML with plots; its folder is made."
)
@click.option("--prometheus", type=_FILE, metavar="FILE", help="Write the figures as Prometheus text.")
@pass_session
def command(session: Session, /, as_json: bool, **asked: Any) -> int:
    """Report drift, share flagged, latency and agreement, scanner by scanner.

    \b
    Exit codes: 0 nothing to look at, 4 something (the alerts say what).
    Files are replaced, so that cron can write them again.
    """  # noqa: D301
    from voxelvault_triage.monitoring.report import document

    for file in (asked["out"], asked["prometheus"]):
        if file is not None:
            file.expanduser().parent.mkdir(parents=True, exist_ok=True)
    report = _report(session, asked)
    _write(report, asked["out"], asked["prometheus"])
    emit(document(report), _lines(report), as_json)
    return ALERTED if report.alerts else 0


def _report(session: Session, asked: dict[str, Any]) -> Report:
    from voxelvault_triage.monitoring.reading import labels_of, rows_of
    from voxelvault_triage.monitoring.report import make
    from voxelvault_triage.monitoring.summary import periods

    if (asked["labels"] is None) != (asked["label"] is None):
        raise UsageError("--labels and --label go together: a file, and its column of 0 and 1")
    limits = _limits(asked["limits"])
    # What arrives within this second belongs to the period too.
    now = datetime.now(UTC).replace(tzinfo=None, microsecond=0) + timedelta(seconds=1)
    reference, period = periods(now, asked["days"], asked["reference"])
    with session.open() as vault:
        labels = labels_of(vault, asked["labels"], asked["label"]) if asked["labels"] else None
        rows = rows_of(vault, reference.begin, labels)
    return make(rows, asked["pipeline"], reference, period, limits, asked["prevalence"])


def _limits(given: tuple[str, ...]) -> Limits:
    from dataclasses import fields

    from voxelvault_triage.monitoring.alerts import Limits

    known = [field.name for field in fields(Limits)]
    found: dict[str, float] = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            found[name] = Amount(0).convert(value, None, None)
        except click.BadParameter:
            raise UsageError("--limit takes a name and a number, such as p95_seconds=60") from None
        if name not in known:
            raise UsageError(f"there is no limit of that name; choose of {', '.join(known)}")
    return Limits(**found)


def _write(report: Report, out: Path | None, prometheus: Path | None) -> None:
    from voxelvault.files import replace_file
    from voxelvault_triage.monitoring.prometheus import exposition

    if out is not None:
        from voxelvault_triage.monitoring.page import page

        replace_file(out.expanduser(), [page(report)])
    if prometheus is not None:
        replace_file(prometheus.expanduser(), [exposition(report).encode()])


def _lines(report: Report) -> list[str]:
    from voxelvault_triage.notice import GENERAL

    heads = ("scanner", "studies", "flagged", "before", "not analysed", "failed", "p50 s", "p95 s", "PSI")
    days = (report.reference.end - report.reference.begin).days
    notes = (
        [] if report.before else [f"before: nothing to compare with; no study of the {days} days before.", ""]
    )
    alerts = [f"alert: {one.code}, {shown(one.scanner)}: {_why(one)}" for one in report.alerts]
    return [
        f"{report.pipeline}, {report.period.begin:%Y-%m-%d %H:%M} to {report.period.end:%Y-%m-%d %H:%M} UTC",
        "",
        *table(heads, [_cells(one) for one in report.summaries]),
        "",
        *notes,
        *_known(report),
        *(alerts or ["No alerts."]),
        GENERAL,
    ]


def _known(report: Report) -> list[str]:
    """Return what is told where outcomes are known; nothing without labels."""
    from voxelvault_triage.monitoring.page import expected, share

    heads = ("where the outcome is known", "sensitivity", "specificity", "PPV observed")
    known = [(one.scanner, one.agreement) for one in report.summaries if one.agreement is not None]
    rows = [
        (name, *(share(part) for part in (found.sensitivity, found.specificity, found.observed)))
        for name, found in known
    ]
    at = [f"PPV at {prevalence:.0%}" for prevalence in report.prevalences]
    values = [
        (name, *(expected(found.predictive_value(one)) for one in report.prevalences))
        for name, found in known
    ]
    return [*table(heads, rows), "", *table(("at another prevalence", *at), values), ""] if rows else []


def _why(alert: Any) -> str:
    what = f"{alert.quantity} " if alert.quantity else ""
    value, limit = alert.figures
    return f"{what}{value} (limit {limit}); {alert.sentence}"


def _cells(one: Summary) -> tuple[str, ...]:
    from voxelvault_triage.monitoring.summary import SCORE

    shares = (one.flagged, one.flagged_before, one.not_analysed, one.failed)
    late = ("-", "-") if one.latency is None else (f"{one.latency.p50:.1f}", f"{one.latency.p95:.1f}")
    moved = f"{one.moved[SCORE].index:.2f}" if SCORE in one.moved else "-"
    rates = (f"{part.rate:.1%}, {part.hits}/{part.cases}" if part.cases else "-" for part in shares)
    return one.scanner, str(one.studies), *rates, *late, moved
