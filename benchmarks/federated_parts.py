"""What both sides of the federated comparison train: the same functions, on the same drawn examples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from voxelvault_fl.cohorts.members import Member
from voxelvault_fl.jobs.job import Model
from voxelvault_fl.jobs.task import Task
from voxelvault_fl.training.examples import Example
from voxelvault_fl.training.logistic import FEATURES, Logistic

if TYPE_CHECKING:
    from voxelvault_triage.training.dataset import Sample

SITES = ("north", "south", "west")
MODELS = {
    "numpy": Model("numpy-logistic", {"steps": 20}),
    "MONAI": Model("hemorrhage", {"steps": 2, "planes": 4}),
}
PEOPLE = 200


class Drawn(Logistic):
    """The regression on drawn features."""

    def __init__(self, config: Any, seed: int) -> None:
        super().__init__(config, None, ())
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(PEOPLE, FEATURES))
        self._drawn = x, x[:, 0] + rng.normal(size=PEOPLE) > 0, PEOPLE

    def part(self, name: str) -> Any:
        """Return the same people for each part."""
        return self._drawn


@cache
def task_of(name: str, site: str) -> Task:
    """Return a site's task; torch and MONAI are imported for that which needs them."""
    model, seed = MODELS[name], SITES.index(site)
    if name == "numpy":
        return Drawn(model.config, seed)
    from voxelvault_fl.training.hemorrhage import Hemorrhage

    found = [
        Example(Member(f"s{at}", f"p{at}", f"{1000 * seed + at}"), at % 2 == 1, part)
        for part in ("train", "validate", "test")
        for at in range(10)
    ]
    return Hemorrhage(model.config, _heads, found)


def _heads(found: Sequence[Example]) -> list[Sample]:
    return [_head(one.positive, int(one.member.order)) for one in found]


def _head(sick: bool, seed: int) -> Sample:
    from voxelvault_triage.hemorrhage.preprocess import COLUMNS, ROWS
    from voxelvault_triage.training.dataset import Sample

    hu = np.random.default_rng(seed).normal(30, 5, (3, ROWS, COLUMNS)).astype(np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    if sick:
        labels[1, 60:90, 60:90] = 1
        hu[labels > 0] = 70
    return Sample(hu, labels, np.full(3, 0.005), {"volumes": {}})
