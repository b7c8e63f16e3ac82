"""What monitoring knows of one study: what came in, what the model said, and what turned out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from voxelvault_triage.model import Verdict

Input = float | str


@dataclass(frozen=True, slots=True)
class Row:
    """One analysis of one study.

    Parameters
    ----------
    study : str
        The vault's random id.
    scanner : str
        Maker, model and station; ``unknown`` where the header has none.
    pipeline, model : str
        Name of the pipeline, digest of the model.
    arrived : datetime
        When its last image came in, UTC without a zone.
    verdict : Verdict or None
        None where the analysis failed.
    reasons : tuple of str
        Codes, of what was not analysed.
    score, threshold : float or None
        None where it was not analysed.
    seconds : float or None
        From arrival until its result was on the list; from its schedule where the same images were
        analysed before.
    overridden : bool
        Whether a reader changed its priority.
    inputs : mapping of str to float or str
        Of the analysed series, such as ``SliceThickness`` in mm.
    label : bool or None
        What it turned out to be; None while nobody knows.
    """

    study: str
    scanner: str
    pipeline: str
    model: str
    arrived: datetime
    verdict: Verdict | None
    reasons: tuple[str, ...] = ()
    score: float | None = None
    threshold: float | None = None
    seconds: float | None = None
    overridden: bool = False
    inputs: Mapping[str, Input] = field(default_factory=dict)
    label: bool | None = None

    @property
    def analysed(self) -> bool:
        """Whether there is a score."""
        return self.verdict in (Verdict.POSITIVE, Verdict.NEGATIVE)

    @property
    def flagged(self) -> bool:
        """Whether it was flagged."""
        return self.verdict is Verdict.POSITIVE


def scores(rows: Sequence[Row]) -> list[float]:
    """Return the scores of what was analysed."""
    return [row.score for row in rows if row.score is not None]


def by_scanner(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each scanner, the busiest first."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.scanner, []).append(row)
    return dict(sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[0])))
