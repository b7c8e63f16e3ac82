"""Synthetic series with a geometry: CT, MR and PET of a phantom that no flip leaves unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from voxelvault.testing.synthetic_object import STUDY_DATE, Pixels, header, put_pixels, to_bytes

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)

MARKER = 3000
"""Hounsfield units of a marker, above everything else in the phantom."""


def phantom(slices: int, rows: int, columns: int, seed: int = 0) -> Pixels:
    """Return an asymmetric head-like volume, so that no flip or transposition goes unseen.

    Parameters
    ----------
    slices, rows, columns : int
        Shape.
    seed : int
        Of the noise.

    Returns
    -------
    numpy.ndarray
        (slice, row, column) int16, Hounsfield units from -1000 to 1000.
    """
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (slices, rows, columns)), indexing="ij")
    radius = np.sqrt(0.6 * z**2 + (y / 0.9) ** 2 + ((x + 0.1 * y) / 0.75) ** 2)
    volume = np.where(radius < 0.9, np.where(radius < 0.8, 30 + 15 * x + 8 * y + 5 * z, 1000.0), -1000.0)
    volume += np.where(radius < 0.8, np.random.default_rng(seed).normal(0, 6, volume.shape), 0)
    whole: Pixels = np.rint(np.clip(volume, -1000, 1000)).astype(np.int16)
    return whole


def slice_positions(
    slices: int,
    *,
    origin: Sequence[float] = (-20.0, -15.0, 5.0),
    orientation: Sequence[float] = AXIAL,
    step: float = 2.0,
    tilt: float = 0.0,
    uneven: Sequence[float] | None = None,
) -> Pixels:
    """Return ImagePositionPatient of each slice.

    Parameters
    ----------
    slices : int
        How many.
    origin : sequence of float
        Of the first slice, in mm (LPS).
    orientation : sequence of float
        Row cosines, column cosines.
    step : float
        Between slices along their normal, in mm.
    tilt : float
        Gantry tilt in degrees: slices shift along the column direction as they advance.
    uneven : sequence of float, optional
        Steps in mm, one fewer than slices, instead of `step`.

    Returns
    -------
    numpy.ndarray
        (slice, 3) float64, mm, patient coordinates (LPS).

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1.
    """
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    along = np.concatenate([[0.0], np.cumsum(uneven)]) if uneven is not None else step * np.arange(slices)
    advance = np.cross(row, column) + np.tan(np.deg2rad(tilt)) * column
    return np.asarray(np.array(origin, float) + along[:, None] * advance)


def place_marker(
    volume: Pixels,
    point: Sequence[float],
    positions: Pixels,
    orientation: Sequence[float],
    spacing: Sequence[float],
    value: int = MARKER,
) -> tuple[int, int, int]:
    """Set the voxel at a patient coordinate.

    Parameters
    ----------
    volume : numpy.ndarray
        (slice, row, column), changed in place.
    point : sequence of float
        mm, patient coordinates (LPS).
    positions : numpy.ndarray
        (slice, 3) as of `slice_positions`.
    orientation, spacing : sequence of float
        Row and column cosines; spacing (row, column) in mm.
    value : int
        What to write.

    Returns
    -------
    tuple of int
        (slice, row, column) of the voxel.

    Raises
    ------
    ValueError
        No voxel lies within half a pixel of the point in its plane.
    """
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    normal = np.cross(row, column)
    offsets = np.array(point, float) - positions
    at = int(np.argmin(np.abs(offsets @ normal)))
    index = (at, round(offsets[at] @ column / spacing[0]), round(offsets[at] @ row / spacing[1]))
    if any(not 0 <= i < n for i, n in zip(index, volume.shape, strict=True)):
        raise ValueError("the marker lies outside the volume")
    volume[index] = value
    return index


def ct_series(
    n: int = 8,
    rows: int = 48,
    columns: int = 40,
    *,
    marker: Sequence[float] | None = None,
    orientation: Sequence[float] = AXIAL,
    spacing: Sequence[float] = (0.8, 0.6),
    step: float = 2.0,
    tilt: float = 0.0,
    uneven: Sequence[float] | None = None,
    origin: Sequence[float] = (-20.0, -15.0, 5.0),
    intercept: int = -1024,
    seed: int = 0,
    series: int = 1,
    shuffled: bool = False,
    **begun: Any,
) -> list[bytes]:
    """Return a CT series, one file a slice, 12 of 16 bits stored.

    Parameters
    ----------
    n, rows, columns : int
        Slices and their size.
    marker : sequence of float, optional
        A point in mm (LPS) whose nearest voxel is `MARKER` HU.
    orientation, step, tilt, uneven, origin
        As for `slice_positions`.
    spacing : sequence of float
        PixelSpacing (row, column) in mm.
    intercept : int
        RescaleIntercept; stored values are HU minus this, unsigned.
    seed, series : int
        Another seed is another study.
    shuffled : bool
        Files come in no order.
    **begun
        As for `header`.

    Returns
    -------
    list of bytes
        Files in slice order unless shuffled.
    """
    positions = slice_positions(
        n, origin=origin, orientation=orientation, step=step, tilt=tilt, uneven=uneven
    )
    volume = phantom(n, rows, columns, seed)
    if marker is not None:
        place_marker(volume, marker, positions, orientation, spacing)
    files: list[bytes] = []
    for at in range(n):
        made = header("CT", seed=seed, series=series, instance=at + 1, **begun)
        _place(made, positions[at], orientation, spacing, step)
        made.RescaleSlope, made.RescaleIntercept, made.RescaleType = 1, intercept, "HU"
        made.ImageType, made.KVP, made.GantryDetectorTilt = ["ORIGINAL", "PRIMARY", "AXIAL"], 120, tilt
        made.BodyPartExamined, made.PatientPosition = "HEAD", "HFS"
        made.WindowCenter, made.WindowWidth = 40, 80
        stored = (volume[at].astype(np.int32) - intercept).astype(np.uint16)
        files.append(to_bytes(put_pixels(made, stored, bits_stored=12)))
    if shuffled:
        np.random.default_rng(seed).shuffle(files)
    return files


def _place(
    made: Dataset, position: Iterable[float], orientation: Sequence[float], spacing: Any, step: float
) -> None:
    """Set the image plane (PS3.3 C.7.6.2)."""
    made.ImagePositionPatient = [round(float(v), 6) for v in position]
    made.ImageOrientationPatient = list(orientation)
    made.PixelSpacing, made.SliceThickness = list(spacing), step


def mr_series(
    n: int = 6,
    rows: int = 32,
    columns: int = 32,
    *,
    times: int = 1,
    echoes: Sequence[float] = (20.0,),
    orientation: Sequence[float] = CORONAL,
    seed: int = 0,
    series: int = 2,
    **begun: Any,
) -> list[bytes]:
    """Return an MR series: signed pixels, no rescale, time points and echoes if asked for.

    Parameters
    ----------
    n, rows, columns : int
        Slices of each time point and echo, and their size.
    times : int
        Time points, 2 s apart.
    echoes : sequence of float
        EchoTime of each echo in ms.
    orientation : sequence of float
        Row cosines, column cosines.
    seed, series : int
        Another seed is another study.
    **begun
        As for `header`.

    Returns
    -------
    list of bytes
        Files: time by time, echo by echo, slice by slice.
    """
    positions = slice_positions(n, orientation=orientation, step=3.0)
    volume = (phantom(n, rows, columns, seed) + 1000) // 2
    files: list[bytes] = []
    for time in range(times):
        for echo, echo_time in enumerate(echoes):
            for at in range(n):
                made = header("MR", seed=seed, series=series, instance=len(files) + 1, **begun)
                _place(made, positions[at], orientation, (1.0, 1.0), 3.0)
                made.EchoTime, made.EchoNumbers, made.RepetitionTime = echo_time, echo + 1, 2000
                made.AcquisitionTime, made.AcquisitionNumber = f"1012{2 * time:02d}.000000", time + 1
                made.TemporalPositionIdentifier, made.NumberOfTemporalPositions = time + 1, times
                made.ImageType, made.MagneticFieldStrength = ["ORIGINAL", "PRIMARY", "M"], 3
                files.append(to_bytes(put_pixels(made, volume[at] - np.int16(100 * echo + time))))
    return files


def pet_series(
    n: int = 5, rows: int = 24, columns: int = 24, *, seed: int = 0, series: int = 3, **begun: Any
) -> list[bytes]:
    """Return a PET series with a rescale slope for each slice and what SUV needs.

    Parameters
    ----------
    n, rows, columns : int
        Slices and their size.
    seed, series : int
        Another seed is another study.
    **begun
        As for `header`.

    Returns
    -------
    list of bytes
        Files in slice order; units BQML, 70 kg, 370 MBq F-18.
    """
    positions = slice_positions(n, step=4.0)
    files: list[bytes] = []
    for at in range(n):
        made = header("PT", seed=seed, series=series, instance=at + 1, **begun)
        _place(made, positions[at], AXIAL, (4.0, 4.0), 4.0)
        made.RescaleSlope, made.RescaleIntercept, made.Units = round(0.5 + at / 7, 6), 0, "BQML"
        made.PatientWeight, made.DecayCorrection, made.CorrectedImage = 70, "START", ["DECY", "ATTN"]
        made.SeriesDate, made.SeriesTime = STUDY_DATE, "101500"
        made.AcquisitionDate, made.AcquisitionTime = STUDY_DATE, "101500"
        dose = Dataset()
        dose.RadionuclideTotalDose, dose.RadionuclideHalfLife = 3.7e8, 6586.2
        dose.RadiopharmaceuticalStartTime = "091500"
        made.RadiopharmaceuticalInformationSequence = Items([dose])
        values = np.random.default_rng((seed, at)).integers(0, 20000, (rows, columns))
        files.append(to_bytes(put_pixels(made, values.astype(np.int16))))
    return files


__all__ = [
    "AXIAL",
    "CORONAL",
    "MARKER",
    "SAGITTAL",
    "ct_series",
    "mr_series",
    "pet_series",
    "phantom",
    "place_marker",
    "slice_positions",
]
