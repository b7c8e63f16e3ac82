"""`federated accept`: a party completes its kit with the authority's reply."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from voxelvault.interfaces.cli.command import verb
from voxelvault.interfaces.cli.output import emit


@verb("accept", "voxelvault federated accept north-reply.json --kit kit")
@click.argument("reply", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--kit", required=True, type=click.Path(path_type=Path, exists=True), metavar="DIR")
def command(reply: Path, kit: Path, as_json: bool) -> None:
    """Complete a kit with the reply to its request."""
    from voxelvault_fl.provisioning.kit import read_kit
    from voxelvault_fl.provisioning.requests import accept, reply_of

    accept(reply_of(reply.read_bytes()), kit)
    made = read_kit(kit)
    until = made.certificate.not_valid_after_utc
    said = {"party": made.party, "role": made.role, "expires": until.isoformat()}
    text = [f"the kit of {made.party} is complete; its certificate is good until {until:%Y-%m-%d}"]
    emit(said, [*text, *made.warnings(datetime.now(UTC))], as_json)
