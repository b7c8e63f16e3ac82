"""Runtimes: ONNX Runtime, OpenVINO, torch. Each loads a network from bytes and answers in float32."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from voxelvault.errors import MissingExtra, UsageError
from voxelvault_triage.pipeline import Arrays

ONNXRUNTIME, OPENVINO, TORCH = "onnxruntime", "openvino", "torch"

ONNX, WEIGHTS = "onnx", "pt"
"""Forms of a network: a graph, or a state dictionary beside its description."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network as it is stored.

    Parameters
    ----------
    form : str
        `ONNX` or `WEIGHTS`.
    data : bytes
        The file.
    definition : mapping
        For `WEIGHTS`: what the bundle calls `network_def`, plain values alone.
    inputs, outputs : tuple of str
        Names, for networks that have none themselves.
    """

    form: str
    data: bytes = field(repr=False)
    definition: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


class Session(Protocol):
    """A loaded network."""

    def run(self, inputs: Arrays) -> Arrays:
        """Return outputs by name for inputs by name, float32."""


Loader = Callable[[Network, int, str], Session]
"""Makes a session of a network: number of threads, device (``cpu`` or ``cuda``)."""


class OnnxSession:
    """ONNX Runtime on the processor."""

    def __init__(self, network: Network, threads: int, device: str) -> None:
        runtime = _imported("onnxruntime", "triage")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        self._session = runtime.InferenceSession(network.data, options, providers=["CPUExecutionProvider"])
        self._names = [one.name for one in self._session.get_outputs()]

    def run(self, inputs: Arrays) -> Arrays:
        """Return outputs by name."""
        return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))


class OpenVinoSession:
    """OpenVINO on the processor, in 32 bits: its own choice is bfloat16 where the processor has it."""

    def __init__(self, network: Network, threads: int, device: str) -> None:
        runtime = _imported("openvino", "openvino")
        core = runtime.Core()
        hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        self._model = core.compile_model(core.read_model(io.BytesIO(network.data)), "CPU", hints)

    def run(self, inputs: Arrays) -> Arrays:
        """Return outputs by name."""
        found = self._model(dict(inputs))
        # Copied: the arrays are the request's own, and the next run writes into them.
        return {output.get_any_name(): np.array(found[output]) for output in self._model.outputs}


class TorchSession:
    """PyTorch, on the processor or a GPU; of weights alone (`weights_only=True`), never a pickled module."""

    def __init__(self, network: Network, threads: int, device: str) -> None:
        torch = _imported("torch", "train")
        torch.set_num_threads(threads)
        if device != "cpu" and not torch.cuda.is_available():
            raise UsageError("there is no GPU here that torch can use; choose the device cpu")
        self._torch, self._device = torch, device
        self._inputs, self._outputs = network.inputs, network.outputs or ("output",)
        weights = torch.load(io.BytesIO(network.data), map_location="cpu", weights_only=True)
        module = build(network.definition)
        module.load_state_dict(weights)
        self._module = module.eval().to(device)

    def run(self, inputs: Arrays) -> Arrays:
        """Return outputs by name."""
        names = self._inputs or tuple(inputs)
        given = [self._torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in names]
        with self._torch.inference_mode():
            found = self._module(*(one.to(self._device) for one in given))
        parts = found if isinstance(found, tuple | list) else (found,)
        return {name: part.float().cpu().numpy() for name, part in zip(self._outputs, parts, strict=False)}


LOADERS: Mapping[str, Loader] = {ONNXRUNTIME: OnnxSession, OPENVINO: OpenVinoSession, TORCH: TorchSession}
"""By name."""

FOR_FORM = {ONNX: ONNXRUNTIME, WEIGHTS: TORCH}
"""What runs a form unless another is asked for."""

_NETWORKS = "monai.networks.nets"
_OURS = "voxelvault_triage.hemorrhage.network"


def build(definition: Mapping[str, Any]) -> Any:
    """Make a network of its description: a class of MONAI's, or of ours, and plain values.

    A description is never handed to MONAI's own parser, which evaluates ``$`` expressions.

    Raises
    ------
    UsageError
        It names anything else, or an expression.
    """
    target = definition.get("_target_")
    arguments = {name: value for name, value in definition.items() if not name.startswith("_")}
    text = json.dumps(arguments)
    if not isinstance(target, str) or '"$' in text or '"@' in text or "_target_" in text:
        raise UsageError("the bundle's network_def isn't plain values; export the network as ONNX")
    place, _, name = target.rpartition(".")
    if place not in ("", _NETWORKS, _OURS) or not name.isidentifier() or name.startswith("_"):
        raise UsageError("the bundle's network is none of MONAI's own; export it as ONNX")
    from importlib import import_module

    made = getattr(_imported(_NETWORKS, "train") if place != _OURS else import_module(_OURS), name, None)
    if not isinstance(made, type):
        raise UsageError("this version of MONAI has no such network; export it as ONNX")
    try:
        return made(**arguments)
    except (TypeError, ValueError):
        raise UsageError("the bundle's network_def doesn't fit its network; export it as ONNX") from None


def check_runtime(network: Network, runtime: str, device: str) -> None:
    """Refuse a runtime that doesn't run such a network, or not on that device.

    Raises
    ------
    UsageError
        The message says what to choose.
    """
    if runtime not in LOADERS:
        raise UsageError(f"there is no runtime of that name; choose one of {', '.join(LOADERS)}")
    form = WEIGHTS if runtime == TORCH else ONNX
    if network.form != form:
        needs = "a network in ONNX" if form == ONNX else "weights and a network_def"
        raise UsageError(f"{runtime} runs {needs}, which this bundle hasn't; choose another runtime")
    if device != "cpu" and runtime != TORCH:
        raise UsageError(f"{runtime} runs on the processor here; choose torch for a GPU")


def _imported(module: str, extra: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError:
        raise MissingExtra(
            f"{module.partition('.')[0]} isn't installed; pip install 'voxelvault[{extra}]'"
        ) from None


__all__ = [
    "FOR_FORM",
    "LOADERS",
    "Loader",
    "Network",
    "ONNX",
    "ONNXRUNTIME",
    "OPENVINO",
    "Session",
    "TORCH",
    "WEIGHTS",
    "build",
    "check_runtime",
]
