"""What the model flags: its operating point, given as such or on a binormal ROC curve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from voxelvault.errors import UsageError

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A model at its threshold.

    Parameters
    ----------
    sensitivity, specificity : float
        0 to 1.

    Raises
    ------
    UsageError
        Out of these bounds.
    """

    sensitivity: float
    specificity: float

    def __post_init__(self) -> None:
        if not (0 <= self.sensitivity <= 1 and 0 <= self.specificity <= 1):
            raise UsageError("sensitivity and specificity lie between 0 and 1")

    @classmethod
    def on_curve(cls, auc: float, specificity: float) -> OperatingPoint:
        """Return the point of a binormal ROC curve at a specificity.

        Scores of both classes are normal with one variance, so the curve is known by its area:
        sensitivity = Φ(√2 Φ⁻¹(AUC) + Φ⁻¹(1 - specificity)).

        Parameters
        ----------
        auc : float
            Above 0 and below 1.
        specificity : float
            0 to 1.

        Raises
        ------
        UsageError
            Out of these bounds.

        References
        ----------
        Metz, Seminars in Nuclear Medicine 8 (1978) 283.
        """
        if not 0 < auc < 1:
            raise UsageError("an AUC lies between 0 and 1")
        if specificity in (0, 1):
            return cls(1.0 - specificity, specificity)
        cls(0.0, specificity)
        apart = math.sqrt(2) * _NORMAL.inv_cdf(auc)
        return cls(_NORMAL.cdf(apart + _NORMAL.inv_cdf(1 - specificity)), specificity)

    def draw(self, positive: npt.NDArray[np.bool_], chance: np.random.Generator) -> npt.NDArray[np.bool_]:
        """Return what is flagged, (study,) bool, of studies that are positive or not."""
        return chance.random(len(positive)) < np.where(positive, self.sensitivity, 1 - self.specificity)

    def positive_predictive_value(self, prevalence: float) -> float:
        """Return the share of flagged studies that are positive; nan where nothing is flagged."""
        true = self.sensitivity * prevalence
        flagged = true + (1 - self.specificity) * (1 - prevalence)
        return true / flagged if flagged else math.nan
