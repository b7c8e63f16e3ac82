"""Our federation on loopback: `federated serve` and three sites with vault, policy and record."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from safetensors.numpy import save

from benchmarks.federated_parts import MODELS, SITES, task_of
from benchmarks.federated_plain import start, until
from benchmarks.federated_site import BASIS, PURPOSE, make_hospital
from voxelvault_fl.consortium import consortium_of
from voxelvault_fl.jobs.app import app_digest
from voxelvault_fl.jobs.job import Job, Labels, sign
from voxelvault_fl.jobs.task import weights_digest
from voxelvault_fl.processes.ports import LOOPBACK, free_port
from voxelvault_fl.processes.supervisor import end
from voxelvault_fl.provisioning.kit import read_kit
from voxelvault_fl.provisioning.trial import provision
from voxelvault_fl.rounds.records import Record
from voxelvault_fl.rounds.run_state import RunState
from voxelvault_fl.server.folder import ServerFolder
from voxelvault_fl.simulation.practice import SCANNERS

_COMMAND = [sys.executable, "-c", "from voxelvault.interfaces.cli import main; main()"]


@dataclass
class Ran:
    """When each round's updates were joined, seconds; and the run's record."""

    times: list[float]
    record: list[Record]


@dataclass
class Ours:
    """A federation of ours that runs."""

    folder: Path

    def run(self, task: str, rounds: int, **more: Any) -> Ran:
        """Run a job."""
        first = task_of(task, SITES[0]).init(0)
        said: dict[str, Any] = {
            "consortium": "bench", "id": f"job-{time.time_ns()}",
            "expires": datetime.now(UTC) + timedelta(days=1), "app_digest": app_digest(),
            "initial_weights": weights_digest(first), "model": MODELS[task],
            "cohort": {"column": "Modality", "op": "=", "value": "CT"},
            "labels": Labels("table", "hemorrhage"), "rounds": rounds,
            "min_sites": len(SITES), "max_sites": len(SITES), "purpose": PURPOSE, "lawful_basis": BASIS,
        }  # fmt: skip
        job = Job(**{**said, **more})
        folder = ServerFolder(self.folder / "states" / "server")
        signed = sign(job, read_kit(self.folder / "kits" / "lead").keys.signing)
        folder.submit(job.digest, signed.dumps(), save(first))
        outcome = until(lambda: folder.outcome(job.digest))
        if (outcome["status"], outcome["round"]) != ("finished", rounds):
            raise RuntimeError(f"the run ended otherwise: {outcome}")
        state = folder.runs / job.digest
        made = [state / f"{number:04}" / "weights.safetensors" for number in range(1, rounds + 1)]
        return Ran([one.stat().st_mtime for one in made], list(RunState(state, job.digest).chain))


@contextmanager
def ours(folder: Path) -> Iterator[Ours]:
    """Run a server and three sites."""
    kits, states = folder / "kits", folder / "states"
    said = {
        "id": "bench", "name": "Bench", "server": {"host": "localhost", "port": free_port()},
        "sites": list(SITES), "terms": {"minimum_cohort": 5},
    }  # fmt: skip
    provision(consortium_of(said), kits, datetime.now(UTC))
    for name, scanner in zip(SITES, SCANNERS, strict=True):
        (states / name).mkdir(parents=True)
        make_hospital(states / name, scanner)
    where = ["--kit", str(kits / "server"), "--state", str(states / "server")]
    processes = [start(folder, "server", [*_COMMAND, "federated", "serve", "--listen", LOOPBACK, *where])]
    try:
        for name in SITES:
            site = [sys.executable, "-m", "benchmarks.federated_site", "join"]
            processes.append(start(folder, name, [*site, str(kits / name), str(states / name)]))
        for name in ("server", *SITES):
            until((states / name / "status.json").exists)
        yield Ours(folder)
    finally:
        for one in reversed(processes):
            end(one, 60.0)
