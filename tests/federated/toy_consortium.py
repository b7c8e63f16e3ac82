"""A consortium in memory: sites with a toy task, a lead, a server; what tests of rounds play with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from voxelvault_fl.consortium import Terms
from voxelvault_fl.jobs.job import Job, Labels, Model, SignedJob, sign
from voxelvault_fl.jobs.policy import Approved, Decision, SitePolicy
from voxelvault_fl.jobs.task import Measured, Trained, Turn, Weights, weights_digest
from voxelvault_fl.jobs.terms import bounded
from voxelvault_fl.rounds.asking import Parties
from voxelvault_fl.rounds.records import Record
from voxelvault_fl.rounds.run import Run
from voxelvault_fl.rounds.run_state import RunState
from voxelvault_fl.rounds.site import Hands, Keys, SiteSide, Standing
from voxelvault_fl.rounds.transport import Compression, Fault, Plain

NOW = datetime(2026, 12, 1, tzinfo=UTC)


class Pull:
    """Each site pulls the weights halfway to its own target: the mean of targets is the fixed point."""

    def __init__(self, target: float, examples: int = 20) -> None:
        self.target, self.examples, self.turns = target, examples, list[Turn]()

    def init(self, seed: int) -> Weights:
        return {"w": np.zeros((2, 2), np.float32), "b": np.zeros(3, np.float32)}

    def train(self, weights: Weights, turn: Turn) -> Trained:
        self.turns.append(turn)
        made = {name: (one + self.target) / np.float32(2) for name, one in weights.items()}
        return Trained(made, self.examples, {"loss": float(abs(self.target - made["b"][0]))})

    def evaluate(self, weights: Weights, part: str = "validate") -> Measured:
        return Measured(self.examples, {"loss": float(abs(self.target - weights["b"][0]))})


def make_job(**more: Any) -> Job:
    said: dict[str, Any] = {
        "consortium": "heads", "id": "heads-1", "expires": datetime(2027, 1, 1, tzinfo=UTC),
        "app_digest": "a" * 64, "initial_weights": weights_digest(Pull(0).init(0)),
        "model": Model("numpy-logistic"), "cohort": {"column": "Modality", "op": "=", "value": "CT"},
        "labels": Labels("table", "hemorrhage"), "rounds": 3, "min_sites": 2, "max_sites": 5,
        "purpose": "IRB-1", "lawful_basis": "consent", "metric": "loss",
    }  # fmt: skip
    return Job(**{**said, **more})


TERMS = Terms()
POLICY = SitePolicy("heads", ("a" * 64,), ("IRB-1",), ("consent",), approval="by-policy")


@dataclass
class Toy:
    """Three sites, and hands that may interfere with what they are sent and answer."""

    folder: Path
    job: Job = field(default_factory=make_job)
    targets: Mapping[str, float] = field(default_factory=lambda: {"east": 1.0, "north": 2.0, "west": 3.0})
    compression: Callable[[], Compression] = Plain
    first: Weights = field(default_factory=lambda: Pull(0).init(0))
    counts: Mapping[str, int] = field(default_factory=lambda: {"east": 20, "north": 20, "west": 20})
    terms: Terms = TERMS
    policy: SitePolicy = POLICY

    def __post_init__(self) -> None:
        self.lead, self.server = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        self.keys = {name: Ed25519PrivateKey.generate() for name in self.targets}
        self.tasks = {name: Pull(target, self.counts[name]) for name, target in self.targets.items()}
        self.logs: list[BaseException] = []
        self.asked: list[tuple[int, str, bytes, bytes]] = []
        self.decisions: dict[str, Decision] = {}
        self.to_site: Callable[[int, str, bytes], bytes | Fault] = lambda round, site, data: data
        self.to_server: Callable[[int, str, bytes], bytes | Fault] = lambda round, site, data: data
        self.noted: list[Record] = []
        self.up = list(self.targets)
        self.sides = {name: self.side(name) for name in self.targets}

    @property
    def signed(self) -> SignedJob:
        return sign(self.job, self.lead)

    def side(self, name: str) -> SiteSide:
        keys = Keys(self.keys[name], self.server.public_key(), self.lead.public_key())
        small = self.compression()
        hands = Hands(
            decide=lambda job, state: self.decisions.get(name, Approved(self.counts[name], "c" * 64)),
            task=lambda job: self.tasks[name],
            compression=lambda job: small,
            now=lambda: NOW,
            log=self.logs.append,
        )
        return SiteSide(name, self.folder / name, lambda: self.standing(keys), hands)

    def standing(self, keys: Keys) -> Standing:
        return Standing(keys, bounded(self.policy, self.terms), self.terms.site_metrics)

    def ready(self) -> tuple[str, ...]:
        return tuple(self.up)

    def ask(self, round: int, requests: Mapping[str, bytes]) -> dict[str, bytes | Fault]:
        return {name: self._one(round, name, data) for name, data in requests.items()}

    def _one(self, round: int, name: str, data: bytes) -> bytes | Fault:
        sent = self.to_site(round, name, data)
        if isinstance(sent, Fault):
            return sent
        answer = self.sides[name].answer(sent)
        self.asked.append((round, name, sent, answer))
        return self.to_server(round, name, answer)

    def run(self) -> Run:
        parties = Parties(self.server, lambda name: self.keys[name].public_key(), self)
        state = RunState(self.folder / "server", self.job.digest)
        return Run(
            self.signed, self.first, parties, state, self.compression(), self.noted.append,
            terms=lambda: self.terms,
        )  # fmt: skip
