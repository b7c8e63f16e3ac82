"""The seam between rounds and what is trained: plain arrays in, plain arrays out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Weights = dict[str, Array]
"""Arrays by name; the names, shapes and dtypes of a job's model never change."""


def weights_digest(weights: Mapping[str, Array]) -> str:
    """Return the SHA-256 of weights, hexadecimal: of names, dtypes, shapes and little-endian values.

    It doesn't depend on how they are stored, nor on their order.
    """
    digest = hashlib.sha256(b"voxelvault federated weights v1\n")
    for name in sorted(weights):
        values = np.ascontiguousarray(weights[name])
        values = values.astype(values.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name}\n{values.dtype.str}\n{values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Turn:
    """What a site needs to know of a round to train in it.

    Parameters
    ----------
    round : int
        From 1.
    seed : int
        Of this site in this round.
    proximal : float
        FedProx's mu; 0 for the other strategies.
    steps : int, optional
        Of the optimiser, instead of what the model's configuration says.
    """

    round: int
    seed: int
    proximal: float = 0.0
    steps: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What training gave.

    Parameters
    ----------
    weights : mapping of str to array
        As those that came in: names, shapes, dtypes.
    examples : int
        Subjects that were trained on.
    metrics : mapping of str to float
        Such as ``loss``; sent only as far as the job's terms allow.
    spent : mapping
        What privacy cost, as an accountant says; empty without one.
    """

    weights: Weights
    examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    spent: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """What evaluation gave: subjects it rests on, and figures by name."""

    examples: int
    metrics: Mapping[str, float]


@runtime_checkable
class Task(Protocol):
    """A model and a site's own data. Where data is read it is read lazily, at the first need."""

    def init(self, seed: int) -> Weights:
        """Return the first weights: of configuration and seed alone, of no data."""
        ...

    def train(self, weights: Weights, turn: Turn) -> Trained:
        """Train on the site's training part, from these weights, which stay as they are."""
        ...

    def evaluate(self, weights: Weights, part: str = "validate") -> Measured:
        """Measure on a part of the site's data: ``validate``, which chooses a round, or ``test``."""
        ...


__all__ = ["Array", "Measured", "Task", "Trained", "Turn", "Weights", "weights_digest"]
