"""A head of ellipsoids as a CT series: skin, skull, brain, sinuses, a table; or a chest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from voxelvault.testing.synthetic_object import header, put_pixels, to_bytes
from voxelvault.testing.synthetic_series import AXIAL, slice_positions

Values = npt.NDArray[np.float32]

ORIGIN = (-115.0, -115.0, 0.0)
SIDE, PIXEL = 115, 2.0


def _ellipsoid(points: tuple[Values, Values, Values], radii: Sequence[float]) -> Values:
    return np.sqrt(sum((p / r) ** 2 for p, r in zip(points, radii, strict=True)))


@cache
def _grid(slices: int, step: float, shift: float) -> tuple[Values, Values, Values]:
    """Return z, y, x in mm: towards the head, the back and the left; the skull's middle at z 45."""
    z = np.arange(slices, dtype=np.float32) * step - 45
    side = np.arange(SIDE, dtype=np.float32) * PIXEL - 115 + shift
    return tuple(np.meshgrid(z, side, side, indexing="ij"))  # type: ignore[return-value]


def head(
    slices: int = 26, step: float = 5.0, *, seed: int = 0, noise: float = 5.0, shift: float = 0.0
) -> Values:
    """Return a head, (slice, row, column) float32 Hounsfield units, from the skull's base up.

    Parameters
    ----------
    slices, step : int, float
        How many, mm apart.
    seed, noise : int, float
        Of white noise, standard deviation in HU.
    shift : float
        Moves the head in the field of view, mm.
    """
    z, y, x = _grid(slices, step, shift)
    far = _ellipsoid((z, y, x), (88, 92, 76))
    volume = np.full(far.shape, -1000, np.float32)
    volume[far < 1] = 20
    volume[far < 0.94] = 1100
    volume[far < 0.86] = 34
    volume[_ellipsoid((z - 5, y, np.abs(x) - 14), (14, 26, 8)) < 1] = 6
    volume[(z < -25) & (_ellipsoid((z + 38, y + 46, np.abs(x) - 18), (22, 16, 14)) < 1)] = -1000
    volume[(np.abs(y - 104) < 2.5) & (np.abs(x) < 90)] = -100
    volume += np.random.default_rng(seed).normal(0, noise, volume.shape).astype(np.float32)
    return np.clip(volume, -1024, 3000)


def torso(slices: int = 26, step: float = 5.0) -> Values:
    """Return a chest, (slice, row, column) float32 Hounsfield units: two lungs, spine, no skull."""
    z, y, x = _grid(slices, step, 0.0)
    volume = np.full(z.shape, -1000, np.float32)
    volume[(y / 80) ** 2 + (x / 105) ** 2 < 1] = 40
    volume[(y / 55) ** 2 + ((np.abs(x) - 50) / 38) ** 2 < 1] = -820
    volume[((y - 55) / 14) ** 2 + (x / 14) ** 2 < 1] = 500
    return volume + np.random.default_rng(0).normal(0, 8, volume.shape).astype(np.float32)


def ct(
    volume: Values,
    *,
    step: float = 5.0,
    seed: int = 0,
    series: int = 1,
    orientation: Sequence[float] = AXIAL,
    tilt: float = 0.0,
    uneven: Sequence[float] | None = None,
    leave_out: Sequence[int] = (),
    pixel: float = PIXEL / 2,
    **attributes: Any,
) -> list[bytes]:
    """Return a volume as a CT series, one file a slice.

    Parameters
    ----------
    volume : (slice, row, column) float32
        Hounsfield units, `PIXEL` mm a pixel; twice as fine in the files, as `pixel` says.
    step, orientation, tilt, uneven
        As for `slice_positions`.
    seed, series : int
        Another seed is another study.
    leave_out : sequence of int
        Slices that didn't arrive.
    pixel : float
        PixelSpacing, mm.
    **attributes
        By keyword; None takes one out.
    """
    positions = slice_positions(
        len(volume), origin=ORIGIN, orientation=orientation, step=step, tilt=tilt, uneven=uneven
    )
    files = []
    for at in sorted(set(range(len(volume))) - set(leave_out)):
        made: pydicom.Dataset = header("CT", seed=seed, series=series, instance=at + 1)
        made.ImagePositionPatient = [round(float(v), 4) for v in positions[at]]
        made.ImageOrientationPatient, made.PixelSpacing = list(orientation), [pixel, pixel]
        made.SliceThickness, made.KVP, made.ConvolutionKernel = step, 120, "H31s"
        made.RescaleSlope, made.RescaleIntercept, made.RescaleType = 1, -1024, "HU"
        made.ImageType, made.PatientPosition = ["ORIGINAL", "PRIMARY", "AXIAL"], "HFS"
        for keyword, value in attributes.items():
            if value is None and keyword in made:
                delattr(made, keyword)
            elif value is not None:
                setattr(made, keyword, value)
        fine = np.kron(volume[at], np.ones((2, 2), np.float32))
        files.append(to_bytes(put_pixels(made, np.rint(fine + 1024).astype(np.uint16))))
    return files
