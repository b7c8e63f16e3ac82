"""Made rows: a department as it was, with one thing changed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from voxelvault_triage.model import Verdict
from voxelvault_triage.monitoring.rows import Row

NOW = datetime(2026, 3, 1)
THRESHOLD = 0.5


def row(at: datetime, score: float | None = 0.2, **changed: object) -> Row:
    """One analysis; without a score it was not analysed."""
    verdict = Verdict.NOT_ANALYSED
    if score is not None:
        verdict = Verdict.POSITIVE if score >= THRESHOLD else Verdict.NEGATIVE
    made = Row("s", "A", "bleed", "m1", at, verdict, score=score, threshold=THRESHOLD, seconds=4.0)
    made = replace(made, reasons=() if score is not None else ("thickness",))
    return replace(made, **changed)  # type: ignore[arg-type]


def weeks(
    seed: int = 0, days: int = 63, scanner: str = "A", a_day: int = 20, positive: float = 0.15
) -> list[Row]:
    """So many days up to now, of calibrated scores: an outcome is drawn with the score as its probability."""
    chance = np.random.default_rng(seed)
    found = []
    for number in range(days * a_day):
        score = float(chance.beta(0.6, 0.6 / positive - 0.6))
        found.append(
            row(
                NOW - timedelta(days=days) + timedelta(days=number / a_day),
                score,
                scanner=scanner,
                seconds=float(chance.gamma(4, 1)),
                inputs={"SliceThickness": float(chance.choice([1.0, 5.0])), "KVP": 120.0},
                label=bool(chance.random() < score),
            )
        )
    return found
