"""The models of a vault: kept as sealed documents, found by name or digest, checked whenever they are read.

::

    <digest>/about.json     name, version, who answers for it, when it was installed, what it was made of
    <digest>/files.zip      the bundle's files, as they came
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from voxelvault import Vault
from voxelvault.errors import IntegrityError, ObjectExists, UsageError
from voxelvault_triage.models.bundle import INFERENCE, NETWORKS, Bundle, unpacked
from voxelvault_triage.models.card import Card, card_of
from voxelvault_triage.models.confined import Bounds
from voxelvault_triage.models.loaded import LoadedModel, load, network_of
from voxelvault_triage.models.reading import read_bundle
from voxelvault_triage.models.vouching import SHIPPED, Vouched

AREA = "models"
ABOUT, FILES = "about.json", "files.zip"

SHIPPED_BUNDLES = {"head-ct-hemorrhage": ("voxelvault_triage", "hemorrhage/bundle")}
"""Models that come with this package, by name: package and folder."""

_DIGITS = re.compile(r"[0-9a-f]{6,64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class Installed:
    """One model of a vault, or one that comes with this package.

    Parameters
    ----------
    digest : str
        SHA-256 of the bundle's manifest, hexadecimal.
    name, version, title : str
        As found by; as its maker counts; as its maker calls it.
    vouched : Vouched
        Who answers for it.
    installed : str
        When, ISO 8601 in UTC; empty for one that comes with this package.
    based_on : str
        Digest of the model that it was calibrated from; else empty.
    files, size : int
        How many, and bytes of all.
    demonstration : bool
        Its maker says that it is one.
    """

    digest: str
    name: str
    version: str
    title: str
    vouched: Vouched
    installed: str
    based_on: str
    files: int
    size: int
    demonstration: bool = False


def install(
    vault: Vault, bundle: Bundle, vouched: Vouched, *, name: str | None = None, based_on: str = ""
) -> Installed:
    """Keep a bundle that somebody answers for; a later one of the same name is used instead of it.

    Parameters
    ----------
    vault : Vault
        Open.
    bundle : Bundle
        As read.
    vouched : Vouched
        What `vouch` returned.
    name : str, optional
        What it is found by; by default its maker's, in small letters.
    based_on : str
        Digest of the model that it was calibrated from.

    Raises
    ------
    UsageError
        The bundle lacks a network or a name, or is installed already.
    VoxelVaultError
        Its network can't be loaded.
    PolicyDenied, NoPermission, AuditError
        Then nothing was stored.
    """
    card, _ = card_of(bundle), network_of(bundle)
    name = name or card.name
    if not _NAME.fullmatch(name):
        raise UsageError("a model's name is at most 32 small letters, digits and dashes")
    _loaded(bundle)
    sizes = [len(data) for data in bundle.files.values()]
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    about = Installed(
        digest=bundle.digest,
        name=name,
        version=card.version,
        title=card.title,
        vouched=vouched,
        installed=now,
        based_on=based_on,
        files=len(sizes),
        size=sum(sizes),
        demonstration=card.demonstration,
    )
    kept = vault.documents(AREA)
    try:
        # What it is comes last: without it, it isn't there.
        if f"{about.digest}/{FILES}" not in kept.names(about.digest):
            kept.put(f"{about.digest}/{FILES}", bundle.packed(), about.digest)
        kept.put(f"{about.digest}/{ABOUT}", json.dumps(asdict(about)).encode(), about.digest)
    except ObjectExists:
        known = _about(kept.get(f"{about.digest}/{ABOUT}")).name
        raise UsageError(
            f"this model is installed already, as {known}; remove it first to give it another name, or to"
            " have it used again instead of a later one"
        ) from None
    return about


def installed(vault: Vault) -> list[Installed]:
    """Return the models of a vault, the last installed first; those that come with this package last."""
    kept = vault.documents(AREA)
    names = [name for name in kept.names() if name.endswith(f"/{ABOUT}")]
    found = [_about(kept.get(name)) for name in names]
    return [*sorted(found, key=lambda one: one.installed, reverse=True), *shipped()]


def demonstrations(vault: Vault) -> frozenset[str]:
    """Return the digests of a vault's models that are demonstrations."""
    return frozenset(one.digest for one in installed(vault) if one.demonstration)


def used(models: Iterable[Installed]) -> dict[str, Installed]:
    """Return the model that is used of each name, of what `installed` returns: the first of them."""
    found: dict[str, Installed] = {}
    for one in models:
        found.setdefault(one.name, one)
    return found


def find(vault: Vault, wanted: str) -> Installed:
    """Return a model by its name, the last installed of it, or by the first six digits or more of its digest.

    Raises
    ------
    UsageError
        There is none, or several digests start so.
    """
    models = installed(vault)
    named = used(models)
    if wanted in named:
        return named[wanted]
    by_digest = [one for one in models if _DIGITS.fullmatch(wanted) and one.digest.startswith(wanted)]
    if len({one.digest for one in by_digest}) > 1:
        raise UsageError("several models' digests start so; give more digits")
    if not by_digest:
        known = ", ".join(named) or "none"
        raise UsageError(f"there is no such model; here are: {known}")
    return by_digest[0]


def bundle_of(vault: Vault, model: Installed) -> Bundle:
    """Return a model's files, its digest checked.

    Raises
    ------
    IntegrityError
        They aren't those that were installed.
    """
    if model.vouched.how == SHIPPED:
        bundle = shipped_bundle(model.name)
    else:
        try:
            bundle = unpacked(vault.documents(AREA).get(f"{model.digest}/{FILES}"))
        except (zipfile.BadZipFile, KeyError, UsageError):
            raise IntegrityError("this model's files are damaged; remove it and install it again") from None
    if bundle.digest != model.digest:
        raise IntegrityError("this model's files aren't those installed; remove it and install it again")
    return bundle


def remove(vault: Vault, model: Installed) -> None:
    """Remove a model from a vault; results keep its digest.

    Raises
    ------
    UsageError
        It comes with this package.
    """
    if model.vouched.how == SHIPPED:
        raise UsageError("this model comes with the package; install another one of its name instead")
    kept = vault.documents(AREA)
    for name in (ABOUT, FILES):
        kept.remove(f"{model.digest}/{name}", model.digest)


def verify(vault: Vault, model: Installed) -> str:
    """Check a model's files and load it; return what confines it, for people.

    Raises
    ------
    IntegrityError
        Its files aren't those that were installed.
    VoxelVaultError
        Its network can't be loaded.
    """
    return open_model(vault, model).confined or "in this process: it comes with the package"


def open_model(vault: Vault, model: Installed, **options: Any) -> LoadedModel:
    """Load a model: what comes with this package in this process, all others confined.

    Parameters
    ----------
    vault : Vault
        Open.
    model : Installed
        As found.
    **options
        `runtime`, `threads`, `device`, `bounds` of `load`.
    """
    return _loaded(bundle_of(vault, model), **options)


def _loaded(bundle: Bundle, **options: Any) -> LoadedModel:
    return load(bundle, confined=not is_ours(bundle), **options)


def model_named(
    vault: Vault,
    name: str,
    *,
    runtime: str | None = None,
    threads: int = 1,
    device: str = "cpu",
    bounds: Bounds | None = None,
) -> LoadedModel:
    """Load a model by name or digest.

    Parameters
    ----------
    vault : Vault
        Open.
    name : str
        As `find` takes it.
    runtime : str, optional
        ``onnxruntime`` (the default for ONNX), ``openvino`` or ``torch``; by default also what the
        environment's VOXELVAULT_RUNTIME says.
    threads, device, bounds : optional
        As of `load`.

    Raises
    ------
    UsageError
        There is no such model, or the runtime doesn't fit.
    IntegrityError
        Its files aren't those that were installed.
    VoxelVaultError
        It can't be loaded.
    """
    chosen = runtime or os.environ.get("VOXELVAULT_RUNTIME") or None
    options: dict[str, Any] = {"runtime": chosen, "threads": threads, "device": device, "bounds": bounds}
    return open_model(vault, find(vault, name), **options)


def shipped() -> list[Installed]:
    """Return the models that come with this package."""
    return [_shipped(name) for name in SHIPPED_BUNDLES if _folder(name).is_dir()]


@cache
def shipped_bundle(name: str) -> Bundle:
    """Return a bundle that comes with this package; it is trusted as the package is."""
    return read_bundle(_folder(name))


def _shipped(name: str) -> Installed:
    bundle = shipped_bundle(name)
    card: Card = card_of(bundle)
    return Installed(
        digest=bundle.digest,
        name=name,
        version=card.version,
        title=card.title,
        vouched=Vouched(SHIPPED),
        installed="",
        based_on="",
        files=len(bundle.files),
        size=sum(map(len, bundle.files.values())),
        demonstration=card.demonstration,
    )


def _folder(name: str) -> Path:
    package, folder = SHIPPED_BUNDLES[name]
    return Path(str(files(package))) / folder


def is_ours(bundle: Bundle) -> bool:
    """Tell whether a bundle holds the networks that come with this package, and no other."""
    return any(_networks(bundle) == _networks(shipped_bundle(one.name)) for one in shipped())


def _networks(bundle: Bundle) -> dict[str, bytes | None]:
    return {name: bundle.files.get(name) for name in (*NETWORKS, INFERENCE)}


def _about(data: bytes) -> Installed:
    said = json.loads(data)
    return Installed(**{**said, "vouched": Vouched(**said["vouched"])})


__all__ = [
    "Installed",
    "bundle_of",
    "demonstrations",
    "find",
    "install",
    "installed",
    "is_ours",
    "model_named",
    "open_model",
    "remove",
    "shipped",
    "used",
    "verify",
]
