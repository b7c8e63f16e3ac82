"""`federated status`: what runs here, who is connected, what expires."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.command import verb
from voxelvault.interfaces.cli.output import emit, table

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_DAMAGED = {"status": "damaged", "rule": "job.json"}


@verb("status", "voxelvault federated status --state /var/lib/heads")
@click.option("--state", required=True, type=_FOLDER, metavar="DIR", help="Of a server or a site.")
def command(state: Path, as_json: bool) -> None:
    """Show what runs from a folder: processes, connected sites, jobs, what expires, calls to elsewhere."""
    said = read_status(state)
    emit(said, _text(said), as_json)


def read_status(state: Path) -> dict[str, Any]:
    """Return what a server or a site says of itself, and how its processes and jobs are.

    Raises
    ------
    UsageError
        Nothing was ever started from this folder.
    """
    from voxelvault_fl.processes.lifetime import holder
    from voxelvault_fl.provisioning.files import read_json

    said = read_json(state / "status.json")
    if not said:
        raise UsageError("nothing was started from this folder; `federated serve` or `federated site` does")
    said["running"] = holder(state) is not None
    said["processes"] = read_json(state / "processes.json")
    said["jobs"] = _at_site(state) if said["role"] == "site" else _at_server(state)
    return said


def _at_site(state: Path) -> dict[str, Any]:
    """Return the jobs that were offered at a site, the latest last."""
    from voxelvault_fl.rounds.site_state import standing

    found = sorted((state / "jobs").glob("*/job.json"), key=lambda one: one.stat().st_mtime)
    return {one.parent.name: standing(one.parent) for one in found}


def _at_server(state: Path) -> dict[str, Any]:
    """Return the jobs that were submitted to a server, the latest last."""
    from voxelvault_fl.provisioning.files import read_json
    from voxelvault_fl.rounds.site_state import job_id
    from voxelvault_fl.server.folder import ServerFolder

    folder = ServerFolder(state)
    begun = read_json(folder.standing)
    found = sorted(folder.jobs.glob("*/job.json"), key=lambda one: one.stat().st_mtime)
    ended = {one.parent.name: read_json(one) for one in sorted(folder.runs.glob("*/outcome.json"))}
    said = dict[str, Any]()
    for one in (one.parent for one in found):
        how = begun.get(one.name, {"status": "submitted"}) if job_id(one) else _DAMAGED
        # The server concludes it at its next turn.
        how = {"status": "withdrawn"} if folder.withdrawn(one) else how
        said[one.name] = {"id": job_id(one), **how}
    return said | {job: {**said.get(job, {}), **how} for job, how in ended.items() if how}


def _text(said: dict[str, Any]) -> list[str]:
    role = said["role"]
    how = ("starting" if said.get("starting") else "running") if said["running"] else "not running"
    text = [f"{role} of {said.get('consortium', '?')}: {how}"]
    rows = [(name, one["pid"] or "restarts", one["failures"]) for name, one in said["processes"].items()]
    text += table(("process", "pid", "failures"), rows) if rows else []
    sites = [(name, one["connections"], one["expires"][:10]) for name, one in said.get("sites", {}).items()]
    text += table(("site", "connections", "certificate until"), sites) if sites else []
    text += [_contact(said["contact"])] if "contact" in said and said["running"] else []
    jobs = [
        (name[:12], one["status"], one.get("rule", ""), one.get("round", ""), one.get("id", ""), _words(one))
        for name, one in said["jobs"].items()
    ]
    text += table(("job", "status", "rule", "round", "id", "sites"), jobs) if jobs else []
    text += [f"calls to elsewhere: {said['calls_elsewhere']}"] if "calls_elsewhere" in said else []
    return [*text, *said.get("warnings", [])]


def _contact(said: dict[str, Any]) -> str:
    return f"{said['text']}; last answer: {said['answered'] or 'none'}"


def _words(job: dict[str, Any]) -> str:
    """Return what sites say of a job at the server."""
    said = job.get("sites") or job.get("decisions") or {}
    return ", ".join(f"{site} {word}" for site, word in sorted(said.items()))
