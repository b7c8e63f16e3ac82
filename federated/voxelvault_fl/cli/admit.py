"""`federated admit`: the authority answers a request."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from voxelvault.interfaces.cli.command import verb
from voxelvault.interfaces.cli.output import emit

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


_EXAMPLE = (
    "voxelvault federated admit request.json --authority heads/authority --reply north-reply.json "
    "--fingerprint 3f2a-90c1-77de-04b8-5c6d-e1f0-a2b3-8899"
)


@verb("admit", _EXAMPLE)
@click.argument("request", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--authority", required=True, type=_FOLDER, metavar="DIR")
@click.option("--reply", required=True, type=click.Path(path_type=Path), metavar="FILE", help="To send back.")
@click.option(
    "--fingerprint", required=True, metavar="TEXT", help="As the party reads it out from its `request`."
)
@click.option(
    "--days", type=click.IntRange(1, 825), default=365, show_default=True, help="Of the certificate."
)
@click.option("--server-kit", type=_FOLDER, metavar="DIR", help="Bring this kit's roster up to date as well.")
def command(
    request: Path,
    authority: Path,
    reply: Path,
    fingerprint: str,
    days: int,
    server_kit: Path | None,
    as_json: bool,
) -> None:
    """Admit the party of a request, or renew it.

    Call the party on a number that you know, and have it read out the fingerprint that its `request` printed:
    who sends a request by mail may be anybody.
    """
    from voxelvault_fl.provisioning.authority import admit, deliver, read_authority, reminder
    from voxelvault_fl.provisioning.files import write
    from voxelvault_fl.provisioning.requests import request_of

    signer, asked = read_authority(authority), request_of(request.read_bytes())
    asked.require(fingerprint)
    before = signer.roster()
    given = admit(signer, asked, datetime.now(UTC), days)
    write(reply, given.to_bytes())
    if server_kit is not None:
        deliver(signer, server_kit)
    roster = signer.roster()
    gone = sorted(set(roster.revoked) - set(before.revoked))
    made = {"party": given.party, "role": given.role, "reply": str(reply), "revoked": gone}
    text = [f"admitted {given.party} as {given.role}; send {reply} back, nothing in it is secret"]
    text += [f"its keys are new: {len(gone)} certificates of the ones before are revoked"] if gone else []
    emit(made, [*text, reminder(signer)], as_json)
