"""`federated submit`: the lead signs a job and puts it in."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
    outside of the consortium's terms isn't signed, nor one that no site could run, nor one with the id of
    another job in that folder. The same job again is there already.
    """
    from safetensors.numpy import save

    from voxelvault_fl.errors import JobRefused, KitRefused
    from voxelvault_fl.jobs.filling import filling
    from voxelvault_fl.jobs.job import read_job, sign
    from voxelvault_fl.jobs.terms import require_runnable, require_within
    from voxelvault_fl.privacy.accounting import terms_of
    from voxelvault_fl.provisioning.kit import read_kit
    from voxelvault_fl.rounds.shelf import put
    from voxelvault_fl.training.tasks import first_weights

    lead = read_kit(kit)
    if lead.role != "lead":
        raise KitRefused("this kit is not the lead's; only the lead signs jobs")
    now = datetime.now(UTC)
    fill = filling(first_weights, now)
    # Filled in anew, the expiry would make another job of the same file.
    found = read_job(job, lambda said: {**fill(said), **_expiry(_named(state, said.get("id")))})
    require_runnable(found, now)
    require_within(found, lead.consortium)
    if found.privacy.mode == "dp-sgd":
        terms_of(found.privacy.numbers, found.rounds)
    folder, there = state / "jobs" / found.digest, _named(state, found.id)
    if there not in (None, folder):
        raise JobRefused("job-id", "not signed: another job in that folder has this id; give it a new one")
    if there is None:
        # The signed file is last: it makes the folder a job.
        put(folder / "first.safetensors", save(first_weights(found.model, found.seed)))
        put(folder / "job.json", sign(found, lead.keys.signing).dumps())
    said: dict[str, Any] = {"job": found.digest, "code": found.app_digest}
    said |= {"expires": f"{found.expires:%Y-%m-%dT%H:%M:%SZ}", "folder": str(folder)}
    said |= {"warning": found.warning} if found.warning else {}
    text = [*(f"{name}: {value}" for name, value in said.items()), _NEXT if there is None else _THERE]
    emit(said | {"already": there is not None}, text, as_json)


def _named(state: Path, name: object) -> Path | None:
    """Return the folder of the job that has an id already."""
    from voxelvault_fl.rounds.site_state import job_id

    jobs = sorted((state / "jobs").glob("*"))
    return next((one for one in jobs if name and job_id(one) == name), None)


def _expiry(job: Path | None) -> dict[str, Any]:
    """Return when a job that is there expires, as a job file says it."""
    from voxelvault_fl.provisioning.files import read_json

    said = read_json(job / "job.json").get("job", {}) if job else {}
    return {name: one for name, one in said.items() if name == "expires"}


_THERE = "this very job is there already; `federated status` of the server tells how it goes"
_NEXT = (
    "next: the server offers it to the sites, where `federated approve` shows it and lets it in; "
    "`federated status` of the server tells how it goes"
)
