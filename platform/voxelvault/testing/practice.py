"""Something to practise on: head CT of people who never lived, some with a bleed, outlined and labelled."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom

from voxelvault.testing.synthetic_object import put_pixels, to_bytes, uid
from voxelvault.testing.synthetic_segmentation import segmentation_of
from voxelvault.testing.synthetic_series import AXIAL, ct_series, slice_positions

LABEL = "hemorrhage"
COLUMNS = ("StudyInstanceUID", LABEL, "site")

_STEP = 2.5
_SPACING = (2.0, 2.0)
_BLOOD = 70


def practice_studies(
    folder: Path, patients: int = 12, slices: int = 32, size: int = 64, seed: int = 0
) -> Path:
    """Write studies and a table of labels.

    Every second patient has a bleed: an ellipsoid of about 70 HU in an otherwise plain head. A
    segmentation in the study outlines it. Nobody is real.

    Parameters
    ----------
    folder : path
        Made if need be; one folder a patient, and ``labels.csv``.
    patients, slices, size : int
        How many, of how many slices of size by size pixels; 2.5 mm apart, pixels of 2 mm.
    seed : int
        Other numbers give other people.

    Returns
    -------
    Path
        The table: StudyInstanceUID, hemorrhage (0 or 1), site (A or B).
    """
    rows = []
    for number in range(patients):
        person = 1000 * (seed + 1) + number
        place = folder / f"patient-{number:03}"
        place.mkdir(parents=True, exist_ok=True)
        bleed = _bleed((slices, size, size), person) if number % 2 else None
        for name, data in _study(person, slices, size, bleed).items():
            (place / name).write_bytes(data)
        rows.append((uid(person), int(bleed is not None), "AB"[number % 3 == 0]))
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([COLUMNS, *rows])
    path = folder / "labels.csv"
    path.write_text(table.getvalue())
    return path


def _study(person: int, slices: int, size: int, bleed: npt.NDArray[np.bool_] | None) -> dict[str, bytes]:
    attributes = {
        "PatientID": f"practice-{person}",
        "PatientName": f"Practice^{person}",
        "AccessionNumber": f"practice-{person}",
    }
    plain = ct_series(slices, size, size, spacing=_SPACING, step=_STEP, seed=person, attributes=attributes)
    if bleed is None:
        return {f"{at:03}.dcm": data for at, data in enumerate(plain)}
    files = [_bled(data, bleed[at]) for at, data in enumerate(plain)]
    inside = np.flatnonzero(bleed.any(axis=(1, 2)))
    outlined = segmentation_of(
        bleed[inside],
        slice_positions(slices, origin=(-20.0, -15.0, 5.0), step=_STEP)[inside],
        orientation=AXIAL,
        spacing=_SPACING,
        thickness=_STEP,
        labels={1: LABEL},
        on=files,
        seed=person,
        attributes=attributes,
    )
    return {f"{at:03}.dcm": data for at, data in enumerate(files)} | {"outline.dcm": outlined}


def _bleed(shape: tuple[int, int, int], person: int) -> npt.NDArray[np.bool_]:
    """Return where blood is: an ellipsoid somewhere in the middle of the head."""
    draw = np.random.default_rng(person)
    centre = [n * (0.5 + 0.12 * draw.uniform(-1, 1)) for n in shape]
    radius = [n * draw.uniform(0.09, 0.15) for n in shape]
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    away = [((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radius, strict=True)]
    return np.asarray(np.sum(away, axis=0) <= 1)


def _bled(data: bytes, where: npt.NDArray[np.bool_]) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(data))
    stored = dataset.pixel_array.copy()
    stored[where] = _BLOOD - int(dataset.RescaleIntercept)
    return to_bytes(put_pixels(dataset, stored, bits_stored=12))


__all__ = ["COLUMNS", "LABEL", "practice_studies"]
