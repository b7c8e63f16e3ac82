"""Strategies give what Flower's give, whatever the order, and bear what one bad site sends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvg, FedMedian, Krum

from voxelvault_fl.jobs.job import Strategy
from voxelvault_fl.jobs.task import Weights
from voxelvault_fl.rounds.strategies import Contribution, aggregate, pooled
from voxelvault_fl.simulation.grid import LocalGrid

DRAW = np.random.default_rng(5)
START: Weights = {"w": DRAW.normal(size=(3, 2)).astype(np.float32), "b": np.ones(2, np.float32)}
GIVEN = [
    Contribution(f"site-{at}", {n: DRAW.normal(size=w.shape).astype(np.float32) for n, w in START.items()}, k)
    for at, k in enumerate([10, 30, 60, 20, 40])
]


def flowers(strategy: Any) -> Weights:
    """Return what a strategy of Flower's makes of the same updates."""
    grid = LocalGrid({})
    if hasattr(strategy, "current_arrays"):
        strategy.current_arrays = {n: w.copy() for n, w in START.items()}
    replies = []
    for at, one in enumerate(GIVEN):
        ask = grid.create_message(RecordDict({"config": ConfigRecord()}), "train", at + 1, "1")
        arrays = ArrayRecord({n: _array(START[n] + one.update[n]) for n in START})
        told = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": one.examples})})
        replies.append(type(ask)(told, reply_to=ask))
    made, _ = strategy.aggregate_train(1, replies)
    return {name: array.numpy() for name, array in made.items()}


def _array(values: np.ndarray[Any, Any]) -> Any:
    from flwr.app import Array

    return Array(values)


@pytest.mark.parametrize(
    ("strategy", "theirs"),
    [
        (Strategy("fedavg"), lambda: FedAvg()),
        (Strategy("fedprox", numbers={"proximal": 0.1}), lambda: FedAvg()),
        (Strategy("fedadam"), lambda: FedAdam(eta=0.1, beta_1=0.9, beta_2=0.99, tau=1e-3)),
        (Strategy("median"), lambda: FedMedian()),
        (Strategy("krum", numbers={"byzantine": 1}), lambda: Krum(num_malicious_nodes=1)),
    ],
)
def test_the_numbers_are_flowers(strategy: Strategy, theirs: Any) -> None:
    mine, _ = aggregate(strategy, START, GIVEN, {})
    expected = flowers(theirs())
    for name, one in mine.items():
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, expected[name], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["fedavg", "fedadam", "median", "krum"])
def test_the_order_of_sites_does_not_matter(name: str) -> None:
    one, _ = aggregate(Strategy(name), START, GIVEN, {})
    other, _ = aggregate(Strategy(name), START, GIVEN[::-1], {})
    assert all((one[key] == other[key]).all() for key in one)


@pytest.mark.parametrize(
    "strategy", [Strategy("median"), Strategy("krum", numbers={"byzantine": 1, "keep": 2})]
)
def test_one_bad_site_moves_nothing_far(strategy: Strategy) -> None:
    bad = Contribution("evil", {n: np.full_like(w, 1e6) for n, w in START.items()}, 10**12)
    made, _ = aggregate(strategy, START, [*GIVEN, bad], {})
    assert all(np.abs(made[name] - START[name]).max() < 4 for name in made)


def test_fedadam_remembers() -> None:
    first, moments = aggregate(Strategy("fedadam"), START, GIVEN, {})
    fresh, _ = aggregate(Strategy("fedadam"), first, GIVEN, {})
    second, _ = aggregate(Strategy("fedadam"), first, GIVEN, moments)
    assert not np.allclose(fresh["w"], second["w"])


def test_pooled_figures_are_weighed_and_leave_out_what_is_no_number() -> None:
    told = {"a": (10, {"auc": 1.0, "loss": 1.0}), "b": (30, {"auc": 0.5, "loss": float("nan")})}
    assert pooled(told) == {"auc": 0.625, "loss": 1.0}
