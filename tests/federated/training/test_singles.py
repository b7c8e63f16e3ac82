"""One gradient and one loss for each subject, however many series."""

from __future__ import annotations

import numpy as np
import pytest

from voxelvault_fl.training.singles import Singles, owners

RNG = np.random.default_rng(8)
X, Y = RNG.normal(size=(7, 3)), RNG.random(7) < 0.5
OWNER = owners(["b", "a", "b", "c", "a", "b", "d"])
SINGLES = Singles(X, Y, OWNER, 0.1)
FLAT = np.linspace(-1, 1, 4)


def test_subjects_are_numbered_as_they_come() -> None:
    assert OWNER.tolist() == [0, 1, 0, 2, 1, 0, 3]
    assert SINGLES.count == 4
    assert Singles(X[:0], Y[:0], owners([]), 0.1).count == 0


def test_a_gradient_is_the_slope_of_the_subjects_loss() -> None:
    chosen = np.array([0, 1, 3])
    found = SINGLES.gradients(FLAT, chosen)
    for row, subject in enumerate(chosen):
        for index in range(4):
            step = np.zeros(4)
            step[index] = 1e-6
            slope = (SINGLES.losses(FLAT + step) - SINGLES.losses(FLAT - step))[subject] / 2e-6
            ridge = 0.0 if index == 0 else 0.1 * FLAT[index]
            assert found[row, index] == pytest.approx(slope + ridge, abs=1e-6)


def test_another_subject_changes_nothing() -> None:
    other = Singles(np.where(OWNER[:, None] == 2, 9.0, X), Y, OWNER, 0.1)
    chosen = np.array([0, 1, 3])
    np.testing.assert_array_equal(other.gradients(FLAT, chosen), SINGLES.gradients(FLAT, chosen))
