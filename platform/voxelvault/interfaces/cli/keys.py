"""`keys`: ways to a vault's root key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.command import Session, destructive, pass_session, read_line, verb
from voxelvault.interfaces.cli.init import new_passphrase
from voxelvault.interfaces.cli.output import agreed, emit, say, table

CODE = "VOXELVAULT_RECOVERY_CODE"
KINDS = ("file", "passphrase", "env", "recovery", "recipient")
TYPED = ("passphrase", "env", "recovery")
"""Kinds that take no value on the command line."""


@click.group("keys")
def keys() -> None:
    """List, add, remove, rotate and recover keys of the vault."""


@verb("list", "voxelvault --vault ~/vault keys list")
@pass_session
def list_(session: Session, as_json: bool) -> None:
    """List the slots: every key that opens the vault."""
    from voxelvault.upkeep.keys import list_slots

    with session.open() as vault:
        slots = list_slots(vault.resources)
        fingerprint, generation = vault.resources.keys.fingerprint, vault.resources.keys.generation
    rows = [(slot.slot_id, slot.provider, slot.label, slot.key) for slot in slots]
    lines = [
        *table(("slot", "kind", "label", "key"), rows),
        f"generation {generation}, fingerprint {fingerprint}",
    ]
    emit({"generation": generation, "fingerprint": fingerprint, "slots": slots}, lines, as_json)


@verb(
    "add",
    "voxelvault --vault ~/vault keys add file /media/usb/vault.key --label usb",
    "voxelvault --vault ~/vault keys add passphrase",
    "voxelvault --vault ~/vault keys add recipient colleague.pub --label 'site B'",
    "voxelvault --vault ~/vault keys add recovery --yes",
    "voxelvault --vault ~/vault keys add aws-kms arn:aws:kms:eu-central-1:123456789012:key/0123abcd",
    "voxelvault --vault ~/vault keys add pkcs11 'pkcs11:token=safe;object=vault-key'",
    "voxelvault --vault ~/vault keys add vault-transit imaging",
)
@click.argument("kind")
@click.argument("value", required=False, metavar="[VALUE]")
@click.option("--label", default="", help="For people; stored in clear.")
@click.option(
    "--new-passphrase-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Its first line is the new passphrase; else it is asked for.",
)
@destructive
@pass_session
def add(
    session: Session,
    kind: str,
    value: str | None,
    label: str,
    new_passphrase_file: Path | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Add a way in of this KIND.

    \b
    file FILE        a key file; made if it isn't there
    passphrase       asked for, or from --new-passphrase-file
    env              the private key whose text is in $VOXELVAULT_KEY
    recovery         a new recovery code, which replaces the one before
    recipient KEY    somebody's public key, its text or a file: see `keys public`
    aws-kms ARN      a private key that this AWS KMS key wraps
    pkcs11 URI       … that a key in this PKCS#11 token wraps
    vault-transit NAME  … that this Transit key of Vault or OpenBao wraps
    Installed packages may add kinds of key services.
    """  # noqa: D301
    from voxelvault.upkeep import keys as verbs

    _check_kind(kind)
    if kind not in TYPED and value is None:
        raise UsageError(f"`keys add {kind}` needs a value; see `voxelvault keys add --help`")
    if kind in TYPED and value is not None:
        raise UsageError(f"`keys add {kind}` takes no value: your shell would remember it")
    with session.open() as vault:
        resources = vault.resources
        plan = verbs.plan_add(resources, kind)
        if plan and not agreed(plan, yes, dry_run):
            emit({"dry_run": True, "plan": plan}, [], as_json)
            return
        if dry_run:
            emit({"dry_run": True, "plan": [f"add a {kind} slot"]}, f"would add a {kind} slot", as_json)
            return
        if kind == "recovery":
            with _code_told():
                code = verbs.renew_recovery_code(resources)
            emit({"recovery_code": code}, [f"recovery code  {code}", _WRITE_DOWN], as_json)
            return
        if kind == "file":
            slot_id = verbs.add_file(resources, Path(str(value)), label)
        elif kind == "passphrase":
            given = read_line(new_passphrase_file) if new_passphrase_file else None
            slot_id = verbs.add_passphrase(resources, new_passphrase(given, "--new-passphrase-file"), label)
        elif kind == "env":
            slot_id = verbs.add_env(resources, label)
        elif kind == "recipient":
            slot_id = verbs.add_recipient(resources, _public_key(str(value)), label)
        else:
            slot_id = verbs.add_service(resources, kind, str(value), label)
        document = {"slot_id": slot_id, "kind": kind, "fingerprint": resources.keys.fingerprint}
    lines = [f"added {kind} slot {slot_id}"]
    lines += [f"tell the recipient the fingerprint: {document['fingerprint']}"] if kind == "recipient" else []
    emit(document, lines, as_json)


def _check_kind(kind: str) -> None:
    from voxelvault.crypto.providers import service_kinds

    if kind not in KINDS and kind not in (services := service_kinds()):
        raise UsageError(f"there is no such kind of key; there are {', '.join([*KINDS, *services])}")


_WRITE_DOWN = "Write it down: it is kept nowhere, and the code before opens this vault no more."


@contextmanager
def _code_told() -> Iterator[None]:
    """Print the recovery code that an error carries: the change was made, and it is kept nowhere."""
    from voxelvault.errors import OutcomeNotLogged

    try:
        yield
    except OutcomeNotLogged as error:
        if error.recovery_code is not None:
            say(f"recovery code  {error.recovery_code}")
            say(_WRITE_DOWN)
        raise


def _public_key(value: str) -> str:
    # A public key is one long line: no path is.
    path = Path(value).expanduser()
    return read_line(path) if len(value) < 1000 and path.is_file() else value


@verb("remove", "voxelvault --vault ~/vault keys remove 0123456789abcdef0123456789abcdef --yes")
@click.argument("slot_id", metavar="SLOT")
@destructive
@pass_session
def remove(session: Session, slot_id: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove a way in.

    SLOT is its id from `keys list`. A new root key is made, which it never gets.
    """
    from voxelvault.upkeep import keys as verbs

    with session.open() as vault:
        plan = verbs.plan_remove(vault.resources, slot_id)
        go = agreed(plan, yes, dry_run)
        if go:
            verbs.remove(vault.resources, slot_id)
        _report(plan, go, vault.resources.keys.generation, as_json)


@verb("rotate", "voxelvault --vault ~/vault keys rotate --yes")
@destructive
@pass_session
def rotate(session: Session, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Make a new root key.

    Every slot opens the vault as before, recovery code and passphrase too.
    """
    from voxelvault.upkeep import keys as verbs

    with session.open() as vault:
        plan = verbs.plan_rotate(vault.resources)
        go = agreed(plan, yes, dry_run)
        if go:
            verbs.rotate(vault.resources)
        _report(plan, go, vault.resources.keys.generation, as_json)


def _report(plan: list[str], done: bool, generation: int, as_json: bool) -> None:
    text = f"done; key generation {generation}" if done else "nothing was changed"
    emit({"done": done, "plan": plan, "generation": generation}, text, as_json)


@verb(
    "recover",
    "voxelvault --vault ~/vault --key-file ~/new.key keys recover",
    "voxelvault --vault ~/vault keys recover --passphrase --code-file code.txt",
)
@click.option("--passphrase", "ask", is_flag=True, help="Make a passphrase slot instead of a key file.")
@click.option(
    "--code-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Its first line is the recovery code; also $VOXELVAULT_RECOVERY_CODE, or asked for.",
)
@pass_session
def recover(session: Session, ask: bool, code_file: Path | None, as_json: bool) -> None:
    """Make new keys with the recovery code.

    It opens the vault; a new key file (or passphrase) and a new recovery code are made.

    The key file goes where --key-file says, by default into the user's configuration. The lost key
    still opens the vault: look at `keys list`, and take it away with `keys remove`.
    """
    from voxelvault.config import default_key_file
    from voxelvault.opening import read_settings
    from voxelvault.storage.places import store_at
    from voxelvault.upkeep import keys as verbs

    vault_id = read_settings(store_at(session.place))[0].vault_id
    place = Path(session.key_file or default_key_file(vault_id)).expanduser()
    if not ask and place.exists():
        raise UsageError("there is a key file already: put --key-file with a new place before the verb")
    code = _code(code_file)
    fresh = new_passphrase(session.passphrase()) if ask else None
    with session.open(recovery_code=code, passphrase=None) as vault, _code_told():
        done = verbs.recover(vault.resources, key_file=None if ask else place, passphrase=fresh)
    document = {
        "slot_id": done.slot_id,
        "key_file": None if ask else str(place),
        "recovery_code": done.recovery_code,
    }
    lines = [f"new {'passphrase' if ask else f'key file {place}'}, slot {done.slot_id}"]
    lines += [f"recovery code  {done.recovery_code}", _WRITE_DOWN]
    say("the lost key still opens the vault: see `keys list`, and `keys remove` it")
    emit(document, lines, as_json)


def _code(code_file: Path | None) -> str:
    import os
    import sys

    given = read_line(code_file) if code_file else os.environ.get(CODE)
    if given:
        return given
    if not sys.stdin.isatty():
        raise UsageError(f"no recovery code: use --code-file, or {CODE}")
    typed: str = click.prompt("recovery code", hide_input=True, err=True)
    return typed


@verb("public", "voxelvault --key-file ~/mine.key keys public > mine.pub")
@pass_session
def public(session: Session, as_json: bool) -> None:
    """Print your public key.

    Hand it to whoever sends you a vault. The file of --key-file is made if it isn't there.
    """
    from voxelvault.upkeep.keys import public_key

    if session.key_file is None:
        raise UsageError("say which key file with --key-file before the verb; it is made if it isn't there")
    text = public_key(session.key_file)
    emit({"public_key": text}, text, as_json)


for _verb in (list_, add, remove, rotate, recover, public):
    keys.add_command(_verb)
