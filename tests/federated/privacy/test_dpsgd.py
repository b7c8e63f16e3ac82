"""Clipping, coins and noise over subjects; torch and numpy agree."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from voxelvault_fl.errors import JobRefused
from voxelvault_fl.privacy.accounting import Noise, Terms, account
from voxelvault_fl.privacy.dpsgd import Flat, Indexes, dp_sgd, logistic_gradients, unpredictable


def terms(
    noise: float = 1e-6,
    rate: float = 1.0,
    steps: int = 1,
    clip: float = 1.0,
    move: tuple[float, float] = (1, 1),
) -> Terms:
    return Terms(100.0, 1e-5, clip, Noise(noise, rate, steps), *move)


def test_one_subject_moves_the_sum_by_the_clip_at_most() -> None:
    wild = np.array([[1e9, -1e9], [0.3, 0.4], [0.0, 0.0], [np.nan, 1.0], [np.inf, 0.0]])
    moved = dp_sgd(np.zeros(2), 5, lambda _, chosen: wild[chosen], terms(), chunk=2)
    expected = -(np.array([1, -1]) / np.sqrt(2) + [0.3, 0.4])
    np.testing.assert_allclose(moved, expected, atol=1e-4)


def test_each_subject_has_a_coin_of_its_own() -> None:
    seen: list[Indexes] = []

    def gradients(weights: Flat, chosen: Indexes) -> Flat:
        seen.append(chosen)
        return np.zeros((len(chosen), 1))

    dp_sgd(np.zeros(1), 1000, gradients, terms(1, 0.1, 400), chunk=1000, rng=np.random.default_rng(1))
    sizes = [len(chosen) for chosen in seen]
    assert np.mean(sizes) == pytest.approx(100, abs=3)
    assert np.std(sizes) == pytest.approx(np.sqrt(90), abs=1.5)
    often = np.bincount(np.concatenate(seen), minlength=1000)
    assert often.min() > 10
    assert all(len(set(chosen)) == len(chosen) for chosen in seen)


def test_noise_has_the_deviation_that_was_accounted() -> None:
    moved = dp_sgd(
        np.zeros(20_000), 5, lambda _, chosen: np.zeros((len(chosen), 20_000)),
        terms(2.0, 0.5, 4, 3.0, (0.5, 10.0)),
        rng=np.random.default_rng(2),
    )  # fmt: skip
    assert np.std(moved) == pytest.approx(0.5 / 10 * 2.0 * 3.0 * np.sqrt(4), rel=0.03)


def test_noise_cannot_be_foretold() -> None:
    assert unpredictable().random() != unpredictable().random()


def test_a_step_without_any_subject_is_noise_alone() -> None:
    moved = dp_sgd(np.zeros(3), 2, lambda w, chosen: np.ones((len(chosen), 3)), terms(1, 1e-9))
    assert np.all(moved != 0)


def data(subjects: int = 600) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(subjects, 5))
    labels = (features @ [2.0, -1.0, 0.5, 0.0, 0.0] + rng.normal(size=subjects) > 0).astype(float)
    return features, labels


def test_gradients_of_logistic_regression_are_those_of_its_loss() -> None:
    features, labels = data(7)
    weights = np.linspace(-1, 1, 6)

    def loss(at: Flat, subject: int) -> float:
        score = float(np.append(features[subject], 1) @ at)
        return float(np.log1p(np.exp(score)) - labels[subject] * score + 0.05 * np.sum(at[:-1] ** 2))

    found = logistic_gradients(features, labels, decay=0.1)(weights, np.arange(7))
    for subject in range(7):
        for index in range(6):
            step = np.zeros(6)
            step[index] = 1e-6
            slope = (loss(weights + step, subject) - loss(weights - step, subject)) / 2e-6
            assert found[subject, index] == pytest.approx(slope, abs=1e-6)


def test_it_learns_with_noise_that_costs_a_small_epsilon() -> None:
    features, labels = data()
    asked = terms(2.0, 0.2, 60, move=(2.0, 120))
    assert account([asked.noise], 1e-5).epsilon < 8
    found = dp_sgd(
        np.zeros(6), 600, logistic_gradients(features, labels), asked,
        rng=np.random.default_rng(4),
    )  # fmt: skip
    right = ((np.hstack([features, np.ones((600, 1))]) @ found > 0) == labels).mean()
    assert right > 0.8


def test_torch_gives_the_gradients_that_numpy_gives() -> None:
    torch = pytest.importorskip("torch")
    from voxelvault_fl.privacy.torch_gradients import flat_of, put_flat, torch_gradients

    features, labels = data(9)
    net = torch.nn.Linear(5, 1).double()
    start = np.linspace(-1, 1, 6)
    put_flat(net, start)
    np.testing.assert_allclose(flat_of(net), start)
    bce = torch.nn.functional.binary_cross_entropy_with_logits

    def contributions(chosen: Indexes) -> tuple[object, object]:
        return torch.from_numpy(features[chosen]), torch.from_numpy(labels[chosen])

    with warnings.catch_warnings():
        # Opacus registers hooks in a way that torch has a better one for.
        warnings.simplefilter("ignore")
        found = torch_gradients(net, contributions, lambda out, t: bce(out[:, 0], t, reduction="none"))(
            start, np.array([1, 4, 7])
        )
    expected = logistic_gradients(features, labels)(start, np.array([1, 4, 7]))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_network_that_mixes_subjects_is_refused() -> None:
    torch = pytest.importorskip("torch")
    from voxelvault_fl.privacy.torch_gradients import torch_gradients

    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    with pytest.raises(JobRefused, match="mixes subjects"):
        torch_gradients(net, lambda chosen: (None, None), lambda out, t: out)
