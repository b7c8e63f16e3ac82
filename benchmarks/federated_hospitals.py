"""Three hospitals that differ, of people who never lived: scanners, prevalence, sizes, kinds of bleeding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from voxelvault_triage.phantom.anatomy import Tissues
from voxelvault_triage.phantom.atlas import Atlas, analytic
from voxelvault_triage.phantom.bleeds import KINDS
from voxelvault_triage.phantom.mimics import Mimics
from voxelvault_triage.phantom.planning import Lesions
from voxelvault_triage.phantom.scanner import KERNELS, Scanners
from voxelvault_triage.phantom.study import Recipe, phantom
from voxelvault_triage.training.dataset import Sample, kept, prepared

SOFT, STANDARD, SHARP = KERNELS


@dataclass(frozen=True, slots=True)
class Hospital:
    """A site.

    Parameters
    ----------
    name : str
        Its name.
    recipe : Recipe
        What its studies are drawn from.
    prevalence : float
        Share that bleeds, of each part.
    train, first : int
        Studies to train on; seed of the first study of all.
    """

    name: str
    recipe: Recipe
    prevalence: float
    train: int
    first: int


def _shares(*shares: float) -> Lesions:
    return Lesions(dict(zip(KINDS, shares, strict=True)), size=(0.5, 1.1), hu=(50, 74))


HOSPITALS = (
    Hospital(
        "alder",
        Recipe(
            _shares(0.2, 0.2, 0.2, 0.2, 0.2),
            Scanners((6.0,), tilt=(0, 6), pixel=(1.15, 1.2), noise=(2, 4), field=(212, 222), kernels=(SOFT,),
                     hardening=8.0, bias=1.0),
        ),
        prevalence=0.5, train=56, first=41_000_000,
    ),
    Hospital(
        "birch",
        Recipe(
            _shares(0.3, 0.45, 0.15, 0.1, 0.0),
            Scanners((5.0, 6.0), tilt=(10, 24), pixel=(1.2, 1.3), noise=(6, 10), field=(216, 230),
                     kernels=(SHARP,), hardening=15.0, bias=2.0, motion=0.25, metal=0.1),
            Mimics(falx=0.5, sinus=0.8, vessels=0.7, hyperostosis=0.2, base=0.3),
        ),
        prevalence=0.6, train=36, first=42_000_000,
    ),
    Hospital(
        "cedar",
        Recipe(
            _shares(0.0, 0.15, 0.2, 0.4, 0.25),
            Scanners((7.0,), tilt=(-10, 4), pixel=(1.25, 1.35), noise=(3, 6), field=(214, 226),
                     kernels=(STANDARD,), hardening=30.0, bias=4.0, motion=0.2),
            Mimics(ganglia=0.5, tumour=0.12, infarct=0.3, hygroma=0.25, specks=0.2),
            Tissues(white=(21, 29), atrophy=4.5, sulcus=1.7),
        ),
        prevalence=0.35, train=24, first=43_000_000,
    ),
)  # fmt: skip
"""A large one of all kinds; one for trauma, tilted and noisy; a small one for old people with strokes."""

PARTS = ("train", "validate", "test")


def sizes(hospital: Hospital, validate: int, test: int) -> dict[str, int]:
    """Return how many studies each part has."""
    return dict(zip(PARTS, (hospital.train, validate, test), strict=True))


def studies(hospital: Hospital, part: str, count: int, folder: Path, number: int = 1) -> Iterator[Sample]:
    """Yield studies of a part on the network's grid, of its set `number`; made where they aren't kept yet."""
    atlas = analytic()
    for index, bleeding in enumerate(bleeds(hospital.prevalence, count)):
        seed = hospital.first + 100_000 * PARTS.index(part) + 1000 * (number - 1) + index
        path = folder / f"{hospital.name}-{part}" / f"{seed}.npz"
        yield kept(path, partial(_made, hospital, atlas, seed, bleeding))


def _made(hospital: Hospital, atlas: Atlas, seed: int, bleeding: bool) -> Sample:
    return prepared(phantom(seed, atlas, hospital.recipe, bleeding), seed)


def bleeds(prevalence: float, count: int) -> list[bool]:
    """Return which studies bleed: as many as the prevalence says, spread evenly."""
    ends = np.floor(prevalence * np.arange(count + 1) + 1e-9)
    return [bool(one) for one in np.diff(ends)]
