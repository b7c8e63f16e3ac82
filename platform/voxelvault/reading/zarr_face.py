"""An open series as zarr: a read-only store whose chunks are decoded when they are read.

One array a volume, in order of space, whichever packs hold its frames; so what zarr and xarray show
is what `load` gives. Chunks are slices in plain bytes: no reader needs a codec of ours. The packs'
own arrays, in order of arrival and as they are stored, are `storage.zarr_pack`'s.

References
----------
Zarr v3 core specification; consolidated metadata as zarr-python writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from voxelvault.reading.lent import lent_reader, lent_source
from voxelvault.reading.stacks import FrameStack, choose
from voxelvault.storage.zarr_store import Entry, PackStore

if TYPE_CHECKING:
    from zarr import Array as ZarrArray

    from voxelvault.reading.lending import Loan
    from voxelvault.reading.series_files import SeriesFiles
    from voxelvault.reading.volumes import VolumeReader

VOLUME = "volume"
AXES = ("slice", "row", "column", "sample")
POSITIONS = ("position_x", "position_y", "position_z")

Document = dict[str, Any]


class VolumeEntries(Mapping[str, Entry]):
    """Every key of an open series as a zarr store.

    Parameters
    ----------
    reader : VolumeReader
        Reads the series; counts on its handle, and refuses after closing.
    stacks : tuple of FrameStack
        Its volumes. One alone lies at the root; of several each has a group, ``0``, ``1``, ….
    units : str, optional
        As for `Series.load`.
    """

    def __init__(
        self, reader: VolumeReader, stacks: tuple[FrameStack, ...], units: str | None = None
    ) -> None:
        self._reader, self._stacks, self._units = reader, stacks, units

    def __reduce__(self) -> tuple[Any, ...]:
        return _lent_entries, (self._reader.lender.loan(), self._units)

    def __getitem__(self, key: str) -> Entry:
        self._reader.check()
        document = self._documents.get(key)
        if document is not None:
            return document
        folder, array, chunk = _parts(key)
        stack = self._folders[folder]
        index = self._index(stack, array, chunk)
        if index is None:
            raise KeyError(key)
        if array == VOLUME:
            return _Slice(self._reader, stack, index, self._units)
        positions = stack.group.positions[:, POSITIONS.index(array)]
        return np.ascontiguousarray(positions, "<f8").tobytes()

    def __contains__(self, key: object) -> bool:
        if key in self._documents:
            return True
        folder, array, chunk = _parts(str(key))
        return folder in self._folders and self._index(self._folders[folder], array, chunk) is not None

    def __iter__(self) -> Iterator[str]:
        yield from self._documents
        for folder, stack in self._folders.items():
            zeros = "/0" * (len(self._reader.shape(stack, self._units)) - 1)
            yield from (f"{folder}{VOLUME}/c/{index}{zeros}" for index in range(len(stack.refs)))
            yield from (f"{folder}{name}/c/0" for name in POSITIONS)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @cached_property
    def _folders(self) -> dict[str, FrameStack]:
        if len(self._stacks) == 1:
            return {"": self._stacks[0]}
        return {f"{number}/": stack for number, stack in enumerate(self._stacks)}

    @cached_property
    def _documents(self) -> dict[str, bytes]:
        """Every `zarr.json`; each group's has those below it, too."""
        arrays = {folder: self._arrays(stack) for folder, stack in self._folders.items()}
        groups = {folder: _group(below) for folder, below in arrays.items()}
        if "" not in groups:
            below = {folder.rstrip("/"): _group({}) for folder in groups}
            for folder, found in arrays.items():
                below |= {folder + name: document for name, document in found.items()}
            groups[""] = _group(below)
        documents = {f"{folder}zarr.json": document for folder, document in groups.items()}
        for folder, found in arrays.items():
            documents |= {f"{folder}{name}/zarr.json": document for name, document in found.items()}
        return {key: json.dumps(document).encode() for key, document in documents.items()}

    def _arrays(self, stack: FrameStack) -> dict[str, Document]:
        shape, dtype = self._reader.shape(stack, self._units), self._reader.dtype(stack, self._units)
        found = {VOLUME: _array(shape, (1, *shape[1:]), dtype, AXES, self._attributes(stack))}
        for name in POSITIONS:
            attributes = {"units": "mm", "frame": "LPS"}
            found[name] = _array(shape[:1], shape[:1], np.dtype(np.float64), AXES, attributes)
        return found

    def _attributes(self, stack: FrameStack) -> Document:
        found: Document = {"stack": stack.label, "coordinates": " ".join(POSITIONS)}
        if not stack.layout.colour:
            found["units"] = self._reader.unit_of(stack, self._units)[1]
        if stack.group.regular and stack.group.spacing is not None:
            found["affine_lps"] = stack.group.affine_lps.tolist()
            found["affine_ras"] = stack.group.affine_ras.tolist()
            found["spacing"] = [float(step) for step in stack.group.spacing]
        return found

    def _index(self, stack: FrameStack, array: str, chunk: str) -> int | None:
        """Return which chunk of an array this is; None where there is no such chunk."""
        if array in POSITIONS:
            return 0 if chunk == "0" else None
        first, *rest = chunk.split("/")
        last = len(self._reader.shape(stack, self._units)) - 1
        fits = array == VOLUME and first.isdecimal() and rest == ["0"] * last
        return int(first) if fits and int(first) < len(stack.refs) and str(int(first)) == first else None


class _Slice:
    """One slice, decoded at each read."""

    def __init__(self, reader: VolumeReader, stack: FrameStack, index: int, units: str | None) -> None:
        self._reader, self._stack, self._index, self._units = reader, stack, index, units
        self._shape = (1, *reader.shape(stack, units)[1:])
        self._dtype = reader.dtype(stack, units)

    @property
    def size(self) -> int:
        """Length in bytes."""
        return int(np.prod(self._shape)) * self._dtype.itemsize

    def read(self, start: int, stop: int) -> memoryview:
        """Return bytes of the slice's values, little-endian."""
        out: npt.NDArray[Any] = np.empty(self._shape, self._dtype)
        # zarr asks for several chunks at once, each in a thread of its own.
        self._reader.read(self._stack, [self._index], out, self._units, mask=True, threads=1)
        plain = out.astype(out.dtype.newbyteorder("<"), copy=False)
        return plain.reshape(-1).view(np.uint8).data[start:stop]


class ZarrFace:
    """What gives a series its zarr faces; `Series` is one."""

    _reader: VolumeReader

    if TYPE_CHECKING:

        @property
        def _stacks(self) -> tuple[FrameStack, ...]: ...

    @property
    def store(self) -> PackStore:
        """The series as a read-only zarr store, for `xarray.open_zarr` and `zarr.open_group`.

        A series of one volume has the array `volume`, (slice, row, column[, sample]), what `load`
        gives, and `position_x`, `position_y`, `position_z` (slice) mm, LPS; `affine_ras` and
        `affine_lps` are attributes. Of several volumes each has a group, ``0``, ``1``, … as in
        `stacks` (`xarray.open_zarr(series.store, group="0")`). Chunks are slices, decrypted and
        decoded when they are read, under this series' handle.
        """
        return PackStore(VolumeEntries(self._reader, self._stacks))

    def zarr(self, stack: int | str | None = None, *, units: str | None = None) -> ZarrArray[Any]:
        """Return a volume as a read-only zarr array: what `load` gives, a chunk a slice.

        Parameters
        ----------
        stack : int or str, optional
            Which volume, where there are several.
        units : str, optional
            As for `load`: ``"stored"`` for stored values.

        Raises
        ------
        StackChoiceNeeded
            Several volumes; the message lists them.
        """
        from zarr import open_array

        chosen = choose(self._stacks, stack)
        folder = "" if len(self._stacks) == 1 else f"{self._stacks.index(chosen)}/"
        store = PackStore(VolumeEntries(self._reader, self._stacks, units))
        return open_array(store, path=folder + VOLUME, mode="r")

    @property
    def filesystem(self) -> SeriesFiles:
        """The same store as an fsspec file system, read-only: `filesystem.get_mapper()`, `.url`."""
        from voxelvault.reading.series_files import SeriesFiles

        return SeriesFiles(entries=VolumeEntries(self._reader, self._stacks))


def _lent_entries(loan: Loan, units: str | None) -> VolumeEntries:
    return VolumeEntries(lent_reader(loan), lent_source(loan).stacks, units)


def _parts(key: str) -> tuple[str, str, str]:
    """Return group, array and chunk of a key; empty ones where it is no chunk's."""
    path, _, chunk = key.partition("/c/")
    folder, slash, array = path.rpartition("/")
    return folder + slash, array, chunk


def _group(below: Mapping[str, Document]) -> Document:
    metadata = {"kind": "inline", "must_understand": False, "metadata": dict(below)}
    return {"zarr_format": 3, "node_type": "group", "attributes": {}, "consolidated_metadata": metadata}


def _array(
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: np.dtype[Any],
    axes: tuple[str, ...],
    attributes: Document,
) -> Document:
    endian = {"configuration": {"endian": "little"}} if dtype.itemsize > 1 else {}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "NaN" if dtype.kind == "f" else 0,
        "codecs": [{"name": "bytes", **endian}],
        "dimension_names": list(axes[: len(shape)]),
        "attributes": attributes,
    }


__all__ = ["VolumeEntries", "ZarrFace"]
