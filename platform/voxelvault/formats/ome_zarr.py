"""A volume as plain OME-Zarr 0.5: zarr v3, readable by any zarr.

References
----------
OME-Zarr (NGFF) 0.5, multiscales metadata; Zarr v3 core specification.
"""

from __future__ import annotations

import os
import secrets
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from voxelvault.dicom.slices import LPS_TO_RAS
from voxelvault.errors import UsageError
from voxelvault.files import disk_error
from voxelvault.formats.volumes import Volume
from voxelvault.storage.importing import whole

with whole("zarr"):
    import zarr
    from zarr.codecs import BloscCodec

ENDING = ".ome.zarr"
VERSION = "0.5"
AXES = ("z", "y", "x")
CHUNK = 64
"""Longest side of a chunk, voxels."""

LEVEL = "0"


def write_ome_zarr(volume: Volume, path: Path) -> int:
    """Write a volume as a folder that isn't there yet.

    It gets its name when it is whole: whoever is killed on the way leaves a folder `.….part`.

    Parameters
    ----------
    volume : Volume
        One value a voxel, or RGB.
    path : Path
        Ends in `ENDING`.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    UsageError
        Something is in the way.
    NoSpace, NoPermission, StorageError
        The disk refused.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        _write(volume, part)
        size = _settle(part)
        if path.exists():
            raise UsageError("a folder to be written is there already; choose another place")
        part.rename(path)
    except OSError as error:
        raise disk_error(error) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return size


def _write(volume: Volume, folder: Path) -> None:
    colour = volume.values.ndim == 4
    # OME-Zarr wants channels before space.
    values = np.moveaxis(volume.values, -1, 0) if colour else volume.values
    names = ("c", *AXES) if colour else AXES
    chunks = (1,) * colour + tuple(min(CHUNK, size) for size in values.shape[-3:])
    group = zarr.create_group(folder, zarr_format=3, attributes=attributes(volume))
    group.create_array(
        LEVEL,
        shape=values.shape,
        dtype=values.dtype,
        chunks=chunks,
        compressors=[BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")],
        fill_value=0,
        dimension_names=names,
        attributes={"units": volume.unit} if volume.unit else {},
    )[...] = values
    with warnings.catch_warnings():
        # zarr-python calls this an extension of its own; xarray warns where it isn't there.
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(group.store)


def attributes(volume: Volume) -> dict[str, Any]:
    """Return the group's attributes: multiscales, affines, acquisition.

    Scale and translation put the array on its own axes; where these run along the patient's, as in
    an upright axial scan, they are mm in LPS. `affine_ras` and `affine_lps` say it for any scan:
    (x, y, z) index to mm, which is (column, row, slice). An image without a place in space has
    neither, and its axes no unit.
    """
    scale, translation = _placed(volume)
    unit = {} if volume.affine_ras is None else {"unit": "millimeter"}
    axes: list[dict[str, str]] = [{"name": name, "type": "space", **unit} for name in AXES]
    if volume.values.ndim == 4:
        axes, scale, translation = (
            [{"name": "c", "type": "channel"}, *axes],
            [1.0, *scale],
            [0.0, *translation],
        )
    level = {
        "path": LEVEL,
        "coordinateTransformations": [
            {"type": "scale", "scale": scale},
            {"type": "translation", "translation": translation},
        ],
    }
    multiscale = {"name": str(volume.facts.get("Modality", "volume")), "axes": axes, "datasets": [level]}
    found: dict[str, Any] = {
        "ome": {"version": VERSION, "multiscales": [multiscale]},
        "acquisition": volume.facts,
    }
    if volume.affine_ras is not None:
        found["affine_ras"] = volume.affine_ras.tolist()
        found["affine_lps"] = (LPS_TO_RAS @ volume.affine_ras).tolist()
    return found


def _placed(volume: Volume) -> tuple[list[float], list[float]]:
    """Return scale and translation along (slice, row, column)."""
    if volume.affine_ras is None:
        return [1.0, *(volume.pixel_spacing or (1.0, 1.0))], [0.0, 0.0, 0.0]
    affine = (LPS_TO_RAS @ volume.affine_ras)[:3]
    steps = affine[:, [2, 1, 0]]
    scale = np.linalg.norm(steps, axis=0)
    return scale.tolist(), ((steps / scale).T @ affine[:, 3]).tolist()


def stored_values(folder: Path) -> Iterator[bytes]:
    """Yield what the chunks of a volume decode to, slab by slab, as read from the disk."""
    array: Any = zarr.open_group(folder, mode="r")[LEVEL]
    for start in range(0, array.shape[0], CHUNK):
        yield np.ascontiguousarray(array[start : start + CHUNK]).tobytes()


def _settle(folder: Path) -> int:
    """Bring every file to the disk; return their size."""
    size = 0
    for file in folder.rglob("*"):
        if file.is_file():
            size += file.stat().st_size
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    return size


__all__ = ["ENDING", "attributes", "stored_values", "write_ome_zarr"]
