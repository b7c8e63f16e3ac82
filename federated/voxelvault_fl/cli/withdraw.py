"""`federated withdraw`: the lead takes a submitted job back."""

from __future__ import annotations

from pathlib import Path

import click

from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.command import verb
from voxelvault.interfaces.cli.output import emit

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@verb("withdraw", "voxelvault federated withdraw 3f2a --state /var/lib/heads")
@click.argument("job")
@click.option("--state", required=True, type=_FOLDER, metavar="DIR", help="Of the server.")
def command(job: str, state: Path, as_json: bool) -> None:
    """Take a submitted job back, for good: the server concludes it with its next message or turn.

    JOB is the beginning of a digest. Its id isn't free again: sites keep what they know of the job.
    """
    from voxelvault_fl.server.folder import ServerFolder

    folder = ServerFolder(state)
    found = [one.parent for one in folder.jobs.glob("*/job.json") if one.parent.name.startswith(job)]
    if len(found) != 1:
        raise UsageError("no job, or more than one, begins like that; `federated status` lists them")
    if ended := folder.outcome(found[0].name):
        raise UsageError(f"the job has ended: {ended['status']}; there is nothing to withdraw")
    folder.withdraw(found[0])
    said = {"job": found[0].name, "withdrawn": True}
    emit(said, [f"job: {found[0].name}", _NEXT], as_json)


_NEXT = "withdrawn: the server sends nothing more of it, and concludes it at its next turn"
