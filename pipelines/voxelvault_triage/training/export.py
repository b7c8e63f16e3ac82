"""From a trained network to a MONAI bundle: ONNX, card, and what it was made with."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from voxelvault.errors import IntegrityError
from voxelvault_triage.hemorrhage.network import FEATURES
from voxelvault_triage.hemorrhage.preprocess import CHANNELS, COLUMNS, HIGH_VALUE, LOW_VALUE, ROWS
from voxelvault_triage.hemorrhage.scoring import INPUT, OUTPUT
from voxelvault_triage.notice import DEMONSTRATION
from voxelvault_triage.phantom.bleeds import KINDS
from voxelvault_triage.pipeline import Arrays

OPSET = 17
PARITY = 1e-3
"""Largest difference of logits between PyTorch and ONNX Runtime."""

NAME = "Head CT hemorrhage"
VERSION = "1.2.0"
_CHANGES = {
    "1.0.0": "first",
    "1.1.0": "trained on more scanners than one department has; weights for torch",
    VERSION: "trained on any thickness, and on brains that fill their skull beside bone that brightens them",
}


def to_onnx(net: nn.Module) -> bytes:
    """Return a network as ONNX: any number of planes, all else fixed.

    Raises
    ------
    IntegrityError
        ONNX Runtime doesn't answer what PyTorch answers.
    """
    net = net.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    written = io.BytesIO()
    example = torch.from_numpy(
        np.random.default_rng(0).uniform(-1, 1, (3, CHANNELS, ROWS, COLUMNS)).astype(np.float32)
    )
    with warnings.catch_warnings():
        # The exporter that needs nothing else installed says that there is a newer one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (example[:2],),
            written,  # type: ignore[arg-type]
            opset_version=OPSET,
            dynamo=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "plane"}, OUTPUT: {0: "plane"}},
        )
    found = runner(written.getvalue())({INPUT: example.numpy()})[OUTPUT]
    with torch.no_grad():
        if np.abs(found - net(example).numpy()).max() > PARITY:
            raise IntegrityError("the exported network answers otherwise than the trained one; it isn't kept")
    return written.getvalue()


def to_weights(net: nn.Module) -> bytes:
    """Return a network's weights alone, for torch: on a GPU, or to go on training."""
    written = io.BytesIO()
    torch.save({name: values.contiguous() for name, values in net.state_dict().items()}, written)
    return written.getvalue()


def runner(graph: bytes) -> Callable[[Arrays], Arrays]:
    """Return what runs a network in ONNX, in this process, one thread: for training and evaluation."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(inputs: Arrays) -> Arrays:
        names = [one.name for one in session.get_outputs()]
        return dict(zip(names, session.run(None, dict(inputs)), strict=True))

    return run


def formats() -> dict[str, Any]:
    """Return what the network takes and gives, as MONAI's `network_data_format`."""
    outputs = {
        "type": "logits",
        "format": "segmentation",
        "num_channels": len(KINDS) + 1,
        "spatial_shape": [ROWS, COLUMNS],
        "dtype": "float32",
        "channel_def": {"0": "any blood", **{str(1 + k): str(kind) for k, kind in enumerate(KINDS)}},
    }
    image = {
        "type": "image",
        "format": "hounsfield",
        "modality": "CT",
        "num_channels": CHANNELS,
        "spatial_shape": [ROWS, COLUMNS],
        "dtype": "float32",
        "value_range": [LOW_VALUE, HIGH_VALUE],
        "is_patch_data": False,
        "channel_def": {
            "0": "plane below",
            "1": "plane",
            "2": "plane above",
            "3": "wide window",
            "4": "mirrored",
        },
    }
    return {"inputs": {INPUT: image}, "outputs": {OUTPUT: outputs}}


def packages() -> dict[str, Any]:
    """Return what a bundle's metadata says of the packages that made it."""
    return {
        "monai_version": version("monai"),
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"onnxruntime": version("onnxruntime")},
    }


def metadata(
    threshold: float, calibration: Mapping[str, Any], pixels: int, training: Mapping[str, Any]
) -> dict[str, Any]:
    """Return configs/metadata.json.

    Parameters
    ----------
    threshold : float
        Of the calibrated probability.
    calibration : mapping
        From the network's score to a probability.
    pixels : int
        How many most suspicious pixels make up the evidence of a plane.
    training : mapping
        What it was made with: command, seconds, studies, seed, figures on the validation set.
    """
    return {
        "name": NAME,
        "version": VERSION,
        "changelog": _CHANGES,
        **packages(),
        "task": "Bleeding in the head on non-contrast CT, for ordering a reading list",
        "description": f"2.5D U-Net that marks five types of blood. {DEMONSTRATION}",
        "intended_use": f"Trying out the way from a scan to the reading list. {DEMONSTRATION}",
        "authors": "voxelvault",
        "copyright": "Apache-2.0",
        "data_source": "Synthetic head CTs made by voxelvault_triage.phantom; no patient",
        "network_data_format": formats(),
        "voxelvault": {
            "pipeline": "head-ct-hemorrhage",
            "demonstration": True,
            "threshold": threshold,
            "pixels": pixels,
            "calibration": dict(calibration),
            "training": dict(training),
        },
    }


def inference(features: Sequence[int] = FEATURES) -> dict[str, Any]:
    """Return configs/inference.json of a network of some widths."""
    target = {"_target_": "voxelvault_triage.hemorrhage.network.HemorrhageNet"}
    return {
        "network_def": target if tuple(features) == FEATURES else {**target, "features": list(features)},
        "preprocessing": "voxelvault_triage.hemorrhage.preprocess",
        "postprocessing": "voxelvault_triage.hemorrhage.scoring",
    }


def write_bundle(folder: Path, graph: bytes, weights: bytes, said: Mapping[str, Any], card: str) -> None:
    """Write a bundle: configs, the network as ONNX and as weights, docs."""
    for name, data in {
        "configs/metadata.json": json.dumps(said, indent=1).encode() + b"\n",
        "configs/inference.json": json.dumps(inference(), indent=1).encode() + b"\n",
        "models/model.onnx": graph,
        "models/model.pt": weights,
        "docs/README.md": card.encode(),
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
