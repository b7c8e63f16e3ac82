"""`numpy-logistic`: a logistic regression on six figures of a CT series' Hounsfield units.

Small enough for a notebook and for tests that run everywhere, and real: it finds a bleed by its brightness.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.task import Measured, Trained, Turn, Weights
from voxelvault_fl.training.examples import Example, SiteData, read, subjects
from voxelvault_fl.training.figures import auc, log_loss
from voxelvault_fl.training.singles import Indexes, Singles, owners

if TYPE_CHECKING:
    from voxelvault.series import Series

Floats = npt.NDArray[np.float64]

FEATURES = 6
_CENTRE = np.array([40.0, 12.0, 0.05, 80.0, 0.1, 8.0])
_SCALE = np.array([15.0, 10.0, 0.10, 40.0, 0.1, 8.0])


def features(hu: npt.NDArray[Any]) -> Floats:
    """Return what the model sees of a volume.

    Parameters
    ----------
    hu : (slice, row, column) array
        Hounsfield units; NaN where padded.

    Returns
    -------
    (6,) float64
        Mean and spread of what is between 0 and 120 HU, the share of it above 55, its 99th percentile,
        the share of bone in the volume, and noise along rows; each brought to about -1 to 1 by constants.
    """
    values = np.nan_to_num(np.asarray(hu, np.float32), nan=-1024.0)
    inside = (values > 0) & (values < 120)
    brain = values[inside]
    if brain.size < 10:
        return np.zeros(FEATURES)
    pairs = inside[..., 1:] & inside[..., :-1]
    steps = np.abs(np.diff(values, axis=-1))[pairs]
    noise = float(np.median(steps)) if steps.size else 0.0
    raw = [
        brain.mean(),
        brain.std(),
        (brain > 55).mean(),
        np.percentile(brain, 99),
        (values > 300).mean(),
        noise,
    ]
    return np.asarray((np.array(raw, float) - _CENTRE) / _SCALE)


@dataclass(frozen=True, slots=True)
class Settings:
    """Of a round at a site: steps of gradient descent, their rate, ridge penalty, equal classes or not."""

    steps: int = 20
    rate: float = 0.5
    ridge: float = 1e-3
    balanced: bool = True


class Logistic:
    """The task.

    Parameters
    ----------
    config : mapping
        Keys of `Settings`.
    data : SiteData, optional
        Needed for all but `init`.
    found : sequence of Example
        Of the job at this site.

    Raises
    ------
    JobRefused
        The configuration has a key or value that can't be.
    """

    def __init__(self, config: Mapping[str, Any], data: SiteData | None, found: Sequence[Example]) -> None:
        self._settings, self._data, self._found = settings(config), data, found
        self._seen: dict[str, tuple[Floats, npt.NDArray[np.bool_], int]] = {}

    def init(self, seed: int) -> Weights:
        """Return zeros: nothing is known yet."""
        return {"weight": np.zeros(FEATURES, np.float32), "bias": np.zeros(1, np.float32)}

    def train(self, weights: Weights, turn: Turn) -> Trained:
        """Descend on the training part; the proximal term holds the weights near those that came in."""
        x, y, people = self.part("train")
        share = _class_weights(y, self._settings.balanced)
        start = np.append(weights["weight"], weights["bias"]).astype(float)
        w = start.copy()
        hold = self._settings.rate * turn.proximal
        for _ in range(turn.steps if turn.steps is not None else self._settings.steps):
            ridge = np.append(w[:-1], 0.0) * self._settings.ridge
            w -= self._settings.rate * (_gradient(w, x, y, share) + ridge)
            # The proximal step is solved, not descended: it can't overshoot, however strong it is.
            w = (w + hold * start) / (1 + hold)
        logits = x @ w[:-1] + w[-1]
        made = {"weight": w[:-1].astype(np.float32), "bias": w[-1:].astype(np.float32)}
        return Trained(made, people, {"loss": log_loss(logits, y)})

    def evaluate(self, weights: Weights, part: str = "validate") -> Measured:
        """Measure on a part."""
        x, y, people = self.part(part)
        logits = x @ weights["weight"].astype(float) + float(weights["bias"][0])
        return Measured(people, {"loss": log_loss(logits, y), "auc": auc(logits, y)})

    def by_subject(self) -> tuple[int, Callable[[Floats, Indexes], Floats]]:
        """Return the number of people of the training part, and their gradients; see `Singles`."""
        found = self._singles()
        return found.count, found.gradients

    def losses_by_subject(self, flat: Floats) -> Floats:
        """Return the loss of each of these people, (subject) float64."""
        return self._singles().losses(flat)

    def _singles(self) -> Singles:
        x, y, _ = self.part("train")
        whose = [one.member.subject_id for one in self._found if one.part == "train"]
        return Singles(x, y, owners(whose), self._settings.ridge)

    def part(self, name: str) -> tuple[Floats, npt.NDArray[np.bool_], int]:
        """Return features (example, figure), truth (example,) and people of a part, read when needed."""
        if name not in self._seen:
            mine = [one for one in self._found if one.part == name]
            rows = read(self._data, mine, _features) if self._data else []
            x = np.array(rows, float).reshape(-1, FEATURES)
            self._seen[name] = x, np.array([one.positive for one in mine], bool), subjects(mine)
        return self._seen[name]


def _features(series: Series) -> Floats:
    return features(series.load())


def settings(config: Mapping[str, Any]) -> Settings:
    """Return the settings of a job's model.

    Raises
    ------
    JobRefused
        A key is unknown, or a number out of range.
    """
    from voxelvault_fl.jobs.strict import made

    found = made(Settings, dict(config), "model.config")
    if not (1 <= found.steps <= 10_000 and 0 < found.rate <= 10 and 0 <= found.ridge <= 10):
        raise JobRefused("model", "steps are 1 to 10000, the rate above 0 and at most 10, the ridge 0 to 10")
    return found


def _class_weights(y: npt.NDArray[np.bool_], balanced: bool) -> Floats:
    if not balanced or y.all() or not y.any():
        return np.full(len(y), 1 / max(len(y), 1))
    return np.asarray(np.where(y, 0.5 / y.sum(), 0.5 / (~y).sum()))


def _gradient(w: Floats, x: Floats, y: npt.NDArray[np.bool_], share: Floats) -> Floats:
    # By tanh, which overflows nowhere.
    error = (0.5 + 0.5 * np.tanh((x @ w[:-1] + w[-1]) / 2) - y) * share
    return np.append(x.T @ error, error.sum())


__all__ = ["FEATURES", "Logistic", "Settings", "features", "settings"]
