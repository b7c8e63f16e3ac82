"""When a study is there: it has been quiet for a while, and no slice is missing. No clock, no disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

FEWEST = 4
"""Positions below which steps tell nothing: scouts, single images."""
WIDER = 1.5
"""A step this many times as wide as its neighbours has a slice missing in it."""
_SAME = 1e-2
"""Positions closer than this, in mm, are one: time points, repeats."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait.

    Parameters
    ----------
    quiet : timedelta
        Without a new image.
    with_gap : timedelta
        Without a new image, where slices are missing: what hasn't come by then doesn't come.
    """

    quiet: timedelta = timedelta(seconds=60)
    with_gap: timedelta = timedelta(seconds=600)


def is_ready(now: datetime, last: datetime, gaps: int, patience: Patience) -> bool:
    """Tell whether a study may be analysed.

    Parameters
    ----------
    now, last : datetime
        The time, and when the last image came in; results of pipelines are no images.
    gaps : int
        Steps between slices in which one is missing.
    patience : Patience
        How long to wait.
    """
    return now - last >= (patience.with_gap if gaps else patience.quiet)


def gaps(volumes: Iterable[Sequence[float] | npt.NDArray[np.float64]]) -> int:
    """Count the steps in which slices are missing.

    A series of two thicknesses has wide steps side by side, and they are none.

    Parameters
    ----------
    volumes : iterable of sequence of float
        Of each volume, where its slices lie along their normal, in mm; in any order.
    """
    return sum(_gaps(np.asarray(places, np.float64)) for places in volumes)


def _gaps(places: npt.NDArray[np.float64]) -> int:
    steps = np.diff(np.sort(places))
    steps = steps[steps > _SAME]
    if len(steps) + 1 < FEWEST:
        return 0
    padded = np.concatenate([[0.0], steps, [0.0]])
    neighbours = np.maximum(padded[:-2], padded[2:])
    return int(np.count_nonzero(steps > WIDER * neighbours))


__all__ = ["Patience", "gaps", "is_ready"]
