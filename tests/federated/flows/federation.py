"""A consortium of real processes on loopback: `federated serve`, three sites, each with all it starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from safetensors.numpy import load, save
from toy_answering import APP, BASIS, PURPOSE, TARGETS, first

from voxelvault_fl.consortium import consortium_of
from voxelvault_fl.jobs.job import Job, Labels, Model, sign
from voxelvault_fl.jobs.task import Weights, weights_digest
from voxelvault_fl.processes.flower import SHORTEST_LEASE
from voxelvault_fl.processes.ports import free_port
from voxelvault_fl.provisioning.authority import Authority, read_authority
from voxelvault_fl.provisioning.files import write
from voxelvault_fl.provisioning.kit import Kit, read_kit
from voxelvault_fl.provisioning.trial import provision
from voxelvault_fl.rounds.records import Record
from voxelvault_fl.rounds.run_state import RunState
from voxelvault_fl.rounds.site_state import SiteState
from voxelvault_fl.server.folder import ServerFolder

LEASE = SHORTEST_LEASE
TOY_SITE = Path(__file__).with_name("toy_site.py")


def until(fact: Callable[[], Any], seconds: float = 240.0) -> Any:
    """Wait for a fact and return it."""
    end = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.25)
    return found


@dataclass
class Federation:
    """What runs, and what a test does with it."""

    path: Path
    port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def kit(self, name: str) -> Kit:
        return read_kit(self.path / "kits" / name)

    def state(self, name: str) -> Path:
        return self.path / "states" / name

    @property
    def folder(self) -> ServerFolder:
        return ServerFolder(self.state("server"))

    @property
    def authority(self) -> Authority:
        return read_authority(self.path / "kits" / "authority")

    def serve(self) -> None:
        self.verb("server", "federated", "serve", "--listen", "127.0.0.1", "--patience", "40")

    def verb(self, name: str, *arguments: str) -> None:
        """Start a verb of the command for a party, with its kit and state."""
        program = [sys.executable, "-c", "from voxelvault.interfaces.cli import main; main()"]
        where = ["--kit", str(self.path / "kits" / name), "--state", str(self.state(name))]
        self._start(name, [*program, *arguments, *where])

    def join(self, name: str) -> None:
        kit = self.path / "kits" / name
        self._start(name, [sys.executable, str(TOY_SITE), str(kit), str(self.state(name)), str(LEASE)])

    def _start(self, name: str, command: list[str]) -> None:
        self.state(name).mkdir(parents=True, exist_ok=True)
        with (self.state(name) / "out.log").open("ab") as out:
            environment = {**os.environ, "VOXELVAULT_CONFIG_HOME": str(self.path / "configuration")}
            self.processes[name] = subprocess.Popen(
                command, stdout=out, stderr=out, start_new_session=True, env=environment
            )

    def about(self, name: str) -> dict[str, Any]:
        path = self.state(name) / "status.json"
        said: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return said

    def pid(self, name: str, program: str) -> int | None:
        path = self.state(name) / "processes.json"
        said: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        pid: int | None = said.get(program, {}).get("pid")
        return pid

    def running(self, *names: str) -> None:
        """Wait until these run all they have to, and a site hears of its server."""
        for name in names:
            until(lambda name=name: self._serves(name) or self._ended(name))

    def _serves(self, name: str) -> bool:
        about = self.about(name)
        return bool(about.get("running") and about.get("contact", {"answers": True})["answers"])

    def _ended(self, name: str) -> bool:
        ended = self.processes[name].poll()
        assert ended is None, (self.state(name) / "out.log").read_text()
        return False

    def kill(self, name: str) -> None:
        """Kill the outermost process of a party, as a power cut would; the kernel ends the rest."""
        self.processes[name].kill()
        self.processes[name].wait()
        self.state(name).joinpath("status.json").unlink(missing_ok=True)

    def end(self, name: str, patience: float = 120.0) -> float:
        """End a party politely and return the seconds that it took."""
        started = time.monotonic()
        self.processes[name].send_signal(signal.SIGTERM)
        self.processes[name].wait(patience)
        return time.monotonic() - started

    def behave(self, name: str, said: Mapping[str, str]) -> None:
        write(self.state(name) / "behaviour.json", json.dumps(said).encode())

    def submit(self, **more: Any) -> str:
        """Submit a job, as `federated submit` does, and return its digest."""
        said: dict[str, Any] = {
            "consortium": "heads", "id": f"job-{time.monotonic_ns()}",
            "expires": datetime.now(UTC) + timedelta(days=1), "app_digest": APP,
            "initial_weights": weights_digest(first()), "model": Model("numpy-logistic"),
            "cohort": {"column": "Modality", "op": "=", "value": "CT"}, "labels": Labels("table", "bleed"),
            "rounds": 3, "min_sites": 2, "max_sites": 3, "purpose": PURPOSE, "lawful_basis": BASIS,
            "evaluate_every": 0, "metric": "loss",
        }  # fmt: skip
        return self.put(Job(**{**said, **more}), first())

    def put(self, job: Job, weights: Weights) -> str:
        signed = sign(job, self.kit("lead").keys.signing)
        self.folder.submit(job.digest, signed.dumps(), save(weights))
        return job.digest

    def outcome(self, job: str, seconds: float = 240.0) -> dict[str, Any]:
        """Wait for a job's outcome."""
        found: dict[str, Any] = until(lambda: self.folder.outcome(job), seconds)
        return found

    def records(self, job: str) -> list[Record]:
        return list(RunState(self.folder.runs / job, job).chain)

    def round_of(self, job: str, number: int, seconds: float = 240.0) -> Record:
        """Wait for a round's record."""

        def there() -> Record | None:
            return next((r for r in self.records(job) if r.kind == "round" and r.round == number), None)

        found: Record = until(there, seconds)
        return found

    def trains(self, job: str, name: str, number: int) -> None:
        """Wait until a site was asked for a round: what it got with that is on its disk before it trains."""
        folder = self.state(name) / "jobs" / job

        def asked() -> bool:
            chain = SiteState(folder, job).chain
            return any(one.kind == "round" and one.round == number - 1 for one in chain)

        until(asked)

    def model(self, job: str) -> Weights:
        return load((self.folder.runs / job / "model.safetensors").read_bytes())

    def events(self, name: str) -> list[str]:
        path = self.state(name) / "log" / "events.jsonl"
        return [json.loads(line)["event"] for line in path.read_text().splitlines()]

    def calls_elsewhere(self) -> list[str]:
        files = self.path.glob("states/*/log/calls-elsewhere")
        return [line for file in files for line in file.read_text().splitlines()]

    def on_the_server(self) -> bytes:
        """Return what reached the server's disk: database, runs, logs."""
        files = [one for one in self.state("server").rglob("*") if one.is_file()]
        return b"".join(one.read_bytes() for one in files)


def mean_after(rounds: int, *names: str, start: float = 0.0) -> float:
    """Return what the toy task's model is after rounds in which exactly these sites counted."""
    value = start
    for _ in range(rounds):
        value = sum((value + TARGETS[name]) / 2 for name in names) / len(names)
    return value


@contextmanager
def federation(path: Path, join: Callable[[Federation, str], None] = Federation.join) -> Iterator[Federation]:
    """Run a server and three sites."""
    made = Federation(path, free_port())
    said = {
        "id": "heads",
        "name": "Heads",
        "server": {"host": "localhost", "port": made.port},
        "sites": sorted(TARGETS),
        "terms": {"purposes": [PURPOSE], "minimum_cohort": 5},
    }
    provision(consortium_of(said), path / "kits", datetime.now(UTC))
    try:
        made.serve()
        for name in TARGETS:
            join(made, name)
        made.running("server", *TARGETS)
        yield made
    finally:
        for process in made.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in made.processes.values():
            process.wait(120)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
