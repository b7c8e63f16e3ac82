"""The scanner: planes, partial volume, blur, beam hardening, motion, metal, noise by kernel and dose."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from voxelvault_triage.phantom.fields import Values
from voxelvault_triage.planes import Planes

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Kernel:
    """A reconstruction kernel.

    Parameters
    ----------
    name : str
        ``soft``, ``standard`` or ``sharp``.
    blur : float
        Standard deviation of the point spread in mm.
    sharpen : float
        Share of what is finer than 1.2 mm that is added again.
    cut : float
        Spatial frequency in 1/mm at which the noise fades.
    grain : float
        Exponent of the noise spectrum's rise: 1 for a plain ramp.
    """

    name: str
    blur: float
    sharpen: float
    cut: float
    grain: float

    def varied(self, rng: np.random.Generator, spread: float) -> Kernel:
        """Return a kernel like this one, of another maker: each of its values scaled at random."""
        blur, sharpen, cut, grain = np.exp(rng.normal(0, spread, 4)).tolist()
        return Kernel(
            self.name, self.blur * blur, self.sharpen * sharpen, self.cut * cut, min(self.grain * grain, 1.5)
        )


KERNELS = (
    Kernel("soft", 0.75, 0.0, 0.28, 0.6),
    Kernel("standard", 0.55, 0.15, 0.4, 0.8),
    Kernel("sharp", 0.45, 0.55, 0.6, 1.0),
)


@dataclass(frozen=True, slots=True)
class Scanners:
    """Ranges that a scan is drawn from; lengths in mm, angles in degrees, attenuation in Hounsfield units.

    Parameters
    ----------
    thickness : tuple of float
        What is drawn from.
    between : bool
        Draw any thickness from the least to the largest, not those alone.
    places_mm : float
        Largest distance of the places within a slice that are averaged; 0 for one or two of them.
    mixed : float
        How often the upper slices are thicker.
    tilt, pixel, noise, field : (float, float)
        Of the gantry; distance of pixels; standard deviation; width of the reconstructed field.
    kernels : tuple of Kernel
        What is drawn from.
    makers : float
        Standard deviation of the logarithm by which each value of a kernel differs.
    hardening, bias : float
        Largest darkening between dense bones; standard deviation of the calibration.
    motion, metal, holder : float
        How often each occurs.
    """

    thickness: tuple[float, ...] = (2.5, 3.0, 4.0, 5.0, 5.0, 6.0)
    between: bool = False
    places_mm: float = 0.0
    mixed: float = 0.12
    tilt: Range = (-8, 22)
    pixel: Range = (0.8, 1.0)
    noise: Range = (1.5, 6.5)
    field: Range = (212, 232)
    kernels: tuple[Kernel, ...] = KERNELS
    makers: float = 0.0
    hardening: float = 18.0
    bias: float = 1.5
    motion: float = 0.12
    metal: float = 0.05
    holder: float = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """One drawn scan: its planes and how it is reconstructed."""

    planes: Planes
    rows: int
    thickness: float
    tilt: float
    kernel: Kernel
    noise: float
    places_mm: float = 0.0

    @property
    def offsets(self) -> tuple[float, ...]:
        """Places within a slice that are averaged, mm along the normal."""
        count = math.ceil(self.thickness / self.places_mm) if self.places_mm else 1 + (self.thickness >= 2.8)
        return tuple(self.thickness * ((2 * k + 1) / (2 * count) - 0.5) for k in range(count))


def draw_scan(rng: np.random.Generator, ranges: Scanners) -> Scan:
    """Return a scan's geometry and protocol, the head's middle about in the middle of its field."""
    if ranges.between:
        thickness = float(rng.uniform(min(ranges.thickness), max(ranges.thickness)))
    else:
        thickness = float(rng.choice(ranges.thickness))
    tilt = float(rng.uniform(*ranges.tilt)) if rng.random() < 0.7 else 0.0
    pixel = float(rng.uniform(*ranges.pixel))
    rows = int(rng.uniform(*ranges.field) / pixel) // 2 * 2
    turn = np.deg2rad(tilt)
    across, down = np.array([1.0, 0, 0]), np.array([0, np.cos(turn), -np.sin(turn)])
    low, high = rng.uniform(-52, -40), rng.uniform(74, 84)
    steps = [thickness] * 400
    if rng.random() < ranges.mixed:
        steps = [thickness] * int((10 - low) / thickness) + [thickness * 1.75] * 300
    table = low + np.cumsum([0.0, *steps])
    table = table[table < high]
    middle = np.array([rng.normal(0, 3), 14 + rng.normal(0, 4), 0])
    corner = middle - (down + across) * pixel * rows / 2
    # The table moves along z, whatever the gantry's tilt: tilted stacks are sheared.
    positions = corner + table[:, None] / np.cos(turn) * np.array([0, 0, 1.0])
    planes = Planes(positions, across, down, (pixel, pixel))
    kernel = ranges.kernels[int(rng.integers(len(ranges.kernels)))]
    if ranges.makers:
        kernel = kernel.varied(rng, ranges.makers)
    return Scan(planes, rows, thickness, tilt, kernel, float(rng.uniform(*ranges.noise)), ranges.places_mm)


def reconstruct(hu: Values, scan: Scan, ranges: Scanners, rng: np.random.Generator) -> Values:
    """Return what the scanner would show of a head.

    Parameters
    ----------
    hu : (slice, row, column) float32
        Noise-free, averaged over the thickness, Hounsfield units.
    scan, ranges
        Its protocol, and how often artefacts occur.
    rng : numpy.random.Generator
        Decides artefacts and noise.

    Returns
    -------
    (slice, row, column) float32
        Whole Hounsfield units, -1024 to 3071.
    """
    pixel = scan.planes.spacing[0]
    if rng.random() < ranges.holder:
        hu = np.maximum(hu, _holder(hu.shape[1], pixel, rng))
    if rng.random() < ranges.metal:
        hu = _metal(hu, pixel, rng)
    sharp = _blurred(hu, scan.kernel.blur / pixel)
    if scan.kernel.sharpen:
        sharp += np.float32(scan.kernel.sharpen) * (sharp - _blurred(sharp, 1.2 / pixel))
    hard = sharp + _hardening(sharp, pixel, float(rng.uniform(0, ranges.hardening)), float(rng.uniform(0, 5)))
    if rng.random() < ranges.motion:
        hard = _moved(hard, rng)
    noisy = hard + _noise(hard, scan, rng) + np.float32(rng.normal(0, ranges.bias))
    return np.asarray(np.clip(np.rint(noisy), -1024, 3071), np.float32)


def _blurred(hu: Values, sigma: float) -> Values:
    out: Values = ndimage.gaussian_filter(hu, (0, sigma, sigma), truncate=3.0)
    return out


def _hardening(hu: Values, pixel: float, strength: float, halo: float) -> Values:
    """Darken what lies between dense bones in a row, and brighten the rim of the brain."""
    bone = np.clip(hu - 350, 0, 1200) * np.float32(pixel / 1000)
    left = np.cumsum(bone, axis=2)
    right = left[:, :, -1:] - left
    between = np.minimum(np.minimum(left, right) - 7, 14).clip(0) / 14
    dark = ndimage.gaussian_filter(between, (0, 1.5 / pixel, 2), truncate=2.5)
    rim = ndimage.uniform_filter(bone, (0, int(9 / pixel) | 1, int(9 / pixel) | 1)) * np.float32(halo / 3)
    changed: Values = (rim - np.float32(strength) * dark) * (hu > -200)
    return changed


def _moved(hu: Values, rng: np.random.Generator) -> Values:
    """Blend a few neighbouring slices with themselves, turned and shifted."""
    out = hu.copy()
    first = int(rng.integers(len(hu)))
    for index in range(first, min(first + int(rng.integers(1, 6)), len(hu))):
        turned = ndimage.rotate(hu[index], rng.normal(0, 3), reshape=False, order=1, mode="nearest")
        turned = np.roll(turned, rng.integers(-4, 5, 2), axis=(0, 1))
        weight = np.float32(rng.uniform(0.2, 0.5))
        out[index] = hu[index] * (1 - weight) + turned * weight
    return out


def _metal(hu: Values, pixel: float, rng: np.random.Generator) -> Values:
    """Lay a piece of metal and its streaks into a few slices."""
    out, rows = hu.copy(), hu.shape[1]
    z, (y, x) = int(rng.integers(len(hu))), rng.uniform(0.25, 0.75, 2) * rows
    down, across = np.mgrid[:rows, :rows].astype(np.float32)
    away = np.hypot(down - y, across - x) * pixel
    angle = np.arctan2(down - y, across - x)
    star = np.cos(angle * rng.integers(4, 12) + rng.uniform(0, 6)) * np.cos(angle * 2 + rng.uniform(0, 6))
    streaks = rng.uniform(60, 400) * star / (1 + away / 6) * (hu[z] > -300)
    for index in range(max(z - 1, 0), min(z + 2, len(hu))):
        out[index] += streaks.astype(np.float32)
        out[index][away < rng.uniform(1, 3)] = 3000
    return out


def _holder(rows: int, pixel: float, rng: np.random.Generator) -> Values:
    """Return the head rest: an arc under the head."""
    down, across = np.mgrid[:rows, :rows].astype(np.float32) * pixel
    radius, middle = rng.uniform(100, 125), rows * pixel / 2
    ring = np.abs(np.hypot(down - middle, across - middle) - radius)
    arc = (ring < rng.uniform(1, 2.5)) & (down > middle + rng.uniform(10, 60))
    return np.where(arc, np.float32(rng.uniform(-200, 400)), np.float32(-1000)).astype(np.float32)


def _noise(hu: Values, scan: Scan, rng: np.random.Generator) -> Values:
    """Return noise with the kernel's spectrum, stronger in the middle and between dense bones."""
    slices, rows, columns = hu.shape
    pixel = scan.planes.spacing[0]
    radial = np.hypot(np.fft.fftfreq(rows, pixel)[:, None], np.fft.rfftfreq(columns, pixel)[None, :])
    spectrum = (radial + 0.01) ** scan.kernel.grain * np.exp(-((radial / scan.kernel.cut) ** 2))
    out = np.empty_like(hu)
    for index in range(slices):
        white = rng.standard_normal((rows, columns), np.float32)
        grain = np.fft.irfft2(np.fft.rfft2(white) * spectrum, s=(rows, columns))
        dense = 1 + 0.8 * float(np.clip((hu[index] > 300).mean() - 0.08, 0, 0.3)) / 0.15
        out[index] = grain * (scan.noise * dense / grain.std())
    down, across = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    return np.asarray(out * (1.15 - 0.4 * (down**2 + across**2)).clip(0.5).astype(np.float32), np.float32)
