"""`federated provision`: an authority, and whole kits for a trial."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from voxelvault.interfaces.cli.command import verb
from voxelvault.interfaces.cli.output import emit

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@verb(
    "provision",
    "voxelvault federated provision consortium.yaml --out heads",
    "voxelvault federated provision consortium.yaml --out trial --whole-kits",
)
@click.argument("consortium", type=_FILE)
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Made if need be.")
@click.option("--whole-kits", is_flag=True, help="Make everybody's keys here: for a trial only.")
@click.option("--amend", "amended", is_flag=True, help="The authority is there: take over a changed file.")
def command(consortium: Path, out: Path, whole_kits: bool, amended: bool, as_json: bool) -> None:
    """Make a consortium's own authority from its file, or have it take over a changed one.

    Its folder, DIR/authority, stays with the lead. Each party then makes its keys at its own place with
    `request`, the lead admits it with `admit`, and the party completes its kit with `accept`.
    """
    from voxelvault_fl.consortium import differences, read_consortium
    from voxelvault_fl.provisioning.authority import amend, found, read_authority, reminder
    from voxelvault_fl.provisioning.trial import provision

    said, now = read_consortium(consortium), datetime.now(UTC)
    names: list[str] = []
    changed: list[str] = []
    if amended:
        signer = read_authority(out / "authority")
        before = signer.roster().consortium
        amend(signer, said, now)
        changed = [*differences(before, said), reminder(signer)]
    elif whole_kits:
        provision(said, out, now)
        names = ["server", said.lead, *(site.name for site in said.sites)]
    else:
        found(said, out / "authority", now)
    made = {"authority": str(out / "authority"), "kits": {name: str(out / name) for name in names}}
    text = [f"authority in {out / 'authority'}: keep it offline, it decides who takes part"]
    text += [f"kit of {name} in {out / name}: private keys are inside" for name in names]
    emit(made, [*text, *changed], as_json)
