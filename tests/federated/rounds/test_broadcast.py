"""Models reach sites whole, by what changed, or not at all; all of them hold the same, to the byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_consortium import Toy, make_job

from voxelvault_fl.jobs.task import Trained, Turn, Weights, weights_digest
from voxelvault_fl.privacy.compressing import ErrorFeedback, Int8, TopK
from voxelvault_fl.rounds.messages import Message, pack, unpack
from voxelvault_fl.rounds.run_state import RunState
from voxelvault_fl.rounds.transport import Compression

SIZE = 40_000
NORM = 10.0


class Wide:
    """Each site pulls many numbers halfway to its own."""

    def __init__(self, seed: int) -> None:
        self.target = np.random.default_rng(seed).normal(0, 0.1, SIZE).astype(np.float32)

    def init(self, seed: int) -> Weights:
        return {"w": np.zeros(SIZE, np.float32), "n": np.array([3])}

    def train(self, weights: Weights, turn: Turn) -> Trained:
        return Trained({**weights, "w": (weights["w"] + self.target) / np.float32(2)}, 20)

    def evaluate(self, weights: Weights, part: str = "validate") -> Any:
        raise AssertionError("nobody evaluates")


def small(codec: Int8 | TopK) -> Callable[[], Compression]:
    return lambda: ErrorFeedback(codec, NORM)


def wide(folder: Path, compression: Callable[[], Compression], **more: Any) -> Toy:
    first = Wide(0).init(0)
    said = {"evaluate_every": 0, "update_norm": NORM, "initial_weights": weights_digest(first), **more}
    toy = Toy(folder, make_job(**said), compression=compression)
    toy.first = first
    toy.tasks = {name: Wide(seed) for seed, name in enumerate(toy.targets)}  # type: ignore[misc]
    return toy


def sent(toy: Toy, kind: str = "train") -> list[tuple[int, str, Message]]:
    """Return what sites were asked, in order."""
    key = toy.server.public_key()
    opened = [(number, site, unpack(asked, key, 1 << 22)) for number, site, asked, _ in toy.asked]
    return [one for one in opened if one[2].kind == kind]


@pytest.mark.parametrize("codec", [Int8(), TopK()])
def test_what_changed_is_sent_and_all_hold_the_same(tmp_path: Path, codec: Int8 | TopK) -> None:
    toy = wide(tmp_path, small(codec), rounds=6)
    outcome = toy.run().go()
    assert (outcome.status, toy.logs) == ("finished", [])
    state = RunState(tmp_path / "server", toy.job.digest)
    rounds = [one for one in state.chain if one.kind == "round"]
    whole = SIZE * 4
    for number, _, message in sent(toy):
        size = sum(one.nbytes for one in message.weights.values())
        # The first model is whole; of the next ones nobody needs more than what changed.
        assert size == whole + 8 if number == 1 else size < 0.27 * whole
    for side in toy.sides.values():
        # What a site trained on last is what the record says, byte for byte.
        held = side._seen[toy.job.digest]
        assert weights_digest(held[1]) == rounds[held[0] - 1].aggregate
    assert max(one.sent + one.received for one in rounds[1:]) < 0.35 * 2 * 3 * whole


def test_what_is_lost_is_in_the_next_models_and_survives_a_restart(tmp_path: Path) -> None:
    exact = wide(tmp_path / "exact", lambda: ErrorFeedback(Int8(), NORM), rounds=8).run().go()
    mean = np.mean([Wide(seed).target for seed in range(3)], axis=0)
    far = float(np.abs(exact.weights["w"] - mean).max())
    toy = wide(tmp_path / "killed", small(Int8()), rounds=8)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            stopped(toy, len(RunState(tmp_path / "killed" / "server", toy.job.digest).of("round")) + 3).go()
    again = toy.run().go()
    # To the mean of targets: halfway in each round, and nothing of the way was lost.
    assert far < 0.01
    assert float(np.abs(again.weights["w"] - mean).max()) < 0.01
    state = RunState(tmp_path / "killed" / "server", toy.job.digest)
    assert state.last == 8
    assert set(state.lost(8)) == {"w"}
    assert np.abs(state.lost(8)["w"]).max() > 0


def stopped(toy: Toy, at: int) -> Any:
    """Return a run whose server is killed when a round is recorded."""
    run, noted = toy.run(), toy.noted.append

    def kill(record: Any) -> None:
        noted(record)
        if (record.kind, record.round) == ("round", at):
            raise KeyboardInterrupt

    run._noted = kill
    return run


def test_a_site_that_started_anew_gets_the_whole_model_in_the_same_round(tmp_path: Path) -> None:
    toy = wide(tmp_path, small(Int8()), rounds=3)

    def restarted(number: int, site: str, data: bytes) -> bytes:
        if (number, site) == (3, "north") and len(data) < SIZE * 2:
            toy.sides["north"] = toy.side("north")
        return data

    toy.to_site = restarted
    assert toy.run().go().status == "finished"
    (last,) = [one for one in toy.noted if one.kind == "round" and one.round == 3]
    assert (set(last.sites), dict(last.aside)) == (set(toy.targets), {})
    asked = [message.weights for number, site, message in sent(toy) if (number, site) == (3, "north")]
    assert [set(one) == {"w", "n"} for one in asked] == [False, True]


def test_a_model_that_a_site_holds_is_not_sent_again(tmp_path: Path) -> None:
    toy = Toy(tmp_path, make_job(rounds=2))
    assert toy.run().go().status == "finished"
    assert [bool(message.weights) for _, _, message in sent(toy, "evaluate")] == [True] * 6
    assert [bool(message.weights) for _, _, message in sent(toy, "train")] == [True] * 3 + [False] * 3


@pytest.mark.parametrize("rule", ["aggregate", "compression", "not-held"])
def test_what_a_server_makes_up_is_refused(tmp_path: Path, rule: str) -> None:
    toy = wide(tmp_path, small(Int8()), rounds=2)

    def forged(number: int, site: str, data: bytes) -> bytes:
        came = unpack(data, toy.server.public_key(), 1 << 22)
        if (came.kind, number, site) != ("train", 2, "west"):
            return data
        change: dict[str, Message] = {
            "aggregate": replace(came, weights={**came.weights, "s:w": came.weights["s:w"] * 2}),
            "compression": replace(came, weights={"q:w": came.weights["q:w"]}),
            "not-held": replace(came, said={**came.said, "since": 7}, weights={}),
        }
        return pack(change[rule], toy.server) if came.weights.get("q:w") is not None else data

    toy.to_site = forged
    assert toy.run().go().status == "finished"
    assert [getattr(one, "rule", "") for one in toy.logs] == [rule]
