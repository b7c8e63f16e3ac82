"""Something to practise on: people who never lived, scanned by three makers' scanners that differ."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom

from voxelvault.testing.synthetic_object import put_pixels, to_bytes, uid
from voxelvault.testing.synthetic_series import ct_series


class Scanner(NamedTuple):
    """A scanner.

    Parameters
    ----------
    maker : str
        Its name.
    offset, noise : float
        What it adds to Hounsfield units: always, and at random.
    people, sick : int
        Who was scanned on it, and how many of them bleed.
    """

    maker: str
    offset: float
    noise: float
    people: int
    sick: int


SCANNERS = (Scanner("Alder", 0, 2, 13, 6), Scanner("Birch", 6, 5, 10, 5), Scanner("Cedar", -5, 9, 10, 5))


def practice_hospitals(folder: Path, scanners: Sequence[Scanner] = SCANNERS, size: int = 16) -> Path:
    """Write a study a person, and return the table of labels: StudyInstanceUID, hemorrhage (0 or 1).

    Parameters
    ----------
    folder : Path
        Where the files go.
    scanners : sequence of Scanner
        Who is scanned where.
    size : int
        Rows and columns; each study has three slices.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [("StudyInstanceUID", "hemorrhage")]
    for number, scanner in enumerate(scanners):
        for person in range(scanner.people):
            seed = 1000 * (number + 1) + person
            _write(folder, seed, scanner, sick := person < scanner.sick, size)
            rows.append((uid(seed), str(int(sick))))
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    (folder / "labels.csv").write_text(table.getvalue())
    return folder / "labels.csv"


def _write(folder: Path, seed: int, scanner: Scanner, sick: bool, size: int) -> None:
    attributes = {
        "PatientID": f"P-{seed}", "PatientName": f"Nobody^{seed}", "AccessionNumber": f"A-{seed}",
        "Manufacturer": scanner.maker, "ManufacturerModelName": f"{scanner.maker} One", "PatientAge": "060Y",
    }  # fmt: skip
    draw = np.random.default_rng(seed)
    for at, data in enumerate(ct_series(3, size, size, seed=seed, attributes=attributes)):
        dataset = pydicom.dcmread(io.BytesIO(data))
        hu = dataset.pixel_array + float(dataset.RescaleIntercept)
        inside = (hu > -20) & (hu < 120)
        hu[inside] += scanner.offset + draw.normal(0, scanner.noise, int(inside.sum()))
        if sick:
            edge = size // 4
            hu[size // 2 - edge // 2 : size // 2 + edge, size // 2 : size // 2 + edge] += draw.uniform(10, 35)
        stored = np.clip(hu - float(dataset.RescaleIntercept), 0, 4095).astype(np.uint16)
        (folder / f"{seed}-{at}.dcm").write_bytes(to_bytes(put_pixels(dataset, stored, bits_stored=12)))


__all__ = ["SCANNERS", "Scanner", "practice_hospitals"]
