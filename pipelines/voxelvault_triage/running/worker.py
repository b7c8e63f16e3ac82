"""What a worker does for one study: the series opened under its grant, prepared, and the model run.

Nothing is raised here: one bad study is an answer like any other, and the queue goes on.
"""

from __future__ import annotations

import threading
import time
from typing import Any, cast

from voxelvault.crew import Bench
from voxelvault.errors import VoxelVaultError
from voxelvault.reading.lending import OpenLoan
from voxelvault.series import series_on
from voxelvault_triage.pipeline import Model
from voxelvault_triage.running.alarm import limited
from voxelvault_triage.running.order import Answer, Order

KEPT = 2
"""Models that a worker keeps loaded."""

_models: dict[str, Model] = {}
_turn = threading.Lock()
"""A model is used by one thread at a time; a worker of ours has one anyway."""


def analyse(bench: Bench, order: Any) -> Answer:
    """Analyse the study of an order; a `voxelvault.crew.Work`."""
    loan, order = cast(OpenLoan, bench), cast(Order, order)
    try:
        with limited(order.seconds):
            return _answer(loan, order)
    except VoxelVaultError as error:
        return Answer(failure=f"{type(error).__name__}: {error}")
    except Exception as error:
        # Messages of others may hold values: the name alone goes back.
        return Answer(failure=type(error).__name__)


def _answer(loan: OpenLoan, order: Order) -> Answer:
    with _turn:
        model = _model(order)
        if order.model and model is None:
            return Answer(lacks_model=True)
        frames, size, began = loan.frames, loan.bytes, time.perf_counter()
        prepared = order.pipeline.prepare(series_on(loan, order.source), order.stack)
        ready = time.perf_counter()
        finding = order.pipeline.infer(prepared, model)
        seconds = {"prepare": ready - began, "infer": time.perf_counter() - ready}
        return Answer(finding, "", False, seconds, loan.frames - frames, loan.bytes - size)


def _model(order: Order) -> Model | None:
    """Return the order's model, loaded at most once; None where there is none here."""
    found = _models.get(order.model)
    if found is None and order.carried is not None:
        found = order.carried.load()
        while len(_models) >= KEPT:
            _models.pop(next(iter(_models)))
        _models[order.model] = found
    return found


__all__ = ["analyse"]
