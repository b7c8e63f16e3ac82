"""Figures that more than one task tells."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def auc(scores: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Return the area under the ROC curve; equal scores count half; nan where a class is missing."""
    values, flags = np.asarray(scores, float), np.asarray(positive, bool)
    ones, noughts = values[flags], values[~flags]
    if not len(ones) or not len(noughts):
        return float("nan")
    apart = ones[:, None] - noughts[None, :]
    return float(((apart > 0) + 0.5 * (apart == 0)).mean())


def log_loss(logits: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Return the mean cross-entropy of logits; nan where there is nothing."""
    z, y = np.asarray(logits, float), np.asarray(positive, float)
    return float(np.mean(np.logaddexp(0, z) - y * z)) if len(z) else float("nan")


__all__ = ["auc", "log_loss"]
