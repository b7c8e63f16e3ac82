"""`federated request`: a party makes its keys at its own place, or renews its certificate."""

from __future__ import annotations

from pathlib import Path

import click

from voxelvault.interfaces.cli.command import verb
from voxelvault.interfaces.cli.output import emit


@verb(
    "request",
    "voxelvault federated request heads north --kit kit",
    "voxelvault federated request heads server --role server --kit kit",
)
@click.argument("consortium")
@click.argument("party")
@click.option("--role", type=click.Choice(["server", "lead", "site"]), default="site", show_default=True)
@click.option("--kit", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Made if need be.")
def command(consortium: str, party: str, role: str, kit: Path, as_json: bool) -> None:
    """Make the keys of PARTY in DIR and the request for the lead, `request.json`: the only file to send.

    In a folder that has a kit, only the TLS key is new: that renews the certificate. Use a fresh folder to
    replace all keys, which revokes the ones before.
    """
    from voxelvault_fl.provisioning.requests import ask

    asked = ask(consortium, party, role, kit)
    made = {"request": str(kit / "request.json"), "fingerprint": asked.fingerprint}
    text = [f"send {made['request']} to the lead, and read the fingerprint out when they call:"]
    emit(made, [*text, asked.fingerprint], as_json)
