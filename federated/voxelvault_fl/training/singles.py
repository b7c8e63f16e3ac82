"""What single subjects add to a logistic regression: for differential privacy, and for attacks that test it.

A subject with several series has one gradient and one loss, their means: one contribution, however often
somebody was scanned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indexes = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Singles:
    """Examples and whose they are.

    Parameters
    ----------
    x : array
        (example, figure) float64.
    y : array
        (example) bool.
    owner : array
        (example) int, from 0: whose it is.
    ridge : float
        L2 penalty of each subject's loss, on all but the intercept.
    """

    x: Floats
    y: npt.NDArray[np.bool_]
    owner: Indexes
    ridge: float

    @property
    def count(self) -> int:
        """How many subjects there are."""
        return int(self.owner.max(initial=-1)) + 1

    def gradients(self, flat: Floats, chosen: Indexes) -> Floats:
        """Return gradients.

        Parameters
        ----------
        flat : array
            (parameter): the intercept, then a weight a figure: the arrays in the order of their names.
        chosen : array
            (subject) int, ascending.

        Returns
        -------
        array
            (subject, parameter) float64.
        """
        rows = np.flatnonzero(np.isin(self.owner, chosen))
        error = 1 / (1 + np.exp(-self._logits(flat, rows))) - self.y[rows]
        each = np.hstack([error[:, None], error[:, None] * self.x[rows]])
        penalty = self.ridge * np.append(0.0, flat[1:])
        return np.asarray(self._means(each, rows, chosen) + penalty)

    def losses(self, flat: Floats) -> Floats:
        """Return the cross-entropy of each subject, (subject) float64."""
        rows = np.arange(len(self.y))
        logits = self._logits(flat, rows)
        each = np.logaddexp(0, logits) - self.y * logits
        return self._means(each[:, None], rows, np.arange(self.count))[:, 0]

    def _logits(self, flat: Floats, rows: Indexes) -> Floats:
        return np.asarray(np.clip(self.x[rows] @ flat[1:] + flat[0], -500, 500))

    def _means(self, each: Floats, rows: Indexes, chosen: Indexes) -> Floats:
        at = np.searchsorted(chosen, self.owner[rows])
        sums = np.zeros((len(chosen), each.shape[1]))
        np.add.at(sums, at, each)
        return np.asarray(sums / np.bincount(at, minlength=len(chosen))[:, None])


def owners(subject_ids: Sequence[str]) -> Indexes:
    """Return a number for each subject id, the same for the same, from 0."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(one, len(known)) for one in subject_ids], np.intp)


__all__ = ["Singles", "owners"]
