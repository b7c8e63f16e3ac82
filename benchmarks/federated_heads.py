"""Federated training of the hemorrhage network against each site alone and all data in one place.

Three hospitals of synthetic people that differ in scanner, prevalence, size and kinds of bleeding. A hospital
takes the same number of steps of the optimiser alone and in the federation, and what is trained on all data
takes as many as all of them together. The best round on validation studies is the one that is tested: at each
site, on studies that chose nothing. The federated ones go the whole way of a run:
signed messages, policies, clipping, the record. What was trained is kept in the folder, so a stopped
benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.federated_hospitals import HOSPITALS, Hospital, sizes, studies
from voxelvault_fl.cohorts.members import Member
from voxelvault_fl.hospital import broadcasting, compression
from voxelvault_fl.jobs.filling import filling
from voxelvault_fl.jobs.job import Job, sign
from voxelvault_fl.jobs.policy import Approved, Decision
from voxelvault_fl.jobs.strict import made
from voxelvault_fl.jobs.task import Task, Weights
from voxelvault_fl.rounds.asking import Parties
from voxelvault_fl.rounds.messages import SERVER
from voxelvault_fl.rounds.run import Run
from voxelvault_fl.rounds.run_state import RunState
from voxelvault_fl.rounds.site import Hands, Keys, SiteSide, Standing
from voxelvault_fl.rounds.site_state import SiteState
from voxelvault_fl.simulation.baselines import trained
from voxelvault_fl.simulation.grid import LocalSites
from voxelvault_fl.simulation.simulate import key_of, permissive
from voxelvault_fl.training.examples import Example
from voxelvault_fl.training.hemorrhage import Hemorrhage
from voxelvault_fl.training.tasks import first_weights
from voxelvault_triage.merit import auc, drawn_again
from voxelvault_triage.training.dataset import Sample

Scores = npt.NDArray[np.float64]

ALONE, POOLED, STRATEGIES = "alone", "pooled", {"fedavg": {}, "fedprox": {"proximal": 1.0}}
DRAWS = 2000
GOAL = 0.02
"""What federated training may lose against pooled."""


@dataclass(frozen=True)
class Site:
    """A hospital with its studies: the truth of each part, and how to make tasks on them."""

    hospital: Hospital
    found: Sequence[Example]
    heads: Mapping[str, Sample]

    @property
    def positive(self) -> npt.NDArray[np.bool_]:
        """Truth of the test part, (study) bool."""
        return np.array([one.positive for one in self.found if one.part == "test"])


def site_of(hospital: Hospital, options: argparse.Namespace) -> Site:
    """Return a hospital with its studies, drawn or read."""
    found, heads = [], {}
    for part, count in sizes(hospital, options.validate, options.test).items():
        number = options.set if part == "test" else 1
        for at, head in enumerate(studies(hospital, part, count, options.cache, number)):
            name = f"{hospital.name}-{part}-{at:03}"
            found.append(Example(Member(name, name, name), head.positive, part))
            heads[name] = head
    return Site(hospital, found, heads)


def task_on(job: Job, sites: Sequence[Site]) -> Hemorrhage:
    """Return the task of a job on the studies of some sites."""
    heads = {name: head for site in sites for name, head in site.heads.items()}
    found = [one for site in sites for one in site.found]
    return Hemorrhage(job.model.config, lambda asked: [heads[one.member.series_id] for one in asked], found)


def job_of(options: argparse.Namespace, strategy: str, seed: int) -> Job:
    """Return the job of a strategy."""
    numbers = ("steps", "planes", "rate", "decay", "features")
    said: dict[str, Any] = {
        "consortium": "heads", "id": f"{strategy}-{seed}", "expires": datetime(2100, 1, 1, tzinfo=UTC),
        "rounds": options.rounds, "seed": seed, "min_sites": 3, "max_sites": 3,
        "purpose": "benchmark", "lawful_basis": "synthetic people",
        "model": {"task": "hemorrhage", "config": {one: getattr(options, one) for one in numbers}},
        "cohort": {"column": "Modality", "op": "=", "value": "CT"}, "labels": {"source": "SEG"},
        "strategy": {"name": strategy, "numbers": STRATEGIES[strategy]}, "update_norm": 50.0,
        "evaluate_every": 4,
    }  # fmt: skip
    return made(Job, {**filling(first_weights, datetime.now(UTC))(said), **said}, "job")


def federated(job: Job, sites: Sequence[Site], folder: Path) -> Weights:
    """Return what a run of the job comes to, by the rules of server and sites."""
    names = [one.hospital.name for one in sites]
    keys = {name: key_of(job, name) for name in (*names, "lead", SERVER)}
    sides = {}
    for site, name in zip(sites, names, strict=True):
        hands = Hands(
            decide=partial(_approved, site.hospital.train),
            task=partial(_given, task_on(job, [site])),
            compression=compression,
            now=lambda: datetime.now(UTC),
            log=_fail,
        )
        own = Keys(keys[name], keys[SERVER].public_key(), keys["lead"].public_key())
        sides[name] = SiteSide(name, folder / name, partial(Standing, own, permissive(job)), hands)
    parties = Parties(keys[SERVER], lambda name: keys[name].public_key(), LocalSites(sides))
    first = first_weights(job.model, job.seed)
    state = RunState(folder / "server", job.digest)
    return Run(sign(job, keys["lead"]), first, parties, state, broadcasting(job, first), _say).go().weights


def _approved(count: int, job: Job, state: SiteState) -> Decision:
    return Approved(count, "c" * 64)


def _given(task: Task, job: Job) -> Task:
    return task


def _fail(error: BaseException) -> None:
    raise error


def _say(record: Any) -> None:
    if record.kind == "evaluation":
        told = ", ".join(f"{name} {value:.3f}" for name, value in sorted(record.metrics.items()))
        print(f"  round {record.round}: validation {told}", file=sys.stderr, flush=True)


def arms(
    options: argparse.Namespace, seed: int
) -> Iterator[tuple[str, str, Callable[[Sequence[Site]], Weights]]]:
    """Yield each model of a seed: its arm, the site whose it is or none, and how it is trained."""
    plain = job_of(options, "fedavg", seed)
    for strategy in options.strategies:
        job = job_of(options, strategy, seed)
        place = options.cache / "runs" / job.digest[:12]
        yield strategy, "", partial(federated, job, folder=place)
    for at, hospital in enumerate(HOSPITALS):
        yield ALONE, hospital.name, partial(_alone, plain, at)
    yield POOLED, "", lambda sites: trained(plain, task_on(plain, sites), POOLED, len(sites))


def _alone(job: Job, at: int, sites: Sequence[Site]) -> Weights:
    return trained(job, task_on(job, [sites[at]]), sites[at].hospital.name)


def measured(options: argparse.Namespace, sites: Sequence[Site]) -> dict[str, dict[str, list[Scores]]]:
    """Return the scores of test studies: arm to site to an array a seed; trained where they aren't kept."""
    found: dict[str, dict[str, list[Scores]]] = {}
    for seed in options.seeds:
        for arm, own, train in arms(options, seed):
            path = _place(options, arm, own, seed)
            if not path.exists():
                print(f"{arm} {own} seed {seed}", file=sys.stderr, flush=True)
                _test(options, sites, train(sites), own, seed, path)
            for name, values in json.loads(path.read_text()).items():
                found.setdefault(arm, {}).setdefault(name, []).append(np.array(values))
    return found


def _place(options: argparse.Namespace, arm: str, own: str, seed: int) -> Path:
    job = job_of(options, arm if arm in STRATEGIES else "fedavg", seed)
    rate = f"{options.rate:g}-{options.decay:g}"
    about = f"{job.rounds}x{options.steps}x{options.planes}-{rate}-{options.features[0]}"
    cache: Path = options.cache
    return cache / "scores" / about / f"{arm}{'-' * bool(own)}{own}-{seed}-{options.set}.json"


def _test(
    options: argparse.Namespace, sites: Sequence[Site], weights: Weights, own: str, seed: int, path: Path
) -> None:
    job = job_of(options, "fedavg", seed)
    asked = [site for site in sites if own in ("", site.hospital.name)]
    scores = {site.hospital.name: task_on(job, [site]).scores(weights, "test").tolist() for site in asked}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(scores))


def table(found: Mapping[str, Mapping[str, Sequence[Scores]]], sites: Sequence[Site]) -> Iterator[str]:
    """Yield the table as Markdown: AUC, mean over seeds, and differences with 95 % bootstrap intervals."""
    arms = [ALONE, *(one for one in STRATEGIES if one in found), POOLED]
    heads = ["test set of", "bleeding", *arms, "fedavg over alone", "fedavg under pooled"]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for site in sites:
        name, truth = site.hospital.name, site.positive
        by = {arm: found[arm][name] for arm in arms}
        cells = [f"{_mean(scores, truth):.3f}" for scores in by.values()]
        above = _apart(by["fedavg"], by[ALONE], truth)
        below = _apart(by[POOLED], by["fedavg"], truth)
        yield f"| {name} | {truth.sum()} of {len(truth)} | {' | '.join(cells)} | {above} | {below} |"


def _mean(scores: Sequence[Scores], truth: npt.NDArray[np.bool_]) -> float:
    return float(np.mean([auc(one, truth) for one in scores]))


def _apart(ours: Sequence[Scores], theirs: Sequence[Scores], truth: npt.NDArray[np.bool_]) -> str:
    """Return how much larger the first AUC is, on the same studies drawn again."""
    rng, drawn = np.random.default_rng(0), []
    for _ in range(DRAWS):
        again = drawn_again(truth, rng)
        one, other = ([scores[again] for scores in arm] for arm in (ours, theirs))
        drawn.append(_mean(one, truth[again]) - _mean(other, truth[again]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{_mean(ours, truth) - _mean(theirs, truth):+.3f} ({low:+.3f} to {high:+.3f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser("benchmarks.federated_heads", description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path("federated-heads"), help="studies and results")
    parser.add_argument("--validate", type=int, default=32, help="studies a site")
    parser.add_argument("--test", type=int, default=100, help="studies a site")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--steps", type=int, default=60, help="of a round at a site")
    parser.add_argument("--planes", type=int, default=8)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.93, help="of the rate, a round")
    parser.add_argument("--features", type=int, nargs=6, default=[16, 16, 32, 48, 64, 16])
    parser.add_argument(
        "--set",
        type=int,
        default=1,
        help="which test studies: one that was looked at while something was chosen tests nothing",
    )
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=["fedavg"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    options = parser.parse_args()
    torch.set_num_threads(1)
    sites = [site_of(hospital, options) for hospital in HOSPITALS]
    for line in table(measured(options, sites), sites):
        print(line)


if __name__ == "__main__":
    main()
