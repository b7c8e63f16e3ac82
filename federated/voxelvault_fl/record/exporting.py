"""A task's model as a network that others run, and what a bundle says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from voxelvault.errors import MissingExtra
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.job import Job, Model
from voxelvault_fl.jobs.task import Weights

T = TypeVar("T")

_OPSET = 17
_NEEDED = "exporting a model needs ONNX and, for a network, PyTorch: pip install 'voxelvault[train]'"

UNFIXED = (
    "Calibration and threshold are fixed on no site's data: scores are the network's own evidence through the"
    " logistic function, flagged at one half, and how many are flagged so differs from site to site. A site"
    " fits both to its own labels with `voxelvault triage calibrate`, which it should do before it looks at"
    " what is flagged."
)


@dataclass(frozen=True, slots=True)
class Exported:
    """What a bundle says of a task's models.

    Parameters
    ----------
    summary, card : str
        One sentence; what the card says.
    inference : mapping
        configs/inference.json.
    metadata, own : mapping
        More of configs/metadata.json, and of its object `voxelvault`.
    """

    summary: str
    card: str
    inference: Mapping[str, Any] = field(default_factory=lambda: {"network_def": {"_disabled_": True}})
    metadata: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Any] = field(default_factory=dict)


def network_of(job: Job, weights: Weights) -> bytes:
    """Return the job's network with these weights as ONNX: the same bytes for the same weights.

    Raises
    ------
    JobRefused
        There is no export for the job's task, or the weights aren't its.
    MissingExtra
        What exports isn't installed.
    """
    export = _of(job.model, _NETWORKS)
    try:
        return export(job.model, weights)
    except ImportError:
        raise MissingExtra(_NEEDED) from None
    except (KeyError, ValueError, RuntimeError):
        raise JobRefused("weights", "these weights aren't those of the job's task") from None


def exported_of(job: Job) -> Exported:
    """Return what a bundle says of the job's models.

    Raises
    ------
    JobRefused
        There is no export for the job's task.
    """
    return _of(job.model, _SAID)(job.model)


def _of(model: Model, table: Mapping[str, T]) -> T:
    if model.task not in table:
        raise JobRefused("task", f"models are exported of {', '.join(table)}, not of this job's task")
    return table[model.task]


def _logistic(model: Model, weights: Weights) -> bytes:
    """Return (series, 6) float32 figures in, (series, 1) logits out."""
    from onnx import TensorProto, helper, numpy_helper

    matrix = np.ascontiguousarray(weights["weight"].reshape(-1, 1).astype(np.float32))
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["features", "weight", "bias"], ["logits"])],
        "logistic",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["series", matrix.shape[0]])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["series", 1])],
        [
            numpy_helper.from_array(matrix, "weight"),
            numpy_helper.from_array(weights["bias"].astype(np.float32), "bias"),
        ],
    )
    # An intermediate representation that all runtimes of this opset read.
    opset = helper.make_opsetid("", _OPSET)
    made = helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="voxelvault")
    return bytes(made.SerializeToString(deterministic=True))


def _logistic_said(model: Model) -> Exported:
    formats: dict[str, Any] = {"inputs": {}, "outputs": {}}
    return Exported(
        "A logistic regression on six figures of a series; no pipeline runs it.",
        "Six figures of a series in, a logit out.",
        metadata={"network_data_format": formats},
    )


def _hemorrhage(model: Model, weights: Weights) -> bytes:
    from voxelvault_fl.training.hemorrhage import network
    from voxelvault_triage.training.export import to_onnx

    return to_onnx(network(model.config, weights))


def _hemorrhage_said(model: Model) -> Exported:
    try:
        from voxelvault_fl.training.hemorrhage import settings
        from voxelvault_triage.training.export import formats, inference, packages
    except ImportError:
        raise MissingExtra(_NEEDED) from None
    features = settings(model.config).features
    return Exported(
        "2.5D U-Net that marks five types of blood in plain head CT.",
        "Takes and gives what `network_data_format` says, as the pipeline `head-ct-hemorrhage` prepares and"
        " scores it; installed with `--name head-ct-hemorrhage` it is what `voxelvault triage run` uses."
        f"\n\n{UNFIXED}",
        inference(features),
        {**packages(), "network_data_format": formats()},
        {"pipeline": "head-ct-hemorrhage", "calibrated": False},
    )


_NETWORKS: Mapping[str, Callable[[Model, Weights], bytes]] = {
    "numpy-logistic": _logistic,
    "hemorrhage": _hemorrhage,
}
_SAID: Mapping[str, Callable[[Model], Exported]] = {
    "numpy-logistic": _logistic_said,
    "hemorrhage": _hemorrhage_said,
}

__all__ = ["UNFIXED", "Exported", "exported_of", "network_of"]
