"""`federated serve`: the server of a consortium."""

from __future__ import annotations

from pathlib import Path

import click

from voxelvault.interfaces.cli.command import verb
from voxelvault.interfaces.cli.output import say

_FOLDER = click.Path(path_type=Path, file_okay=False)
_KIT = click.Path(path_type=Path, exists=True, file_okay=False)


@verb("serve", "voxelvault federated serve --kit server --state /var/lib/heads")
@click.option("--kit", required=True, type=_KIT, metavar="DIR")
@click.option("--state", required=True, type=_FOLDER, metavar="DIR", help="Made if need be.")
@click.option("--listen", default="0.0.0.0", show_default=True, help="Address of the gate.")  # noqa: S104
@click.option(
    "--patience", type=click.FloatRange(1), default=3600.0, show_default=True, help="Seconds for an answer."
)
def command(kit: Path, state: Path, listen: str, patience: float, as_json: bool) -> None:
    """Serve a consortium until Ctrl-C or `federated stop`. Jobs that are submitted run one after the other.

    Only the gate faces the network, at the port of the consortium's file: TLS 1.3 with client certificates.
    """
    from voxelvault_fl.server.serving import Settings, serve

    serve(Settings(kit.resolve(), state.resolve(), listen, patience), say if as_json else click.echo)
