"""Where a bleed sits and how large it is: drawn at random from ranges that a test set may shift."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from voxelvault_triage.phantom.bleeds import CENTRE, Bleed, DepthAt, Kind

Range = tuple[float, float]
Point = npt.NDArray[np.float32]

_DEEP = {"ganglia": (4, 0, 26), "thalamus": (8, 18, 12), "cerebellum": (-35, 64, 20), "pons": (-30, 27, 1)}


@dataclass(frozen=True, slots=True)
class Lesions:
    """Ranges that bleeds are drawn from; lengths in mm, attenuation in Hounsfield units.

    Parameters
    ----------
    shares : mapping of Kind to float
        How often each type is drawn.
    size : (float, float)
        Factor on all extents.
    hu : (float, float)
        Of the blood.
    edge : (float, float)
        Width of the edge.
    second : float
        How often a second type comes with the first.
    """

    shares: dict[Kind, float] = field(default_factory=lambda: dict.fromkeys(Kind, 0.2))
    size: Range = (0.6, 1.3)
    hu: Range = (52, 80)
    edge: Range = (0.5, 1.6)
    second: float = 0.25


def plan(rng: np.random.Generator, ranges: Lesions, depth_at: DepthAt) -> tuple[Bleed, ...]:
    """Return the bleeds of one study, one or two.

    Parameters
    ----------
    rng : numpy.random.Generator
        Decides them.
    ranges : Lesions
        What is drawn from.
    depth_at : callable
        Distance to the inner table in mm at head coordinates (3, n), positive inside.
    """
    kinds = list(ranges.shares)
    weights = np.array([ranges.shares[kind] for kind in kinds], float)
    count = 1 + int(rng.random() < ranges.second)
    chosen = rng.choice(len(kinds), size=count, replace=False, p=weights / weights.sum())
    return tuple(_one(rng, kinds[int(k)], ranges, depth_at) for k in chosen)


def _one(rng: np.random.Generator, kind: Kind, ranges: Lesions, depth_at: DepthAt) -> Bleed:
    factor = float(rng.uniform(*ranges.size))
    radius, thickness, push = _extent(rng, kind, factor)
    return Bleed(
        kind=kind,
        centre=_centre(rng, kind, depth_at),
        radius=radius,
        thickness=thickness,
        hu=float(rng.uniform(*ranges.hu)) - (4 if kind is Kind.SUBARACHNOID else 0),
        edge=float(rng.uniform(*ranges.edge)),
        push=push,
        oedema=float(rng.uniform(0, 8)),
        seed=int(rng.integers(2**31)),
    )


def _extent(rng: np.random.Generator, kind: Kind, factor: float) -> tuple[float, float, float]:
    """Return radius, thickness and push in mm."""
    if kind is Kind.EPIDURAL:
        thickness = float(rng.uniform(6, 22)) * factor
        return float(rng.uniform(18, 42)) * factor, thickness, 0.35 * thickness
    if kind is Kind.SUBDURAL:
        thickness = float(rng.uniform(3.5, 13)) * factor
        return float(rng.uniform(45, 85)) * factor**0.5, thickness, 0.45 * thickness
    if kind is Kind.SUBARACHNOID:
        return float(rng.uniform(22, 48)) * factor, 0.0, 0.0
    if kind is Kind.INTRAPARENCHYMAL:
        radius = float(np.exp(rng.uniform(np.log(5), np.log(24)))) * factor
        return radius, 0.0, 0.3 * radius
    return float(rng.uniform(28, 60)) * factor, 0.0, 0.0


def _centre(rng: np.random.Generator, kind: Kind, depth_at: DepthAt) -> tuple[float, float, float]:
    if kind in (Kind.EPIDURAL, Kind.SUBDURAL):
        return _place(_surface(rng, depth_at))
    if kind is Kind.INTRAVENTRICULAR:
        return _place(np.array([12, rng.uniform(-6, 42), rng.uniform(-16, 16)]))
    if kind is Kind.SUBARACHNOID:
        if rng.random() < 0.5:
            # Around the basal cisterns and the Sylvian fissure.
            return _place(np.array([rng.normal(-14, 6), rng.normal(4, 10), rng.normal(0, 24)]))
        return _place(_surface(rng, depth_at))
    if rng.random() < 0.55:
        around = np.array(list(_DEEP.values())[int(rng.choice(4, p=[0.45, 0.3, 0.15, 0.1]))], float)
        around[2] *= rng.choice([-1, 1])
        return _place(around + rng.normal(0, 4, 3))
    surface = _surface(rng, depth_at)
    return _place(surface + (CENTRE - surface) * rng.uniform(0.18, 0.55))


def _surface(rng: np.random.Generator, depth_at: DepthAt) -> Point:
    """Return a point of the inner table: along a ray from the middle, sideways rather than straight up."""
    side = rng.choice([-1, 1])
    way = np.array([rng.uniform(-0.35, 0.85), rng.normal(0, 0.9), side * rng.uniform(0.35, 1.0)], np.float32)
    way /= np.linalg.norm(way)
    steps = np.arange(20, 120, 1, dtype=np.float32)
    points = CENTRE[:, None] + way[:, None] * steps
    outside = np.flatnonzero(depth_at(points) < 0)
    last = int(outside[0]) if outside.size else len(steps) - 1
    found: Point = points[:, last]
    return found


def _place(point: npt.ArrayLike) -> tuple[float, float, float]:
    z, y, x = np.asarray(point, float)
    return float(z), float(y), float(x)
