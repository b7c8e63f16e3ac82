"""Where a server keeps things: what it was given to do, what it runs, what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxelvault_fl.processes.outgoing import CALLS
from voxelvault_fl.provisioning.files import read_json, write


@dataclass(frozen=True)
class ServerFolder:
    """The state folder of a server.

    ``jobs/<digest>/`` has `first.safetensors` and `job.json` of a submitted job, written in this order, and
    `withdrawn` once it was;
    ``runs/<digest>/`` the run's state, at its end with `model.safetensors`, the same as a signed bundle in
    ``model/`` with its proof, and `outcome.json`; ``record/`` is the server's log.
    """

    path: Path

    @property
    def jobs(self) -> Path:
        """Submitted jobs, a folder each, named by the job's digest."""
        return self.path / "jobs"

    @property
    def runs(self) -> Path:
        """Runs, a folder each, named by the job's digest."""
        return self.path / "runs"

    @property
    def record(self) -> Path:
        """The server's own log of all runs, and what it cosigned of others."""
        return self.path / "record"

    @property
    def secret(self) -> Path:
        """What the runner shares with SuperLink: tasks are given to nobody else."""
        return self.path / "superlink.secret"

    @property
    def calls(self) -> Path:
        """Calls that a process tried to make to elsewhere: empty."""
        return self.path / CALLS

    @property
    def registered(self) -> Path:
        """Number of the roster whose sites SuperLink knows; the gate opens once it is there."""
        return self.path / "registered"

    @property
    def standing(self) -> Path:
        """How the jobs stand that have begun and aren't settled, as `status` shows it."""
        return self.path / "standing.json"

    @property
    def about(self) -> Path:
        """What `status` shows."""
        return self.path / "status.json"

    def submit(self, digest: str, signed: bytes, first: bytes) -> None:
        """Put a job in: its first weights (safetensors), then its signed file, which makes it one."""
        write(self.jobs / digest / "first.safetensors", first)
        write(self.jobs / digest / "job.json", signed)

    def withdraw(self, job: Path) -> None:
        """Have a job concluded as withdrawn, at its next turn."""
        write(job / "withdrawn", b"")

    def withdrawn(self, job: Path) -> bool:
        """Tell whether a job was withdrawn."""
        return (job / "withdrawn").exists()

    def waiting(self) -> list[Path]:
        """Return the submitted jobs without an outcome, the oldest first."""
        given = [one for one in self.jobs.glob("*") if (one / "job.json").exists()]
        left = [one for one in given if not self.outcome(one.name)]
        return sorted(left, key=lambda one: (one / "job.json").stat().st_mtime)

    def outcome(self, job: str) -> dict[str, Any]:
        """Return how a job ended; empty while it has not, or where that can't be read any more."""
        return read_json(self.runs / job / "outcome.json")

    def model(self, job: str) -> Path:
        """Return where a finished job's model lies as a bundle, with `bundle.sig` and `maker.pem`."""
        return self.runs / job / "model"

    def settle(self, job: str, said: Mapping[str, Any]) -> None:
        """Write how a job ended."""
        write(self.runs / job / "outcome.json", json.dumps(said, indent=1).encode())


__all__ = ["ServerFolder"]
