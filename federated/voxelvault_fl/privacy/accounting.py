"""What noise is worth: epsilon as an accountant gives it, and no other.

The unit is the subject: two data sets are neighbours when one subject, with all images, is in one and not in
the other.

References
----------
Abadi et al. 2016, Deep learning with differential privacy; Mironov et al. 2019, Rényi differential privacy of
the sampled Gaussian mechanism. Computed by Opacus.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from voxelvault.errors import MissingExtra
from voxelvault_fl.errors import JobRefused

UNIT, ACCOUNTANT = "subject", "RDP, Opacus"
MOST_STEPS = 1_000_000
MOST_DELTA = 1e-3
"""A larger one allows to give away one subject in a thousand: no guarantee for a person."""

_WHOLE = [*range(2, 64), 80, 128, 256, 512]
_ORDERS = [1.03, 1.1, 1.2, 1.3, 1.5, 1.75, 2.5, 3.5, 4.5, 5.5, *_WHOLE]
"""Of Rényi's divergence; each gives an epsilon that holds, the least is taken."""
_FILTERS = threading.Lock()


@dataclass(frozen=True, slots=True)
class Noise:
    """Steps of the subsampled Gaussian mechanism.

    Parameters
    ----------
    multiplier : float
        Standard deviation of the noise over the clipping bound, above 0.
    rate : float
        Probability with which each subject is in a step, of its own: above 0, at most 1.
    steps : int
        How many.
    """

    multiplier: float
    rate: float
    steps: int

    def __post_init__(self) -> None:
        if not (0 < self.multiplier <= 1e6 and 0 < self.rate <= 1 and 0 < self.steps <= MOST_STEPS):
            raise JobRefused("privacy", "noise above 0, a rate above 0 and at most 1, and 1 to 1000000 steps")


@dataclass(frozen=True, slots=True)
class Spent:
    """What privacy cost so far, as an accountant says.

    Parameters
    ----------
    epsilon, delta : float
        The guarantee that holds for each subject.
    unit, accountant : str
        What is protected, and who computed it.
    """

    epsilon: float
    delta: float
    unit: str = UNIT
    accountant: str = ACCOUNTANT

    def __str__(self) -> str:
        """Return the four that belong together."""
        return f"epsilon {self.epsilon:.4g} at delta {self.delta:.3g}; unit: {self.unit}; {self.accountant}"

    @property
    def document(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "epsilon": self.epsilon,
            "delta": self.delta,
            "unit": self.unit,
            "accountant": self.accountant,
        }


def account(history: Sequence[Noise], delta: float) -> Spent:
    """Compose steps and return what they cost together.

    Parameters
    ----------
    history : sequence of Noise
        In any order; all on the same subjects, or counted as if they were.
    delta : float
        Above 0, below 1; well below one over the number of subjects.

    Raises
    ------
    JobRefused
        Delta is none.
    MissingExtra
        The extra `federated` is not installed.
    """
    if not 0 < delta < 1:
        raise JobRefused("privacy", "delta is above 0 and below 1, such as 1e-5")
    if not history:
        return Spent(0.0, delta)
    accountant = _accountant()
    accountant.history = _together(history)
    # Filters of warnings belong to the process, not to a thread.
    with _FILTERS, warnings.catch_warnings():
        # Said where an order outside of these would give a smaller epsilon: this one holds all the same.
        warnings.filterwarnings("ignore", "Optimal order is the")
        return Spent(float(accountant.get_epsilon(delta, alphas=_orders(history))), delta)


def _together(history: Sequence[Noise]) -> list[tuple[float, float, int]]:
    """Return steps of a kind as one: they add up in any case, and each kind takes Opacus a while."""
    steps: dict[tuple[float, float], int] = {}
    for one in history:
        steps[one.multiplier, one.rate] = steps.get((one.multiplier, one.rate), 0) + one.steps
    return [(multiplier, rate, count) for (multiplier, rate), count in steps.items()]


def _orders(history: Sequence[Noise]) -> list[float]:
    # Near a rate of one half Opacus' series for broken orders converges so slowly that it never ends.
    half = any(abs(one.rate - 0.5) < 0.01 for one in history)
    return list(_WHOLE if half else _ORDERS)


@cache
def noise_for(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """Return the least multiplier, to a hundredth, with which so many steps stay within epsilon.

    Raises
    ------
    JobRefused
        There is none below 1000.
    """
    if not epsilon > 0:
        raise JobRefused("privacy", "epsilon is above 0, such as 3")
    low, high = 0, 100_000
    while high - low > 1:
        middle = (low + high) // 2
        enough = account([Noise(middle / 100, rate, steps)], delta).epsilon <= epsilon
        low, high = (low, middle) if enough else (middle, high)
    if high == 100_000:
        raise JobRefused("privacy", "no noise below 1000 is enough for that epsilon; take fewer steps")
    return high / 100


@dataclass(frozen=True, slots=True)
class Terms:
    """What a job with differential privacy asks of each site; nothing here depends on data.

    Parameters
    ----------
    epsilon, delta : float
        The most that the job may cost a subject of this site.
    clip : float
        Largest Euclidean norm of what one subject adds in one step.
    noise : Noise
        Of one round.
    learning_rate, batch : float
        A step goes down the noisy sum of gradients by their quotient: `batch` is a number of the job, not
        the size of a step.
    """

    epsilon: float
    delta: float
    clip: float
    noise: Noise
    learning_rate: float
    batch: float


_NUMBERS = ("epsilon", "delta", "clip", "rate", "steps", "learning_rate", "batch")


def terms_of(numbers: Mapping[str, Any], rounds: int) -> Terms:
    """Read a job's numbers.

    Parameters
    ----------
    numbers : mapping
        ``epsilon`` and ``delta`` of all rounds, ``clip``, ``rate`` (a subject's chance to be in a step),
        ``steps`` a round, ``learning_rate``, ``batch``; and ``noise``, which is computed if it isn't given.
    rounds : int
        At most.

    Raises
    ------
    JobRefused
        The rule is ``privacy``: a number is missing or makes no sense, or the noise that is given costs more
        than epsilon.
    """
    try:
        epsilon, delta, clip, rate, steps, learning_rate, batch = (float(numbers[name]) for name in _NUMBERS)
        given = float(numbers.get("noise", 0))
    except (KeyError, TypeError, ValueError):
        raise JobRefused("privacy", f"dp-sgd takes the numbers {', '.join(_NUMBERS)}") from None
    whole = steps <= MOST_STEPS and steps == int(steps)
    if not whole or not all(0 < one < 1e6 for one in (clip, learning_rate, batch)):
        raise JobRefused("privacy", "clip, learning_rate and batch are above 0, steps a whole number")
    if not 0 < delta <= MOST_DELTA:
        raise JobRefused(
            "privacy", f"delta is above 0, at most {MOST_DELTA:g}: well below one over the number of subjects"
        )
    multiplier = given or noise_for(epsilon, delta, rate, int(steps) * rounds)
    noise = Noise(multiplier, rate, int(steps))
    if not account([noise] * rounds, delta).epsilon <= epsilon:
        raise JobRefused("privacy", "all rounds with that noise cost more than the job's epsilon")
    return Terms(epsilon, delta, clip, noise, learning_rate, batch)


def _accountant() -> Any:
    try:
        from opacus.accountants import RDPAccountant
    except ImportError:
        raise MissingExtra(
            "differential privacy needs Opacus: pip install 'voxelvault[train,federated]'"
        ) from None
    return RDPAccountant()


__all__ = ["ACCOUNTANT", "MOST_DELTA", "UNIT", "Noise", "Spent", "Terms", "account", "noise_for", "terms_of"]
