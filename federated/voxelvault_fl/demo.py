"""A tour on one machine: a server and three hospitals as processes of their own, TLS between them."""

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

from safetensors.numpy import save

import voxelvault
from voxelvault_fl.consortium import Consortium, consortium_of
from voxelvault_fl.errors import ProcessFailed
from voxelvault_fl.jobs.app import app_digest
from voxelvault_fl.jobs.job import Job, Labels, Model, sign
from voxelvault_fl.jobs.task import weights_digest
from voxelvault_fl.processes.lifetime import lines
from voxelvault_fl.processes.ports import LOOPBACK, free_port
from voxelvault_fl.provisioning.files import write
from voxelvault_fl.provisioning.kit import read_kit
from voxelvault_fl.provisioning.trial import provision
from voxelvault_fl.rounds.records import Record
from voxelvault_fl.rounds.run_state import RunState
from voxelvault_fl.server.folder import ServerFolder
from voxelvault_fl.simulation.practice import SCANNERS, Scanner, practice_hospitals
from voxelvault_fl.training.tasks import first_weights

SITES = dict(zip(("north", "south", "west"), SCANNERS, strict=True))
"""Hospitals, each with another maker's scanner."""
ROUNDS = 3
_PURPOSE, _BASIS = "IRB-1", "consent"
_SECRET = "a tour needs no secret"  # noqa: S105 - of vaults of people who never lived
_PATIENCE = 600.0
_PROGRAM = (sys.executable, "-c", "import sys; from voxelvault.interfaces.cli import main; sys.exit(main())")

Tell = Callable[[str], None]


@dataclass
class Tour:
    """The folder of a tour, and the processes that run in it."""

    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def kit(self, name: str) -> Path:
        """Return a party's kit."""
        return self.folder / "kits" / name

    def state(self, name: str) -> Path:
        """Return a party's state folder."""
        return self.folder / "states" / name

    def start(self, name: str, *verb: str) -> None:
        """Start `voxelvault …` as a process, its output into a file."""
        self.state(name).mkdir(parents=True, exist_ok=True)
        with (self.state(name) / "out.log").open("ab") as out:
            self.processes[name] = subprocess.Popen(  # noqa: S603 - our own command line
                [*_PROGRAM, *verb],
                stdout=out,
                stderr=out,
                env={**os.environ, "VOXELVAULT_PASSPHRASE": _SECRET},
            )

    def running(self, name: str) -> None:
        """Wait until a party runs all that it has to.

        Raises
        ------
        ProcessFailed
            It ended instead.
        """
        about = self.state(name) / "status.json"
        _until(lambda: about.exists() and json.loads(about.read_text())["running"], self.processes[name])

    def end(self) -> None:
        """End all, sites first."""
        for process in reversed(self.processes.values()):
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            process.wait()


def tour(folder: Path, tell: Tell) -> dict[str, Any]:
    """Provision, start, train three rounds, show what each round's record says, and prove the model.

    The processes' connections to elsewhere, which an audit hook refuses and counts, are told at the end.

    Parameters
    ----------
    folder : Path
        An empty folder; everything lies in it.
    tell : callable
        Prints a line.

    Raises
    ------
    VoxelVaultError
        A step failed.
    """
    made, consortium = Tour(folder), _consortium()
    tell(f"A tour of federated training, in {folder}\n\n== Three hospitals of people who never lived")
    for name, scanner in SITES.items():
        _hospital(folder / "hospitals" / name, scanner)
        tell(f"   {name}: {scanner.people} people, {scanner.sick} with a bleed, scanned by {scanner.maker}")
    provision(consortium, folder / "kits", datetime.now(UTC))
    tell("\n== An authority of their own, a kit for the server, the lead and each site")
    with _running(made, consortium):
        tell(
            f"\n== Four processes run; port {consortium.server.port} takes TLS 1.3 with a site's certificate"
        )
        job = _submit(made, consortium)
        tell(f"\n== Job {job[:12]}, signed by the lead; each site's policy decides")
        outcome = _follow(made, job, tell)
    return _proof(made, job, outcome, tell)


def _consortium() -> Consortium:
    return consortium_of(
        {
            "id": "heads",
            "name": "Heads of three hospitals",
            "server": {"host": "localhost", "port": free_port()},
            "sites": list(SITES),
            "terms": {"minimum_cohort": 5},
        }
    )


def _hospital(folder: Path, scanner: Scanner) -> None:
    practice_hospitals(folder / "files", [scanner])
    with voxelvault.create(folder / "vault", purpose=_PURPOSE, passphrase=_SECRET) as vault:
        vault.ingest(folder / "files")
    policy = (
        f'consortium = "heads"\napp_digests = ["{app_digest()}"]\npurposes = ["{_PURPOSE}"]\n'
        f'lawful_bases = ["{_BASIS}"]\napproval = "by-policy"\nmin_cohort = 5\ncount_step = 2\n'
    )
    write(folder / "policy.toml", policy.encode())


@contextmanager
def _running(made: Tour, consortium: Consortium) -> Iterator[None]:
    try:
        made.start("server", "federated", "serve", "--listen", LOOPBACK, *_where(made, "server"))
        for name in SITES:
            place = made.folder / "hospitals" / name
            made.start(
                name,
                "--vault", str(place / "vault"), "--purpose", _PURPOSE, "federated", "site",
                "--policy", str(place / "policy.toml"), "--labels", str(place / "files" / "labels.csv"),
                *_where(made, name),
            )  # fmt: skip
        for name in made.processes:
            made.running(name)
        yield
    finally:
        made.end()


def _where(made: Tour, name: str) -> tuple[str, ...]:
    return "--kit", str(made.kit(name)), "--state", str(made.state(name))


def _submit(made: Tour, consortium: Consortium) -> str:
    model = Model("numpy-logistic")
    first = first_weights(model, 0)
    job = Job(
        consortium=consortium.id,
        id="tour-1",
        expires=datetime.now(UTC) + timedelta(days=1),
        app_digest=app_digest(),
        initial_weights=weights_digest(first),
        model=model,
        cohort={"column": "Modality", "op": "=", "value": "CT"},
        labels=Labels("table", "hemorrhage"),
        rounds=ROUNDS,
        min_sites=2,
        max_sites=len(SITES),
        purpose=_PURPOSE,
        lawful_basis=_BASIS,
    )
    signed = sign(job, read_kit(made.kit("lead")).keys.signing)
    ServerFolder(made.state("server")).submit(job.digest, signed.dumps(), save(first))
    return job.digest


def _follow(made: Tour, job: str, tell: Tell) -> Mapping[str, Any]:
    folder = ServerFolder(made.state("server"))
    told = 0

    def ended() -> Mapping[str, Any]:
        nonlocal told
        chain = RunState(folder.runs / job, job).chain
        for record in chain[told:]:
            tell(f"   {_line(record)}")
        told = len(chain)
        return folder.outcome(job)

    outcome: Mapping[str, Any] = _until(ended, made.processes["server"])
    ended()
    return outcome


def _line(record: Record) -> str:
    sites = ", ".join(sorted(record.sites))
    said = f"{record.kind} {record.round}: model {record.aggregate[:12]}, sites {sites}"
    said += f"; set aside {dict(record.aside)}" if record.aside else ""
    said += f"; {record.sent + record.received} bytes" if record.sent else ""
    return said + "".join(f"; {name} {value:.3f}" for name, value in record.metrics.items())


def _proof(made: Tour, job: str, outcome: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    calls = sum(lines(one) for one in made.folder.glob("states/*/log/calls-elsewhere"))
    tell(f"\n== {outcome['status']} in round {outcome['round']}; the best was round {outcome['best']}")
    tell(f"   connections to elsewhere, seen by an audit hook in each process: {calls}")
    model = ServerFolder(made.state("server")).model(job) / "bundle"
    tell(f"\n== $ voxelvault federated verify {model} --authority {made.kit('lead') / 'ca.pem'}")
    for line in _verified(model, made.kit("lead") / "ca.pem"):
        tell(f"   {line}")
    return {"job": job, "calls_elsewhere": calls, "model": str(model), **outcome}


def _verified(model: Path, authority: Path) -> list[str]:
    said = [*_PROGRAM, "federated", "verify", str(model), "--authority", str(authority)]
    done = subprocess.run(said, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode:
        raise ProcessFailed("the model doesn't prove itself; `log/runner.log` of the server says why")
    return done.stdout.splitlines()


def _until(fact: Callable[[], Any], process: subprocess.Popen[bytes]) -> Any:
    end = time.monotonic() + _PATIENCE
    while not (found := fact()):
        if process.poll() is not None or time.monotonic() > end:
            raise ProcessFailed("a process of the tour ended or hangs; its out.log and log/ are in `states`")
        time.sleep(0.2)
    return found


__all__ = ["ROUNDS", "SITES", "Tour", "tour"]
