"""What goes to a worker for one study, and what comes back. Both travel sealed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from voxelvault.reading.sources import SeriesSource
from voxelvault_triage.model import Finding
from voxelvault_triage.pipeline import Model, Pipeline


class Loadable(Protocol):
    """A model on its way to a worker: bytes that pickle, loaded once a process."""

    @property
    def digest(self) -> str:
        """As `Model.digest`."""

    def load(self) -> Model:
        """Return the model, ready to run in this process."""


@dataclass(frozen=True, slots=True)
class Order:
    """One study for a worker.

    Parameters
    ----------
    pipeline : Pipeline
        Its steps `prepare` and `infer` are done there.
    source : SeriesSource
        The series to analyse; its packs are lent along.
    stack : int
        Which volume.
    model : str
        Digest; empty where the pipeline has none.
    carried : Loadable or None
        The model itself, for a worker that has not got it.
    seconds : float or None
        Longest that it may take; then the worker ends itself.
    """

    pipeline: Pipeline = field(repr=False)
    source: SeriesSource = field(repr=False)
    stack: int
    model: str
    carried: Loadable | None = field(default=None, repr=False)
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker says.

    Parameters
    ----------
    finding : Finding or None
        None where it failed.
    failure : str
        Name of the error's class where it failed, its message where it is one of ours; else empty.
    lacks_model : bool
        The worker has not got the model: send it along.
    seconds : mapping of str to float
        ``prepare`` and ``infer``.
    frames, nbytes : int
        What was read, for the log.
    """

    finding: Finding | None = field(default=None, repr=False)
    failure: str = ""
    lacks_model: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    frames: int = 0
    nbytes: int = 0


__all__ = ["Answer", "Loadable", "Order"]
