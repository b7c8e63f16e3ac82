"""`simulate`: the server's rules and N hospitals' in one process, on Flower's messages and grid."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from voxelvault.errors import UsageError
from voxelvault.storage.objects import LocalObjects
from voxelvault_fl.hospital import Outside, broadcasting, now, side
from voxelvault_fl.jobs.job import Job, sign
from voxelvault_fl.jobs.policy import SitePolicy
from voxelvault_fl.privacy.ledger import Ledger
from voxelvault_fl.protection import Protection
from voxelvault_fl.rounds.asking import Parties
from voxelvault_fl.rounds.messages import SERVER
from voxelvault_fl.rounds.records import Record
from voxelvault_fl.rounds.run import Outcome, Run
from voxelvault_fl.rounds.run_state import RunState
from voxelvault_fl.rounds.site import Keys, Standing
from voxelvault_fl.simulation.grid import LocalSites
from voxelvault_fl.training.examples import SiteData
from voxelvault_fl.training.tasks import first_weights


@dataclass(frozen=True, slots=True, eq=False)
class Simulated:
    """What a simulation gave: how it ended, the whole record, and what went wrong at the sites."""

    outcome: Outcome
    record: Sequence[Record]
    errors: Mapping[str, Sequence[BaseException]]


def simulate(
    job: Job,
    data: Mapping[str, SiteData],
    folder: Path,
    noted: Callable[[Record], None] = lambda record: None,
) -> Simulated:
    """Run a job on virtual sites.

    Parameters
    ----------
    job : Job
        The same as would be submitted.
    data : mapping of str to SiteData
        Virtual site to its data; see `split`.
    folder : Path
        For the states of server and sites; a simulation that was stopped goes on from it.
    noted : callable
        Told each entry of the record.
    """
    lead, server = key_of(job, "lead"), key_of(job, SERVER)
    own = {name: key_of(job, name) for name in data}
    errors: dict[str, list[BaseException]] = {name: [] for name in data}
    sides = {
        name: side(
            name,
            folder / name,
            partial(Standing, Keys(own[name], server.public_key(), lead.public_key()), permissive(job)),
            one,
            _outside(job, folder / name, errors[name].append),
        )
        for name, one in data.items()
    }
    parties = Parties(server, lambda name: own[name].public_key(), LocalSites(sides))
    state = RunState(folder / "server", job.digest)
    first = first_weights(job.model, job.seed)
    run = Run(
        sign(job, lead), first, parties, state, broadcasting(job, first), noted,
        pause=lambda tries: False,
    )  # fmt: skip
    return Simulated(run.go(), state.chain, errors)


def _outside(job: Job, folder: Path, log: Callable[[BaseException], None]) -> Outside:
    """Return a virtual site's surroundings: its ledger has a budget of this job alone."""
    numbers = job.privacy.numbers
    if job.privacy.mode != "dp-sgd":
        return Outside(log)
    ledger = Ledger(LocalObjects(folder / "ledger"))
    with suppress(UsageError):  # a simulation that goes on has one
        ledger.create(float(numbers["epsilon"]), float(numbers["delta"]))
    protection = Protection(lambda: ledger, None, now)
    return Outside(log, ledger=protection.rule, task=protection.task)


def key_of(job: Job, name: str) -> Ed25519PrivateKey:
    """Return a key that guards nothing: a simulation that goes on must find its own signatures again."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"{job.digest} {name}".encode()).digest())


def permissive(job: Job) -> SitePolicy:
    """Return a policy that lets this job in: whose vault it is, is who runs the simulation."""
    base = SitePolicy(job.consortium, (job.app_digest,), (job.purpose,), (job.lawful_basis,), "by-policy")
    return replace(
        base,
        deid_profiles=(job.deid_profile,),
        min_cohort=1,
        min_sites=1,
        count_step=1,
        max_rounds=job.rounds,
        max_days=100_000,
        max_update_norm=job.update_norm,
        max_epsilon=float("inf"),
        decimals=6,
        min_measured=1,
    )


__all__ = ["Simulated", "key_of", "permissive", "simulate"]
