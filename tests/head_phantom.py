"""A head of simple shapes in a CT: a skull with a brain, a face below and before it, arms if wanted."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CT = "1.2.840.10008.5.1.4.1.1.2"
SPACING = 4.0
"""mm between pixels and between slices."""
SIZE = 120
LEVELS = 60


def level(number: int, *, arms: bool = False) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Return one axial slice, (row, column) in Hounsfield units; level 0 is the lowest."""
    y, x = (np.mgrid[0:SIZE, 0:SIZE] - SIZE // 2) * SPACING
    z = number * SPACING - 120
    skull = np.sqrt((x / 78) ** 2 + (y / 98) ** 2 + ((z - 40) / 75) ** 2)
    values = np.full((SIZE, SIZE), -1000, np.int16)
    values[((x / 65) ** 2 + ((y + 15) / 88) ** 2 < 1) & (z < 40)] = 40
    values[skull < 1] = 40
    values[(skull < 0.94) & (skull > 0.84)] = 900
    values[skull <= 0.84] = 35
    if z < -100:
        values[(np.abs(x) < 190) & (np.abs(y) < 80)] = 40
    if arms:
        values[(np.abs(x) - 150) ** 2 + y**2 < 35**2] = 40
    return values


def dataset(number: int, *, arms: bool = False, **more: Any) -> Dataset:
    """Return one slice as a CT image; `more` are attributes, None for one that is not there."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID, made.Modality = CT, f"2.25.7{number:03}", "CT"
    made.StudyInstanceUID, made.SeriesInstanceUID = "2.25.5", "2.25.6"
    made.FrameOfReferenceUID = "2.25.4"
    made.PatientID, made.ImageType = "4711", ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.ImagePositionPatient = [-SPACING * SIZE / 2, -SPACING * SIZE / 2, number * SPACING - 120]
    made.ImageOrientationPatient, made.PixelSpacing = [1, 0, 0, 0, 1, 0], [SPACING, SPACING]
    made.Rows, made.Columns, made.SamplesPerPixel = SIZE, SIZE, 1
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.RescaleSlope, made.RescaleIntercept = 1, 0
    made.add_new(0x7FE00010, "OW", level(number, arms=arms).astype("<i2").tobytes())
    for keyword, value in more.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    return made


def head(*, arms: bool = False, **more: Any) -> Iterator[Dataset]:
    """Yield the slices of a whole head; `more` as for `dataset`, called with the number where it can be."""
    for number in range(LEVELS):
        given = {key: value(number) if callable(value) else value for key, value in more.items()}
        yield dataset(number, arms=arms, **given)


def file_of(made: Dataset) -> bytes:
    """Return a data set as a file."""
    out = io.BytesIO()
    pydicom.dcmwrite(out, made, enforce_file_format=True)
    return out.getvalue()
