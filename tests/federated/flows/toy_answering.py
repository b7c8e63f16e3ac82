"""A site's executor process with a task of three numbers, which misbehaves as a file tells it."""

from __future__ import annotations

import errno
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from voxelvault_fl.jobs.job import Job
from voxelvault_fl.jobs.policy import Approved, Decision, Refused, SitePolicy
from voxelvault_fl.jobs.task import Measured, Trained, Turn, Weights
from voxelvault_fl.processes.bundle import bundle
from voxelvault_fl.processes.outgoing import stay_here
from voxelvault_fl.processes.tasks import Runtime
from voxelvault_fl.provisioning.kit import Kit, read_kit
from voxelvault_fl.rounds.messages import Message, pack, unpack
from voxelvault_fl.rounds.site import Hands, SiteSide, Standing
from voxelvault_fl.rounds.site_state import SiteState
from voxelvault_fl.rounds.transport import Plain
from voxelvault_fl.site.answering import detail, keys_of
from voxelvault_fl.site.executor import Executor
from voxelvault_fl.site.health import Health
from voxelvault_fl.site.running import SiteFolder

APP = "a" * 64
PURPOSE, BASIS = "IRB-1", "consent"
PATIENT = "Doe^Jane 1961-02-03"
SUBJECTS = 20
TARGETS = {"north": 1.0, "south": 2.0, "west": 3.0}
POLICY = SitePolicy("heads", (APP,), (PURPOSE,), (BASIS,), approval="by-policy")


def first() -> Weights:
    return {"w": np.zeros((2, 2), np.float32), "b": np.zeros(3, np.float32)}


class Pull:
    """Each site pulls the weights halfway to its own target."""

    def __init__(self, target: float, behaviour: Callable[[int], str]) -> None:
        self._target, self._behaviour = target, behaviour

    def init(self, seed: int) -> Weights:
        return first()

    def train(self, weights: Weights, turn: Turn) -> Trained:
        said = self._behaviour(turn.round)
        if said == "raise":
            raise ValueError(f"no slice of {PATIENT} has a window")
        if said == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        while said == "slow":
            time.sleep(0.1)
            said = self._behaviour(turn.round)
        made = {name: (one + self._target) / np.float32(2) for name, one in weights.items()}
        return Trained(made, SUBJECTS, {"loss": 0.0})

    def evaluate(self, weights: Weights, part: str = "validate") -> Measured:
        return Measured(SUBJECTS, {"loss": float(abs(self._target - weights["b"][0]))})


class Hand:
    """Sits between the site's rules and the wire, as a manipulated site would, and has the site's key."""

    def __init__(self, kit: Kit, answer: Callable[[bytes], bytes], behaviour: Callable[[int], str]) -> None:
        self._kit, self._answer, self._behaviour = kit, answer, behaviour
        self._last = b""

    def __call__(self, request: bytes) -> bytes:
        made = self._answer(request)
        said = unpack(made, self._kit.keys.signing.public_key(), 1 << 20)
        if said.kind != "train":
            return made
        before, self._last = self._last, made
        return self._forged(said, made, before)

    def _forged(self, said: Message, made: bytes, before: bytes) -> bytes:
        behaviour = self._behaviour(said.round)
        if behaviour == "escape":
            raise ValueError(f"the rules themselves failed for {PATIENT}")
        if behaviour == "replay":
            return before
        if behaviour == "garbage":
            return b"no message at all"
        if behaviour == "count":
            return self._signed(replace(said, said={**said.said, "examples": 10**12}))
        changed = _WRONG.get(behaviour)
        return made if changed is None else self._signed(replace(said, weights=changed(said.weights)))

    def _signed(self, message: Message) -> bytes:
        return pack(message, self._kit.keys.signing)


_WRONG: dict[str, Callable[[Weights], Weights]] = {
    "nan": lambda w: {**w, "b": np.full(3, np.nan, np.float32)},
    "shape": lambda w: {**w, "b": np.zeros(4, np.float32)},
    "keys": lambda w: {"w": w["w"], "other": w["b"]},
    "huge": lambda w: {name: one + np.float32(1e9) for name, one in w.items()},
}


def main(state: Path, port: str, kit_path: Path) -> None:
    folder, kit = SiteFolder(state), read_kit(kit_path)
    stay_here(folder.calls)
    behaviours = state / "behaviour.json"

    def behaviour(round: int) -> str:
        said: dict[str, str] = json.loads(behaviours.read_text()) if behaviours.exists() else {}
        return said.get(str(round), said.get("*", ""))

    def decide(job: Job, site: SiteState) -> Decision:
        if site.stopped:
            return Refused("stopped")
        if job.app_digest not in POLICY.app_digests:
            return Refused("app-digest")
        return Approved(SUBJECTS, "c" * 64)

    log = detail(state)
    task = Pull(TARGETS[kit.party], behaviour)
    hands = Hands(decide, lambda job: task, lambda job: Plain(), lambda: datetime.now(UTC), log)
    standing = Standing(keys_of(kit), POLICY)
    side = SiteSide(kit.party, state / "jobs", lambda: standing, hands)
    Health(state).opened()
    runtime = Runtime(f"127.0.0.1:{port}", folder.secret.read_bytes())
    Executor(runtime, frozenset({bundle().digest}), Hand(kit, side.answer, behaviour), log).serve(
        lambda: True
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
