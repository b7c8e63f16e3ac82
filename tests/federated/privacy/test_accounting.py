"""Epsilon as an accountant gives it, against published figures; and what is no epsilon."""

from __future__ import annotations

import math

import pytest

from voxelvault_fl.errors import JobRefused
from voxelvault_fl.privacy import accounting
from voxelvault_fl.privacy.accounting import Noise, Spent, Terms, account, noise_for, terms_of


def test_the_published_example_of_the_moments_accountant() -> None:
    """Abadi et al.: q = 0.01, sigma = 4, 10,000 steps, delta = 1e-5 cost 1.26; later ones find less."""
    assert 0.9 < account([Noise(4.0, 0.01, 10_000)], 1e-5).epsilon <= 1.26


def test_without_sampling_it_is_the_gaussian_mechanism() -> None:
    """Exact value for one step with sigma = 10 from the analytic Gaussian mechanism (Balle and Wang 2018)."""
    sigma, delta = 10.0, 1e-5

    def cumulative(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    def excess(epsilon: float) -> float:
        return cumulative(0.5 / sigma - epsilon * sigma) - math.exp(epsilon) * cumulative(
            -0.5 / sigma - epsilon * sigma
        )

    found = account([Noise(sigma, 1.0, 1)], delta)
    assert excess(found.epsilon) <= delta  # what is printed holds
    assert excess(found.epsilon * 0.8) > delta  # and isn't much more than it has to be


@pytest.mark.timeout(60)
def test_a_rate_of_one_half_ends_and_fits_between_its_neighbours() -> None:
    below, half, above = (account([Noise(1.36, rate, 20)], 1e-3).epsilon for rate in (0.45, 0.5, 0.55))
    assert below < half < above


def test_the_four_are_said_together() -> None:
    assert str(Spent(1.23456, 1e-5)) == "epsilon 1.235 at delta 1e-05; unit: subject; RDP, Opacus"
    assert account([], 1e-5).epsilon == 0


def test_noise_is_the_least_that_is_enough() -> None:
    found = noise_for(3.0, 1e-5, 0.1, 200)
    assert account([Noise(found, 0.1, 200)], 1e-5).epsilon <= 3.0
    assert account([Noise(found - 0.01, 0.1, 200)], 1e-5).epsilon > 3.0


NUMBERS = {
    "epsilon": 4.0, "delta": 1e-5, "clip": 1.0, "rate": 0.1, "steps": 20, "learning_rate": 0.5, "batch": 50,
}  # fmt: skip


def test_a_jobs_numbers_become_terms() -> None:
    terms = terms_of(NUMBERS, rounds=5)
    assert 3.9 < account([terms.noise] * 5, 1e-5).epsilon <= 4.0
    assert terms_of({**NUMBERS, "noise": terms.noise.multiplier}, 5) == terms
    assert terms == Terms(4.0, 1e-5, 1.0, Noise(terms.noise.multiplier, 0.1, 20), 0.5, 50)


@pytest.mark.parametrize(
    "change",
    [
        {"epsilon": 0}, {"epsilon": -1}, {"epsilon": math.nan}, {"epsilon": "x"}, {"delta": 0}, {"delta": 1},
        {"clip": 0}, {"clip": math.inf}, {"rate": 0}, {"rate": 1.1}, {"rate": math.nan}, {"noise": 0.01},
        {"noise": -1}, {"noise": math.nan}, {"rate": None}, {"steps": 0}, {"steps": 1.5}, {"batch": 0},
        {"steps": math.inf}, {"steps": math.nan}, {"learning_rate": -1},
    ],
)  # fmt: skip
def test_numbers_that_protect_nobody_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(JobRefused, match=r"\[privacy\]"):
        terms_of({**NUMBERS, **change}, rounds=2)


def test_no_number_may_be_missing() -> None:
    for name in NUMBERS:
        with pytest.raises(JobRefused):
            terms_of({key: value for key, value in NUMBERS.items() if key != name}, rounds=2)


def test_steps_of_a_kind_are_accounted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of many rounds is decided on with each message: the same steps must not be added one by one."""
    asked = []
    real = accounting._accountant

    class Counting:
        def get_epsilon(self, delta: float, alphas: list[float]) -> float:
            asked.append(len(self.history))
            found = real()
            found.history = self.history
            return float(found.get_epsilon(delta, alphas=alphas))

    monkeypatch.setattr(accounting, "_accountant", Counting)
    one, other = Noise(1.0, 0.1, 20), Noise(2.0, 0.1, 5)
    assert account([one, other] * 50, 1e-5) == account([Noise(1.0, 0.1, 1000), Noise(2.0, 0.1, 250)], 1e-5)
    assert asked == [2, 2]
