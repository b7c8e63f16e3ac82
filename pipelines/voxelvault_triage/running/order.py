"""What goes to a worker for one study, and what comes back. Both travel sealed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from voxelvault.reading.sources import SeriesSource
from voxelvault_triage.model import Finding, Gated, Study
from voxelvault_triage.pipeline import Model, Pipeline
from voxelvault_triage.results.writing import Made


class Loadable(Protocol):
    """A model on its way to a worker: bytes that pickle, loaded once a process."""

    @property
    def name(self) -> str:
        """Name and version, for people."""

    @property
    def demonstration(self) -> bool:
        """Its card says that it is one, and so must every result."""

    @property
    def digest(self) -> str:
        """As `Model.digest`."""

    def load(self) -> Model:
        """Return the model, ready to run in this process."""


@dataclass(frozen=True, slots=True)
class About:
    """What the objects of a result say beside the finding; they are made in the worker.

    Parameters
    ----------
    study : Study
        What is analysed.
    gated : Gated
        What the gate said.
    seconds : mapping of str to float
        By step, so far.
    demonstration : bool
        Every object says that a demonstration model made it.
    model_name : str
        Name and version of the model.
    """

    study: Study = field(repr=False)
    gated: Gated = field(repr=False)
    seconds: Mapping[str, float] = field(default_factory=dict)
    demonstration: bool = True
    model_name: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """One study for a worker.

    Parameters
    ----------
    pipeline : Pipeline
        Its steps `prepare` and `infer` are done there.
    source : SeriesSource
        The series to analyse; its packs are lent along.
    about : About
        For the objects of the result.
    model : str
        Digest; empty where the pipeline has none.
    carried : Loadable or None
        The model itself, for a worker that has not got it.
    seconds : float or None
        Longest that it may take; then the worker ends itself.
    """

    pipeline: Pipeline = field(repr=False)
    source: SeriesSource = field(repr=False)
    about: About = field(repr=False)
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
    made : Made or None
        The objects of the result.
    failure : str
        Name of the error's class where it failed, its message where it is one of ours; else empty.
    lacks_model : bool
        The worker has not got the model: send it along.
    seconds : mapping of str to float
        ``prepare``, ``infer`` and ``objects``.
    frames, nbytes : int
        What was read, for the log.
    """

    finding: Finding | None = field(default=None, repr=False)
    made: Made | None = field(default=None, repr=False)
    failure: str = ""
    lacks_model: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    frames: int = 0
    nbytes: int = 0


__all__ = ["Answer", "Loadable", "Order"]
