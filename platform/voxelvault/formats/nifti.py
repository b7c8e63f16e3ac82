"""A volume as NIfTI-1 (.nii.gz) with a JSON sidecar.

References
----------
NIfTI-1.1 data format (nifti1.h); BIDS 1.10, sidecar JSON files.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from voxelvault.errors import MissingExtra, UsageError
from voxelvault.files import write_new
from voxelvault.formats.volumes import Volume
from voxelvault.model import Buffer

ENDING = ".nii.gz"
LEVEL = 1
"""Of compression, as nibabel has it: higher ones cost much time and save a twentieth."""

SCANNER = 1
"""NIFTI_XFORM_SCANNER_ANAT: mm in the scanner's frame, as DICOM has them."""

_LARGEST = (1 << 15) - 1


def require_nibabel() -> None:
    """Make sure that nibabel is there.

    Raises
    ------
    MissingExtra
        It isn't.
    """
    try:
        import nibabel  # noqa: F401
    except ImportError:
        raise MissingExtra("NIfTI needs nibabel; pip install 'voxelvault[train]'") from None


def write_nifti(volume: Volume, path: Path) -> int:
    """Write a volume and, beside it, its sidecar; neither may be there yet.

    Parameters
    ----------
    volume : Volume
        One value a voxel.
    path : Path
        Ends in `ENDING`.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    UsageError
        A file is in the way, or an axis is longer than the format's 32,767.
    NoSpace, NoPermission, StorageError
        The disk refused.
    """
    header = nifti_header(volume)
    text = (json.dumps(volume.facts, indent=2, sort_keys=True) + "\n").encode()
    sidecar = path.with_name(path.name.removesuffix(ENDING) + ".json")
    # First the sidecar: where the image is, an export can tell that all of it is there.
    if not (sidecar.exists() and sidecar.read_bytes() == text):
        write_new(sidecar, [text])
    return write_new(path, _compressed(header, volume)) + len(text)


def nifti_header(volume: Volume) -> bytes:
    """Return the 352 bytes before the voxels.

    The affine is in sform and, unless it is sheared, in qform: some tools read the one, some the other.
    """
    from nibabel.nifti1 import Nifti1Header
    from nibabel.spatialimages import HeaderDataError

    if volume.affine_ras is None or volume.values.ndim != 3:
        raise UsageError("NIfTI takes one value a voxel, with a place in space; export it as ome-zarr")
    shape = volume.values.shape[::-1]
    if max(shape) > _LARGEST:
        raise UsageError("an axis is longer than NIfTI can hold; export it as ome-zarr")
    make: Any = Nifti1Header
    header = make(endianness="<")
    header.set_data_dtype(volume.values.dtype)
    header.set_data_shape(shape)
    header.set_xyzt_units("mm", "sec")
    header.set_zooms(np.linalg.norm(volume.affine_ras[:3, :3], axis=0))
    header.set_sform(volume.affine_ras, SCANNER)
    try:
        header.set_qform(volume.affine_ras, SCANNER, strip_shears=False)
    except HeaderDataError:
        header.set_qform(None, 0)
    header.set_slope_inter(volume.slope, volume.intercept)
    header["vox_offset"] = 352
    return bytes(header.binaryblock) + bytes(4)


def _compressed(header: bytes, volume: Volume) -> Iterator[Buffer]:
    # The file has the column index run fastest, which is how the slices lie in memory.
    pack = zlib.compressobj(LEVEL, zlib.DEFLATED, 31)
    yield pack.compress(header)
    for plane in volume.values.astype(volume.values.dtype.newbyteorder("<"), copy=False):
        yield pack.compress(np.ascontiguousarray(plane).data.cast("B"))
    yield pack.flush()


__all__ = ["ENDING", "nifti_header", "require_nibabel", "write_nifti"]
