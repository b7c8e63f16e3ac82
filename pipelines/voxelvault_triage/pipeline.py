"""The seam: what a pipeline is, and how one is found by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from voxelvault import Vault, plugins
from voxelvault.errors import UsageError
from voxelvault.series import Series
from voxelvault_triage.model import Finding, Gated, Study

GROUP = plugins.PIPELINES

Arrays = Mapping[str, npt.NDArray[np.float32]]


class Model(Protocol):
    """A loaded model, ready to run; one a worker process, used by one thread at a time."""

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides what it answers, hexadecimal."""

    @property
    def card(self) -> Mapping[str, Any]:
        """Its card: name, version, intended input, threshold, calibration, `demonstration`."""

    def run(self, inputs: Arrays) -> Arrays:
        """Return the network's outputs by name for inputs by name, float32."""


class Pipeline(Protocol):
    """One kind of analysis: three small steps; the runner does all else.

    `name` is that of its entry point in the group ``voxelvault.pipelines``, which points to a class or
    function that makes one without arguments. It is pickled to workers; what is heavy (a session, a
    library) is loaded in the step that needs it. A pipeline whose attribute `ranks` is False gives studies
    no place on the reading list: its flags are shown beside the places that others gave. One with a method
    `example_inputs` has models of another input refused before any study is touched.
    """

    name: str
    version: str
    model: str | None
    """Name of the model in the registry; None for a pipeline that has none."""

    def gate(self, vault: Vault, study: Study) -> Gated:
        """Choose the series to analyse, or say why there is none; reads the catalog and a few frames.

        The series may be left open, as `Gated.opened`: it is read on under the same handle.
        """

    def prepare(self, series: Series, stack: int) -> Any:
        """Return what the model takes, from the series' values and geometry."""

    def infer(self, prepared: Any, model: Model | None) -> Finding:
        """Run the model and say what was found, on the series' own grid."""


def ranks(pipeline: Pipeline) -> bool:
    """Tell whether a pipeline gives studies a place on the reading list; it does unless it says no."""
    return bool(getattr(pipeline, "ranks", True))


def example_inputs(pipeline: Pipeline) -> Arrays | None:
    """Return arrays as a pipeline gives them to its model, by name; None where it doesn't say."""
    example = getattr(pipeline, "example_inputs", None)
    return example() if example is not None else None


def pipeline_named(name: str) -> Pipeline:
    """Return a pipeline that an installed package adds.

    Raises
    ------
    UsageError
        There is none of that name; the message lists those there are.
    PluginFailed
        The package that adds it can't be loaded.
    """
    made = plugins.load(GROUP, name)
    if made is None:
        known = ", ".join(plugin.name for plugin in plugins.listed(GROUP, ()))
        raise UsageError(f"there is no pipeline {name!r}; installed are: {known or 'none'}")
    pipeline: Pipeline = made()
    return pipeline
