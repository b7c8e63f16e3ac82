"""The toy consortium with real kits, and a log of its own for each party."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from toy_consortium import Toy, make_job

from voxelvault.storage.objects import LocalObjects
from voxelvault.vault import Vault
from voxelvault_fl.consortium import consortium_of
from voxelvault_fl.jobs.task import Measured, Trained, Turn, Weights, weights_digest
from voxelvault_fl.provisioning.kit import Kit, read_kit
from voxelvault_fl.provisioning.trial import provision
from voxelvault_fl.record.attestation import attest
from voxelvault_fl.record.hub import Hub
from voxelvault_fl.record.logbook import Logbook, small_vault
from voxelvault_fl.record.office import Office, answers_both
from voxelvault_fl.record.provenance import Signed, document
from voxelvault_fl.rounds.asking import Parties
from voxelvault_fl.rounds.records import Record
from voxelvault_fl.rounds.run import Run
from voxelvault_fl.rounds.run_state import RunState
from voxelvault_fl.rounds.site_state import SiteState
from voxelvault_fl.rounds.transport import Fault, Plain

NOW = datetime(2026, 11, 30, tzinfo=UTC)
SITES = ("east", "north", "west")


class Six:
    """A logistic regression on six figures, pulled to a target as `Pull` does it."""

    def __init__(self, target: float) -> None:
        self.target = target

    def init(self, seed: int) -> Weights:
        return {"weight": np.zeros(6, np.float32), "bias": np.zeros(1, np.float32)}

    def train(self, weights: Weights, turn: Turn) -> Trained:
        made = {name: (one + self.target) / np.float32(2) for name, one in weights.items()}
        return Trained(made, 20, {"loss": float(abs(self.target - made["bias"][0]))})

    def evaluate(self, weights: Weights, part: str = "validate") -> Measured:
        return Measured(20, {"loss": float(abs(self.target - weights["bias"][0]))})


@dataclass
class Party:
    """A party with its kit, a small vault for its log, and its office."""

    kit: Kit
    vault: Vault
    office: Office
    book: Logbook


class Whole(Toy):
    """The toy consortium, with logs; the run is over when this is made."""

    def __init__(self, folder: Path, task: Callable[[float], Any] = Six, **more: Any) -> None:
        first = task(0).init(0)
        super().__init__(folder / "run", make_job(initial_weights=weights_digest(first), **more))
        self.first = first
        self.tasks = {name: task(target) for name, target in self.targets.items()}
        said = {"id": "heads", "name": "Heads", "server": {"host": "localhost"}, "sites": list(SITES)}
        provision(consortium_of(said), folder / "kits", NOW)
        kits = {name: read_kit(folder / "kits" / name) for name in (*SITES, "server", "lead")}
        self.lead, self.server = kits["lead"].keys.signing, kits["server"].keys.signing
        self.keys = {name: kits[name].keys.signing for name in SITES}
        self.parties = {name: _party(folder / name, kits[name]) for name in (*SITES, "server")}
        self.sides = {name: self.side(name) for name in SITES}
        for name, side in self.sides.items():
            side._hands = replace(side._hands, noted=self.parties[name].book.noted)
        self.answers = {
            name: answers_both(side.answer, self.parties[name].office, self._attests(name))
            for name, side in self.sides.items()
        }
        self.outcome = self.run().go()
        self.attestations = self._gathered()

    def _attests(self, name: str) -> Callable[[str], str | None]:
        def said(job: str) -> str | None:
            chain = SiteState(self.sides[name].state_folder(job), job).chain
            return attest(self.parties[name].office, self.parties[name].book, chain)

        return said

    def _gathered(self) -> dict[str, str]:
        server = self.parties["server"]
        hub = Hub(server.office, self)
        hub.exchange(job=self.job.digest)
        own = attest(server.office, server.book, self.chain)
        assert own is not None
        return {**hub.attestations, "server": own}

    def _one(self, round: int, name: str, data: bytes) -> bytes | Fault:
        return self.answers[name](data)

    def run(self) -> Run:
        state = RunState(self.folder / "server", self.job.digest)
        noted = self.parties["server"].book.noted
        parties = Parties(self.server, lambda name: self.keys[name].public_key(), self)
        return Run(self.signed, self.first, parties, state, Plain(), noted)

    @property
    def chain(self) -> tuple[Record, ...]:
        return RunState(self.folder / "server", self.job.digest).chain

    @property
    def authority(self) -> bytes:
        return self.parties["server"].kit.file("ca.pem").read_bytes()

    def roster(self) -> Signed:
        kit = self.parties["server"].kit
        content, signature = (kit.file(name).read_bytes() for name in ("roster.json", "roster.sig"))
        return Signed(content, signature, kit.authority)

    def provenance(self, round: int, attestations: Mapping[str, str] | None = None) -> bytes:
        told = self.attestations if attestations is None else attestations
        return document(self.roster(), self.signed, self.chain, round, told)

    def weights(self, round: int) -> Weights:
        return RunState(self.folder / "server", self.job.digest).weights(round)


def _party(folder: Path, kit: Kit) -> Party:
    vault = small_vault(folder, "IRB-1")
    log, objects = vault.resources.log, vault.resources.objects
    others = [one for one in kit.roster.parties if one.role != "lead" and one.name != kit.party]
    peers = {one.name: one.verifying_key().public_bytes_raw() for one in others}
    kept = LocalObjects(folder / "kept")
    office = Office(kit.party, "heads", kit.keys.signing, log, objects, kept, peers)
    return Party(kit, vault, office, Logbook(log, kit.party, "a" * 64))
