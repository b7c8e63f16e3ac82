"""What a period was like, over all and scanner by scanner, against one before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from voxelvault.errors import UsageError
from voxelvault_triage.merit import Proportion
from voxelvault_triage.monitoring.measures import (
    Agreement,
    Calibration,
    Latency,
    Stability,
    agreement,
    calibration,
    latency,
    stability,
)
from voxelvault_triage.monitoring.rows import Input, Row, by_scanner, scores

EVERY = "all scanners"
SCORE = "score"


@dataclass(frozen=True, slots=True)
class Summary:
    """One scanner's period, or that of all.

    Parameters
    ----------
    scanner : str
        Its name, or `EVERY`.
    studies : int
        That came in.
    expected : float
        As many as at the reference's rate.
    flagged, flagged_before : Proportion
        Of those analysed, in the period and in the reference.
    not_analysed, failed, overridden : Proportion
        Of all; the last as readers changed a priority.
    reasons : mapping of str to int
        Why studies were not analysed, the commonest first.
    latency : Latency or None
        From arrival to listed.
    moved : mapping of str to Stability
        Score and inputs, against the reference.
    agreement : Agreement or None
        Where outcomes are known.
    calibration : Calibration or None
        The same.
    """

    scanner: str
    studies: int
    expected: float
    flagged: Proportion
    flagged_before: Proportion
    not_analysed: Proportion
    failed: Proportion
    overridden: Proportion
    reasons: Mapping[str, int]
    latency: Latency | None
    moved: Mapping[str, Stability]
    agreement: Agreement | None
    calibration: Calibration | None


@dataclass(frozen=True, slots=True)
class Period:
    """From when until when, UTC; the end is not in it."""

    begin: datetime
    end: datetime

    def of(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows of studies that arrived in it."""
        return [row for row in rows if self.begin <= row.arrived < self.end]


def periods(now: datetime, days: float, reference: float) -> tuple[Period, Period]:
    """Return the reference and the period that ends now.

    Parameters
    ----------
    now : datetime
        UTC, without a zone.
    days, reference : float
        Lengths; the reference ends where the period begins.

    Raises
    ------
    UsageError
        A length is not above 0.
    """
    if days <= 0 or reference <= 0:
        raise UsageError("the period and its reference are longer than 0 days")
    begin = now - timedelta(days=days)
    return Period(begin - timedelta(days=reference), begin), Period(begin, now)


def summarise(current: Sequence[Row], reference: Sequence[Row], share: float) -> tuple[Summary, ...]:
    """Return the summary of all, then of each scanner, the busiest first.

    Parameters
    ----------
    current, reference : sequence of Row
        Of one pipeline and model.
    share : float
        Length of the period as a share of the reference's.
    """
    now, before = by_scanner(current), by_scanner(reference)
    names = [*now, *(name for name in before if name not in now)]
    each = [_summary(name, now.get(name, []), before.get(name, []), share) for name in names]
    return _summary(EVERY, current, reference, share), *each


def _summary(scanner: str, current: Sequence[Row], reference: Sequence[Row], share: float) -> Summary:
    known = [row for row in current if row.label is not None and row.score is not None]
    labels = [bool(row.label) for row in known]
    return Summary(
        scanner=scanner,
        studies=len(current),
        expected=len(reference) * share,
        flagged=_flagged(current),
        flagged_before=_flagged(reference),
        not_analysed=_share(current, lambda row: row.verdict is not None and not row.analysed),
        failed=_share(current, lambda row: row.verdict is None),
        overridden=_share(current, lambda row: row.overridden),
        reasons=dict(Counter(code for row in current for code in row.reasons).most_common()),
        latency=latency([row.seconds for row in current if row.seconds is not None]),
        moved=_moved(current, reference),
        agreement=agreement([row.flagged for row in known], labels),
        calibration=calibration(scores(known), labels),
    )


def _share(rows: Sequence[Row], holds: Callable[[Row], bool]) -> Proportion:
    return Proportion(sum(map(holds, rows)), len(rows))


def _flagged(rows: Sequence[Row]) -> Proportion:
    return _share([row for row in rows if row.analysed], lambda row: row.flagged)


def _moved(current: Sequence[Row], reference: Sequence[Row]) -> dict[str, Stability]:
    names = sorted({name for row in (*current, *reference) for name in row.inputs})
    told: dict[str, tuple[Sequence[Input], Sequence[Input]]] = {SCORE: (scores(reference), scores(current))}
    for name in names:
        told[name] = _values(reference, name), _values(current, name)
    found = {name: stability(before, now) for name, (before, now) in told.items()}
    return {name: one for name, one in found.items() if one is not None}


def _values(rows: Sequence[Row], name: str) -> list[Input]:
    return [row.inputs[name] for row in rows if name in row.inputs]
