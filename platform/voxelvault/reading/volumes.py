"""Frames of a volume into arrays: which pack each comes from, and what its values become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from voxelvault.dicom.frames import FrameAttributes
from voxelvault.dicom.read import Header
from voxelvault.dicom.values import RealWorldMap
from voxelvault.errors import NoPixels, UsageError
from voxelvault.model import new_id
from voxelvault.reading import conversion
from voxelvault.reading.headers import HeaderSource
from voxelvault.reading.lent import Lender, LentFrames, lent_reader
from voxelvault.reading.packs import PackSource
from voxelvault.reading.stacks import FrameRef, FrameStack
from voxelvault.storage.codecs import DICOM_FRAME
from voxelvault.storage.pack import StackKey
from voxelvault.storage.pack_reader import PackReader

if TYPE_CHECKING:
    import dask.array

Array = npt.NDArray[Any]

BLOCK_BYTES = 16 << 20
"""Stored bytes of one dask block, about."""


class Guard(Protocol):
    """What reads ask before and tell after: a handle, or a loan that is open."""

    def check(self) -> None:
        """Refuse when reading is over, or this is a forked child."""

    def count(self, frames: int, size: int) -> None:
        """Count a read."""


class VolumeReader:
    """Reads volumes of one open series, wherever packs and headers come from.

    Parameters
    ----------
    packs : PackSource
        Opens the packs.
    headers : HeaderSource
        Finds the headers.
    guard : Guard
        Refuses after closing, and counts what is read.
    threads : int, optional
        Decoding threads of each read; by default as the packs were opened with.
    lender : Lender, optional
        Lets the reader pickle, as a loan.
    """

    def __init__(
        self,
        packs: PackSource,
        headers: HeaderSource,
        guard: Guard,
        threads: int | None = None,
        lender: Lender | None = None,
    ) -> None:
        self._packs = packs
        self._headers = headers
        self._guard = guard
        self._threads = threads
        self._lender = lender

    def __reduce__(self) -> tuple[Any, ...]:
        return lent_reader, (self.lender.loan(),)

    def check(self) -> None:
        """Refuse when reading is over; see `Guard`."""
        self._guard.check()

    @property
    def lender(self) -> Lender:
        """What lends the series to other processes.

        Raises
        ------
        UsageError
            This reader stays here.
        """
        if self._lender is None:
            raise UsageError("this reader stays in its process; lend the series (`reading.lending.lend`)")
        return self._lender

    def shape(self, chosen: FrameStack, units: str | None = None) -> tuple[int, ...]:
        """Return (slice, row, column), with three samples for colour; palette indexes have one."""
        layout = chosen.layout
        samples = layout.samples if units == "stored" or not layout.colour else 3
        frame = (len(chosen.refs), layout.rows, layout.columns)
        return (*frame, samples) if samples > 1 else frame

    def dtype(self, chosen: FrameStack, units: str | None) -> np.dtype[Any]:
        """Return the dtype that values of this kind get unless another is asked for."""
        if units == "stored":
            return np.dtype(chosen.layout.dtype)
        if chosen.layout.palette:
            return np.dtype(np.uint8)
        return np.dtype(chosen.layout.dtype) if chosen.layout.colour else np.dtype(np.float32)

    def bits(self, chosen: FrameStack) -> int:
        """Return how many bits of a stored value are in use."""
        return self._key(chosen.refs[0]).spec.bits_stored

    def load(
        self,
        chosen: FrameStack,
        *,
        dtype: npt.DTypeLike | None = None,
        out: Array | None = None,
        units: str | None = None,
        mask: bool = True,
    ) -> Array:
        """Read a volume into memory; see `Series.load`."""
        self._guard.check()
        shape = self.shape(chosen, units)
        target = np.dtype(dtype) if dtype is not None else self.dtype(chosen, units)
        if out is None:
            out = np.empty(shape, target)
        fits = out.shape == shape and out.flags.c_contiguous and out.flags.writeable
        if not fits or (dtype is not None and out.dtype != target):
            raise UsageError(
                f"out= must be a writeable C-contiguous array of shape {shape} and dtype {target}"
            )
        if out.dtype.kind in "iu" and out.dtype != self.dtype(chosen, units):
            return self.read_whole_numbers(chosen, out, units)
        self.read(chosen, range(len(chosen.refs)), out, units, mask)
        return out

    def read_whole_numbers(self, chosen: FrameStack, out: Array, units: str | None) -> Array:
        """Fill an integer array; `UsageError` where it can't hold every value."""
        info = np.iinfo(out.dtype)
        step = max(1, BLOCK_BYTES // max(1, 8 * int(np.prod(out.shape[1:]))))
        for first in range(0, len(chosen.refs), step):
            indexes = range(first, min(first + step, len(chosen.refs)))
            values = np.empty((len(indexes), *out.shape[1:]), np.float64)
            self.read(chosen, indexes, values, units, mask=False)
            whole = np.rint(values)
            # Written so that nan fails, too.
            near = np.abs(whole - values).max(initial=0) <= 1e-6
            if not (near and whole.min(initial=0) >= info.min and whole.max(initial=0) <= info.max):
                raise UsageError(f"{out.dtype} cannot hold these values; use float32")
            out[first : indexes.stop] = whole
        return out

    def lazy(self, chosen: FrameStack, units: str | None) -> dask.array.Array:
        """Return the volume as a dask array, a block for some frames."""
        import dask.array

        frames = LazyFrames(self, chosen, units)
        per_block = max(1, BLOCK_BYTES // max(1, int(np.prod(frames.shape[1:])) * frames.dtype.itemsize))
        return dask.array.from_array(  # type: ignore[no-untyped-call,no-any-return]
            frames,
            chunks=(per_block, *frames.shape[1:]),
            asarray=False,
            fancy=False,
            name=f"series-{new_id()}",
        )

    def read(
        self,
        chosen: FrameStack,
        indexes: Sequence[int],
        out: Array,
        units: str | None,
        mask: bool,
        threads: int | None = None,
        fill: float = np.nan,
    ) -> None:
        """Fill `out` with the frames of those indexes; each pack's frames are read together.

        Where they are masked, modality values and SUV have `fill` for padding, all others NaN.
        """
        self._guard.check()
        groups: dict[tuple[str, int], list[int]] = {}
        for position, index in enumerate(indexes):
            ref = chosen.refs[index]
            groups.setdefault((ref.pack_id, ref.stack), []).append(position)
        for (pack_id, stack), positions in groups.items():
            reader = self._packs.reader(pack_id)
            turns = self._turns(chosen, [indexes[p] for p in positions], units, mask, fill)
            whole = len(groups) == 1
            straight = whole and turns is None and out.dtype == self.dtype(chosen, "stored")
            reader.read(
                stack,
                [chosen.refs[indexes[p]].frame for p in positions],
                out if whole else _Slots(out, positions),  # type: ignore[arg-type]
                None if straight else _converter(turns),
                threads=threads or self._threads,
            )
        self._guard.count(len(indexes), out.nbytes)

    def _turns(
        self, chosen: FrameStack, indexes: Sequence[int], units: str | None, mask: bool, fill: float
    ) -> list[conversion.Turn] | None:
        """Return what makes values of each frame; None where stored values are wanted as they are."""
        refs = [chosen.refs[index] for index in indexes]
        key = self._key(refs[0])
        if units != "stored" and chosen.layout.colour:
            turns = {ref.instance_id: ref for ref in reversed(refs)}
            made = {instance_id: self._colour_turn(key, ref) for instance_id, ref in turns.items()}
            return [made[ref.instance_id] for ref in refs]
        if units == "stored":
            turn = conversion.stored_turn(key)
            return None if turn is None else [turn] * len(refs)
        kind, unit, _ = self.unit_of(chosen, units)
        if kind != "modality":
            self._headers.know([ref.instance_id for ref in refs])
        frames = [chosen.attributes[index] for index in indexes]
        return [
            self._turn(key, ref, frame, kind, unit, mask, fill)
            for ref, frame in zip(refs, frames, strict=True)
        ]

    def _turn(
        self,
        key: StackKey,
        ref: FrameRef,
        frame: FrameAttributes,
        kind: str,
        unit: str,
        mask: bool,
        fill: float,
    ) -> conversion.Turn:
        """Return what makes values of one frame: each has its own slope, map or table."""
        if kind == "modality":
            return conversion.modality_turn(key, frame, 1.0, mask, fill)
        if kind == "modality_lut":
            return conversion.lookup_turn(key, frame, self._head(ref), mask)
        header = self.header(ref.instance_id)
        if kind == "suvbw":
            return conversion.modality_turn(key, frame, conversion.suv_factor(header), mask, fill)
        _, own, mapping = conversion.unit_of("real_world", frame, lambda: header)
        if mapping is None or own != unit:
            raise NoPixels("the frames have real world values of several units; use units='modality'")
        return conversion.real_world_turn(key, frame, mapping, mask)

    def unit_of(self, chosen: FrameStack, units: str | None) -> tuple[str, str, RealWorldMap | None]:
        """Return kind, unit and map of a volume's values, as its first frame has them."""
        first = chosen.refs[0].instance_id
        return conversion.unit_of(units, chosen.attributes[0], lambda: self.header(first))

    def pack(self, pack_id: str) -> PackReader:
        """Return the reader of one of the series' packs."""
        self._guard.check()
        return self._packs.reader(pack_id)

    def count(self, frames: int, size: int) -> None:
        """Count what was read past this reader."""
        self._guard.count(frames, size)

    def _key(self, ref: FrameRef) -> StackKey:
        return self._packs.reader(ref.pack_id).manifest.stacks[ref.stack].key

    def _head(self, ref: FrameRef) -> bytes:
        reader = self._packs.reader(ref.pack_id)
        return reader.literal_head(reader.manifest.instance(ref.instance_id))

    def _colour_turn(self, key: StackKey, ref: FrameRef) -> conversion.Turn:
        """Return what makes RGB of an instance's frames; its first frame tells how all were coded."""
        if key.spec.photometric == "PALETTE COLOR":
            return conversion.palette_turn(key, self._head(ref))
        reader = self._packs.reader(ref.pack_id)
        codestream = reader.chunks(ref.stack, [ref.frame])[0] if key.codec == DICOM_FRAME else None
        return conversion.rgb_turn(key, codestream)

    def header(self, instance_id: str) -> Header:
        """Return an instance's header."""
        self._guard.check()
        return self._headers.header(instance_id)

    def headers(self, instance_ids: Sequence[str]) -> list[Header]:
        """Return several instances' headers, read at once where that can be."""
        self._guard.check()
        self._headers.know(instance_ids)
        return [self._headers.header(instance_id) for instance_id in instance_ids]


class LazyFrames:
    """A volume as dask sees it: reads the frames that a block asks for, in the block's own thread."""

    def __init__(self, reader: VolumeReader, chosen: FrameStack, units: str | None) -> None:
        self._reader, self._chosen, self._units = reader, chosen, units
        self.shape, self.dtype = reader.shape(chosen, units), reader.dtype(chosen, units)
        self.ndim = len(self.shape)

    def __reduce__(self) -> tuple[Any, ...]:
        lender = self._reader.lender
        labels = [stack.label for stack in lender.source.stacks]
        return LentFrames, (lender.loan(), labels.index(self._chosen.label), self._units)

    def __getitem__(self, key: tuple[slice | int, ...]) -> Array:
        # Dask hands a slice of a slice down to here, so a key may be a number as well.
        wanted = np.arange(self.shape[0])[key[0]]
        out = np.empty((wanted.size, *self.shape[1:]), self.dtype)
        self._reader.read(self._chosen, wanted.reshape(-1).tolist(), out, self._units, mask=True, threads=1)
        return np.asarray(out[(slice(None) if wanted.ndim else 0, *key[1:])])


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
