"""What is bright and no bleed, or dark and no bleed: in both classes alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from voxelvault_triage.phantom.bleeds import Space
from voxelvault_triage.phantom.fields import Values, field, soft_step

Mimic = Callable[[Values, Space, np.random.Generator], Values]


@dataclass(frozen=True, slots=True)
class Mimics:
    """How often each comes with a study, whatever its class."""

    pineal: float = 0.6
    choroid: float = 0.5
    ganglia: float = 0.2
    falx: float = 0.25
    sinus: float = 0.6
    vessels: float = 0.5
    tumour: float = 0.05
    infarct: float = 0.15
    hygroma: float = 0.1
    specks: float = 0.0
    base: float = 0.0
    hyperostosis: float = 0.0


def add_mimics(hu: Values, space: Space, often: Mimics, rng: np.random.Generator) -> Values:
    """Return a head with what is mistaken for blood laid into it, (...) float32, Hounsfield units."""
    for name, add in _MIMICS.items():
        if rng.random() < getattr(often, name):
            hu = add(hu, space, rng)
    return hu


def _ball(space: Space, z: float, y: float, x: float, radius: float, edge: float = 0.8) -> Values:
    away = (space.points[0] - np.float32(z)) ** 2 + (space.points[1] - np.float32(y)) ** 2
    away = np.sqrt(away + (space.points[2] - np.float32(x)) ** 2)
    return soft_step(np.float32(radius) - away, edge)


def _towards(hu: Values, share: Values, value: float) -> Values:
    return hu + (np.float32(value) - hu) * share


def _pineal(hu: Values, space: Space, rng: np.random.Generator) -> Values:
    share = _ball(space, rng.normal(2, 1.5), rng.normal(26, 2), rng.normal(0, 0.8), rng.uniform(1, 3.5))
    return _towards(hu, share, rng.uniform(70, 350))


def _choroid(hu: Values, space: Space, rng: np.random.Generator) -> Values:
    value, radius = rng.uniform(60, 300), rng.uniform(1.5, 4)
    for side in (-1, 1):
        if rng.random() < 0.85:
            ball = _ball(space, rng.normal(10, 2), rng.normal(36, 3), side * rng.normal(20, 2), radius)
            hu = _towards(hu, ball * np.clip(space.ventricle * 2 + 0.2, 0, 1), value)
    return hu


def _ganglia(hu: Values, space: Space, rng: np.random.Generator) -> Values:
    speckle = np.clip(0.6 + 0.5 * field(rng, space.points, 5), 0, 1)
    value, radius = rng.uniform(50, 130), rng.uniform(2, 6)
    for side in (-1, 1):
        ball = _ball(space, rng.normal(2, 1.5), rng.normal(0, 2), side * rng.normal(20, 1), radius, 1.5)
        hu = _towards(hu, ball * speckle, value)
    return hu


def _falx(hu: Values, space: Space, rng: np.random.Generator) -> Values:
    """Draw plaques of calcium in the falx."""
    z, _, x = space.points
    sheet = soft_step(np.float32(rng.uniform(0.8, 1.8)) - np.abs(x), 0.5) * soft_step(25 - space.depth, 2)
    sheet = sheet * soft_step(space.depth - 1, 0.5)
    patch = soft_step(field(rng, space.points, 25) - np.float32(rng.uniform(0.8, 1.6)), 0.2)
    return _towards(hu, sheet * patch * soft_step(z - 20, 4), rng.uniform(90, 400))


def _sinus(hu: Values, space: Space, rng: np.random.Generator) -> Values:
    """Draw dense blood in the venous sinuses: a triangle at the back and the top, a band at the sides."""
    z, y, x = space.points
    wide = np.float32(rng.uniform(4, 8))
    top = soft_step(wide - space.depth - np.abs(x) * 0.8, 0.8) * soft_step(z + y * 0.6 - 20, 4)
    level = np.abs(z - np.float32(rng.normal(-14, 3))) - wide * 0.7
    flat = soft_step(-level, 1) * soft_step(wide - space.depth, 0.8) * soft_step(y - 45, 4)
    stronger = np.where(x * rng.choice([-1, 1]) > 0, np.float32(1), np.float32(rng.uniform(0.2, 1)))
    inside = soft_step(space.depth - 0.3, 0.5)
    return _towards(hu, np.maximum(top, flat * stronger) * inside, rng.uniform(42, 72))


def _vessels(hu: Values, space: Space, rng: np.random.Generator) -> Values:
    """Draw the basilar artery and the middle cerebral arteries, denser than the brain."""
    z, y, x = space.points
    thin, value = np.float32(rng.uniform(1, 2)), rng.uniform(40, 62)
    basilar = np.hypot(y - np.float32(rng.normal(11, 2)), x - np.float32(rng.normal(0, 1)))
    share = soft_step(thin - basilar, 0.6) * soft_step(15 - np.abs(z + 25), 2)
    course = np.hypot(z + 16 + np.float32(rng.normal(0, 1)), y + 4 - 0.02 * (np.abs(x) - 20) ** 2)
    share = np.maximum(share, soft_step(thin - course, 0.6) * soft_step(14 - np.abs(np.abs(x) - 24), 2))
    return _towards(hu, share * (space.depth > 0), value)


def _tumour(hu: Values, space: Space, rng: np.random.Generator) -> Values:
    """Draw a smooth, even, slightly dense mass on the dura."""
    y, x = rng.uniform(-50, 60), rng.choice([-1, 1]) * rng.uniform(20, 60)
    radius = rng.uniform(6, 16)
    ball = _ball(space, rng.uniform(10, 55), y, x, radius, 1.0) * soft_step(space.depth, 0.5)
    return _towards(hu, ball * soft_step(radius * 1.6 - space.depth, 2), rng.uniform(40, 56))


def _infarct(hu: Values, space: Space, rng: np.random.Generator) -> Values:
    """Draw a dark territory, old or new."""
    side = rng.choice([-1, 1])
    ball = _ball(
        space, rng.uniform(-10, 45), rng.uniform(-40, 60), side * rng.uniform(25, 55), rng.uniform(10, 32), 3
    )
    share = (
        ball
        * soft_step(space.depth, 0.5)
        * (1 - space.fluid)
        * np.clip(0.8 + 0.3 * field(rng, space.points, 14), 0, 1)
    )
    return np.asarray(hu - np.float32(rng.uniform(4, 20)) * share, np.float32)


def _hygroma(hu: Values, space: Space, rng: np.random.Generator) -> Values:
    """Draw a crescent of fluid, without fresh blood."""
    side = np.float32(rng.choice([-1, 1]))
    own = soft_step(space.points[2] * side - 2, 2) * soft_step(space.points[0] - 5, 8)
    share = soft_step(np.float32(rng.uniform(3, 12)) - space.depth, 0.8) * own * soft_step(space.depth, 0.5)
    return _towards(hu, share, rng.uniform(5, 24))


def _specks(hu: Values, space: Space, rng: np.random.Generator) -> Values:
    """Draw a few specks of calcium: in vessels at the base, in old lesions anywhere."""
    for _ in range(int(rng.integers(1, 6))):
        low = rng.random() < 0.5
        z = rng.normal(-20, 4) if low else rng.uniform(-10, 60)
        y, x = (rng.normal(0, 8), rng.normal(0, 16)) if low else (rng.uniform(-50, 70), rng.uniform(-50, 50))
        ball = _ball(space, z, y, x, rng.uniform(0.6, 2.2), 0.6) * soft_step(space.depth - 1, 0.5)
        hu = _towards(hu, ball, rng.uniform(70, 500))
    return hu


def _base(hu: Values, space: Space, rng: np.random.Generator) -> Values:
    """Draw ridges of the skull's base that reach into the cavity and fill their slices in part."""
    for _ in range(int(rng.integers(2, 7))):
        y, side = rng.uniform(-50, 55), rng.choice([-1, 1])
        ball = _ball(space, rng.normal(-24, 8), y, side * rng.uniform(8, 50), rng.uniform(3, 10), 1.5)
        hu = _towards(hu, ball * soft_step(9 - space.depth, 1.5), rng.uniform(200, 1000))
    return hu


def _hyperostosis(hu: Values, space: Space, rng: np.random.Generator) -> Values:
    """Draw an inner table that is thickened in patches."""
    bumps = np.float32(rng.uniform(0.8, 2.5)) * (field(rng, space.points, rng.uniform(15, 35)) - 0.4)
    share = soft_step(bumps - space.depth, 0.6) * soft_step(space.depth, 0.4)
    return _towards(hu, share, rng.uniform(300, 1000))


_MIMICS: dict[str, Mimic] = {
    "infarct": _infarct,
    "hygroma": _hygroma,
    "tumour": _tumour,
    "pineal": _pineal,
    "choroid": _choroid,
    "ganglia": _ganglia,
    "falx": _falx,
    "sinus": _sinus,
    "vessels": _vessels,
    # New ones come last: what is drawn before them stays as it was.
    "specks": _specks,
    "base": _base,
    "hyperostosis": _hyperostosis,
}
