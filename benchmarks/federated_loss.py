"""What smaller messages cost in accuracy: one task, three sites that differ, the rules of rounds, no wire.

A logistic regression of 1,024 figures, of which 64 tell something, on 400 people a site; each site's figures
are shifted in its own way and its share of positives is its own. Hard enough that no run comes near an AUC
of 1. Rounds go through the same messages, checks and records as between processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from voxelvault_fl.hospital import broadcasting, compression
from voxelvault_fl.jobs.job import Job, Labels, Model, sign
from voxelvault_fl.jobs.policy import Approved
from voxelvault_fl.jobs.task import Measured, Trained, Turn, Weights, weights_digest
from voxelvault_fl.rounds.asking import Parties
from voxelvault_fl.rounds.run import Run
from voxelvault_fl.rounds.run_state import RunState
from voxelvault_fl.rounds.site import Hands, Keys, SiteSide, Standing
from voxelvault_fl.simulation.grid import LocalSites
from voxelvault_fl.simulation.simulate import permissive
from voxelvault_fl.training.figures import auc, log_loss

FIGURES, TELLING, PEOPLE, TESTED = 1024, 64, 400, 1000
SITES = {"north": (0.0, 0.5), "south": (0.7, 0.3), "west": (-0.7, 0.15)}
"""Shift of some figures, and share of positives."""
ROUNDS, SEEDS = 20, 5


class Regression:
    """The task of a site."""

    def __init__(self, site: str, seed: int) -> None:
        truth = np.random.default_rng(seed).normal(size=TELLING) / np.sqrt(TELLING)
        rng = np.random.default_rng([seed, list(SITES).index(site)])
        shift, share = SITES[site]
        x = rng.normal(size=(PEOPLE + TESTED, FIGURES))
        told = 2 * (x[:, :TELLING] @ truth) + rng.normal(size=len(x))
        self._y = told > np.quantile(told, 1 - share)
        x[:, TELLING : 2 * TELLING] += shift
        self._x = x.astype(np.float32)

    def init(self, seed: int) -> Weights:
        """Return zeros."""
        return {"weight": np.zeros(FIGURES, np.float32), "bias": np.zeros(1, np.float32)}

    def train(self, weights: Weights, turn: Turn) -> Trained:
        """Descend ten steps."""
        x, y = self._x[:PEOPLE], self._y[:PEOPLE]
        w, b = weights["weight"].copy(), weights["bias"].copy()
        for _ in range(10):
            error = 1 / (1 + np.exp(-(x @ w + b))) - y
            w -= (0.1 * (x.T @ error) / len(y)).astype(np.float32)
            b -= np.float32(0.1 * error.mean())
        return Trained({"weight": w, "bias": b}, PEOPLE)

    def evaluate(self, weights: Weights, part: str = "validate") -> Measured:
        """Measure on people who weren't trained on."""
        logits = self._x[PEOPLE:] @ weights["weight"] + weights["bias"]
        truth = self._y[PEOPLE:]
        return Measured(TESTED, {"loss": log_loss(logits, truth), "auc": auc(logits, truth)})


def accuracy(codec: str, seed: int) -> float:
    """Return the mean over sites of the AUC of the last round's model."""
    tasks = {name: Regression(name, seed) for name in SITES}
    first = tasks["north"].init(0)
    job = Job(
        "bench", "loss", datetime.now(UTC) + timedelta(days=1), "a" * 64, weights_digest(first),
        Model("numpy-logistic"), {"column": "Modality", "op": "=", "value": "CT"}, Labels("table", "label"),
        ROUNDS, len(SITES), len(SITES), "IRB-1", "consent", compression=codec, evaluate_every=0,
    )  # fmt: skip
    with TemporaryDirectory() as folder:
        weights = _run(job, tasks, first, Path(folder))
    return float(np.mean([task.evaluate(weights).metrics["auc"] for task in tasks.values()]))


def _run(job: Job, tasks: Mapping[str, Regression], first: Weights, folder: Path) -> Weights:
    lead, server = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    own = {name: Ed25519PrivateKey.generate() for name in tasks}

    def side(name: str) -> SiteSide:
        standing = Standing(Keys(own[name], server.public_key(), lead.public_key()), permissive(job), True)
        small = compression(job)
        hands = Hands(
            lambda job, state: Approved(PEOPLE, "c" * 64), lambda job: tasks[name], lambda job: small,
            lambda: datetime.now(UTC), _raise,
        )  # fmt: skip
        return SiteSide(name, folder / name, lambda: standing, hands)

    sites = LocalSites({name: side(name) for name in tasks})
    parties = Parties(server, lambda name: own[name].public_key(), sites)
    run = Run(sign(job, lead), first, parties, RunState(folder / "run", job.digest), broadcasting(job, first))
    return run.go().weights


def _raise(error: BaseException) -> None:
    raise error


def accuracies(codec: str) -> list[float]:
    """Return the accuracy with each seed."""
    return [accuracy(codec, seed) for seed in range(SEEDS)]
