"""How updates become the next model: FedAvg, FedProx, FedAdam, median, Krum.

Written out instead of taken from `flwr.serverapp.strategy`: those keep FedAdam's moments in memory, and a
killed server must go on from the last round; they take counts as clients tell them. Tests hold the numbers
against Flower's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voxelvault_fl.jobs.job import ADAM, Job, Strategy
from voxelvault_fl.jobs.task import Array, Weights

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """A checked update: whose, what it adds to the model, how many subjects it stands for."""

    site: str
    update: Weights
    examples: int


def aggregate(
    strategy: Strategy, weights: Weights, given: Sequence[Contribution], moments: Weights
) -> tuple[Weights, Weights]:
    """Return the next model and what the strategy must remember.

    Parameters
    ----------
    strategy : Strategy
        Of the job.
    weights : mapping of str to array
        The model that the updates start from.
    given : sequence of Contribution
        At least one; the result doesn't depend on their order.
    moments : mapping of str to array
        What the strategy remembered last; empty at first.
    """
    ordered = sorted(given, key=lambda one: one.site)
    step, moments = _STEPS[strategy.name](strategy, ordered, moments)
    return {name: (one + step[name]).astype(one.dtype) for name, one in weights.items()}, moments


def reach(job: Job, model: Weights) -> float:
    """Return how far a round can move a job's model, as a Euclidean norm, whatever its updates are.

    A mean of updates is no longer than the longest; a median of each value is, by at most a square root
    of 2. FedAdam divides a mean of past updates by the root of a mean of their squares, value by value: by
    Cauchy and Schwarz that is bounded for each value, and `tau` bounds all of it.

    Parameters
    ----------
    job : Job
        Its strategy, rounds, and the norm that an update can have.
    model : mapping of str to array
        Any of its models.
    """
    most = job.update_norm
    if job.strategy.name != "fedadam":
        return 1.42 * most if job.strategy.name == "median" else most
    numbers = _adams(job.strategy)
    first, second = numbers["beta1"], numbers["beta2"]
    rate = float(_rate(numbers, np.arange(2.0, job.rounds + 2)).max())
    by_norm = rate * most / numbers["tau"]
    if first**2 >= second:
        return by_norm
    value = (1 - first) / math.sqrt((1 - second) * (1 - first**2 / second))
    return min(by_norm, rate * value * math.sqrt(sum(one.size for one in model.values())))


def _shares(strategy: Strategy, given: Sequence[Contribution]) -> Floats:
    counts = np.array([one.examples for one in given], float)
    return np.full(len(given), 1 / len(given)) if strategy.weighting == "uniform" else counts / counts.sum()


def _mean(shares: Floats, given: Sequence[Contribution]) -> dict[str, Array]:
    return {
        name: sum(share * one.update[name].astype(float) for share, one in zip(shares, given, strict=True))
        for name in given[0].update
    }


def _averaged(
    strategy: Strategy, given: Sequence[Contribution], moments: Weights
) -> tuple[dict[str, Array], Weights]:
    return _mean(_shares(strategy, given), given), moments


def _adam(
    strategy: Strategy, given: Sequence[Contribution], moments: Weights
) -> tuple[dict[str, Array], Weights]:
    """Reddi et al. 2021, Adaptive Federated Optimization, algorithm 2, its rate corrected as Flower does."""
    numbers = _adams(strategy)
    first, second = numbers["beta1"], numbers["beta2"]
    mean = _mean(_shares(strategy, given), given)
    done = moments.get("rounds", np.ones(1)) + 1
    rate = _rate(numbers, done)
    step, kept = {}, {"rounds": done}
    for name, delta in mean.items():
        m = first * moments.get(f"m.{name}", np.zeros_like(delta)) + (1 - first) * delta
        v = second * moments.get(f"v.{name}", np.zeros_like(delta)) + (1 - second) * np.square(delta)
        step[name] = rate * m / (np.sqrt(v) + numbers["tau"])
        kept[f"m.{name}"], kept[f"v.{name}"] = m, v
    return step, kept


def _adams(strategy: Strategy) -> Mapping[str, float]:
    return {**ADAM, **strategy.numbers}


def _rate(numbers: Mapping[str, float], done: Floats) -> Floats:
    rate: Floats = np.sqrt(1 - numbers["beta2"] ** done) / (1 - numbers["beta1"] ** done)
    return numbers["rate"] * rate


def _median(
    strategy: Strategy, given: Sequence[Contribution], moments: Weights
) -> tuple[dict[str, Array], Weights]:
    names = given[0].update
    return {name: np.median([one.update[name].astype(float) for one in given], axis=0) for name in names}, {}


def _krum(
    strategy: Strategy, given: Sequence[Contribution], moments: Weights
) -> tuple[dict[str, Array], Weights]:
    """Blanchard et al. 2017: those closest to their neighbours; the mean of `keep` of them."""
    byzantine, keep = int(strategy.numbers.get("byzantine", 0)), int(strategy.numbers.get("keep", 1))
    flat = np.stack([np.concatenate([one.update[n].ravel() for n in sorted(one.update)]) for one in given])
    apart = np.square(flat[:, None].astype(float) - flat[None]).sum(-1)
    near = max(1, len(given) - byzantine - 2)
    scores = np.sort(apart, axis=1)[:, 1 : near + 1].sum(axis=1)
    chosen = [given[at] for at in np.argsort(scores, kind="stable")[: max(1, keep)]]
    return _mean(np.full(len(chosen), 1 / len(chosen)), chosen), {}


_STEPS = {"fedavg": _averaged, "fedprox": _averaged, "fedadam": _adam, "median": _median, "krum": _krum}


def pooled(measured: Mapping[str, tuple[int, Mapping[str, float]]]) -> dict[str, float]:
    """Return the means over sites, weighted by their subjects, of the figures that are finite.

    Parameters
    ----------
    measured : mapping of str to (int, mapping)
        Site to subjects and figures by name.
    """
    names = sorted({name for _, figures in measured.values() for name in figures})
    found = {}
    for name in names:
        told = [
            (n, figures[name]) for n, figures in measured.values() if np.isfinite(figures.get(name, np.nan))
        ]
        if told:
            found[name] = float(sum(n * value for n, value in told) / sum(n for n, _ in told))
    return found


__all__ = ["Contribution", "aggregate", "pooled", "reach"]
