"""What a lead's job file may leave out, because it follows from the rest."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from voxelvault_fl.jobs.app import app_digest
from voxelvault_fl.jobs.job import Model, Plain
from voxelvault_fl.jobs.strict import made
from voxelvault_fl.jobs.task import Weights, weights_digest

DAYS = 90
"""A job that says nothing else is valid for as long."""


def filling(first: Callable[[Model, int], Weights], now: datetime) -> Callable[[Plain], Plain]:
    """Return what gives `read_job` the app's digest, that of the first weights, and the expiry.

    Parameters
    ----------
    first : callable
        Gives a model's first weights for a seed.
    now : datetime
        UTC.
    """

    def fill(said: Plain) -> Plain:
        filled: dict[str, Any] = {"app_digest": app_digest(), "expires": now + timedelta(days=DAYS)}
        if "initial_weights" not in said and "model" in said:
            weights = first(made(Model, said["model"], "job.model"), int(said.get("seed", 0)))
            filled["initial_weights"] = weights_digest(weights)
        return filled

    return fill


__all__ = ["DAYS", "filling"]
