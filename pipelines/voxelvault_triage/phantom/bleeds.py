"""Five kinds of bleeding: planned on a head's surface and spaces, then laid into it as shares of blood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from voxelvault_triage.phantom.fields import Points, Values, field, soft_step

DepthAt = Callable[[Points], Values]

CENTRE = np.array([12, 16, 0], np.float32)
"""About the middle of the cranial cavity: head coordinates z, y, x in mm."""


class Kind(StrEnum):
    """The five types, in the order of the model's outputs."""

    EPIDURAL = "epidural"
    SUBDURAL = "subdural"
    SUBARACHNOID = "subarachnoid"
    INTRAPARENCHYMAL = "intraparenchymal"
    INTRAVENTRICULAR = "intraventricular"


KINDS = tuple(Kind)


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """Where blood can go, at the points of one volume.

    Parameters
    ----------
    points : (3, ...) float32
        Head coordinates z, y, x in mm, before anything is pushed aside.
    depth : (...) float32
        Distance to the inner table in mm, positive inside.
    fluid, ventricle : (...) float32
        Share of cerebrospinal fluid, and of that in the ventricles, 0 to 1.
    """

    points: Points
    depth: Values
    fluid: Values
    ventricle: Values


@dataclass(frozen=True, slots=True)
class Bleed:
    """A planned bleed.

    Parameters
    ----------
    kind : Kind
        One of the five types.
    centre : tuple of float
        Head coordinates z, y, x in mm.
    radius, thickness : float
        Extent along and across the surface in mm; of an intraparenchymal bleed the radius alone.
    hu : float
        Attenuation of the blood in Hounsfield units.
    edge : float
        Width of its edge in mm.
    push : float
        Largest displacement of the brain in mm.
    oedema : float
        Width of the rim of oedema in mm.
    seed : int
        Decides shape and texture.
    """

    kind: Kind
    centre: tuple[float, float, float]
    radius: float
    thickness: float
    hu: float
    edge: float
    push: float
    oedema: float
    seed: int

    def share(self, space: Space) -> Values:
        """Return the share of blood in each voxel, (...) float32, 0 to 1."""
        inside = soft_step(space.depth, 0.6)
        rng = np.random.default_rng(self.seed)
        blood: Values = np.clip(_SHAPES[self.kind](self, space, rng), 0, 1) * inside
        return blood

    def rim(self, space: Space, blood: Values) -> Values:
        """Return the share of oedema in each voxel, (...) float32; only around blood in the brain."""
        if self.kind is not Kind.INTRAPARENCHYMAL or self.oedema <= 0:
            return np.zeros_like(blood)
        away = self._away(space) - np.float32(self.radius)
        ring: Values = soft_step(np.float32(self.oedema) - away, 2.0) * (1 - blood) * (1 - space.fluid)
        return ring

    def displaced(self, points: Points) -> Points:
        """Return where the brain at points was before it was pushed from the bleed's centre."""
        if self.push <= 0:
            return points
        away = points - _column(self.centre, points.ndim)
        distance = np.sqrt((away**2).sum(0)) + np.float32(1e-3)
        reach = np.float32(self.radius + 22)
        move = np.float32(self.push) * np.exp(-((distance / reach) ** 2)) * np.minimum(distance / 8, 1)
        # Towards the middle for what lies on the surface, outwards around what lies within.
        if self.kind is Kind.INTRAPARENCHYMAL:
            return np.asarray(points - away / distance * move, np.float32)
        inward = CENTRE - np.asarray(self.centre, np.float32)
        inward /= np.linalg.norm(inward)
        return np.asarray(points - _column(inward, points.ndim) * move, np.float32)

    def texture(self, space: Space) -> Values:
        """Return attenuation of the blood in Hounsfield units, (...) float32: clots aren't even."""
        rng = np.random.default_rng(self.seed + 1)
        clots = field(rng, space.points, float(rng.uniform(4, 12)))
        return (np.float32(self.hu) + clots * np.float32(rng.uniform(2, 6))).astype(np.float32)

    def _away(self, space: Space) -> Values:
        away = space.points - _column(self.centre, space.points.ndim)
        return np.asarray(np.sqrt((away**2).sum(0)), np.float32)


def _column(values: npt.ArrayLike, ndim: int) -> npt.NDArray[np.float32]:
    return np.asarray(values, np.float32).reshape(3, *[1] * (ndim - 1))


def _lens(bleed: Bleed, space: Space, rng: np.random.Generator) -> Values:
    profile = 1 - (bleed._away(space) / np.float32(bleed.radius)) ** 2
    thick = np.float32(bleed.thickness) * np.maximum(profile, -1)
    return soft_step(thick - space.depth, bleed.edge)


def _crescent(bleed: Bleed, space: Space, rng: np.random.Generator) -> Values:
    side = np.sign(bleed.centre[2]) or 1.0
    away = bleed._away(space) / np.float32(bleed.radius)
    uneven = 1 + 0.25 * field(rng, space.points, 40)
    thick = np.float32(bleed.thickness) * uneven * np.maximum(1 - away**4, -1)
    own = soft_step(space.points[2] * np.float32(side) - 1, 1.5)
    over = soft_step(thick - space.depth, bleed.edge) * own
    if rng.random() > 0.35:
        return over
    # Some run on along the falx.
    along = np.abs(space.points[2] - np.float32(2 * side)) - np.float32(bleed.thickness / 3)
    high = soft_step(space.points[0] - 18, 3) * soft_step(40 - space.depth, 3) * soft_step(2 - away, 0.2)
    return np.asarray(np.maximum(over, soft_step(-along, bleed.edge) * high * own), np.float32)


def _film(bleed: Bleed, space: Space, rng: np.random.Generator) -> Values:
    away = bleed._away(space) / np.float32(bleed.radius)
    patchy = np.clip(0.9 + 0.35 * field(rng, space.points, 18), 0, 1)
    film: Values = space.fluid * (1 - space.ventricle) * soft_step(1 - away, 0.25) * patchy * 1.7
    return film


def _clot(bleed: Bleed, space: Space, rng: np.random.Generator) -> Values:
    axes = np.exp(rng.normal(0, 0.18, 3)).astype(np.float32)
    away = space.points - _column(bleed.centre, space.points.ndim)
    away = np.sqrt(((away / _column(axes, away.ndim)) ** 2).sum(0))
    bumpy = np.float32(bleed.radius) * (1 + 0.16 * field(rng, space.points, max(bleed.radius * 1.3, 6)))
    return soft_step(bumpy - away, bleed.edge) * (1 - 0.7 * space.fluid)


def _layered(bleed: Bleed, space: Space, rng: np.random.Generator) -> Values:
    away = bleed._away(space) / np.float32(bleed.radius)
    near = soft_step(1 - away, 0.2)
    if rng.random() < 0.5:
        # Blood sinks in a patient who lies on the back: a level towards y.
        near = near * soft_step(space.points[1] - np.float32(bleed.centre[1]), 2.0)
    cast: Values = np.clip(space.ventricle * 1.6, 0, 1) * near
    return cast


_SHAPES: dict[Kind, Callable[[Bleed, Space, np.random.Generator], Values]] = {
    Kind.EPIDURAL: _lens,
    Kind.SUBDURAL: _crescent,
    Kind.SUBARACHNOID: _film,
    Kind.INTRAPARENCHYMAL: _clot,
    Kind.INTRAVENTRICULAR: _layered,
}
