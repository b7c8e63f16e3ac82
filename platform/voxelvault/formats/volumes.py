"""A volume on its way out: values in the smallest exact dtype, affine, and harmless acquisition facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault.dicom.even_grid import fill_for
from voxelvault.dicom.read import Header
from voxelvault.dicom.resample import resample_regular
from voxelvault.dicom.slices import LPS_TO_RAS
from voxelvault.errors import GeometryError, UsageError
from voxelvault.series import Series

Array = npt.NDArray[Any]

SIDECAR: dict[str, tuple[str, float]] = {
    "Modality": ("Modality", 0),
    "Manufacturer": ("Manufacturer", 0),
    "ManufacturersModelName": ("ManufacturerModelName", 0),
    "BodyPartExamined": ("BodyPartExamined", 0),
    "PatientPosition": ("PatientPosition", 0),
    "ImageType": ("ImageType", 0),
    "SliceThickness": ("SliceThickness", 1),
    "SpacingBetweenSlices": ("SpacingBetweenSlices", 1),
    "MagneticFieldStrength": ("MagneticFieldStrength", 1),
    "MRAcquisitionType": ("MRAcquisitionType", 0),
    "ScanningSequence": ("ScanningSequence", 0),
    "SequenceVariant": ("SequenceVariant", 0),
    "EchoTime": ("EchoTime", 1e-3),
    "RepetitionTime": ("RepetitionTime", 1e-3),
    "InversionTime": ("InversionTime", 1e-3),
    "FlipAngle": ("FlipAngle", 1),
    "EchoTrainLength": ("EchoTrainLength", 1),
    "PixelBandwidth": ("PixelBandwidth", 1),
    "KVP": ("KVP", 1),
    "ConvolutionKernel": ("ConvolutionKernel", 0),
    "GantryDetectorTilt": ("GantryDetectorTilt", 1),
    "Units": ("Units", 0),
}
"""BIDS key to DICOM keyword and factor (BIDS has seconds where DICOM has ms); 0 for words.

An allow-list: how the image was taken, by what kind of device. Nothing of who, when, where or why.
"""

_LISTS = ("ImageType", "ScanningSequence", "SequenceVariant")

_OWN = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "PatientBirthDate",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "InstitutionName",
    "ReferringPhysicianName",
    "OperatorsName",
)


@dataclass(frozen=True, eq=False)
class Volume:
    """One volume, ready to be written.

    Parameters
    ----------
    values : ndarray
        (slice, row, column[, sample]), C order; `values * slope + intercept` are in `unit`.
    affine_ras : ndarray or None
        float64, shape (4, 4): (column, row, slice) index to mm, RAS; None without a place in space.
    pixel_spacing : tuple of float or None
        (row, column) mm, where there is no affine.
    unit : str
        Such as HU; empty when the header names none.
    facts : mapping
        Acquisition, by BIDS keys.
    slope, intercept : float
        1 and 0 unless asked for apart.
    note : str
        What is to be known of it.
    """

    values: Array
    affine_ras: npt.NDArray[np.float64] | None = None
    pixel_spacing: tuple[float, float] | None = None
    unit: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    slope: float = 1.0
    intercept: float = 0.0
    note: str = ""


def read_volume(
    series: Series, stack: int, *, scaling: bool = False, free: bool = False, resample: bool = False
) -> Volume:
    """Read one volume of an open series.

    Whole numbers stay whole numbers where that is exact; all else becomes float32. Padding keeps the
    value that the scanner wrote, since few tools know NaN; where slices are interpolated, padding and
    what no slice reaches get -1024 in Hounsfield units, else 0: `FillValue` of the facts.

    Parameters
    ----------
    series : Series
        Open.
    stack : int
        Which volume.
    scaling : bool
        The format holds slope and intercept: stored values stay as they are.
    free : bool
        The format takes colour, and images without a place in space.
    resample : bool
        Interpolate uneven slices onto an even grid, instead of refusing them.

    Raises
    ------
    GeometryError
        No affine describes the slices.
    UsageError
        Colour, where the format takes none.
    """
    group, unit = series.geometry(stack), series.unit(stack)
    colour = series.volume(stack).ndim == 4
    if colour and not free:
        raise UsageError("colour, and this format has one value a voxel; export it as ome-zarr or dicom")
    placeless = free and (group.orientation is None or group.pixel_spacing is None)
    if not group.regular and not placeless:
        able = not colour and group.orientation is not None and group.pixel_spacing is not None
        if not (resample and able):
            offered = "pass resample=True (--resample) to interpolate, or " if able and not resample else ""
            raise GeometryError(f"{group.reason}; {offered}export it as dicom")
        read, fill = _resampled(series, stack, unit)
        read = _described(read, series, stack, unit, f"interpolated: {group.reason}; {fill:g} outside")
        return replace(read, facts=read.facts | {"FillValue": fill})
    read = Volume(np.ascontiguousarray(series.load(stack))) if colour else _exact(series, stack, scaling)
    if placeless:
        read = replace(read, pixel_spacing=group.pixel_spacing)
        return _described(read, series, stack, unit, "no place in the patient is known")
    read = replace(read, affine_ras=group.affine_ras)
    return _described(
        read, series, stack, unit, "tilted gantry: the affine is sheared" if group.tilted else ""
    )


def _described(read: Volume, series: Series, stack: int, unit: str, note: str) -> Volume:
    facts = acquisition(series.header(stack=stack)) | ({"ValueUnit": unit} if unit else {})
    return replace(read, unit=unit, facts=facts, note=note)


def _resampled(series: Series, stack: int, unit: str) -> tuple[Volume, float]:
    """Return an even volume, and what stands for padding and for what no slice reaches."""
    fill = fill_for(unit)
    values = series.load(stack, dtype=np.float32)
    # Before interpolation, so that no voxel beside padding is lost.
    np.copyto(values, fill, where=np.isnan(values))
    even = resample_regular(values, series.geometry(stack), fill=fill)
    return Volume(even.volume, LPS_TO_RAS @ even.affine_lps), fill


def _exact(series: Series, stack: int, scaling: bool) -> Volume:
    scale = series.scaling(stack)
    if scale is not None and _is_whole(series.frames(stack).dtype):
        slope, intercept = scale
        if scaling and np.float32(slope) == slope and np.float32(intercept) == intercept and slope:
            stored = smallest(series.load(stack, units="stored"))
            return Volume(stored, slope=slope, intercept=intercept)
        if slope.is_integer() and intercept.is_integer():
            values = series.load(stack, units="stored").astype(np.int64) * int(slope) + int(intercept)
            if np.abs(values).max(initial=0) < 1 << 31:
                return Volume(smallest(values))
    return Volume(series.load(stack, padding="keep"))


def _is_whole(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iu" and dtype.itemsize <= 4


def smallest(values: Array) -> Array:
    """Return whole numbers as uint8 if they are that already, else the first of int16, uint16, int32."""
    if values.dtype == np.uint8:
        return values
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    for dtype in (np.int16, np.uint16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return np.ascontiguousarray(values, dtype)
    return np.ascontiguousarray(values, np.float32)


def acquisition(header: Header) -> dict[str, Any]:
    """Return how an image was taken, by BIDS keys; no word of it is one that names the patient.

    References
    ----------
    BIDS 1.10, MRI and PET sidecars; DICOM PS3.15 E.1 for what is left out.
    """
    own = {word.lower() for keyword in _OWN for word in _words(header.values(keyword)) if len(word) > 2}
    found: dict[str, Any] = {}
    for key, (keyword, factor) in SIDECAR.items():
        values = header.values(keyword)
        if factor:
            number = _number(values[0] if values else None)
            found |= {} if number is None else {key: round(number * factor, 9)}
        elif (words := _words(values)) and not own & {word.lower() for word in words}:
            texts = [str(value or "").strip() for value in values]
            found[key] = texts if keyword in _LISTS else texts[0]
    return found


def _words(values: Sequence[Any]) -> list[str]:
    text = " ".join(str(value or "") for value in values)
    return "".join(character if character.isalnum() else " " for character in text).split()


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


__all__ = ["Volume", "acquisition", "read_volume", "smallest"]
