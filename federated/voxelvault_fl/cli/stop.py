"""`federated stop`: end a server or a site, at any time."""

from __future__ import annotations

from pathlib import Path

import click

from voxelvault.interfaces.cli.command import verb
from voxelvault.interfaces.cli.output import emit

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@verb("stop", "voxelvault federated stop --state state")
@click.option("--state", required=True, type=_FOLDER, metavar="DIR", help="Of a server or a site.")
def command(state: Path, as_json: bool) -> None:
    """End what runs from a folder: nothing leaves afterwards. Starting it again goes on where it was."""
    from voxelvault_fl.processes.lifetime import ask_to_end

    ended = ask_to_end(state)
    emit({"ended": ended}, "ended; nothing leaves this machine" if ended else "nothing was running", as_json)
