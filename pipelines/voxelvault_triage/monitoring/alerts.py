"""What somebody should look at: figures beyond a limit, and beyond chance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from voxelvault_triage.merit import Proportion
from voxelvault_triage.monitoring.summary import EVERY, Summary

_ONCE_IN_A_HUNDRED = 0.01
_SURPRISING = 2.58
"""Of a normal variable: as seldom."""


_FORMS = {"silent": "{:.3g}", "drift": "{:.2f}", "latency": "{:.1f} s", "calibration": "{:.3f}"}
"""How the figures of an alert are written; shares, which most are, in per cent."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Beyond what an alert is raised.

    Parameters
    ----------
    stability : float
        Population stability index of score or inputs.
    p95_seconds : float
        From arrival to listed.
    not_analysed, failed, overridden : float
        Shares of all studies.
    sensitivity, specificity : float
        Below these, where outcomes are known.
    calibration_error : float
        Expected calibration error, where outcomes are known.
    studies : float
        With fewer in a period nothing is raised but that nothing came in.
    """

    stability: float = 0.25
    p95_seconds: float = 300.0
    not_analysed: float = 0.3
    failed: float = 0.02
    overridden: float = 0.2
    sensitivity: float = 0.8
    specificity: float = 0.7
    calibration_error: float = 0.1
    studies: float = 10


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing to look at.

    Parameters
    ----------
    code : str
        A word for programs: ``silent``, ``drift``, ``flag-rate``, ``not-analysed``, ``failed``,
        ``overridden``, ``latency``, ``sensitivity``, ``specificity`` or ``calibration``.
    scanner, quantity : str
        Of which, and what has moved; the latter empty but for drift.
    value, limit : float
        What was found, and what it was to stay within.
    sentence : str
        For people, with what to do.
    """

    code: str
    scanner: str
    quantity: str
    value: float
    limit: float
    sentence: str

    @property
    def figures(self) -> tuple[str, str]:
        """Value and limit as the report's tables write them."""
        form = _FORMS.get(self.code, "{:.1%}")
        return form.format(self.value), form.format(self.limit)


def alerts(summaries: Sequence[Summary], limits: Limits) -> tuple[Alert, ...]:
    """Return what is beyond its limit, of all scanners together first.

    An alert needs more than chance: the nearer end of an interval lies beyond the limit, an index
    exceeds what its samples would give once in a hundred times.

    Parameters
    ----------
    summaries : sequence of Summary
        As `summarise` returns them.
    limits : Limits
        The site's.
    """
    # One scanner alone is all scanners: nobody wants to be told twice.
    told = summaries[:1] if len(summaries) == 2 else summaries
    return tuple(found for summary in told for found in _of(summary, limits))


def _of(summary: Summary, limits: Limits) -> Iterator[Alert]:
    yield from _silent(summary)
    if summary.studies < limits.studies:
        return
    yield from _drift(summary, limits)
    yield from _shares(summary, limits)
    yield from _late(summary, limits)
    yield from _accuracy(summary, limits)


def _silent(summary: Summary) -> Iterator[Alert]:
    if summary.studies:
        return
    if summary.scanner == EVERY:
        what = "nothing came in; see whether images arrive and `triage watch` runs"
        yield Alert("silent", summary.scanner, "", 0, summary.expected, what)
    elif math.exp(-summary.expected) < _ONCE_IN_A_HUNDRED:
        # Arrivals are Poisson: a scanner seldom used may well send nothing.
        what = "nothing of this scanner came in; see whether it still sends"
        yield Alert("silent", summary.scanner, "", 0, summary.expected, what)


def _drift(summary: Summary, limits: Limits) -> Iterator[Alert]:
    for name, moved in summary.moved.items():
        if moved.index > max(limits.stability, moved.chance):
            what = f"{name} has another distribution than before; look at protocols and software versions"
            yield Alert("drift", summary.scanner, name, moved.index, limits.stability, what)
    if summary.flagged.apart(summary.flagged_before):
        what = "the share flagged has changed; read some of the flagged and of the other studies"
        rate, before = summary.flagged.rate, summary.flagged_before.rate
        yield Alert("flag-rate", summary.scanner, "", rate, before, what)


def _shares(summary: Summary, limits: Limits) -> Iterator[Alert]:
    told = (
        ("not-analysed", summary.not_analysed, limits.not_analysed, "see the reasons in the report"),
        ("failed", summary.failed, limits.failed, "see `triage worklist` and the log of the workers"),
        ("overridden", summary.overridden, limits.overridden, "ask the readers why"),
    )
    for code, share, limit, advice in told:
        if share.cases and share.interval[0] > limit:
            yield Alert(code, summary.scanner, "", share.rate, limit, f"more than it may be; {advice}")


def _late(summary: Summary, limits: Limits) -> Iterator[Alert]:
    if summary.latency is not None and summary.latency.low > limits.p95_seconds:
        what = "results come late to the list; add workers, or see what they wait for"
        yield Alert("latency", summary.scanner, "", summary.latency.p95, limits.p95_seconds, what)


def _accuracy(summary: Summary, limits: Limits) -> Iterator[Alert]:
    if summary.agreement is not None:
        sensitivity, specificity = summary.agreement.sensitivity, summary.agreement.specificity
        missed = "lower than it may be; read the misses, and take the model off the list meanwhile"
        yield from _below("sensitivity", summary.scanner, sensitivity, limits.sensitivity, missed)
        false = "lower than it may be; read the false alarms, and see `triage calibrate` for the threshold"
        yield from _below("specificity", summary.scanner, specificity, limits.specificity, false)
    found = summary.calibration
    if found is not None and found.ece > limits.calibration_error and abs(found.z) > _SURPRISING:
        what = "scores are no probabilities here; run `triage calibrate` on your labels"
        yield Alert("calibration", summary.scanner, "", found.ece, limits.calibration_error, what)


def _below(code: str, scanner: str, share: Proportion, limit: float, what: str) -> Iterator[Alert]:
    if not math.isnan(share.rate) and share.interval[1] < limit:
        yield Alert(code, scanner, "", share.rate, limit, what)
