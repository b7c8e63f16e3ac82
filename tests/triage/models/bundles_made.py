"""A small network and bundles of it, made here: MONAI's layout, ONNX and weights of the same numbers."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

from voxelvault_triage.models.bundle import Bundle

ARGUMENTS: Mapping[str, Any] = {
    "spatial_dims": 2,
    "in_channels": 3,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
    "norm": ["group", {"num_groups": 2}],
}
SIDE = 32


@cache
def network() -> tuple[bytes, bytes]:
    """Return a network as ONNX and as weights."""
    import torch
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    made = UNet(**ARGUMENTS).eval()
    graph, weights = io.BytesIO(), io.BytesIO()
    axes = {name: {0: "batch", 2: "row", 3: "column"} for name in ("image", "pred")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            made,
            (torch.zeros(1, 3, SIDE, SIDE),),
            graph,
            input_names=["image"],
            output_names=["pred"],
            dynamic_axes=axes,
            dynamo=False,
        )
    torch.save(made.state_dict(), weights)
    return graph.getvalue(), weights.getvalue()


def metadata(**more: Any) -> dict[str, Any]:
    """Return what MONAI's metadata.json says, and more."""
    tensor = {
        "type": "image",
        "format": "hounsfield",
        "modality": "CT",
        "num_channels": 3,
        "spatial_shape": ["16*n", "16*n"],
        "dtype": "float32",
        "value_range": [0, 1],
    }
    return {
        "name": "Small test network",
        "version": "0.1.0",
        "description": "Answers nothing of use",
        "intended_use": "tests",
        "network_data_format": {
            "inputs": {"image": tensor},
            "outputs": {"pred": {"type": "probabilities", "num_channels": 2}},
        },
        "voxelvault": {"threshold": 0.4, "demonstration": True},
        **more,
    }


def files(form: str = "onnx", **more: Any) -> dict[str, bytes]:
    """Return the files of a bundle."""
    graph, weights = network()
    inference = {"network_def": {"_target_": "UNet", **ARGUMENTS}}
    return {
        "configs/metadata.json": json.dumps(metadata(**more)).encode(),
        "configs/inference.json": json.dumps(inference).encode(),
        "docs/README.md": b"a small network",
        f"models/model.{form}": graph if form == "onnx" else weights,
    }


def bundle(form: str = "onnx", **more: Any) -> Bundle:
    """Return a bundle."""
    return Bundle(files(form, **more))
