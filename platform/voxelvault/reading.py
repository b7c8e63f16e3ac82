"""Frames of a volume into arrays: which pack each comes from, and what its values become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from voxelvault import conversion
from voxelvault.dicom.read import Header
from voxelvault.errors import NoPixels, UsageError
from voxelvault.handles import Handle
from voxelvault.model import new_id
from voxelvault.packs import PackCache
from voxelvault.resources import Resources
from voxelvault.stacks import FrameRef, FrameStack
from voxelvault.storage.codecs import DICOM_FRAME

if TYPE_CHECKING:
    import dask.array

Array = npt.NDArray[Any]

BLOCK_BYTES = 16 << 20
"""Stored bytes of one dask block, about."""


class VolumeReader:
    """Reads volumes of one open series.

    Parameters
    ----------
    resources : Resources
        The open vault.
    series_id : str
        Opaque id of the series.
    handle : Handle
        Counts what is read, and refuses after closing.
    """

    def __init__(self, resources: Resources, series_id: str, handle: Handle) -> None:
        self._resources = resources
        self._series_id = series_id
        self._handle = handle
        self._packs = PackCache(resources)
        self._headers: dict[str, Header] = {}

    def shape(self, chosen: FrameStack) -> tuple[int, ...]:
        """Return (slice, row, column), with three samples for colour."""
        layout = chosen.layout
        frame = (layout.rows, layout.columns)
        return (len(chosen.refs), *frame, 3) if layout.colour else (len(chosen.refs), *frame)

    def dtype(self, chosen: FrameStack, units: str | None) -> np.dtype[Any]:
        """Return the dtype that values of this kind get unless another is asked for."""
        if chosen.layout.palette:
            return np.dtype(np.uint8)
        if chosen.layout.colour or units == "stored":
            return np.dtype(chosen.layout.dtype)
        return np.dtype(np.float32)

    def read_whole_numbers(self, chosen: FrameStack, out: Array, units: str | None) -> Array:
        """Fill an integer array; `UsageError` where it can't hold every value."""
        for index in range(len(chosen.refs)):
            values = np.empty((1, *out.shape[1:]), np.float64)
            self.read(chosen, [index], values, units, mask=False)
            info = np.iinfo(out.dtype)
            whole = np.rint(values)
            if np.abs(whole - values).max() > 1e-6 or whole.min() < info.min or whole.max() > info.max:
                raise UsageError(f"{out.dtype} cannot hold these values; use float32")
            out[index] = whole[0]
        return out

    def lazy(self, chosen: FrameStack, units: str | None) -> dask.array.Array:
        """Return the volume as a dask array, a block for some frames."""
        import dask.array

        frames = _LazyFrames(self, chosen, units)
        per_block = max(1, BLOCK_BYTES // max(1, int(np.prod(frames.shape[1:])) * frames.dtype.itemsize))
        return dask.array.from_array(  # type: ignore[no-untyped-call,no-any-return]
            frames, chunks=(per_block, *frames.shape[1:]), asarray=False, name=f"series-{new_id()}"
        )

    def read(
        self,
        chosen: FrameStack,
        indexes: Sequence[int],
        out: Array,
        units: str | None,
        mask: bool,
        threads: int | None = None,
    ) -> None:
        """Fill `out` with the frames of those indexes; each pack's frames are read together."""
        self._handle.check()
        groups: dict[tuple[str, int], list[int]] = {}
        for position, index in enumerate(indexes):
            ref = chosen.refs[index]
            groups.setdefault((ref.pack_id, ref.stack), []).append(position)
        for (pack_id, stack), positions in groups.items():
            reader = self._packs.reader(pack_id)
            turns = self._turns(chosen, [indexes[p] for p in positions], units, mask)
            whole = len(groups) == 1
            reader.read(
                stack,
                [chosen.refs[indexes[p]].frame for p in positions],
                out if whole else _Slots(out, positions),  # type: ignore[arg-type]
                None if turns is None and whole else _converter(turns),
                threads=threads,
            )
        self._handle.count(len(indexes), out.nbytes)

    def _turns(
        self, chosen: FrameStack, indexes: Sequence[int], units: str | None, mask: bool
    ) -> list[conversion.Turn] | None:
        """Return what makes values of each frame; None where stored values are wanted as they are."""
        refs = [chosen.refs[index] for index in indexes]
        key = self._packs.reader(refs[0].pack_id).manifest.stacks[refs[0].stack].key
        if units != "stored" and chosen.layout.colour:
            return [self._colour_turn(ref) for ref in refs]
        kind, _, mapping = conversion.unit_of(
            units, chosen.attributes[0], self.header(chosen.refs[0].instance_id)
        )
        if kind == "stored":
            turn = conversion.stored_turn(key)
            return None if turn is None else [turn] * len(refs)
        if mapping is not None:
            return [conversion.real_world_turn(key, mapping)] * len(refs)
        factor = conversion.suv_factor(self.header(chosen.refs[0].instance_id)) if kind == "suvbw" else 1.0
        return [conversion.modality_turn(key, chosen.attributes[index], factor, mask) for index in indexes]

    def _colour_turn(self, ref: FrameRef) -> conversion.Turn:
        reader = self._packs.reader(ref.pack_id)
        key = reader.manifest.stacks[ref.stack].key
        if key.spec.photometric == "PALETTE COLOR":
            return conversion.palette_turn(
                key, reader.literal_head(reader.manifest.instance(ref.instance_id))
            )
        codestream = reader.chunks(ref.stack, [ref.frame])[0] if key.codec == DICOM_FRAME else None
        return conversion.rgb_turn(key, codestream)

    def header(self, instance_id: str) -> Header:
        """Return an instance's header from the catalog."""
        found = self._headers.get(instance_id)
        if found is None:
            rows = self._resources.catalog.query(
                "select header from instances where instance_id = $id and series_id = $series",
                {"id": instance_id, "series": self._series_id},
            ).to_pylist()
            if not rows:
                raise NoPixels("the catalog lacks this instance; run `voxelvault verify`")
            found = self._headers[instance_id] = Header.from_json(rows[0]["header"])
        return found


class _LazyFrames:
    """A volume as dask sees it: reads the frames that a block asks for, in the block's own thread."""

    def __init__(self, reader: VolumeReader, chosen: FrameStack, units: str | None) -> None:
        self._reader, self._chosen, self._units = reader, chosen, units
        self.shape = reader.shape(chosen)
        if units == "stored" and chosen.layout.samples == 1:
            self.shape = self.shape[:3]
        self.dtype = reader.dtype(chosen, units)
        if units == "stored":
            self.dtype = np.dtype(chosen.layout.dtype)
        self.ndim = len(self.shape)

    def __getitem__(self, key: tuple[slice, ...]) -> Array:
        indexes = range(*key[0].indices(self.shape[0]))
        out = np.empty((len(indexes), *self.shape[1:]), self.dtype)
        self._reader.read(self._chosen, indexes, out, self._units, mask=True, threads=1)
        return np.asarray(out[(slice(None), *key[1:])])


class _Slots:
    """Rows of an array by a list of positions: where the frames of one pack go in a volume."""

    def __init__(self, out: Array, positions: Sequence[int]) -> None:
        self._out, self._positions = out, positions

    def __getitem__(self, position: int) -> Array:
        return np.asarray(self._out[self._positions[position]])


def _converter(turns: Sequence[conversion.Turn] | None) -> Callable[[int, Array, Array], None]:
    def convert(position: int, stored: Array, slot: Array) -> None:
        if turns is None:
            slot[...] = stored
        else:
            turns[position](stored, slot)

    return convert
