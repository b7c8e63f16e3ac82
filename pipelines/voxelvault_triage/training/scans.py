"""A head CT that was really scanned, from a folder of DICOM files: held out of training, for evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom

from voxelvault.errors import UsageError
from voxelvault_triage.planes import Planes


def read_head(folder: Path) -> tuple[npt.NDArray[np.float32], Planes]:
    """Return the largest series of parallel CT slices in a folder, from the feet up.

    Returns
    -------
    (slice, row, column) float32
        Hounsfield units.
    Planes
        Where the slices lie.

    Raises
    ------
    UsageError
        There are no CT slices in the folder.
    """
    series: dict[tuple[str, ...], dict[str, pydicom.Dataset]] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        try:
            found = pydicom.dcmread(path)
        except pydicom.errors.InvalidDicomError:
            continue
        if found.get("Modality") == "CT" and "ImagePositionPatient" in found and "PixelData" in found:
            key = (
                str(found.SeriesInstanceUID),
                str(found.ImageOrientationPatient),
                f"{found.Rows} {found.Columns}",
            )
            series.setdefault(key, {})[str(found.SOPInstanceUID)] = found
    if not series:
        raise UsageError("there are no CT slices in the folder; give that of one head CT")
    slices = list(max(series.values(), key=len).values())
    first = slices[0]
    turn = np.array(first.ImageOrientationPatient, float)
    planes = Planes(
        np.array([one.ImagePositionPatient for one in slices], float),
        turn[:3],
        turn[3:],
        (float(first.PixelSpacing[0]), float(first.PixelSpacing[1])),
    )
    order = np.argsort(planes.heights)
    values = np.stack([_values(slices[k]) for k in order])
    return values, Planes(planes.positions[order], planes.across, planes.down, planes.spacing)


def _values(one: pydicom.Dataset) -> npt.NDArray[np.float32]:
    slope, intercept = float(one.get("RescaleSlope", 1)), float(one.get("RescaleIntercept", 0))
    return (one.pixel_array * slope + intercept).astype(np.float32)
