"""A site of the federated comparison: `federated site` whose task is drawn, and nothing else differs.

`python -m benchmarks.federated_site join KIT STATE` takes part; `answer KIT STATE PORT` is its executor.
"""

from __future__ import annotations

import sys
from pathlib import Path

import voxelvault
from benchmarks.federated_parts import MODELS, task_of
from voxelvault_fl.hospital import Outside, now, side
from voxelvault_fl.jobs.app import app_digest
from voxelvault_fl.jobs.job import Job
from voxelvault_fl.jobs.policy import read_policy
from voxelvault_fl.jobs.task import Task
from voxelvault_fl.processes.bundle import bundle
from voxelvault_fl.processes.outgoing import stay_here
from voxelvault_fl.processes.tasks import Runtime
from voxelvault_fl.protection import Protection, ledger_in
from voxelvault_fl.provisioning.files import write
from voxelvault_fl.provisioning.kit import read_kit
from voxelvault_fl.record.desk import desk
from voxelvault_fl.rounds.site_state import SiteState
from voxelvault_fl.simulation.practice import Scanner, practice_hospitals
from voxelvault_fl.site.answering import detail, keys_of
from voxelvault_fl.site.executor import Executor
from voxelvault_fl.site.running import Settings, SiteFolder, take_part
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


def join(kit: Path, state: Path) -> None:
    """Take part until SIGTERM."""

    def executor(port: int) -> list[str]:
        return [sys.executable, "-m", "benchmarks.federated_site", "answer", str(kit), str(state), str(port)]

    take_part(Settings(kit, state, executor), print)


def answer(kit_path: Path, state: Path, port: Path) -> None:
    """Answer until the process is ended."""
    folder, kit = SiteFolder(state), read_kit(kit_path)
    stay_here(folder.calls)
    log, policy = detail(state), read_policy(state / "policy.toml")
    names = {model.task: name for name, model in MODELS.items()}

    def task(job: Job, data: SiteData) -> Task:
        return task_of(names[job.model.task], kit.party)

    vault = voxelvault.open(state / "vault", purpose=PURPOSE, key_file=state / "vault.key")
    with vault, desk(folder.record, kit, app_digest()) as own:
        protection = Protection(ledger_in(state), own.book, now)
        outside = Outside(log, own.book.noted, protection.rule, task)
        data = SiteData(vault, state / "files" / "labels.csv")
        rules = side(kit.party, state, keys_of(kit), policy, data, outside)
        answers = own.answers(rules.answer, lambda job: SiteState(rules.state_folder(job), job).chain, log)
        runtime = Runtime(f"127.0.0.1:{port}", folder.secret.read_bytes())
        Executor(runtime, frozenset({bundle().digest}), answers, log).serve(lambda: True)


if __name__ == "__main__":
    {"join": join, "answer": answer}[sys.argv[1]](*map(Path, sys.argv[2:]))
