"""`federated site`: a hospital takes part."""

from __future__ import annotations

from pathlib import Path

import click

from voxelvault.interfaces.cli.command import Session, pass_session, verb
from voxelvault.interfaces.cli.output import say

_FOLDER = click.Path(path_type=Path, file_okay=False)
_KIT = click.Path(path_type=Path, exists=True, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@verb(
    "site",
    "voxelvault --vault ~/vault --purpose IRB-1 federated site --kit kit --state st --policy policy.toml",
)
@click.option("--kit", required=True, type=_KIT, metavar="DIR")
@click.option("--state", required=True, type=_FOLDER, metavar="DIR", help="Made if need be.")
@click.option("--policy", required=True, type=_FILE, metavar="FILE", help="What this site lets in.")
@click.option("--labels", type=_FILE, metavar="FILE", help="Table of labels, Parquet or CSV.")
@click.option("--on", default="StudyInstanceUID", show_default=True, help="Key column of the table.")
@pass_session
def command(
    session: Session, kit: Path, state: Path, policy: Path, labels: Path | None, on: str, as_json: bool
) -> None:
    """Take part until Ctrl-C or `federated stop`; the vault is read here and nowhere else.

    This machine calls the server's address of the consortium's file, and nothing else; nobody calls in.
    """
    from voxelvault_fl.provisioning.kit import read_kit
    from voxelvault_fl.site.answering import command as answering
    from voxelvault_fl.site.answering import write_settings
    from voxelvault_fl.site.ready import policy_warnings, require_labels
    from voxelvault_fl.site.running import Settings, take_part

    tell = say if as_json else click.echo
    kit, state = kit.resolve(), state.resolve()
    for warning in policy_warnings(policy, read_kit(kit).consortium.id):
        tell(warning)
    if labels is not None:
        require_labels(labels, on)
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_settings(state, session, kit, policy, labels, on)
    settings = Settings(kit, state, lambda port: answering(state, port))
    take_part(settings, tell)
