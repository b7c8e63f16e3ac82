"""`federated demo`: a server and three hospitals on one machine, three rounds, their record and its proof."""

from __future__ import annotations

from pathlib import Path

import click

from voxelvault.interfaces.cli.command import verb
from voxelvault.interfaces.cli.output import emit, say


@verb("demo", "voxelvault federated demo --out demo-out")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Made if need be.")
def command(out: Path, as_json: bool) -> None:
    """Show federated training on people who never lived: four processes with TLS, three rounds, the proof.

    Everything lies in a fresh folder under DIR; your own vaults and keys stay as they are.
    """
    from voxelvault.interfaces.cli.demo import own_configuration, place_of_tour
    from voxelvault_fl.demo import tour

    folder = place_of_tour(out.expanduser().resolve(), "federated")
    with own_configuration(folder):
        found = tour(folder, say if as_json else click.echo)
    if as_json:
        emit(found, [], as_json)
