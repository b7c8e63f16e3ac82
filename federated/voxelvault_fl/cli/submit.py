"""`federated submit`: the lead signs a job and puts it in."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from voxelvault.interfaces.cli.command import verb
from voxelvault.interfaces.cli.output import emit

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@verb("submit", "voxelvault federated submit job.toml --kit lead-kit --state /var/lib/heads")
@click.argument("job", type=_FILE)
@click.option("--kit", required=True, type=_FOLDER, metavar="DIR", help="The lead's.")
@click.option("--state", required=True, type=_FOLDER, metavar="DIR", help="Of the server, or any folder.")
def command(job: Path, kit: Path, state: Path, as_json: bool) -> None:
    """Sign a job and lay it with its first weights into `jobs` of a folder.

    From a folder of your own, copy what is in `jobs` to that of the server's state. What the file leaves out
    is filled in: the digest of the code, that of the first weights, and an expiry in ninety days. A job
    outside of the consortium's terms isn't signed, nor one that no site could run.
    """
    from safetensors.numpy import save

    from voxelvault_fl.errors import KitRefused
    from voxelvault_fl.jobs.filling import filling
    from voxelvault_fl.jobs.job import read_job, sign
    from voxelvault_fl.jobs.terms import require_runnable, require_within
    from voxelvault_fl.provisioning.kit import read_kit
    from voxelvault_fl.rounds.shelf import put
    from voxelvault_fl.training.tasks import first_weights

    lead = read_kit(kit)
    if lead.role != "lead":
        raise KitRefused("this kit is not the lead's; only the lead signs jobs")
    now = datetime.now(UTC)
    found = read_job(job, filling(first_weights, now))
    require_runnable(found, now)
    require_within(found, lead.consortium)
    folder = state / "jobs" / found.digest
    # The signed file is last: it makes the folder a job.
    put(folder / "first.safetensors", save(first_weights(found.model, found.seed)))
    put(folder / "job.json", sign(found, lead.keys.signing).dumps())
    said = {"job": found.digest, "code": found.app_digest, "expires": f"{found.expires:%Y-%m-%d}"}
    said |= {"folder": str(folder)} | ({"warning": found.warning} if found.warning else {})
    emit(said, [*(f"{name}: {value}" for name, value in said.items()), _NEXT], as_json)


_NEXT = (
    "next: the server offers it to the sites, where `federated approve` shows it and lets it in; "
    "`federated status` of the server tells how it goes"
)
