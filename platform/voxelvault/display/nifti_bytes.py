"""A NIfTI-1 image in memory, for a viewer in the browser: never a file."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

_TYPES = {"uint8": (2, 8), "int16": (4, 16), "float32": (16, 32)}
_HEADER = 348
_LABEL = 1002


def nifti_bytes(volume: npt.NDArray[Any], affine_ras: npt.ArrayLike, *, labels: bool = False) -> bytes:
    """Return a volume as the bytes of a `.nii`, with nothing in its header but shape and place.

    Parameters
    ----------
    volume : ndarray
        (slice, row, column) uint8, int16 or float32.
    affine_ras : array_like
        float (4, 4): (column, row, slice) index to mm, RAS; kept as sform.

    labels : bool
        The values are labels, not intensities.

    References
    ----------
    NIfTI-1 data format (nifti1.h): offsets 40 dim, 68 intent_code (1002: label), 70 datatype, 76 pixdim,
    108 vox_offset, 123 xyzt_units, 254 sform_code, 280 srow, 344 magic.
    """
    affine = np.asarray(affine_ras, np.float64)
    code, bits = _TYPES[volume.dtype.name]
    header = bytearray(_HEADER + 4)
    struct.pack_into("<i", header, 0, _HEADER)
    struct.pack_into("<8h", header, 40, 3, *volume.shape[::-1], 1, 1, 1, 1)
    struct.pack_into("<hhh", header, 68, _LABEL if labels else 0, code, bits)
    struct.pack_into("<8f", header, 76, 1.0, *np.linalg.norm(affine[:3, :3], axis=0), 0.0, 0.0, 0.0, 0.0)
    struct.pack_into("<3f", header, 108, float(len(header)), 1.0, 0.0)
    header[123] = 2  # mm
    struct.pack_into("<hh", header, 252, 0, 1)  # no qform; sform in scanner coordinates
    struct.pack_into("<12f", header, 280, *affine[:3].ravel())
    struct.pack_into("<4s", header, 344, b"n+1\0")
    return bytes(header) + np.ascontiguousarray(volume.astype(volume.dtype.newbyteorder("<"))).tobytes()


def smallest(volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the volume as int16 where that keeps every value, else as float32; nan becomes the lowest.

    Parameters
    ----------
    volume : ndarray
        Any numbers.
    """
    values = np.asarray(volume, np.float32)
    missing = ~np.isfinite(values)
    if missing.any():
        low = values[~missing].min() if not missing.all() else 0.0
        values = np.where(missing, np.float32(low), values)
    limits = np.iinfo(np.int16)
    if values.size and (values.min() < limits.min or values.max() > limits.max):
        return values
    small = np.rint(values).astype(np.int16)
    return small if np.array_equal(small, values) else values
