"""A run's model as a signed MONAI bundle that `triage models install` takes in, and taken apart again.

Any round of a run can become one: rolling back is installing the bundle of an earlier round.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from safetensors import SafetensorError
from safetensors.numpy import load, save

from voxelvault.errors import IntegrityError
from voxelvault.files import disk_error, write_new
from voxelvault_fl.jobs.job import Job
from voxelvault_fl.jobs.task import Weights
from voxelvault_fl.record.exporting import Exported, exported_of, network_of
from voxelvault_fl.record.provenance import HONESTY, Proved, verify
from voxelvault_triage.models.bundle import INFERENCE, METADATA, Bundle
from voxelvault_triage.models.reading import read_bundle

WEIGHTS, PROVENANCE, NETWORK = "models/weights.safetensors", "docs/provenance.json", "models/model.onnx"
VERSIONS = frozenset({"monai_version", "pytorch_version", "numpy_version", "required_packages_version"})
NOTICE = "Trained across institutions for research; not a medical device."


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
    exported = exported_of(job)
    said = _metadata(job, round, exported)
    return Bundle(
        {
            METADATA: json.dumps(said, indent=1, sort_keys=True).encode() + b"\n",
            INFERENCE: json.dumps(exported.inference, sort_keys=True).encode() + b"\n",
            NETWORK: network_of(job, weights),
            WEIGHTS: save(weights),
            PROVENANCE: provenance,
            "docs/README.md": _card(job, round, exported).encode(),
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
    """Check a bundle's provenance, its weights, and that all else in it is what a run makes of them.

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
    made = bundle_of(proved.job, proved.round, weights, bundle.files[PROVENANCE])
    if bundle.files.get(NETWORK) != made.files[NETWORK]:
        _same_maker(bundle, proved.job)
        raise IntegrityError("the bundle's network isn't made of the weights that its provenance names")
    _require_made(bundle, made)
    return proved


def _require_made(bundle: Bundle, made: Bundle) -> None:
    """Require the files that a run makes: a name, a threshold or a card that differ are nobody's."""
    if bundle.files.keys() - made.files.keys():
        raise IntegrityError("the bundle has files that no federated run writes; ask its maker for it anew")
    for name, data in made.files.items():
        same = bundle.files.get(name) == data
        if name == METADATA and not same:
            same = _unversioned(bundle) == _unversioned(made)
        if not same:
            raise IntegrityError(f"the bundle's {name} isn't what its run made; ask its maker for it anew")


def _unversioned(bundle: Bundle) -> dict[str, Any]:
    """Return what metadata says but for the packages that wrote it, which may be others than are here."""
    return {name: said for name, said in bundle.metadata.items() if name not in VERSIONS}


def _same_maker(bundle: Bundle, job: Job) -> None:
    """Refuse to judge a network that another version of PyTorch wrote, in other words perhaps."""
    theirs, ours = (said.get("pytorch_version") for said in (bundle.metadata, exported_of(job).metadata))
    if theirs != ours:
        raise IntegrityError(
            f"whether the network is made of the named weights is told only with what wrote it: "
            f"PyTorch {str(theirs)[:20]}; install that, and verify again"
        )


def _metadata(job: Job, round: int, exported: Exported) -> dict[str, Any]:
    version = f"1.0.{round}"
    own = {"threshold": 0.5, "federated": {"job": job.digest, "round": round}}
    return {
        "name": f"{job.consortium} {job.id}"[:32],
        "version": version,
        "changelog": {version: f"round {round} of a federated run"},
        "task": job.model.task,
        "description": f"{exported.summary} Model of round {round}, trained across institutions. {NOTICE}",
        "intended_use": f"Research under purpose {job.purpose}. {NOTICE}",
        "authors": job.consortium,
        "copyright": "of the consortium",
        **exported.metadata,
        "voxelvault": {**own, **exported.own},
    }


def _card(job: Job, round: int, exported: Exported) -> str:
    return (
        f"# {job.consortium} {job.id}, round {round}\n\n{NOTICE}\n\n{exported.card}\n\n"
        f"`voxelvault federated verify` says which sites attest which cohorts, rounds, code and terms;"
        f" {HONESTY}.\n"
    )


__all__ = ["NETWORK", "PROVENANCE", "WEIGHTS", "bundle_of", "place_signed", "verify_bundle", "write_signed"]
