"""From a network's score to a probability, fitted on a site's own labels. Pure: numbers in, numbers out.

Platt's is a logistic curve over the score's logit; the isotonic one rises in steps, joined by straight
lines, and needs more studies.

References
----------
Platt 1999, Probabilistic outputs for support vector machines; Zadrozny and Elkan 2002 (isotonic).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault.errors import UsageError
from voxelvault_triage.merit import Figure, Proportion, auc_interval, brier, drawn_again

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Curve = Callable[[Floats], Floats]

PLATT, ISOTONIC = "platt", "isotonic"
FEWEST = {PLATT: 10, ISOTONIC: 30}
"""Studies of either kind that fitting takes."""
FOLDS, DRAWS = 5, 1000

_WRONG = "the bundle's calibration isn't one; ask its maker for another copy, or calibrate anew"
_TINY = 1e-6


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What fitting gave.

    Parameters
    ----------
    calibration : mapping
        For the bundle, as `curve_of` takes it.
    threshold : float
        Probability at and above which a study is flagged.
    threshold_low, threshold_high : float
        95 % of the thresholds that other studies of this kind would have given (bootstrap).
    positives, negatives : int
        Studies that it rests on.
    auc : Figure
        Of the scores; bootstrap, each class by itself.
    sensitivity, specificity : Figure
        At the threshold, each study judged by a fit that hasn't seen it (five-fold); Wilson.
    brier_before, brier_after : float
        Mean squared error of the score as it came, and of the probability, five-fold.
    """

    calibration: Mapping[str, Any]
    threshold: float
    threshold_low: float
    threshold_high: float
    positives: int
    negatives: int
    auc: Figure
    sensitivity: Figure
    specificity: Figure
    brier_before: float
    brier_after: float

    def document(self, base: str) -> dict[str, Any]:
        """Return configs/calibration.json of a bundle; `base` is the digest that it was made of."""
        measured = {
            name: value for name, value in asdict(self).items() if name not in ("calibration", "threshold")
        }
        return {
            "calibration": self.calibration,
            "threshold": self.threshold,
            "base": base,
            "measured": measured,
        }


def calibrator(said: Mapping[str, Any] | None) -> Callable[[float], float]:
    """Return what makes a probability of one score; None leaves it as it is.

    Raises
    ------
    UsageError
        It is no calibration.
    """
    curve = curve_of(said)
    return lambda score: float(curve(np.array([score]))[0])


def curve_of(said: Mapping[str, Any] | None) -> Curve:
    """Return a calibration's curve over scores of 0 to 1.

    Parameters
    ----------
    said : mapping or None
        ``{"kind": "platt", "slope": …, "intercept": …}`` over the logit, or ``{"kind": "isotonic",
        "x": […], "y": […]}``.

    Raises
    ------
    UsageError
        It is none of these.
    """
    if said is None:
        return lambda scores: scores
    try:
        if said["kind"] == PLATT:
            slope, intercept = float(said["slope"]), float(said["intercept"])
            if np.isfinite([slope, intercept]).all() and slope > 0:
                return lambda scores: _expit(slope * _logit(scores) + intercept)
        if said["kind"] == ISOTONIC:
            x, y = np.asarray(said["x"], np.float64), np.asarray(said["y"], np.float64)
            rising = x.ndim == 1 and x.shape == y.shape and 0 < x.size <= 10_000
            if rising and (np.diff(x) > 0).all() and (np.diff(y) >= 0).all() and 0 <= y[0] <= y[-1] <= 1:
                return lambda scores: np.interp(scores, x, y)
    except (KeyError, TypeError, ValueError):
        pass
    raise UsageError(_WRONG)


def fit(scores: Floats, positive: Flags, kind: str = PLATT) -> dict[str, Any]:
    """Fit a calibration.

    Parameters
    ----------
    scores : (study,) float64
        Of the network, 0 to 1.
    positive : (study,) bool
        Labels.
    kind : str
        `PLATT` or `ISOTONIC`.
    """
    return _platt(scores, positive) if kind == PLATT else _isotonic(scores, positive)


def threshold_for(probabilities: Floats, positive: Flags, sensitivity: float) -> float:
    """Return the highest probability at and above which that share of positives lies."""
    ones = np.sort(probabilities[positive])
    return float(ones[int(np.floor((1 - sensitivity) * len(ones) + 1e-9))])


def calibrate(
    scores: npt.ArrayLike,
    positive: npt.ArrayLike,
    *,
    kind: str = PLATT,
    sensitivity: float = 0.9,
    seed: int = 0,
) -> Calibrated:
    """Fit a calibration and a threshold, and say how far they can be trusted.

    Parameters
    ----------
    scores : (study,) array
        Of the network as it came, 0 to 1.
    positive : (study,) array
        Labels.
    kind : str
        `PLATT` or `ISOTONIC`.
    sensitivity : float
        That the threshold must reach on these studies.
    seed : int
        Of folds and bootstrap.

    Raises
    ------
    UsageError
        Too few studies of a kind, or scores that are none.
    """
    values, flags = np.asarray(scores, np.float64), np.asarray(positive, np.bool_)
    _require(values, flags, kind)
    rng = np.random.default_rng(seed)
    made = fit(values, flags, kind)
    threshold = threshold_for(curve_of(made)(values), flags, sensitivity)
    held, flagged = _held_out(values, flags, kind, sensitivity, rng)
    thresholds = []
    for _ in range(DRAWS):
        drawn = drawn_again(flags, rng)
        thresholds.append(threshold_for(curve_of(made)(values[drawn]), flags[drawn], sensitivity))
    low, high = np.quantile(thresholds, [0.025, 0.975])
    return Calibrated(
        calibration=made,
        threshold=threshold,
        threshold_low=float(low),
        threshold_high=float(high),
        positives=int(flags.sum()),
        negatives=int((~flags).sum()),
        auc=auc_interval(values, flags, seed, DRAWS),
        sensitivity=Proportion.of(flagged[flags]).figure,
        specificity=Proportion.of(~flagged[~flags]).figure,
        brier_before=brier(values, flags),
        brier_after=brier(held, flags),
    )


def _require(values: Floats, flags: Flags, kind: str) -> None:
    if kind not in FEWEST:
        raise UsageError(f"a calibration is one of {', '.join(FEWEST)}")
    if values.shape != flags.shape or not ((values >= 0) & (values <= 1)).all():
        raise UsageError("scores go from 0 to 1, one a label; check the column of scores")
    least = FEWEST[kind]
    if min(flags.sum(), (~flags).sum()) < least:
        raise UsageError(
            f"{kind} takes at least {least} positive and {least} negative studies; here are"
            f" {flags.sum()} and {(~flags).sum()}"
        )


def _held_out(
    values: Floats, flags: Flags, kind: str, sensitivity: float, rng: np.random.Generator
) -> tuple[Floats, Flags]:
    """Return each study's probability, and whether it is flagged, by a fit that hasn't seen it."""
    fold = np.empty(len(values), np.intp)
    for one in (True, False):  # each class is spread over the folds by itself
        places = rng.permutation(np.flatnonzero(flags == one))
        fold[places] = np.arange(len(places)) % FOLDS
    held, flagged = np.empty(len(values)), np.empty(len(values), np.bool_)
    for number in range(FOLDS):
        out, kept = fold == number, fold != number
        curve = curve_of(fit(values[kept], flags[kept], kind))
        held[out] = curve(values[out])
        flagged[out] = held[out] >= threshold_for(curve(values[kept]), flags[kept], sensitivity)
    return held, flagged


def _platt(scores: Floats, positive: Flags) -> dict[str, Any]:
    """Fit the logistic curve to Platt's softened targets; its slope stays positive."""
    from scipy.optimize import minimize

    x, ones, noughts = _logit(scores), positive.sum(), (~positive).sum()
    target = np.where(positive, (ones + 1) / (ones + 2), 1 / (noughts + 2))

    def loss(weights: Floats) -> tuple[float, Floats]:
        z = weights[0] * x + weights[1]
        slope = _expit(z) - target
        return float(np.sum(np.logaddexp(0, z) - target * z)), np.array([slope @ x, slope.sum()])

    found = minimize(
        loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(1e-3, 50.0), (None, None)]
    )
    return {"kind": PLATT, "slope": float(found.x[0]), "intercept": float(found.x[1])}


def _isotonic(scores: Floats, positive: Flags) -> dict[str, Any]:
    """Pool adjacent violators over the distinct scores; each step ends where it begins and stops."""
    from scipy.optimize import isotonic_regression

    x, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, positive.astype(float)) / counts
    y = isotonic_regression(means, weights=counts.astype(float)).x
    corner = np.ones(len(x), np.bool_)
    corner[1:-1] = (np.diff(y)[:-1] != 0) | (np.diff(y)[1:] != 0)
    return {"kind": ISOTONIC, "x": x[corner].tolist(), "y": np.clip(y[corner], 0, 1).tolist()}


def _logit(scores: Floats) -> Floats:
    kept = np.clip(scores, _TINY, 1 - _TINY)
    return np.log(kept / (1 - kept))


def _expit(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -60, 60))))


__all__ = [
    "Calibrated",
    "FEWEST",
    "ISOTONIC",
    "PLATT",
    "calibrate",
    "calibrator",
    "curve_of",
    "fit",
    "threshold_for",
]
