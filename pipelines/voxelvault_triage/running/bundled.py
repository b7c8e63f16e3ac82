"""A model of the vault's registry on its way to workers: its files, and whether it must be confined."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from voxelvault import Vault
from voxelvault_triage.models.bundle import Bundle
from voxelvault_triage.models.card import card_of, check_inputs
from voxelvault_triage.models.registry import bundle_of, find, is_ours
from voxelvault_triage.pipeline import Model, Pipeline, example_inputs

RUNTIME = "VOXELVAULT_RUNTIME"


@dataclass(frozen=True, slots=True)
class Bundled:
    """Implements `Loadable`.

    Parameters
    ----------
    digest : str
        Of the bundle.
    name : str
        Name in the registry, and version.
    bundle : Bundle
        Its files.
    confined : bool
        It is run in a child process without network: somebody else made it.
    demonstration : bool
        Its card says so, and so must every result.
    runtime : str or None
        As of `models.loaded.load`.
    """

    digest: str
    name: str
    bundle: Bundle = field(repr=False)
    confined: bool = True
    demonstration: bool = False
    runtime: str | None = None

    def load(self) -> Model:
        """Return the model, ready to run in this process with one thread."""
        from voxelvault_triage.models.loaded import load

        return load(self.bundle, runtime=self.runtime, confined=self.confined)


def bundled_for(vault: Vault, pipeline: Pipeline, name: str) -> Bundled:
    """Return a model by name or digest, its files checked, and that it takes what the pipeline gives.

    Raises
    ------
    UsageError
        There is no such model, or it takes another input.
    IntegrityError
        Its files aren't those that were installed.
    """
    model = find(vault, name)
    bundle = bundle_of(vault, model)
    example = example_inputs(pipeline)
    if example is not None:
        check_inputs(card_of(bundle).inputs, example)
    runtime = os.environ.get(RUNTIME) or None
    name = f"{model.name} {model.version}"
    return Bundled(model.digest, name, bundle, not is_ours(bundle), model.demonstration, runtime)


__all__ = ["Bundled", "bundled_for"]
