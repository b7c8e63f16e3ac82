"""The attack finds members of a model that learnt them by heart, and fewer where noise hides them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from voxelvault_fl.errors import JobRefused
from voxelvault_fl.privacy.accounting import Noise, Terms
from voxelvault_fl.privacy.dpsgd import dp_sgd, logistic_gradients
from voxelvault_fl.privacy.membership import Losses, Trainer, area, attack

SUBJECTS, FEATURES = 120, 150
RNG = np.random.default_rng(6)
INPUTS = RNG.normal(size=(SUBJECTS, FEATURES))
LABELS = (RNG.random(SUBJECTS) < 0.5).astype(float)


def losses(weights: npt.NDArray[np.float64]) -> Losses:
    score = INPUTS @ weights[:-1] + weights[-1]
    return np.asarray(np.logaddexp(0, score) - LABELS * score)


def trainer(noise: float) -> Trainer:
    def train(members: npt.NDArray[np.intp], seed: int) -> Losses:
        terms = Terms(1e9, 1e-4, 1.0, Noise(noise, 0.5, 60), 4.0, len(members) / 2)
        rng = np.random.default_rng([seed, len(members)])
        gradients = logistic_gradients(INPUTS[members], LABELS[members])
        return losses(dp_sgd(np.zeros(FEATURES + 1), len(members), gradients, terms, rng=rng))

    return train


def test_who_was_learnt_by_heart_is_found() -> None:
    found = attack(trainer(1e-6), SUBJECTS)
    assert found.low > 0.6
    assert found.low <= found.auc <= found.high
    assert (found.members, found.strangers) == (60, 60)
    assert "0.5 is chance" in str(found)


def test_noise_hides_them() -> None:
    areas = [attack(trainer(60.0), SUBJECTS, seed=seed).auc for seed in (100, 200, 300, 400)]
    assert abs(np.mean(areas) - 0.5) < 0.08


def test_a_model_that_knows_nobody_is_chance() -> None:
    found = attack(lambda members, seed: np.zeros(SUBJECTS), SUBJECTS)
    assert found.auc == 0.5
    assert attack(lambda members, seed: np.zeros(SUBJECTS), SUBJECTS, references=0).auc == 0.5


def test_the_area_counts_ties_half() -> None:
    assert area(np.array([1.0, 2.0]), np.array([1.0, 0.0])) == 0.875


def test_few_subjects_say_nothing() -> None:
    with pytest.raises(JobRefused, match=r"\[cohort\]"):
        attack(lambda members, seed: np.zeros(5), 5)
