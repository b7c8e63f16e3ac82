"""From an atlas to one head in Hounsfield units: skull, scalp, brain with sulci, ventricles, falx."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from voxelvault_triage.phantom.atlas import Atlas
from voxelvault_triage.phantom.fields import Points, Values, field, soft_step

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Tissue:
    """What differs from head to head; attenuation in Hounsfield units, lengths in mm.

    Parameters
    ----------
    fluid, white, contrast : float
        Attenuation of fluid and white matter, and how much more grey matter has.
    atrophy : float
        Width of the fluid over the cortex.
    sulcus : float
        Half-width of a sulcus.
    ventricles : float
        Share at which fluid counts as ventricle: lower is larger.
    skull : float
        Thickness.
    falx, falx_hu : float
        Half-width and attenuation of falx and tentorium.
    """

    fluid: float
    white: float
    contrast: float
    atrophy: float
    sulcus: float
    ventricles: float
    skull: float
    falx: float
    falx_hu: float


@dataclass(frozen=True, slots=True)
class Tissues:
    """Ranges that tissue is drawn from; attenuation in Hounsfield units, lengths in mm.

    Parameters
    ----------
    white, contrast, skull, falx, falx_hu : (float, float)
        As in `Tissue`.
    atrophy, sulcus : float
        Most that age adds to the fluid over the cortex, and to the half-width of sulci.
    """

    white: Range = (23, 31)
    contrast: Range = (4, 10)
    skull: Range = (4, 8.5)
    falx: Range = (0.4, 1.5)
    falx_hu: Range = (38, 68)
    atrophy: float = 3.2
    sulcus: float = 1.3


def random_tissue(rng: np.random.Generator, ranges: Tissues) -> Tissue:
    """Return one adult's tissue."""
    age = rng.random()
    return Tissue(
        fluid=float(rng.uniform(1, 12)),
        white=float(rng.uniform(*ranges.white)),
        contrast=float(rng.uniform(*ranges.contrast)),
        atrophy=float(0.2 + ranges.atrophy * age * rng.random()),
        sulcus=float(0.25 + ranges.sulcus * age * rng.random()),
        ventricles=float(0.62 - 0.35 * age * rng.random()),
        skull=float(rng.uniform(*ranges.skull)),
        falx=float(rng.uniform(*ranges.falx)),
        falx_hu=float(rng.uniform(*ranges.falx_hu)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """Share of fluid, of ventricle and of grey matter in each voxel, float32, 0 to 1."""

    fluid: Values
    ventricle: Values
    grey: Values


def shares(atlas: Atlas, tissue: Tissue, points: Points, depth: Values, rng: np.random.Generator) -> Shares:
    """Return what the cavity holds at points (atlas coordinates, after the brain was pushed aside)."""
    grey, white, csf = (atlas.at(values, points) for values in (atlas.grey, atlas.white, atlas.csf))
    ventricle = soft_step(atlas.at(atlas.ventricle, points) - np.float32(tissue.ventricles), 0.18)
    brain = grey + white
    # Sulci: where a smooth field crosses zero there is a sheet; the cortex has one every centimetre or so.
    sheet = np.abs(field(rng, points, float(rng.uniform(15, 22)))) * np.float32(5.0)
    cortex = soft_step(grey + csf - white * 0.6, 0.3) * soft_step(24 - depth, 4.0) * (1 - ventricle)
    sulci = soft_step(np.float32(tissue.sulcus) - sheet, 0.7) * cortex
    ribbon = soft_step(np.float32(tissue.sulcus + 3) - sheet, 1.2) * cortex
    over = soft_step(np.float32(tissue.atrophy) - depth, 0.7)
    cisterns = soft_step(csf - np.maximum(brain, 0.25) * np.float32(1.15), 0.15)
    fluid = np.maximum.reduce([ventricle, sulci, over, cisterns])
    matter = np.clip((grey / np.maximum(brain, 0.05) - 0.5) * 2.2 + 0.5, 0, 1)
    return Shares(fluid, ventricle, np.maximum(matter, ribbon))


def attenuation(
    atlas: Atlas, tissue: Tissue, shares: Shares, points: Points, depth: Values, rng: np.random.Generator
) -> Values:
    """Return a head without noise and lesions, (...) float32, Hounsfield units.

    Parameters
    ----------
    atlas, tissue, shares
        Whose head; what its cavity holds.
    points : (3, ...) float32
        Atlas coordinates; the skull isn't pushed.
    depth : (...) float32
        Distance to the inner table there, mm.
    rng : numpy.random.Generator
        Decides uneven thickness and density.
    """
    brain = np.float32(tissue.white) + np.float32(tissue.contrast) * shares.grey
    brain = brain + np.float32(0.8) * field(rng, points, 9)
    brain += (np.float32(tissue.fluid) - brain) * shares.fluid
    brain = _dura(brain, tissue, points, depth)
    inside = soft_step(depth, 0.5)
    return brain * inside + _outside(atlas, tissue, points, depth, rng) * (1 - inside)


def _dura(brain: Values, tissue: Tissue, points: Points, depth: Values) -> Values:
    z, y, x = points
    side = np.abs(x)
    falx = (
        soft_step(np.float32(tissue.falx) - side, 0.5)
        * soft_step(42 - depth, 2)
        * soft_step(z - 2 + y * 0.1, 4)
    )
    roof = np.abs(z - (6 - np.float32(0.8) * side)) - np.float32(tissue.falx)
    tent = soft_step(-roof, 0.6) * soft_step(y - 32, 3) * soft_step(side - 3, 3) * soft_step(48 - side, 3)
    sheet = np.maximum(falx, tent * np.float32(0.7))
    return np.asarray(brain + (np.float32(tissue.falx_hu) - brain) * sheet, np.float32)


def _outside(atlas: Atlas, tissue: Tissue, points: Points, depth: Values, rng: np.random.Generator) -> Values:
    skin = atlas.at(atlas.skin, points)
    base = atlas.at(atlas.bone, points)
    uneven = field(rng, points, 45)
    thick = np.float32(tissue.skull) * (1 + np.float32(0.22) * uneven)
    below = points[0] < np.float32(-28)
    middle = np.asarray(np.abs(depth / thick + np.float32(0.5)) * 2, np.float32)
    table = np.float32(rng.uniform(900, 1500)) - np.float32(rng.uniform(200, 700)) * soft_step(
        0.55 - middle, 0.15
    )
    skull = soft_step(thick + depth, 0.5)
    scalp = np.where(depth + thick > -3, 40, np.float32(rng.uniform(-95, 10))) + 12 * uneven
    muscle = np.clip(base * 0.6, -90, 55) + 10 * field(rng, points, 9)
    soft = np.where(below, np.where(base < -220, np.float32(-900), muscle), scalp)
    dense = soft_step(base + 60 * uneven - 330, 60) * below
    made = soft + (table - soft) * np.maximum(skull * np.where(below, 0.8, 1), dense)
    return np.where(skin < 0, np.float32(-1000), np.minimum(made, 1800)).astype(np.float32)
