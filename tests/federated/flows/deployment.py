"""Three hospitals with vaults, labels, policies and ledgers of their own, deployed as `federated site`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from federation import Federation, federation
from toy_answering import BASIS, PURPOSE

import voxelvault
from voxelvault.interfaces.cli.app import main
from voxelvault_fl.jobs.app import app_digest
from voxelvault_fl.jobs.filling import filling
from voxelvault_fl.jobs.job import Job
from voxelvault_fl.jobs.strict import made
from voxelvault_fl.record.bundle import verify_bundle
from voxelvault_fl.record.provenance import Proved
from voxelvault_fl.simulation.practice import SCANNERS, Scanner, practice_hospitals
from voxelvault_fl.training.examples import SiteData
from voxelvault_fl.training.tasks import first_weights

HOSPITALS = dict(zip(("north", "south", "west"), SCANNERS, strict=True))
BUDGET = ("--epsilon", "10", "--delta", "1e-3")


@dataclass
class Deployed:
    """What runs, and the same data for a simulation."""

    running: Federation
    data: Mapping[str, SiteData]

    def run(self, job: Job) -> tuple[dict[str, Any], Proved]:
        """Run a job; return its outcome and what its bundle proves."""
        self.running.put(job, first_weights(job.model, job.seed))
        outcome = self.running.outcome(job.digest)
        authority = self.running.kit("lead").file("ca.pem").read_bytes()
        return outcome, verify_bundle(self.running.folder.model(job.digest) / "bundle", authority)


def deployed_job(name: str, **more: Any) -> Job:
    said: dict[str, Any] = {
        "consortium": "heads", "id": name, "rounds": 2, "min_sites": 3, "max_sites": 3,
        "purpose": PURPOSE, "lawful_basis": BASIS,
        "model": {"task": "numpy-logistic", "config": {"steps": 20}},
        "cohort": {"column": "Modality", "op": "=", "value": "CT"},
        "labels": {"source": "table", "column": "hemorrhage"},
        **more,
    }  # fmt: skip
    fill = filling(first_weights, datetime.now(UTC))
    return made(Job, {**fill(said), **said}, "job")


@contextmanager
def deployment(path: Path) -> Iterator[Deployed]:
    """Run a server and three hospitals; the configuration is that of `federation`."""
    with ExitStack() as stack:
        data = {name: stack.enter_context(_hospital(path / name, one)) for name, one in HOSPITALS.items()}
        yield Deployed(stack.enter_context(federation(path, _joined(path))), data)


@contextmanager
def _hospital(place: Path, scanner: Scanner) -> Iterator[SiteData]:
    labels = practice_hospitals(place / "files", [scanner])
    policy = (
        f'consortium = "heads"\napp_digests = ["{app_digest()}"]\npurposes = ["{PURPOSE}"]\n'
        f'lawful_bases = ["{BASIS}"]\napproval = "by-policy"\nmin_cohort = 5\ncount_step = 1\n'
        "min_measured = 1\ndecimals = 6\n"
    )
    (place / "policy.toml").write_text(policy)
    with voxelvault.create(place / "vault", purpose=PURPOSE, key_file=place / "vault.key") as vault:
        vault.ingest(place / "files")
        yield SiteData(vault, labels)


def _joined(path: Path) -> Callable[[Federation, str], None]:
    def join(running: Federation, name: str) -> None:
        running.state(name).mkdir(parents=True, exist_ok=True)
        assert main(["federated", "ledger", "--state", str(running.state(name)), *BUDGET]) == 0
        place = path / name
        running.verb(
            name, "--vault", str(place / "vault"), "--key-file", str(place / "vault.key"),
            "--purpose", PURPOSE, "federated", "site", "--policy", str(place / "policy.toml"),
            "--labels", str(place / "files" / "labels.csv"),
        )  # fmt: skip

    return join
