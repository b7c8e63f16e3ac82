"""Look-up tables of a header: colours of a palette, and modality values that no line describes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from voxelvault.errors import DecodeError

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Table:
    """One entry for each stored value from `first` on; values beyond an end get that end's entry.

    Parameters
    ----------
    first : int
        Stored value of the first entry.
    entries : ndarray
        Shape (entry,), or (entry, 3) for colours.
    """

    first: int
    entries: Array

    def apply(self, stored: Array) -> Array:
        """Return the entries of stored values."""
        index = np.clip(stored.astype(np.int64) - self.first, 0, len(self.entries) - 1)
        return np.asarray(self.entries[index])


def palette_table(head: bytes) -> Table:
    """Return an instance's palette: RGB, uint8.

    Parameters
    ----------
    head : bytes
        The instance's file up to the pixels, or beyond.

    Raises
    ------
    DecodeError
        It has none that makes sense.

    References
    ----------
    DICOM PS3.3 C.7.6.3.1.5, C.7.6.3.1.6 and C.7.9.
    """
    dataset = _dataset(head)
    try:
        count, first, _ = dataset.RedPaletteColorLookupTableDescriptor
        count = count or 1 << 16
        colours = _whole(dataset, count) if "RedPaletteColorLookupTableData" in dataset else None
        if colours is None:
            colours = apply_color_lut(np.arange(first, first + count, dtype=np.int32), dataset)[:, :3]
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise DecodeError("the palette is not usable; read the indexes with `pixels`") from error
    # A table of 16-bit entries may hold 8-bit colours: the largest entry tells, not the descriptor.
    wide = colours.dtype.itemsize > 1 and colours.max(initial=0) > 255
    return Table(int(first), np.asarray(colours >> 8 if wide else colours, dtype=np.uint8))


def _whole(dataset: Dataset, count: int) -> Array:
    """Return the entries of a table that is not segmented, in the byte order of its file."""
    tables = []
    for name in ("Red", "Green", "Blue"):
        data = dataset[f"{name}PaletteColorLookupTableData"].value
        wide = len(data) >= 2 * count
        tables.append(np.frombuffer(data, _words(dataset) if wide else np.uint8, count))
    return np.stack(tables, axis=-1)


def modality_table(head: bytes) -> Table:
    """Return an instance's modality look-up table.

    Parameters
    ----------
    head : bytes
        The instance's file up to the pixels, or beyond.

    Raises
    ------
    DecodeError
        It makes no sense.

    References
    ----------
    DICOM PS3.3 C.11.1.1.1.
    """
    dataset = _dataset(head)
    try:
        item = dataset.ModalityLUTSequence[0]
        count, first, _ = item.LUTDescriptor
        data = item["LUTData"].value
        if isinstance(data, bytes):
            data = np.frombuffer(data, _words(dataset))
        entries = np.asarray(data, dtype=np.float64)[: count or 1 << 16]
        if not entries.size:
            raise ValueError("no entries")
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise DecodeError("the modality LUT is not usable; load with units='stored'") from error
    return Table(int(first), entries)


def _words(dataset: Dataset) -> np.dtype[Any]:
    return np.dtype("<u2" if dataset.original_encoding[1] is not False else ">u2")


def _dataset(head: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(head), force=True, stop_before_pixels=True)
