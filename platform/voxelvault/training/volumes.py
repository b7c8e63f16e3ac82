"""Volumes that samples are cut from: frames of a series, bricks of a cache, or an array in memory.

All give float32 (or a mask's uint8) as (channel, axis 0, axis 1, axis 2), any box of it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from voxelvault.dicom.even_grid import even_image, even_labels, fill_for, is_even, own_axes
from voxelvault.dicom.slices import LPS_TO_RAS, FrameGroup
from voxelvault.reading.stacks import FrameStack
from voxelvault.reading.volumes import VolumeReader

Array: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float64]

T = TypeVar("T")


class Volume(Protocol):
    """A volume on an even grid."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(axis 0, axis 1, axis 2)."""

    @property
    def channels(self) -> int:
        """3 for RGB, else 1."""

    @property
    def affine_ras(self) -> Floats:
        """Index in the volume's own axes to mm, RAS: float64 (4, 4)."""

    @property
    def fill(self) -> float:
        """What lies outside."""

    def read(self, start: Sequence[int], size: Sequence[int], out: Array) -> Array:
        """Fill `out`, (channel, axis 0, axis 1, axis 2), with a box inside the volume."""


class ArrayVolume:
    """A volume that is in memory: (channel, axis 0, axis 1, axis 2)."""

    def __init__(self, values: Array, affine_ras: Floats, fill: float = 0.0) -> None:
        self.values = values
        self.affine_ras = affine_ras
        self.fill = fill
        self.shape: tuple[int, ...] = values.shape[1:]
        self.channels = int(values.shape[0])
        self.nbytes = int(values.nbytes)

    def read(self, start: Sequence[int], size: Sequence[int], out: Array) -> Array:
        """Copy a box."""
        box = tuple(slice(first, first + length) for first, length in zip(start, size, strict=True))
        out[...] = self.values[(slice(None), *box)]
        return out


class EmptyVolume:
    """Background alone: the mask of a series that has none."""

    channels, fill = 1, 0.0

    def __init__(self, shape: tuple[int, ...], affine_ras: Floats) -> None:
        self.shape, self.affine_ras = shape, affine_ras

    def read(self, start: Sequence[int], size: Sequence[int], out: Array) -> Array:
        """Fill with zeros."""
        out[...] = 0
        return out


class FrameVolume:
    """Frames of one stack on an even grid, axes (slice, row, column).

    Parameters
    ----------
    reader : VolumeReader
        Of the series.
    chosen : FrameStack
        Which volume.
    units : str, optional
        As of `Series.load`.
    fill : float, optional
        Instead of padding; -1024 for Hounsfield units and else 0 by default.
    """

    def __init__(
        self, reader: VolumeReader, chosen: FrameStack, units: str | None, fill: float | None
    ) -> None:
        self._reader, self._chosen, self._units = reader, chosen, units
        shape = reader.shape(chosen, units)
        self.shape: tuple[int, ...] = shape[:3]
        self.channels = shape[3] if len(shape) > 3 else 1
        self.nbytes = 4 * int(np.prod(shape))
        self._fill = fill
        self._padded = any(frame.padding is not None for frame in chosen.attributes)

    @property
    def even(self) -> bool:
        """One affine describes it, or it has no place in space at all."""
        group = self._chosen.group
        return self._chosen.layout.colour or group.orientation is None or is_even(group)

    @cached_property
    def affine_ras(self) -> Floats:
        """(slice, row, column) index to mm, RAS; the identity where the images have no place in space."""
        group = self._chosen.group
        return own_axes(group.affine_ras) if group.regular and group.orientation is not None else np.eye(4)

    @cached_property
    def fill(self) -> float:
        """What stands for padding and for what lies outside."""
        return fill_for(self._kind[1]) if self._fill is None else self._fill

    def read(self, start: Sequence[int], size: Sequence[int], out: Array) -> Array:
        """Fill `out` with a box; its frames are read whole."""
        whole = (size[0], *self.shape[1:])
        straight = tuple(size) == whole and self.channels == 1 and out.flags.c_contiguous
        values = out[0] if straight else self._values(whole)
        indexes = range(start[0], start[0] + size[0])
        self._reader.read(self._chosen, indexes, values, self._units, mask=self._masked, fill=self.fill)
        if self._masked and self._kind[0] not in ("modality", "suvbw"):
            # Maps and tables have no value for some stored ones, whether padding or not.
            np.copyto(values, self.fill, where=np.isnan(values))
        if not straight:
            (_, row, column), (_, rows, columns) = start, size
            cropped = values[:, row : row + rows, column : column + columns]
            out[...] = cropped[None] if self.channels == 1 else np.moveaxis(cropped, -1, 0)
        return out

    def whole(self) -> ArrayVolume:
        """Read all of it; what is uneven or tilted comes on an even, upright grid."""
        values = np.empty((self.channels, *self.shape), np.float32)
        self.read((0, 0, 0), self.shape, values)
        if self.even:
            return ArrayVolume(values, self.affine_ras, self.fill)
        image, affine = even_image(values[0], self._chosen.group, self.fill)
        return ArrayVolume(image[None], affine, self.fill)

    def laid(self, labels: Array) -> ArrayVolume:
        """Return labels of its slices, uint8 (slice, row, column), on the grid that `whole` gives."""
        if self.even:
            return ArrayVolume(labels[None], self.affine_ras)
        even, affine = even_labels(labels, self._chosen.group)
        return ArrayVolume(even[None], affine)

    def slice_affine(self, index: int) -> Floats:
        """Return the affine of one slice: (row, column, slice) index to mm, RAS."""
        return slice_affine(self._chosen.group, index)

    @property
    def _masked(self) -> bool:
        return self._padded and not self._plain

    @property
    def _plain(self) -> bool:
        """Values come as they are stored, or as colours."""
        return self._chosen.layout.colour or self._units == "stored"

    @cached_property
    def _kind(self) -> tuple[str, str]:
        """Kind of the values and their unit, as `VolumeReader.unit_of` has them."""
        return ("stored", "") if self._plain else self._reader.unit_of(self._chosen, self._units)[:2]

    def _values(self, shape: tuple[int, ...]) -> Array:
        return np.empty(shape if self.channels == 1 else (*shape, self.channels), np.float32)


def slice_affine(group: FrameGroup, index: int) -> Floats:
    """Return where one slice lies: also where the stack it belongs to is uneven.

    Parameters
    ----------
    group : FrameGroup
        Of the stack.
    index : int
        Which slice.

    Returns
    -------
    ndarray
        float64 (4, 4): (row, column, slice) index to mm, RAS; the identity without a place in space.
    """
    position = group.positions[index]
    if group.orientation is None or group.pixel_spacing is None or np.isnan(position).any():
        return np.eye(4)
    affine = group.slice_axes.copy()
    affine[:3, 3] = LPS_TO_RAS[:3, :3] @ position
    return affine


class Kept(Generic[T]):
    """What was made last, by name, within a number of bytes; safe to share between threads.

    Parameters
    ----------
    limit : int
        Bytes. What is larger than all of it is made anew each time.
    size : callable
        Bytes of one value.
    """

    def __init__(self, limit: int, size: Callable[[T], int]) -> None:
        self._limit, self._size = limit, size
        self._values: OrderedDict[Any, T] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    def get(self, name: Any, make: Callable[[], T]) -> T:
        """Return the value of that name, made if it isn't there."""
        with self._lock:
            if name in self._values:
                self._values.move_to_end(name)
                return self._values[name]
        value = make()
        with self._lock:
            if self._size(value) <= self._limit and name not in self._values:
                self._values[name] = value
                self._held += self._size(value)
            while self._held > self._limit:
                self._held -= self._size(self._values.popitem(last=False)[1])
        return value


__all__ = ["ArrayVolume", "EmptyVolume", "FrameVolume", "Kept", "Volume", "slice_affine"]
