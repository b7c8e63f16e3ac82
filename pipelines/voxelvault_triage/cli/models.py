"""`triage models`: which models this vault has, and who answers for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelvault.interfaces.cli.command import Session, destructive, pass_session, verb
from voxelvault.interfaces.cli.output import agreed, emit, facts, plain, size, table

if TYPE_CHECKING:
    from voxelvault import Vault
    from voxelvault_triage.models.registry import Installed


_PATH = click.Path(path_type=Path, exists=True)


@click.group("models")
def command() -> None:
    """Install, list, show, verify and remove models. Not medical devices."""


@verb(
    "install",
    "voxelvault --vault V triage models install bundle/ --key maker.pem --signature bundle.sig",
    "voxelvault --vault V triage models install bundle.zip --pin 5f3c…",
)
@click.argument("source", type=_PATH)
@click.option("--pin", metavar="DIGEST", help="The bundle's digest, as its maker told it.")
@click.option("--key", type=_PATH, help="The maker's public key: PEM or base64.")
@click.option("--signature", type=_PATH, help="Detached Ed25519 signature of the manifest.")
@click.option("--name", help="What it is found by, instead of its maker's name.")
@pass_session
def install(
    session: Session,
    source: Path,
    pin: str | None,
    key: Path | None,
    signature: Path | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Take a MONAI bundle (folder or zip) into the vault; its maker's key or its digest vouches for it.

    One whose network can't be loaded is refused. The last installed of a name is the one that is used.
    """
    from voxelvault_triage.models.reading import read_bundle
    from voxelvault_triage.models.registry import install as install_in_vault
    from voxelvault_triage.models.registry import installed, used
    from voxelvault_triage.models.vouching import vouch

    bundle = read_bundle(source)
    vouched = vouch(bundle, pin=pin, key=_bytes(key), signature=_bytes(signature))
    with session.open() as vault:
        before = used(installed(vault))
        about = install_in_vault(vault, bundle, vouched, name=name)
    lines = [f"installed {about.name} {about.version}, digest {about.digest}, {vouched.how}"]
    replaced = before.get(about.name)
    if replaced is not None:
        lines.append(f"used from now on instead of {replaced.version}, digest {replaced.digest[:12]}")
    emit({**plain(about), "instead_of": replaced and replaced.digest}, lines, as_json)


@verb("list", "voxelvault --vault V triage models list")
@pass_session
def list_(session: Session, as_json: bool) -> None:
    """List the models: the last installed of a name is the one that is used.

    `based on` is the digest of the model that one was calibrated from.
    """
    from voxelvault_triage.models.registry import installed
    from voxelvault_triage.models.registry import used as used_of

    with session.open() as vault:
        found = installed(vault)
    used = used_of(found).values()
    rows = [
        (
            one.name,
            one.version,
            one.digest[:12],
            "yes" if one in used else "",
            one.based_on[:12],
            one.vouched.how,
            size(one.size),
            one.installed[:19],
        )
        for one in found
    ]
    columns = ("name", "version", "digest", "used", "based on", "vouched", "size", "installed")
    document = [{**plain(one), "used": one in used} for one in found]
    none = "no models; `triage models install` takes one in"
    emit(document, table(columns, rows) if rows else none, as_json)


@verb("show", "voxelvault --vault V triage models show head-ct-hemorrhage")
@click.argument("model")
@pass_session
def show(session: Session, model: str, as_json: bool) -> None:
    """Show a model's card: intended use and input, threshold, calibration."""
    from voxelvault_triage.models.card import card_of
    from voxelvault_triage.models.registry import bundle_of, find

    with session.open() as vault:
        about = find(vault, model)
        card = card_of(bundle_of(vault, about)).as_mapping()
    emit({"model": about, "card": card}, facts(_shown(about, card)), as_json)


@verb("verify", "voxelvault --vault V triage models verify")
@click.argument("models", nargs=-1)
@pass_session
def verify(session: Session, models: tuple[str, ...], as_json: bool) -> int:
    """Check that files are those installed and that each model loads; all models without a name.

    One line a model; exit code 1 where one of them isn't whole or doesn't load.
    """
    from voxelvault_triage.models.registry import find, installed

    with session.open() as vault:
        chosen = [find(vault, one) for one in models] or installed(vault)
        found = [_verified(vault, one) for one in chosen]
    emit(found, [_line(one) for one in found], as_json)
    return 1 if any(one["problem"] for one in found) else 0


@verb("remove", "voxelvault --vault V triage models remove 5f3c2a --yes")
@click.argument("model")
@destructive
@pass_session
def remove(session: Session, model: str, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Remove a model; results that it made stay, with its digest."""
    from voxelvault_triage.models.registry import find
    from voxelvault_triage.models.registry import remove as removed

    with session.open() as vault:
        about = find(vault, model)
        plan = [f"remove {about.name} {about.version}, digest {about.digest}"]
        done = agreed(plan, yes, dry_run)
        if done:
            removed(vault, about)
    emit({"model": about, "removed": done}, "removed" if done else "nothing was changed", as_json)


def _verified(vault: Vault, model: Installed) -> dict[str, str]:
    from voxelvault.errors import VoxelVaultError
    from voxelvault_triage.models.registry import verify as verified

    said = {"digest": model.digest, "name": model.name, "runs": "", "problem": ""}
    try:
        return {**said, "runs": verified(vault, model)}
    except VoxelVaultError as error:
        return {**said, "problem": str(error)}


def _line(one: Mapping[str, str]) -> str:
    told = f"FAILED: {one['problem']}" if one["problem"] else f"whole; runs {one['runs']}"
    return f"{one['name']} {one['digest'][:12]}: {told}"


def _bytes(path: Path | None) -> bytes | None:
    return None if path is None else path.expanduser().read_bytes()[: 1 << 16]


def _shown(about: Installed, card: Mapping[str, Any]) -> dict[str, object]:
    key = f", key {about.vouched.key[:16]}" if about.vouched.key else ""
    inputs = {
        f"input {one['name']}": (
            f"{one['channels'] or 'any'} channels, {' x '.join(one['shape']) or 'any'} pixels,"
            f" {'any values' if one['low'] is None else '{low:g} to {high:g}'.format(**one)}"
        )
        for one in card["inputs"]
    }
    return {
        "name": f"{about.name} {about.version}",
        "notice": card["notice"],
        "digest": about.digest,
        "vouched": f"{about.vouched.how}{key}",
        "based on": about.based_on or "-",
        "summary": card["summary"] or "-",
        "intended use": card["intended_use"] or "-",
        **inputs,
        "threshold": f"{card['threshold']:.3f}",
        "calibration": (card["calibration"] or {}).get("kind", "none"),
    }


for _one in (install, list_, show, verify, remove):
    command.add_command(_one)
