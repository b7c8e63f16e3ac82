"""What a worker does for one study: open the series under its grant, prepare it, run the model, make objects.

Nothing is raised here: one bad study is an answer like any other, and the queue goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from voxelvault.crew import Bench
from voxelvault.errors import VoxelVaultError
from voxelvault.reading.lending import OpenLoan
from voxelvault.series import Series, series_on
from voxelvault_triage.model import Analysis, Finding
from voxelvault_triage.pipeline import Model
from voxelvault_triage.results.writing import Made, make_results
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
        frames, size = loan.frames, loan.bytes
        series, seconds = series_on(loan, order.source), dict(order.about.seconds)
        with _timed(seconds, "prepare"):
            prepared = order.pipeline.prepare(series, order.about.gated.stack)
        with _timed(seconds, "infer"):
            finding = order.pipeline.infer(prepared, model)
        del prepared
        with _timed(seconds, "objects"):
            made = _made(series, order, finding, seconds)
        return Answer(finding, made, "", False, seconds, loan.frames - frames, loan.bytes - size)


def _made(series: Series, order: Order, finding: Finding, seconds: Mapping[str, float]) -> Made:
    about, pipeline = order.about, order.pipeline
    analysis = Analysis(
        about.study,
        pipeline.name,
        pipeline.version,
        order.model,
        about.gated,
        finding,
        seconds,
        about.model_name,
    )
    return make_results(series, analysis, demonstration=about.demonstration)


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - began


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
