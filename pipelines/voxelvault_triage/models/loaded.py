"""A model ready to run: a session behind a card, every input checked against the card before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from voxelvault.errors import UsageError, VoxelVaultError
from voxelvault_triage.models.bundle import INFERENCE, Bundle
from voxelvault_triage.models.card import Card, card_of, check_inputs
from voxelvault_triage.models.confined import Bounds, ConfinedSession
from voxelvault_triage.models.confined_child import RUNTIMES
from voxelvault_triage.models.sessions import (
    FOR_FORM,
    LOADERS,
    ONNX,
    TORCH,
    WEIGHTS,
    Network,
    Session,
    check_runtime,
)
from voxelvault_triage.pipeline import Arrays

_WEIGHTS = f"models/model.{WEIGHTS}"


class LoadedModel:
    """A `Model` of a bundle.

    Parameters
    ----------
    digest : str
        Of the bundle.
    card : Card
        What the bundle says of itself.
    session : Session
        What runs it.
    confined : str
        What confines it, for people; empty where it runs in this process.
    """

    def __init__(self, digest: str, card: Card, session: Session, confined: str = "") -> None:
        self._digest, self._card, self._session = digest, card, session
        self.confined = confined

    @property
    def digest(self) -> str:
        """SHA-256 of the bundle, hexadecimal."""
        return self._digest

    @property
    def card(self) -> Mapping[str, Any]:
        """What is shown of it, and goes into each result."""
        return self._card.as_mapping()

    def run(self, inputs: Arrays) -> Arrays:
        """Return the network's outputs by name.

        Raises
        ------
        UsageError
            The input isn't what the card says; nothing was run.
        VoxelVaultError
            The network fails, or answers something that is no number.
        """
        check_inputs(self._card.inputs, inputs)
        found = self._session.run(inputs)
        if not all(np.isfinite(values).all() for values in found.values()):
            raise VoxelVaultError(
                "the network answered NaN or infinity, which isn't used; verify the model, or ask its maker"
            )
        return found


def load(
    bundle: Bundle,
    *,
    runtime: str | None = None,
    threads: int = 1,
    device: str = "cpu",
    confined: bool = True,
    bounds: Bounds | None = None,
) -> LoadedModel:
    """Load a bundle that somebody answers for.

    Parameters
    ----------
    bundle : Bundle
        Checked before.
    runtime : str, optional
        ``onnxruntime``, ``openvino`` or ``torch``; by default what its network is made for.
    threads : int
        Of the runtime.
    device : str
        ``cpu``; or ``cuda``, with torch and not confined: a confined process opens no device.
    confined : bool
        In a child process without network, with bounded memory and time; else in this one.
    bounds : Bounds, optional
        What a confined one may use.

    Raises
    ------
    UsageError
        There is no such runtime, or it doesn't run this network.
    MissingExtra
        The runtime isn't installed.
    VoxelVaultError
        The network can't be loaded.
    """
    network, card = network_of(bundle, runtime), card_of(bundle)
    runtime = runtime or FOR_FORM[network.form]
    check_runtime(network, runtime, device)
    if not confined:
        return LoadedModel(bundle.digest, card, _in_process(network, runtime, threads, device))
    if runtime not in RUNTIMES:
        raise UsageError(f"{runtime} makes code as it runs, which a model of others may not; choose another")
    if device != "cpu":
        raise UsageError("a model of others runs confined, on the processor; a confined process opens no GPU")
    session = ConfinedSession(network, runtime, threads, bounds)
    return LoadedModel(bundle.digest, card, session, session.confined)


def _in_process(network: Network, runtime: str, threads: int, device: str) -> Session:
    try:
        return LOADERS[runtime](network, threads, device)
    except VoxelVaultError:
        raise
    except Exception:
        # A runtime's own words repeat what is in the network.
        raise VoxelVaultError("the model can't be loaded; verify it, or install it again") from None


def network_of(bundle: Bundle, runtime: str | None = None) -> Network:
    """Return the network of a bundle, its description as plain values; weights where torch asks for them."""
    name = _WEIGHTS if runtime == TORCH and _WEIGHTS in bundle.files else bundle.network
    formats = bundle.metadata.get("network_data_format") or {}
    names = {key: tuple(map(str, formats.get(key) or {})) for key in ("inputs", "outputs")}
    if name.endswith(ONNX):
        return Network(ONNX, bundle.files[name], {}, **names)
    definition = bundle.json(INFERENCE).get("network_def") if INFERENCE in bundle.files else None
    return Network(WEIGHTS, bundle.files[name], definition or {}, **names)


__all__ = ["LoadedModel", "load", "network_of"]
