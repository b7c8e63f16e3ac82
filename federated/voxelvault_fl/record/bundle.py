"""A run's model as a signed MONAI bundle that `triage models install` takes in, and taken apart again.

Any round of a run can become one: rolling back is installing the bundle of an earlier round.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from safetensors import SafetensorError
from safetensors.numpy import load, save

from voxelvault.errors import IntegrityError, MissingExtra
from voxelvault.files import disk_error, write_new
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.job import Job
from voxelvault_fl.jobs.task import Weights
from voxelvault_fl.record.provenance import HONESTY, Proved, verify
from voxelvault_triage.models.bundle import INFERENCE, METADATA, Bundle
from voxelvault_triage.models.reading import read_bundle

WEIGHTS, PROVENANCE, NETWORK = "models/weights.safetensors", "docs/provenance.json", "models/model.onnx"
NOTICE = "Trained across institutions for research; not a medical device."
_OPSET = 17


def bundle_of(job: Job, round: int, weights: Weights, provenance: bytes) -> Bundle:
    """Return the bundle of a round's model.

    Parameters
    ----------
    job : Job
        What was run.
    round : int
        Whose model it is.
    weights : mapping of str to array
        The model.
    provenance : bytes
        See `voxelvault_fl.record.provenance.document`.

    Raises
    ------
    JobRefused
        There is no export for the job's task.
    """
    said = _metadata(job, round)
    return Bundle(
        {
            METADATA: json.dumps(said, indent=1, sort_keys=True).encode() + b"\n",
            INFERENCE: json.dumps({"network_def": {"_disabled_": True}}).encode() + b"\n",
            NETWORK: network_of(job, weights),
            WEIGHTS: save(weights),
            PROVENANCE: provenance,
            "docs/README.md": _card(job, round).encode(),
        }
    )


def write_signed(folder: Path, bundle: Bundle, key: Ed25519PrivateKey) -> None:
    """Write `bundle/`, `bundle.sig` and `maker.pem`: what `triage models install` asks for.

    Raises
    ------
    UsageError
        One of the files is there already.
    StorageError
        The disk refused.
    """
    for name, data in bundle.files.items():
        path = folder / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new(path, [data])
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_new(folder / "bundle.sig", [key.sign(bundle.manifest)])
    write_new(folder / "maker.pem", [public])


def place_signed(place: Path, bundle: Bundle, key: Ed25519PrivateKey) -> None:
    """Write what `write_signed` writes, whole or not at all; what was there before goes.

    Raises
    ------
    StorageError
        The disk refused.
    """
    part = place.with_name(f"{place.name}.part")
    try:
        for one in (part, place):
            if one.exists():
                shutil.rmtree(one)
        write_signed(part, bundle, key)
        part.rename(place)
    except OSError as error:
        raise disk_error(error) from None


def verify_bundle(place: Path, authority: bytes | None = None) -> Proved:
    """Check a bundle's provenance, its weights, and that its network is made of them.

    Parameters
    ----------
    place : Path
        Folder or zip file.
    authority : bytes, optional
        The consortium's certificate, PEM, from one's own kit.

    Raises
    ------
    IntegrityError
        It isn't what its provenance says, or has none.
    """
    bundle = read_bundle(place)
    if WEIGHTS not in bundle.files or PROVENANCE not in bundle.files:
        raise IntegrityError("this model wasn't made by a federated run: it has no provenance")
    try:
        weights = load(bundle.files[WEIGHTS])
    except (SafetensorError, ValueError, KeyError, TypeError):
        raise IntegrityError("the model's weights can't be read; ask its maker for another copy") from None
    proved = verify(bundle.files[PROVENANCE], weights, authority)
    if bundle.files.get(NETWORK) != network_of(proved.job, weights):
        raise IntegrityError("the bundle's network isn't made of the weights that its provenance names")
    return proved


def network_of(job: Job, weights: Weights) -> bytes:
    """Return the job's network with these weights as ONNX: the same bytes for the same weights.

    Raises
    ------
    JobRefused
        There is no export for the job's task.
    """
    export = _EXPORTS.get(job.model.task)
    if export is None:
        raise JobRefused("task", f"models are exported of {', '.join(_EXPORTS)}, not of this job's task")
    try:
        return export(weights)
    except (KeyError, ValueError):
        raise JobRefused("weights", "these weights aren't those of the job's task") from None


def _logistic(weights: Weights) -> bytes:
    """Return (series, 6) float32 figures in, (series, 1) logits out."""
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        raise MissingExtra("exporting a model needs ONNX: pip install 'voxelvault[train]'") from None
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
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="voxelvault")
    return bytes(model.SerializeToString(deterministic=True))


_EXPORTS: Mapping[str, Callable[[Weights], bytes]] = {"numpy-logistic": _logistic}


def _metadata(job: Job, round: int) -> dict[str, Any]:
    version = f"1.0.{round}"
    return {
        "name": f"{job.consortium} {job.id}"[:32],
        "version": version,
        "changelog": {version: f"round {round} of a federated run"},
        "task": job.model.task,
        "description": f"Model of round {round}, trained across institutions. {NOTICE}",
        "intended_use": f"Research under purpose {job.purpose}. {NOTICE}",
        "authors": job.consortium,
        "copyright": "of the consortium",
        "network_data_format": {"inputs": {}, "outputs": {}},
        "voxelvault": {
            "demonstration": True,
            "threshold": 0.5,
            "federated": {"job": job.digest, "round": round},
        },
    }


def _card(job: Job, round: int) -> str:
    return (
        f"# {job.consortium} {job.id}, round {round}\n\n{NOTICE}\n\n"
        f"`voxelvault federated verify` says which sites attest which cohorts, rounds, code and terms;"
        f" {HONESTY}.\n"
    )


__all__ = [
    "NETWORK", "PROVENANCE", "WEIGHTS", "bundle_of", "network_of", "place_signed", "verify_bundle",
    "write_signed",
]  # fmt: skip
