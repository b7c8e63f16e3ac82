"""`triage simulate`: what re-ordering would do to waiting here, before anybody installs anything."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.command import Session, pass_session, read_text, verb
from voxelvault.interfaces.cli.output import emit, table
from voxelvault_triage.amounts import Amount
from voxelvault_triage.worklist.order import AGEING

if TYPE_CHECKING:
    from voxelvault_triage.simulation.arrivals import Arrivals
    from voxelvault_triage.simulation.compare import Department, Estimate, Waiting

_SHARE = Amount(0, 1)
_FAR = ("p95 before", "p95 after", "longest after")
_WEEK = 7


@verb(
    "simulate",
    "voxelvault triage simulate --per-hour 6 --shift 0-24 --reading 8 --sensitivity 0.9 --specificity 0.9",
    "voxelvault triage simulate --arrivals times.csv --shift 8-18 --shift 18-8 --reading 7,5 --plot a.svg",
    "voxelvault --vault ~/vault triage simulate --arrivals received --auc 0.93 --ageing 60",
)
@click.option("--arrivals", metavar="FILE|received|acquired", help="As measured: a CSV, or this vault's.")
@click.option("--per-hour", default="6", show_default=True, help="Or at random: one rate, or 24, 2,1,…")
@click.option("--shift", "shifts", multiple=True, default=("0-24",), help="Hours of a reader; repeat.")
@click.option("--reading", default="8", metavar="MEAN[,SD]", show_default=True, help="Minutes a study takes.")
@click.option("--prevalence", type=_SHARE, default=0.1, show_default=True, help="Share of positives.")
@click.option("--sensitivity", type=_SHARE, help="Of the model.  [default: 0.9, unless --auc]")
@click.option("--specificity", type=_SHARE, default=0.9, show_default=True, help="Of the model.")
@click.option("--auc", type=_SHARE, help="In place of the sensitivity: binormal, at that specificity.")
@click.option("--delay", type=Amount(0), default=1.0, show_default=True, help="Until flagged, minutes.")
@click.option(
    "--not-analysed", type=_SHARE, default=0.0, show_default=True, help="Share that the model doesn't take."
)
@click.option("--ageing", type=Amount(0), default=AGEING, show_default=True, help="Minutes a step; 0: none.")
@click.option("--heeded", type=_SHARE, default=1.0, show_default=True, help="Share of reads in that order.")
@click.option("--days", type=click.IntRange(1, 3650), default=14, show_default=True, help="In a repeat.")
@click.option(
    "--repeats", type=click.IntRange(2, 100_000), default=100, show_default=True, help="Of these days."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same gives the same.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw it: .svg or .png; its folder is made.",
)
@pass_session
def command(session: Session, /, as_json: bool, plot: Path | None, **asked: Any) -> None:
    """Simulate how long studies wait, with and without re-ordering by flag.

    Readers take studies first come, first read, or flagged ones first; both on the same studies. The
    figures are means over repeats with 95 % intervals, in minutes from arrival until a reader begins.
    """
    from voxelvault_triage.simulation.compare import compare

    kind = _kind(plot)
    department = _department(session, asked)
    amounts = {name: asked[name] for name in ("days", "repeats", "seed")}
    found = compare(department, **amounts)
    if plot is not None:
        _draw(plot, kind, found, department)
    emit(_document(department, amounts, found), _lines(department, found, asked["days"]), as_json)


def _kind(plot: Path | None) -> str:
    """Return what a plot is written as; its folder is made now, not when everything is computed."""
    if plot is None:
        return "svg"
    kind = plot.suffix.lower().lstrip(".")
    if kind not in ("svg", "png"):
        raise UsageError("--plot takes a file that ends in .svg or .png")
    plot.expanduser().parent.mkdir(parents=True, exist_ok=True)
    return kind


def _department(session: Session, asked: Mapping[str, Any]) -> Department:
    from voxelvault_triage.simulation.compare import Department
    from voxelvault_triage.simulation.queueing import Order
    from voxelvault_triage.simulation.readers import Reading, Shift

    return Department(
        _arrivals(session, asked["arrivals"], asked["per_hour"]),
        tuple(Shift.parse(text) for text in asked["shifts"]),
        Reading(*_numbers(asked["reading"], "--reading", 1, 2)),
        asked["prevalence"],
        _model(asked),
        Order(asked["ageing"], asked["heeded"], asked["delay"]),
        asked["not_analysed"],
    )


def _arrivals(session: Session, source: str | None, per_hour: str) -> Arrivals:
    from voxelvault_triage.simulation.arrivals import Measured, Poisson
    from voxelvault_triage.simulation.measured import from_csv, from_vault

    if source in ("received", "acquired"):
        with session.open() as vault:
            return Measured.of(from_vault(vault, source))
    if source is not None:
        return Measured.of(from_csv(read_text(Path(source))))
    rates = _numbers(per_hour, "--per-hour", 1, 24)
    return Poisson.steady(rates[0]) if len(rates) == 1 else Poisson(rates)


def _model(asked: Mapping[str, Any]) -> Any:
    from voxelvault_triage.simulation.flags import OperatingPoint

    if asked["auc"] is None:
        given = asked["sensitivity"]
        return OperatingPoint(0.9 if given is None else given, asked["specificity"])
    if asked["sensitivity"] is not None:
        raise UsageError("choose one of --sensitivity and --auc")
    return OperatingPoint.on_curve(asked["auc"], asked["specificity"])


def _numbers(text: str, option: str, fewest: int, most: int) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} takes numbers with commas between them") from None
    if not fewest <= len(found) <= most:
        raise UsageError(f"{option} takes {fewest} to {most} numbers")
    return found


def _draw(plot: Path, kind: str, found: Mapping[str, Waiting], department: Department) -> None:
    from voxelvault.files import write_new
    from voxelvault_triage.simulation.plot import draw

    write_new(plot.expanduser(), [draw(found, _title(department), kind)])


def _title(department: Department) -> str:
    model, order, readers = department.model, department.order, len(department.shifts)
    people = "1 reader" if readers == 1 else f"{readers} readers"
    return (
        f"{department.arrivals.per_day:.0f} studies a day, {people} "
        f"busy {department.load:.0%} of the time, {department.prevalence:.0%} positive; flag with "
        f"sensitivity {model.sensitivity:.2f}, specificity {model.specificity:.2f}; heeded {order.heeded:.0%}"
    )


def _further(department: Department) -> str:
    order = department.order
    ageing = f"a level more urgent after {order.ageing:g} min" if order.ageing else "no ageing"
    return f"On the list after {order.delay:g} min; {department.not_analysed:.0%} not analysed; {ageing}."


def _document(
    department: Department, amounts: Mapping[str, int], found: Mapping[str, Waiting]
) -> dict[str, object]:
    model = department.model
    return {
        "assumed": {
            "studies_per_day": department.arrivals.per_day,
            "load": department.load,
            "steady_state": department.load < 1,
            "shifts": department.shifts,
            "reading": department.reading,
            "prevalence": department.prevalence,
            "not_analysed": department.not_analysed,
            "model": model,
            "ppv": model.positive_predictive_value(department.prevalence),
            "order": department.order,
            **amounts,
        },
        "minutes": found,
    }


def _overloaded(department: Department, days: int) -> list[str]:
    """Return what the figures of a list mean that nobody gets through."""
    return [
        "",
        f"NO STEADY STATE: reading takes {department.load:.0%} of the readers' time,"
        " so the list grows without end, in whatever order.",
        f"The figures are those of days 3 to {days + 2} from an empty list on; with more --days all of them"
        " grow, so they are no waiting times of a department. More readers, or longer shifts, first.",
        "",
    ]


def _lines(department: Department, found: Mapping[str, Waiting], days: int) -> list[str]:
    heads = ("studies", "a repeat", "mean before", "mean after", "saved", *_FAR)
    rows = [
        (
            name,
            f"{one.studies:.0f}",
            _interval(one.before["mean"]),
            _interval(one.after["mean"]),
            _interval(one.saved),
            *(f"{value.mean:.1f}" for value in (one.before["p95"], one.after["p95"], one.after["longest"])),
        )
        for name, one in found.items()
    ]
    return [
        f"{_title(department)}.",
        _further(department),
        *_short(department.arrivals),
        *(_overloaded(department, days) if department.load >= 1 else ()),
        "Minutes until a reader begins, first come first read (before) and re-ordered by flag (after):",
        "",
        *table(heads, rows),
        "",
        "Intervals are 95 % over repeats. A simulation of the assumptions above, not a measurement.",
    ]


def _interval(value: Estimate) -> str:
    if isnan(value.low):
        return "-" if isnan(value.mean) else f"{value.mean:z.1f} (one repeat)"
    return f"{value.mean:z.1f} ({value.low:z.1f} to {value.high:z.1f})"


def _short(arrivals: Arrivals) -> list[str]:
    """Return what a record of less than a week is worth."""
    from voxelvault_triage.simulation.arrivals import Measured

    days = len(arrivals.days) if isinstance(arrivals, Measured) else _WEEK
    told = "1 day" if days == 1 else f"{days} days"
    return [f"Arrivals are those of {told}: take some weeks of a department."] if days < _WEEK else []
