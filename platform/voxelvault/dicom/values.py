"""Stored values to the modality's, to real-world quantities, and to SUV on request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from voxelvault.dicom.coerce import (
    HeaderLike,
    as_integer,
    as_number,
    as_positive,
    as_text,
    as_texts,
    first_item,
)
from voxelvault.errors import GeometryError, UsageError

Array: TypeAlias = npt.NDArray[Any]


def to_modality(stored: Array, slope: float, intercept: float, out: Array | None = None) -> Array:
    """Rescale stored values: stored x slope + intercept.

    Parameters
    ----------
    stored : ndarray
        Any shape, stored values.
    slope, intercept : float
        From the frame's attributes.
    out : ndarray, optional
        Floating, the same shape; filled and returned. float32 is made when absent.

    Returns
    -------
    ndarray
        Values in the modality's unit (`FrameAttributes.rescale_type`).

    References
    ----------
    DICOM PS3.3 C.11.1.1.2.
    """
    if out is None:
        out = np.empty(stored.shape, dtype=np.float32)
    if not np.issubdtype(out.dtype, np.floating):
        raise UsageError("rescaled values need a floating out=; give float32 or float64")
    if slope == 1.0 and intercept == 0.0:
        out[...] = stored
        return out
    if stored.dtype.itemsize <= 2:
        # Two passes over what is in the cache are faster than one that converts as it goes.
        out[...] = stored
        if slope != 1.0:
            out *= out.dtype.type(slope)
        out += out.dtype.type(intercept)
        return out
    if slope == 1.0:
        np.add(stored, out.dtype.type(intercept), out=out, casting="unsafe")
        return out
    # Stored integers of up to 24 bits are exact in float32; wider ones are scaled in double.
    wide = stored.dtype.itemsize > 2 and out.dtype.itemsize < 8
    np.multiply(stored, np.float64(slope) if wide else out.dtype.type(slope), out=out, casting="unsafe")
    out += out.dtype.type(intercept)
    return out


def padding_mask(stored: Array, padding: tuple[int, int] | None) -> npt.NDArray[np.bool_]:
    """Say which stored values are padding.

    Parameters
    ----------
    stored : ndarray
        Stored values, before rescaling.
    padding : tuple of 2 ints, optional
        Smallest and largest, both included; `FrameAttributes.padding`.

    Returns
    -------
    ndarray
        bool, the same shape.

    References
    ----------
    DICOM PS3.3 C.7.5.1.1.2.
    """
    if padding is None:
        return np.zeros(stored.shape, dtype=bool)
    low, high = padding
    if low == high:
        return np.asarray(stored == low)
    return np.asarray((stored >= low) & (stored <= high))


@dataclass(frozen=True, eq=False)
class RealWorldMap:
    """One mapping of stored values to a quantity.

    Parameters
    ----------
    first, last : float
        Stored values it holds for, both included.
    slope, intercept : float or None
        Linear mapping; None when `table` is given.
    table : ndarray or None
        float64, one value for each stored value from `first` on.
    unit : str
        Code value of the unit (UCUM), empty when absent.
    label : str
        LUTLabel.

    References
    ----------
    DICOM PS3.3 C.7.6.16.2.11.
    """

    first: float
    last: float
    slope: float | None
    intercept: float | None
    table: npt.NDArray[np.float64] | None
    unit: str
    label: str

    def apply(self, stored: Array) -> npt.NDArray[np.float64]:
        """Return the quantity; nan outside the range.

        Parameters
        ----------
        stored : ndarray
            Stored values, any shape.
        """
        inside = (stored >= self.first) & (stored <= self.last)
        if self.table is not None:
            index = np.clip(stored.astype(np.int64) - int(self.first), 0, len(self.table) - 1)
            values = self.table[index]
        else:
            values = stored.astype(np.float64) * (self.slope or 0.0) + (self.intercept or 0.0)
        return np.where(inside, values, np.nan)


def real_world_maps(header: HeaderLike, frame: int = 0) -> list[RealWorldMap]:
    """Return the mappings that hold for a frame: its own, else the shared ones, else the root's.

    Parameters
    ----------
    header : HeaderLike
        The instance's header.
    frame : int
        Index of the frame.
    """
    per_frame = header.items_of("PerFrameFunctionalGroupsSequence")
    own = per_frame[frame] if frame < len(per_frame) else None
    for group in (own, first_item(header, "SharedFunctionalGroupsSequence"), header):
        items = group.items_of("RealWorldValueMappingSequence") if group is not None else ()
        maps = [found for item in items for found in _real_world_map(item)]
        if maps:
            return maps
    return []


def _real_world_map(item: HeaderLike) -> Iterator[RealWorldMap]:
    first = _either(item, "RealWorldValueFirstValueMapped", "DoubleFloatRealWorldValueFirstValueMapped")
    last = _either(item, "RealWorldValueLastValueMapped", "DoubleFloatRealWorldValueLastValueMapped")
    slope, intercept = (
        as_number(item.get("RealWorldValueSlope")),
        as_number(item.get("RealWorldValueIntercept")),
    )
    numbers = [as_number(value) for value in item.values("RealWorldValueLUTData")]
    table = np.array(numbers, dtype=np.float64) if numbers and None not in numbers else None
    if first is None or last is None or (table is None and (slope is None or intercept is None)):
        return
    if table is not None and len(table) != last - first + 1:
        return
    unit = first_item(item, "MeasurementUnitsCodeSequence")
    yield RealWorldMap(
        first,
        last,
        slope if table is None else None,
        intercept if table is None else None,
        table,
        (as_text(unit.get("CodeValue")) or "") if unit is not None else "",
        as_text(item.get("LUTLabel")) or "",
    )


def _either(item: HeaderLike, *keywords: str) -> float | None:
    return next((n for n in (as_number(item.get(keyword)) for keyword in keywords) if n is not None), None)


def suv_factor(header: HeaderLike) -> float:
    """Return what turns rescaled PET values into SUV by body weight, g/ml.

    Parameters
    ----------
    header : HeaderLike
        A PET instance.

    Returns
    -------
    float
        SUVbw = value x factor.

    Raises
    ------
    GeometryError
        The header does not say enough, or the values are not decay- and attenuation-corrected Bq/ml.
        Nothing is guessed: a wrong SUV is worse than none.

    References
    ----------
    DICOM PS3.3 C.8.9.1 (PET series: Units, DecayCorrection, CorrectedImage); QIBA FDG-PET/CT
    profile, vendor-neutral SUV calculation.
    """
    units = as_text(header.get("Units"))
    if units == "GML" and as_text(header.get("SUVType")) in (None, "BW"):
        return 1.0
    if units != "BQML":
        raise _refused("the values are not Bq/ml")
    if not {"ATTN", "DECY"} <= set(as_texts(header.values("CorrectedImage"))):
        raise _refused("the image is not corrected for decay and attenuation")
    dose = first_item(header, "RadiopharmaceuticalInformationSequence")
    weight = as_positive(header.get("PatientWeight"))
    if dose is None or weight is None:
        raise _refused("radiopharmaceutical or PatientWeight is missing")
    total = as_positive(dose.get("RadionuclideTotalDose"))
    if total is None:
        raise _refused("RadionuclideTotalDose is missing")
    return weight * 1000.0 / (total * _remaining(header, dose))


def _remaining(header: HeaderLike, dose: HeaderLike) -> float:
    """Return the part of the dose that is left at the time that the image is corrected to."""
    correction = as_text(header.get("DecayCorrection"))
    if correction == "ADMIN":
        return 1.0
    half_life = as_positive(dose.get("RadionuclideHalfLife"))
    if correction != "START" or half_life is None:
        raise _refused("DecayCorrection is neither START nor ADMIN, or the half-life is missing")
    elapsed = (_scan_start(header) - _injection(header, dose)).total_seconds()
    if not 0 <= elapsed < 86400:
        raise _refused("injection and scan times contradict each other")
    return float(2.0 ** (-elapsed / half_life))


def _scan_start(header: HeaderLike) -> datetime:
    """Return the series' time, which START refers to unless the series was made after acquisition."""
    series = _when(header.get("SeriesDate"), header.get("SeriesTime"))
    acquired = _when(header.get("AcquisitionDate"), header.get("AcquisitionTime"))
    if series is None or acquired is None:
        raise _refused("series or acquisition time is missing")
    if series > acquired:
        raise _refused("the series was made after its acquisition, so its decay reference is unknown")
    return series


def _injection(header: HeaderLike, dose: HeaderLike) -> datetime:
    """Return when the dose was given; a bare time is the last such time before the scan."""
    text = as_text(dose.get("RadiopharmaceuticalStartDateTime"))
    if text is not None and len(text) >= 12:
        zone = re.search(r"[+-]\d{4}$", text)
        here = as_text(header.get("TimezoneOffsetFromUTC"))
        if zone and here and zone.group() != here:
            raise _refused("injection and scan are given in different time zones")
        found = _when(text[:8], re.split(r"[+-]", text[8:])[0])
        if found is not None:
            return found
    found = _when(header.get("SeriesDate"), dose.get("RadiopharmaceuticalStartTime"))
    if found is None:
        raise _refused("the time of injection is missing")
    return found if found <= _scan_start(header) else found - timedelta(days=1)


def _when(date: Any, time: Any) -> datetime | None:
    day = str(date or "").replace(".", "").replace("-", "").strip()
    clock = str(time or "").replace(":", "").strip()
    if len(day) != 8 or len(clock) < 4 or as_integer(day) is None:
        return None
    try:
        base = datetime.strptime(f"{day}{clock[:4]}", "%Y%m%d%H%M")
    except ValueError:
        return None
    return base + timedelta(seconds=as_number(clock[4:]) or 0.0)


def _refused(why: str) -> GeometryError:
    return GeometryError(f"no SUV: {why}; use the values in their own unit")
