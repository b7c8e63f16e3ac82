"""Phantoms as DICOM studies of nobody: to practise triage on, and for its tour."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom import Dataset

from voxelvault.testing.synthetic_object import header, put_pixels, to_bytes, uid
from voxelvault_triage.phantom.atlas import analytic, template
from voxelvault_triage.phantom.study import USUAL, Phantom, Recipe, phantom

COLUMNS = ("StudyInstanceUID", "hemorrhage", "volume_ml", "types")

_FIRST_PERSON = 7_000_000
"""Far from the numbers that other synthetic people have."""
_LOWEST = -1024


def practice_heads(
    folder: Path,
    studies: int = 6,
    *,
    seed: int = 0,
    templates: Path | None = None,
    recipe: Recipe = USUAL,
) -> Path:
    """Write head CTs, every second with a bleed, and a table of what is in them.

    Parameters
    ----------
    folder : path
        Made if need be; one folder a study, and ``truth.csv``.
    studies : int
        How many; one a patient.
    seed : int
        Other numbers give other people.
    templates : path, optional
        Folder of average anatomy; without it heads are analytic, and plainer.
    recipe : Recipe
        What heads, bleeds and scanners are drawn from.

    Returns
    -------
    Path
        The table: StudyInstanceUID, hemorrhage (0 or 1), volume_ml, types.
    """
    atlas = template(templates) if templates else analytic()
    rows = []
    for number in range(studies):
        person = _FIRST_PERSON + 1000 * seed + number
        made = phantom(person, atlas, recipe, bleeding=number % 2 == 1)
        place = folder / f"study-{number:03}"
        place.mkdir(parents=True, exist_ok=True)
        for name, data in files_of(made, person):
            (place / name).write_bytes(data)
        kinds = " ".join(kind.value for kind in made.volumes)
        rows.append((uid(person), int(bool(made.volumes)), f"{made.volume_ml:.1f}", kinds))
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([COLUMNS, *rows])
    path = folder / "truth.csv"
    path.write_text(table.getvalue())
    return path


def files_of(made: Phantom, person: int) -> Iterator[tuple[str, bytes]]:
    """Return a phantom as a CT series: names and Part 10 files, one a slice.

    Parameters
    ----------
    made : Phantom
        The study.
    person : int
        Decides UIDs, PatientID and PatientName.
    """
    for at, values in enumerate(made.hu):
        one = _described(made, person, at)
        stored = np.clip(np.rint(values) - _LOWEST, 0, 4095).astype(np.uint16)
        yield f"{at:03}.dcm", to_bytes(put_pixels(one, stored, bits_stored=12))


def _described(made: Phantom, person: int, at: int) -> Dataset:
    told = {
        "PatientID": f"phantom-{person}",
        "PatientName": f"Phantom^{person}",
        "AccessionNumber": f"phantom-{person}",
        "Manufacturer": "voxelvault",
        "ManufacturerModelName": "head phantom",
        "BodyPartExamined": "HEAD",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "PatientPosition": "HFS",
        "PositionReferenceIndicator": "",
        "AcquisitionNumber": 1,
        "KVP": 120,
        "ConvolutionKernel": made.kernel,
        "SliceThickness": round(made.thickness, 3),
        "GantryDetectorTilt": round(made.tilt, 3),
        "PixelSpacing": [round(value, 5) for value in made.planes.spacing],
        "ImagePositionPatient": [round(float(value), 4) for value in made.planes.positions[at]],
        "ImageOrientationPatient": [
            round(float(value), 8) for value in (*made.planes.across, *made.planes.down)
        ],
        "RescaleSlope": 1,
        "RescaleIntercept": _LOWEST,
        "RescaleType": "HU",
    }
    return header("CT", seed=person, instance=at + 1, attributes=told)


__all__ = ["COLUMNS", "files_of", "practice_heads"]
