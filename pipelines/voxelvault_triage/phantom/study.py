"""One synthetic head CT from one seed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from voxelvault_triage.phantom import anatomy
from voxelvault_triage.phantom.atlas import Atlas
from voxelvault_triage.phantom.bleeds import KINDS, Bleed, Kind, Space
from voxelvault_triage.phantom.fields import Points, Values, Warp, random_warp
from voxelvault_triage.phantom.mimics import Mimics, add_mimics
from voxelvault_triage.phantom.planning import Lesions, plan
from voxelvault_triage.phantom.scanner import Kernel, Scan, Scanners, draw_scan, reconstruct
from voxelvault_triage.planes import Planes

SMALLEST_ML = 0.3
"""A bleed smaller than this, or mostly outside the scanned planes, is drawn again."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a set of studies is drawn from.

    Parameters
    ----------
    lesions, scanners, mimics, tissues
        Their ranges.
    size, bend, turn : float
        Standard deviations: scale of the head (logarithm), smooth bending in mm, pose in degrees.
    """

    lesions: Lesions = field(default_factory=Lesions)
    scanners: Scanners = field(default_factory=Scanners)
    mimics: Mimics = field(default_factory=Mimics)
    tissues: anatomy.Tissues = field(default_factory=anatomy.Tissues)
    size: float = 0.03
    bend: float = 2.5
    turn: float = 4.0


USUAL = Recipe()
"""One tidy department: also what heads to practise on are drawn from."""

WIDE = Recipe(
    lesions=Lesions(size=(0.35, 1.25), hu=(45, 82), edge=(0.5, 2.6)),
    scanners=Scanners(
        thickness=(2.8, 8.0), between=True, places_mm=2.5, mixed=0.15, tilt=(-15, 30),
        pixel=(0.9, 1.1), noise=(1.5, 10.0), field=(206, 250), makers=0.4,
        hardening=32.0, bias=3.0, motion=0.18, metal=0.08,
    ),
    mimics=Mimics(
        ganglia=0.45, falx=0.4, sinus=0.8, vessels=0.6, tumour=0.12, infarct=0.25, hygroma=0.15, specks=0.35,
        base=0.5, hyperostosis=0.3,
    ),
    tissues=anatomy.Tissues(
        white=(21, 35), contrast=(3, 11), skull=(3, 11), falx_hu=(36, 75), falx=(0.3, 2.0), atrophy=4.5,
        sulcus=1.7,
    ),
    size=0.05, bend=3.5, turn=7.0,
)  # fmt: skip
"""Many departments and more: what scanners may be set to, and what they may make of a head."""

VALIDATION = Recipe(
    lesions=Lesions(
        shares=dict(zip(KINDS, (0.15, 0.25, 0.25, 0.25, 0.1), strict=True)),
        size=(0.5, 1.2), hu=(50, 76), edge=(0.7, 1.9), second=0.2,
    ),
    scanners=Scanners(
        thickness=(2.25, 3.25, 4.25, 5.25, 6.5), mixed=0.2, tilt=(0, 24), pixel=(0.65, 0.9), noise=(2.0, 7.5),
        field=(210, 240),
        kernels=(
            Kernel("soft", 0.85, 0.0, 0.25, 0.75), Kernel("standard", 0.6, 0.3, 0.45, 0.65),
            Kernel("sharp", 0.4, 0.7, 0.68, 0.9),
        ),
        hardening=22.0, bias=2.0, motion=0.15, metal=0.06,
    ),
    mimics=Mimics(ganglia=0.25, falx=0.35, sinus=0.7, tumour=0.07, infarct=0.2, hygroma=0.12),
    size=0.035, bend=3.0, turn=5.0,
)  # fmt: skip
"""One imagined department that was not trained on: calibration and threshold are fixed on it."""

SHIFTED = Recipe(
    lesions=Lesions(
        shares=dict(zip(KINDS, (0.15, 0.2, 0.3, 0.2, 0.15), strict=True)),
        size=(0.5, 1.15), hu=(48, 74), edge=(0.8, 2.2), second=0.15,
    ),
    scanners=Scanners(
        thickness=(1.5, 3.5, 4.5, 5.5, 7.0), mixed=0.2, tilt=(8, 26), pixel=(0.6, 0.75), noise=(2.5, 8.0),
        field=(218, 245),
        kernels=(
            Kernel("soft", 0.95, 0.0, 0.22, 0.9), Kernel("standard", 0.65, 0.25, 0.35, 0.5),
            Kernel("sharp", 0.35, 0.8, 0.75, 0.8),
        ),
        hardening=24.0, bias=2.5, motion=0.18, metal=0.08,
    ),
    mimics=Mimics(ganglia=0.3, falx=0.4, sinus=0.75, tumour=0.08, infarct=0.25, hygroma=0.15),
    size=0.04, bend=3.5, turn=6.0,
)  # fmt: skip
"""Other thicknesses, kernels, noise, tilt, pixels, lesions and heads than in training."""


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """One synthetic study and its truth.

    Parameters
    ----------
    hu : (slice, row, column) float32
        Hounsfield units.
    labels : (slice, row, column) uint8
        0, or 1 + the index in `KINDS` of the type of blood.
    planes : Planes
        Where the slices lie.
    thickness, tilt, noise : float
        In mm, degrees, Hounsfield units.
    kernel : str
        Name of the reconstruction kernel.
    volumes : mapping of Kind to float
        Blood of each type in millilitres; empty in a negative study.
    """

    hu: Values
    labels: npt.NDArray[np.uint8]
    planes: Planes
    thickness: float
    tilt: float
    noise: float
    kernel: str
    volumes: dict[Kind, float]

    @property
    def volume_ml(self) -> float:
        """Blood of all types in millilitres."""
        return sum(self.volumes.values())


def phantom(seed: int, atlas: Atlas, recipe: Recipe = USUAL, bleeding: bool = True) -> Phantom:
    """Return one study; the same seed, atlas, recipe and class give the same study.

    Parameters
    ----------
    seed : int
        Decides everything that is drawn.
    atlas : Atlas
        The head.
    recipe : Recipe
        What is drawn from.
    bleeding : bool
        True for a study with one or two types of bleeding.
    """
    rng = np.random.default_rng(seed)
    scan = draw_scan(rng, recipe.scanners)
    warp = random_warp(rng, recipe.size, recipe.bend, recipe.turn)
    everywhere = scan.planes.points(scan.rows, scan.rows, scan.offsets)
    solid = _solid(atlas, everywhere, warp)
    points = warp(everywhere[:, solid])
    depth = atlas.at(atlas.depth, points)
    while True:
        bleeds = plan(rng, recipe.lesions, lambda p: atlas.at(atlas.depth, p)) if bleeding else ()
        head, space = _head(atlas, recipe, points, depth, bleeds, np.random.default_rng([seed, 1]))
        blood = [bleed.share(space) for bleed in bleeds]
        averaged = [_averaged(share, solid, 0.0) for share in blood]
        volumes = _volumes(bleeds, averaged, scan)
        if not bleeding or min(volumes.values()) >= SMALLEST_ML:
            break
    for bleed, share in zip(bleeds, blood, strict=True):
        head = lay(head, bleed, space, share)
    whole = _averaged(head, solid, -1000.0)
    hu = reconstruct(whole, scan, recipe.scanners, np.random.default_rng([seed, 2]))
    labels = labelled(bleeds, averaged, hu.shape)
    return Phantom(hu, labels, scan.planes, scan.thickness, scan.tilt, scan.noise, scan.kernel.name, volumes)


def _solid(atlas: Atlas, points: Points, warp: Warp) -> npt.NDArray[np.bool_]:
    """Return which voxels may hold a head: found on every fourth row and column, generously."""
    coarse = atlas.at(atlas.skin, warp(np.ascontiguousarray(points[..., ::4, ::4]))) > -6
    rows, columns = points.shape[-2:]
    return coarse.repeat(4, axis=-2).repeat(4, axis=-1)[..., :rows, :columns]


def _averaged(values: Values, solid: npt.NDArray[np.bool_], elsewhere: float) -> Values:
    """Return values of the solid voxels as slices, averaged over their thickness."""
    whole = np.full(solid.shape, elsewhere, np.float32)
    whole[solid] = values
    return np.asarray(whole.mean(axis=1), np.float32)


def _head(
    atlas: Atlas,
    recipe: Recipe,
    points: Points,
    depth: Values,
    bleeds: tuple[Bleed, ...],
    rng: np.random.Generator,
) -> tuple[Values, Space]:
    tissue = anatomy.random_tissue(rng, recipe.tissues)
    pushed = points
    for bleed in bleeds:
        pushed = bleed.displaced(pushed)
    shares = anatomy.shares(atlas, tissue, pushed, depth, rng)
    space = Space(points, depth, shares.fluid, shares.ventricle)
    hu = anatomy.attenuation(atlas, tissue, shares, points, depth, rng)
    return add_mimics(hu, space, recipe.mimics, rng), space


def lay(hu: Values, bleed: Bleed, space: Space, share: Values) -> Values:
    """Return a head with a bleed and its oedema laid into it."""
    darker = hu - np.float32(11) * bleed.rim(space, share)
    laid: Values = darker + (bleed.texture(space) - darker) * share
    return laid


def labelled(
    bleeds: tuple[Bleed, ...], shares: list[Values], shape: tuple[int, ...]
) -> npt.NDArray[np.uint8]:
    """Return 1 + the index of the type where blood is at least four tenths of a voxel, else 0; uint8."""
    labels = np.zeros(shape, np.uint8)
    for bleed, share in zip(bleeds, shares, strict=True):
        labels[share >= 0.4] = 1 + KINDS.index(bleed.kind)
    return labels


def _volumes(bleeds: tuple[Bleed, ...], shares: list[Values], scan: Scan) -> dict[Kind, float]:
    voxel = scan.planes.voxel_ml()
    return {
        bleed.kind: float((share.sum(axis=(1, 2)) * voxel).sum())
        for bleed, share in zip(bleeds, shares, strict=True)
    }
