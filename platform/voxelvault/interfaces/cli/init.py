"""`init`: make a vault."""

from __future__ import annotations

from collections.abc import Mapping

import click

from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.command import Session, pass_session, verb
from voxelvault.interfaces.cli.output import emit, facts, say

_WRITE_DOWN = "Write the recovery code down: it opens the vault when other keys are lost."

CODECS = "htj2k|fast|raw|NAME"
"""What `--codec` takes: ours, or what a package adds; the vault's own look-up tells."""


@verb(
    "init",
    "voxelvault init ~/vault",
    "voxelvault --passphrase-file secret.txt init /data/vault --codec fast",
    "voxelvault init s3://imaging/vault",
    "voxelvault init /data/vault --key-service vault-transit imaging",
)
@click.argument("path", required=False)
@click.option("--passphrase", "ask", is_flag=True, help="A passphrase instead of a key file.")
@click.option(
    "--key-service",
    type=(str, str),
    metavar="KIND KEY",
    help="A key service instead of a key file: aws-kms ARN, vault-transit NAME, pkcs11 URI.",
)
@click.option("--codec", metavar=CODECS, default="htj2k", show_default=True, help="For pixels.")
@click.option("--residency", default="", metavar="REGION", help="Where the data must stay; public.")
@click.option(
    "--catalog",
    default="embedded",
    show_default=True,
    metavar="URL",
    help="For a team: postgresql://host/database, without a password.",
)
@pass_session
def init(
    session: Session,
    path: str | None,
    ask: bool,
    key_service: tuple[str, str] | None,
    codec: str,
    residency: str,
    catalog: str,
    as_json: bool,
) -> None:
    """Make a vault.

    PATH, or --vault before the verb, is a new or empty folder, or s3://bucket/folder. The recovery code is
    printed once, and kept nowhere. A key file is made in the user's configuration, or where --key-file
    says. With --passphrase, or when a passphrase is given by file or environment, the vault opens with
    that instead; with --key-service it opens for whom the service lets.
    """
    import voxelvault
    from voxelvault.config import default_key_file

    where = path or session.vault
    if where is None:
        raise UsageError("say where the vault is to be: `voxelvault init PATH`")
    passphrase = None if key_service else _passphrase(session, ask)
    if key_service and (session.key_file or session.passphrase_file or ask):
        raise UsageError("a new vault takes a key service or another key; add the other with `keys add`")
    with voxelvault.create(
        where,
        purpose=session.purpose,
        key_file=session.key_file,
        passphrase=passphrase,
        key_service=key_service,
        codec=codec,
        residency=residency,
        catalog=catalog,
    ) as vault:
        resources = vault.resources
        key_file = None
        if passphrase is None and key_service is None:
            key_file = session.key_file or str(default_key_file(resources.settings.vault_id))
        document = {
            "vault": str(vault.path),
            "vault_id": resources.settings.vault_id,
            "fingerprint": resources.keys.fingerprint,
            "key_file": key_file,
            "recovery_code": vault.recovery_code,
            "warnings": vault.warnings,
        }
        for warning in vault.warnings:
            say(f"warning: {warning}")
        emit(document, [*_lines(document), "", f"next: voxelvault --vault {where} ingest FOLDER"], as_json)


def _lines(document: Mapping[str, object]) -> list[str]:
    labels = {
        "vault": "vault",
        "fingerprint": "fingerprint",
        "key_file": "key file",
        "recovery_code": "recovery code",
    }
    found = facts({label: document[name] for name, label in labels.items() if document[name]})
    return [
        *found,
        _WRITE_DOWN,
    ]


def _passphrase(session: Session, ask: bool) -> str | None:
    given = session.passphrase()
    if session.key_file and (ask or session.passphrase_file):
        raise UsageError("a new vault takes a key file or a passphrase; add the other with `keys add`")
    if session.key_file and not ask:
        return None
    return new_passphrase(given) if ask or given else None


def new_passphrase(given: str | None, how: str = "--passphrase-file before the verb") -> str:
    """Return the passphrase that was given, or one typed twice at a terminal.

    Raises
    ------
    UsageError
        None was given and nobody is there to ask.
    """
    import sys

    if given:
        return given
    if not sys.stdin.isatty():
        raise UsageError(f"no new passphrase and no terminal to ask at: use {how}")
    typed: str = click.prompt("new passphrase", hide_input=True, confirmation_prompt=True, err=True)
    return typed
