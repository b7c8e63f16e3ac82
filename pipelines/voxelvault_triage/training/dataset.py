"""Sets of synthetic studies, made once and kept as int16 files: no patient in them."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault_triage.hemorrhage.preprocess import prepare_labels, prepare_volume
from voxelvault_triage.phantom.atlas import Atlas, analytic, template
from voxelvault_triage.phantom.study import SHIFTED, USUAL, VALIDATION, WIDE, Phantom, Recipe, phantom

ANALYTIC_SHARE = 0.12
"""Of the studies that take the analytic head, so that not all heads are one average deformed."""


USUAL_SHARE = 0.2
"""Of the studies to train on, those of one tidy department."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A set of studies.

    Parameters
    ----------
    name : str
        ``usual``, ``wide``, ``validate`` or ``test``.
    recipe : Recipe
        What they are drawn from.
    studies : int
        Half of them bleed.
    first : int
        Seed of the first; the others follow.
    """

    name: str
    recipe: Recipe
    studies: int
    first: int

    @property
    def digest(self) -> str:
        """Names the recipe, so that studies of another one are never taken for these."""
        return hashlib.sha256(json.dumps(asdict(self.recipe), sort_keys=True).encode()).hexdigest()[:12]


def plans(train: int = 240, validate: int = 80, test: int = 100, seed: int = 1) -> tuple[Plan, ...]:
    """Return the sets: two to train on, one to validate on, one to test on.

    Each has a recipe of its own, and no seed is in two of them. A fifth of the studies to train on are usual
    ones, so that what is seen every day isn't forgotten over what is rare.
    """
    start, usual = seed * 1_000_000, round(train * USUAL_SHARE)
    return (
        Plan("usual", USUAL, usual, start),
        Plan("wide", WIDE, train - usual, start + 200_000),
        Plan("validate", VALIDATION, validate, start + 400_000),
        Plan("test", SHIFTED, test, start + 800_000),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One prepared study and its truth.

    Parameters
    ----------
    hu : (plane, row, column) int16
        On the network's grid, Hounsfield units.
    labels : (plane, row, column) uint8
        0, or 1 + the index of the type.
    plane_ml : (plane,) float64
        Volume of a voxel in millilitres.
    truth : dict
        `volumes` in millilitres by type, `thickness`, `tilt`, `noise`, `kernel`, `seed`, `head`.
    """

    hu: npt.NDArray[np.int16]
    labels: npt.NDArray[np.uint8]
    plane_ml: npt.NDArray[np.float64]
    truth: dict[str, Any]

    @property
    def positive(self) -> bool:
        """True where there is blood."""
        return bool(self.truth["volumes"])


def atlases(templates: Path | None) -> tuple[Atlas, Atlas]:
    """Return the head of real anatomy, or the analytic one where no folder is given, and the analytic one."""
    plain = analytic()
    return (template(templates) if templates else plain), plain


def draw(plan: Plan, index: int, heads: tuple[Atlas, Atlas]) -> Phantom:
    """Return a study of a plan; odd ones bleed."""
    seed = plan.first + index
    head = heads[int(np.random.default_rng([seed, 9]).random() < ANALYTIC_SHARE)]
    return phantom(seed, head, plan.recipe, bleeding=index % 2 == 1)


def sample(plan: Plan, index: int, heads: tuple[Atlas, Atlas]) -> Sample:
    """Return a study of a plan on the network's grid."""
    return prepared(draw(plan, index, heads), plan.first + index)


def prepared(made: Phantom, seed: int) -> Sample:
    """Return a drawn study on the network's grid; its seed goes into its truth."""
    grid = prepare_volume(made.hu, made.planes)
    truth = {
        "volumes": {str(kind): volume for kind, volume in made.volumes.items()},
        "thickness": made.thickness,
        "tilt": made.tilt,
        "noise": made.noise,
        "kernel": made.kernel,
        "seed": seed,
    }
    labels = prepare_labels(made.labels, grid)
    return Sample(np.rint(grid.hu).astype(np.int16), labels, grid.plane_ml, truth)


def path_of(folder: Path, plan: Plan, index: int, templates: bool) -> Path:
    """Return where a study is kept."""
    head = "template" if templates else "analytic"
    return folder / f"{plan.name}-{plan.digest}-{head}" / f"{plan.first + index}.npz"


def generate(plan: Plan, folder: Path, templates: Path | None, heads: tuple[Atlas, Atlas]) -> Iterator[Path]:
    """Make the studies of a plan that aren't there yet, one by one."""
    for index in range(plan.studies):
        path = path_of(folder, plan, index, templates is not None)
        if not path.exists():
            _write(path, sample(plan, index, heads))
        yield path


def _write(path: Path, made: Sample) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_bytes(packed(made))
    partial.replace(path)


def packed(made: Sample) -> bytes:
    """Return a study as one NPZ file."""
    out = io.BytesIO()
    truth = np.array(json.dumps(made.truth))
    np.savez(out, hu=made.hu, labels=made.labels, plane_ml=made.plane_ml, truth=truth)
    return out.getvalue()


def unpacked(data: bytes) -> Sample:
    """Return what `packed` made."""
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        return Sample(found["hu"], found["labels"], found["plane_ml"], json.loads(str(found["truth"])))


def kept(path: Path, make: Callable[[], Sample]) -> Sample:
    """Return a study from its file, made and written there first where there is none."""
    if not path.exists():
        _write(path, make())
    return load(path)


def load(path: Path) -> Sample:
    """Return a study that was kept."""
    return unpacked(path.read_bytes())
