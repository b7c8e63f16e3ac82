"""A task under differential privacy: charged before it reads, silent on figures."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from voxelvault.storage.objects import LocalObjects
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.task import Turn, Weights
from voxelvault_fl.privacy.accounting import Spent, account, terms_of
from voxelvault_fl.privacy.dpsgd import Gradients, logistic_gradients
from voxelvault_fl.privacy.ledger import Ledger
from voxelvault_fl.privacy.private import PrivateTask, flat_of, shaped

TERMS = terms_of(
    {"epsilon": 6, "delta": 1e-5, "clip": 1, "rate": 0.2, "steps": 30, "learning_rate": 2, "batch": 40},
    rounds=2,
)
RNG = np.random.default_rng(7)
INPUTS = RNG.normal(size=(200, 2))
TRUTH = (INPUTS[:, 0] > 0).astype(float)


class Toy:
    """Logistic regression; its arrays in the order of their names are weight and intercept."""

    read = opened = 0

    def init(self, seed: int) -> Weights:
        return {"a.weight": np.zeros((1, 2), np.float32), "b.bias": np.zeros(1, np.float32)}

    def by_subject(self) -> tuple[int, Gradients]:
        self.opened += 1
        found = logistic_gradients(INPUTS, TRUTH)

        def gradients(weights: np.ndarray, chosen: np.ndarray) -> np.ndarray:
            self.read += 1
            return found(weights, chosen)

        return len(INPUTS), gradients


def test_a_round_is_charged_trained_and_says_what_it_cost(tmp_path: Path) -> None:
    ledger = Ledger(LocalObjects(tmp_path))
    ledger.create(8.0, 1e-5)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    task = PrivateTask(Toy(), TERMS, lambda number: ledger.charge("a" * 64, number, TERMS, now))
    weights = task.init(0)
    for number in (1, 2):
        trained = task.train(weights, Turn(number, 0))
        weights = trained.weights
    assert trained.metrics == {}
    assert trained.spent == {
        "epsilon": pytest.approx(account([TERMS.noise] * 2, 1e-5).epsilon),
        "delta": 1e-5,
        "unit": "subject",
        "accountant": "RDP, Opacus",
    }
    assert weights["a.weight"].dtype == np.float32
    assert weights["a.weight"][0, 0] > abs(weights["a.weight"][0, 1])
    with pytest.raises(JobRefused, match=r"\[budget\]"):
        task.train(weights, Turn(3, 0))


def test_what_may_not_be_charged_is_not_read() -> None:
    def broke(number: int) -> Spent:
        raise JobRefused("budget", "no")

    toy = Toy()
    with pytest.raises(JobRefused):
        PrivateTask(toy, TERMS, broke).train(toy.init(0), Turn(1, 0))
    assert (toy.opened, toy.read) == (0, 0)


def test_what_no_accountant_knows_is_refused() -> None:
    toy = Toy()
    task = PrivateTask(toy, TERMS, lambda number: Spent(0, 1e-5))
    for turn in (Turn(1, 0, steps=3), Turn(1, 0, proximal=0.1)):
        with pytest.raises(JobRefused, match=r"\[privacy\]"):
            task.train(toy.init(0), turn)
    with pytest.raises(JobRefused, match=r"\[privacy\]"):
        task.evaluate(toy.init(0))


def test_weights_become_a_vector_and_weights_again() -> None:
    weights = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array([9, 8], np.float64)}
    flat = flat_of(weights)
    np.testing.assert_array_equal(flat, [9, 8, 0, 1, 2, 3, 4, 5])
    back = shaped(flat, weights)
    for name, one in weights.items():
        np.testing.assert_array_equal(back[name], one)
        assert back[name].dtype == one.dtype
