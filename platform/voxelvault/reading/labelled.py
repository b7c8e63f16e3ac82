"""A volume with its axes named: what xarray users get."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray

AXES = ("slice", "row", "column", "sample")
ALIGNED = 1e-4
"""Largest cosine by which an axis may stray from the patient's and still be called x, y or z."""


def data_array(
    values: Any,
    positions: npt.NDArray[np.float64],
    affine: npt.NDArray[np.float64] | None,
    unit: str,
    name: str | None = None,
) -> xarray.DataArray:
    """Label a volume.

    Parameters
    ----------
    values : array
        (slice, row, column[, sample]); NumPy or dask.
    positions : ndarray
        float64, shape (slice, 3): centre of each slice's first pixel, mm, LPS.
    affine : ndarray or None
        (column, row, slice) index to mm, LPS; None for uneven slices.
    unit : str
        Unit of the values.
    name : str, optional
        What is measured, such as the modality.

    Returns
    -------
    xarray.DataArray
        With `position_x`, `position_y`, `position_z` (slice) and, where the axes run along the
        patient's, `x`, `y`, `z`; all mm, LPS.
    """
    # A DataArray takes no coordinate with an axis of its own, so the position is three.
    coordinates: dict[str, Any] = {
        f"position_{axis}": ("slice", positions[:, number]) for number, axis in enumerate("xyz")
    }
    attributes: dict[str, Any] = {"units": unit}
    if affine is not None:
        coordinates |= _aligned(affine, values.shape)
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        attributes |= {
            "affine_lps": affine.tolist(),
            "affine_ras": (np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine).tolist(),
            "spacing": [float(spacing[axis]) for axis in (2, 1, 0)],
        }
    array = xarray.DataArray(
        values, dims=AXES[: values.ndim], coords=coordinates, attrs=attributes, name=name
    )
    for axis in "xyz":
        # Indexed, so that `array.sel(z=40, method="nearest")` finds a slice by its place.
        array = array.set_xindex(axis) if axis in array.coords else array
    return array


def _aligned(affine: npt.NDArray[np.float64], shape: tuple[int, ...]) -> dict[str, Any]:
    """Return mm along x, y, z where each index axis runs along one of the patient's."""
    found: dict[str, Any] = {}
    for column, axis in ((2, 0), (1, 1), (0, 2)):
        step = affine[:3, column]
        direction = step / (np.linalg.norm(step) or 1.0)
        main = int(np.argmax(np.abs(direction)))
        if np.all(np.abs(np.delete(direction, main)) <= ALIGNED):
            # An axis that moves along x alone says x by itself; what others add is in the affine.
            found["xyz"[main]] = (AXES[axis], affine[main, 3] + step[main] * np.arange(shape[axis]))
    return found if len(found) == 3 else {}
