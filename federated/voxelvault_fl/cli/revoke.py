"""`federated revoke`: a party is out, at once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from voxelvault.interfaces.cli.command import verb
from voxelvault.interfaces.cli.output import emit

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@verb("revoke", "voxelvault federated revoke north --authority heads/authority --server-kit server")
@click.argument("party")
@click.option("--authority", required=True, type=_FOLDER, metavar="DIR")
@click.option("--server-kit", required=True, type=_FOLDER, metavar="DIR", help="The kit that `serve` uses.")
def command(party: str, authority: Path, server_kit: Path, as_json: bool) -> None:
    """Revoke the certificates of PARTY. A running server closes its connections within a second.

    Where authority and server are on different machines, run it on the lead's with a copy of the server's
    kit, and copy `crl.pem`, `roster.sig` and `roster.json` to the server, in this order.
    """
    from voxelvault_fl.provisioning.authority import deliver, read_authority, reminder, revoke

    signer = read_authority(authority)
    roster = revoke(signer, party, datetime.now(UTC))
    deliver(signer, server_kit)
    made = {"party": party, "roster": roster.serial, "revoked": list(roster.revoked)}
    text = [f"revoked {party}; the roster is now number {roster.serial}", reminder(signer)]
    emit(made, text, as_json)
