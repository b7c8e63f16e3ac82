"""A site of the federated comparison: `federated site` whose examples are drawn, and nothing else differs.

`python -m benchmarks.federated_site join KIT STATE` takes part; `answer STATE PORT` is its executor.
"""

from __future__ import annotations

import sys
from pathlib import Path

import voxelvault
from benchmarks.federated_parts import MODELS, SITES, task_of
from voxelvault.interfaces.cli.command import Session
from voxelvault_fl import protection
from voxelvault_fl.jobs.app import app_digest
from voxelvault_fl.jobs.job import Job
from voxelvault_fl.jobs.task import Task
from voxelvault_fl.provisioning.files import write
from voxelvault_fl.simulation.practice import Scanner, practice_hospitals
from voxelvault_fl.site import answering
from voxelvault_fl.site.running import Settings, take_part
from voxelvault_fl.training.examples import SiteData

PURPOSE, BASIS = "IRB-1", "consent"


def make_hospital(state: Path, scanner: Scanner) -> None:
    """Make a site's vault, table of labels and policy."""
    practice_hospitals(state / "files", [scanner])
    with voxelvault.create(state / "vault", purpose=PURPOSE, key_file=state / "vault.key") as vault:
        vault.ingest(state / "files", progress=False)
    policy = (
        f'consortium = "bench"\napp_digests = ["{app_digest()}"]\npurposes = ["{PURPOSE}"]\n'
        f'lawful_bases = ["{BASIS}"]\napproval = "by-policy"\nmin_cohort = 5\n'
    )
    write(state / "policy.toml", policy.encode())


def join(kit: str, state: str) -> None:
    """Take part until SIGTERM."""
    folder = Path(state)
    session = Session(str(folder / "vault"), PURPOSE, str(folder / "vault.key"))
    labels = folder / "files" / "labels.csv"
    answering.write_settings(folder, session, Path(kit), folder / "policy.toml", labels, "StudyInstanceUID")
    command = [sys.executable, "-m", "benchmarks.federated_site", "answer", state]
    take_part(Settings(Path(kit), folder, lambda port: [*command, str(port)]), print)


def answer(state: str, port: str) -> None:
    """Answer until the process is ended."""
    names = {model.task: name for name, model in MODELS.items()}
    site = next(name for name in SITES if name == Path(state).name)

    def drawn(job: Job, data: SiteData) -> Task:
        return task_of(names[job.model.task], site)

    vars(protection)["task_for"] = drawn
    answering.main([state, port])


if __name__ == "__main__":
    {"join": join, "answer": answer}[sys.argv[1]](*sys.argv[2:])
