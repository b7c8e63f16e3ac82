"""What our layer costs over plain Flower: seconds a round and bytes a round, on the same functions.

Three ways in turn, each with a server and three sites as processes on loopback over TLS: ours (gate, policy,
validation, record); plain Flower as it comes, which starts a process a message; and plain Flower whose apps
are kept warm and whose pauses are as short as ours, so that what is left is our layer alone. A round is the
time between two joinings of updates: training and evaluation, without the first round, which loads. Bytes
are those of the messages as the run's record states them; `federated_loss` says what smaller ones cost.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree
from statistics import median
from tempfile import mkdtemp

import numpy as np

from benchmarks.federated_loss import accuracies
from benchmarks.federated_ours import Ours, Ran, ours
from benchmarks.federated_parts import MODELS, SITES, task_of
from benchmarks.federated_plain import plain
from benchmarks.measure import Measured, Place

OVERHEAD, HALF, BYTES, SMALL = 1.2, 0.5, 1.15, 0.35
ROUNDS = {"numpy": 5, "MONAI": 3}
CODECS = ("int8", "top-k")

Taken = dict[str, list[float]]
"""Seconds a round, by task, a figure a turn."""


def measure(place: Place) -> list[Measured]:
    """Run all three in turn, then count bytes."""
    sides = ("ours", "flower", "warm")
    taken: dict[str, Taken] = {side: {task: [] for task in ROUNDS} for side in sides}
    rows: list[Measured] = []
    for turn in range(place.repeats):
        for side in sides if turn % 2 == 0 else reversed(sides):
            folder = Path(mkdtemp(dir=place.folder, prefix=side))
            try:
                found, more = _turn(side, folder, not rows)
            finally:
                rmtree(folder, ignore_errors=True)
            rows += more
            for task, each in found.items():
                print(f"  turn {turn + 1}, {side}, {task}: {each:.2f} s a round", file=sys.stderr)
                taken[side][task].append(each)
    return [*_times(taken), *rows, *_loss()]


def _turn(side: str, folder: Path, count: bool) -> tuple[dict[str, float], list[Measured]]:
    if side == "ours":
        with ours(folder) as running:
            found = {task: _each(running.run(task, rounds).times) for task, rounds in ROUNDS.items()}
            return found, _bytes(running) if count else []
    with plain(folder, side == "warm") as other:
        return {task: _each(other.run(task, rounds)) for task, rounds in ROUNDS.items()}, []


def _each(times: Sequence[float]) -> float:
    """Return the median seconds between two joinings."""
    return float(np.median(np.diff(times)))


def _times(taken: dict[str, Taken]) -> list[Measured]:
    alone = "warm plain Flower's with our pauses"
    rows = [_ratio(f"{task} round / plain Flower's", taken, task, "flower", OVERHEAD) for task in ROUNDS]
    rows += [_ratio(f"{task} round / {alone}", taken, task, "warm", OVERHEAD) for task in ROUNDS]
    return [
        *rows,
        _ratio("MONAI round / plain Flower's, a process a message", taken, "MONAI", "flower", HALF),
    ]


def _ratio(claim: str, taken: dict[str, Taken], task: str, peer: str, goal: float) -> Measured:
    own, theirs = taken["ours"][task], taken[peer][task]
    ratios = [a / b for a, b in zip(own, theirs, strict=True)]
    spread = f"{median(own):.2f} s, ratios {min(ratios):.2f}-{max(ratios):.2f}"
    return Measured(
        f"federated, {claim}", median(ratios), goal, spread, f"{median(theirs):.2f} s", at_most=True
    )


def _bytes(running: Ours) -> list[Measured]:
    size = sum(one.nbytes for one in task_of("MONAI", SITES[0]).init(0).values())
    whole = 2 * len(SITES) * size
    rows = []
    for codec in ("none", *CODECS):
        ran = running.run("MONAI", 4, compression=codec, evaluate_every=0)
        each, goal = _a_round(ran), BYTES if codec == "none" else SMALL
        claim = f"federated, bytes a training round / sites x 2 x model, {codec}"
        figures = f"{each / 1e6:.2f} MB", f"{whole / 1e6:.2f} MB"
        rows.append(Measured(claim, each / whole, goal, *figures, at_most=True))
    return rows


def _loss() -> list[Measured]:
    whole = accuracies("none")
    rows = []
    for codec in CODECS:
        lost = median(a - b for a, b in zip(whole, accuracies(codec), strict=True))
        said = f"{lost:.4f} of {median(whole):.3f}"
        rows.append(Measured(f"federated, AUC lost by {codec}, mean of three sites", 0, None, said, ""))
    return rows


def _a_round(ran: Ran) -> float:
    """Return the bytes of the messages of a training round, without the first, which sends all whole."""
    return median(one.sent + one.received for one in ran.record if one.kind == "round" and one.round > 1)


__all__ = ["MODELS", "measure"]
