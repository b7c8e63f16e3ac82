"""No round moves a model further than it can, whatever the updates are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_consortium import Toy, make_job

from voxelvault_fl.jobs.job import Job, Strategy
from voxelvault_fl.jobs.task import Weights
from voxelvault_fl.rounds.bounds import SLACK, clipped, difference, norm
from voxelvault_fl.rounds.strategies import Contribution, aggregate, reach

SHAPE = (40,)


def _updates(kind: str, draw: np.random.Generator, round: int) -> Weights:
    if kind == "steady":
        made = np.ones(SHAPE)
    elif kind == "burst":
        # Nothing for long, then all at once: what adaptive steps overshoot with.
        made = np.ones(SHAPE) if round % 7 == 0 else np.zeros(SHAPE)
    else:
        made = draw.normal(size=SHAPE) * draw.choice([1e-6, 1, 1e6])
    return clipped({"w": made}, 1.0)


@pytest.mark.parametrize("kind", ["steady", "burst", "wild"])
@pytest.mark.parametrize(
    "strategy",
    [
        Strategy("fedavg"),
        Strategy("median"),
        Strategy("fedadam"),
        Strategy("fedadam", numbers={"tau": 1.0}),
        Strategy("fedadam", numbers={"beta1": 0.5, "beta2": 0.999}),
        Strategy("fedadam", numbers={"beta1": 0.9, "beta2": 0.5}),
    ],
)
def test_no_step_is_longer_than_the_bound(strategy: Strategy, kind: str) -> None:
    job = make_job(rounds=50, update_norm=1.0, strategy=strategy)
    draw, moments = np.random.default_rng(7), dict[str, Any]()
    weights: Weights = {"w": np.zeros(SHAPE)}
    longest = 0.0
    for round in range(50):
        given = [Contribution(str(at), _updates(kind, draw, round), 10) for at in range(3)]
        made, moments = aggregate(strategy, weights, given, moments)
        longest = max(longest, norm(difference(made, weights)))
        weights = made
    assert 0 < longest <= reach(job, weights) * SLACK


def test_the_bound_of_fedadam_is_near_what_it_can_do() -> None:
    """A bound that nothing comes near keeps no trap away."""
    job = make_job(rounds=50, update_norm=1.0, strategy=Strategy("fedadam"))
    weights: Weights = {"w": np.zeros(SHAPE)}
    one = Contribution("a", {"w": np.ones(SHAPE) / np.sqrt(SHAPE[0])}, 1)
    made, _ = aggregate(job.strategy, weights, [one], {})
    assert reach(job, weights) < 5 * norm(difference(made, weights))


def _trapped(job: Job, folder: Path) -> list[object]:
    from dataclasses import replace

    from voxelvault_fl.jobs.strict import plain
    from voxelvault_fl.jobs.task import weights_digest
    from voxelvault_fl.rounds.messages import pack, unpack

    toy = Toy(folder, job)
    trap = {"w": np.full((2, 2), 50, np.float32), "b": np.zeros(3, np.float32)}

    def recorded(number: int, name: str, data: bytes) -> bytes:
        came = unpack(data, toy.server.public_key(), 1 << 20)
        if (came.kind, number, name) != ("train", 1, "west"):
            return data
        start = next(one for one in toy.noted if one.kind == "start")
        made = replace(start, kind="round", round=1, previous=start.digest, aggregate=weights_digest(trap))
        records = [plain(start), plain(replace(made, sites={"east": {}, "north": {}}))]
        return pack(replace(came, weights=trap, round=2, said={"records": records}), toy.server)

    toy.to_site = recorded
    toy.run().go()
    came = [unpack(answer, toy.keys[name].public_key(), 1 << 20) for _, name, _, answer in toy.asked]
    return [one.said.get("fault") for one in came if (one.sender, one.kind) == ("west", "train")]


def test_a_recorded_trap_is_refused_under_fedadam_too(tmp_path: Path) -> None:
    assert _trapped(make_job(strategy=Strategy("fedadam")), tmp_path)[0] == "norm"


def test_a_run_under_fedadam_stays_within_its_bound(tmp_path: Path) -> None:
    toy = Toy(tmp_path, make_job(rounds=8, strategy=Strategy("fedadam")))
    assert toy.run().go().status == "finished"
    assert not any(one.aside for one in toy.noted)
