"""Patches out of sealed bricks: what a training loop calls thousands of times a minute.

A patch of 64³ touches some 27 bricks, so a few microseconds a brick are what there is: bricks that
lie behind each other are read and opened together into memory that is kept, and each is written
into the patch with one assignment that converts on the way.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from voxelvault.derived.bricks import DAMAGED, BrickLayout, decode, read_index
from voxelvault.errors import ForkedProcess, IntegrityError, ObjectMissing, UsageError
from voxelvault.model import SealedRef
from voxelvault.storage.sealed_objects import SealedObjects

Array = npt.NDArray[Any]

EVICTED = "these copies were evicted; build the cache again"

JOIN_BYTES = 1 << 20
"""Longest joined range: fits the processor's cache, so that nothing goes through memory twice."""
JOIN_GAP = 48 << 10
"""Opening so many bytes more costs less than another read."""

_kept = threading.local()


class _Slab(NamedTuple):
    """One brick along one axis: its number, and which part of it goes where in the patch."""

    number: int
    inside: slice
    into: slice


class BrickReader:
    """Reads patches of one volume; safe to share between threads, never pickled.

    Parameters
    ----------
    sealed : SealedObjects
        The vault's area `derived`.
    ref : SealedRef
        The object.
    dek : bytes
        Its key.
    description : str or BrickLayout
        What the catalog says of it.

    Raises
    ------
    ObjectMissing, IntegrityError
        The copy was evicted, or is not what its reference says.
    """

    def __init__(
        self, sealed: SealedObjects, ref: SealedRef, dek: bytes, description: str | BrickLayout
    ) -> None:
        layout = description if isinstance(description, BrickLayout) else BrickLayout.from_json(description)
        with _StillThere():
            self._reader = sealed.reader(ref, dek)
            if self._reader.size < layout.index_bytes:
                raise IntegrityError(DAMAGED)
            raw = self._reader.read(0, layout.index_bytes)
        self._places = read_index(raw, layout, self._reader.size)
        self._pid = os.getpid()
        self.layout = layout
        self.shape, self.dtype = layout.shape, np.dtype(layout.dtype)
        self._fill = self.dtype.type(layout.fill)

    def __reduce__(self) -> NoReturn:
        raise UsageError("a reader holds a key and is never pickled: open it anew where it is needed")

    @property
    def affine_ras(self) -> npt.NDArray[np.float64]:
        """Index along the array's own three axes to mm, RAS: float64, shape (4, 4)."""
        return np.array(self.layout.affine_ras)

    @property
    def unit(self) -> str:
        """Unit of the values, such as HU."""
        return self.layout.unit

    @property
    def fill(self) -> float:
        """Value outside of the volume."""
        return self.layout.fill

    @property
    def labels(self) -> tuple[str, ...]:
        """For masks: label i + 1 is `labels[i]`."""
        return self.layout.labels

    def read(
        self,
        start: Sequence[int] = (0, 0, 0),
        size: Sequence[int] | None = None,
        out: Array | None = None,
    ) -> Array:
        """Read a patch; without arguments, the whole volume.

        Parameters
        ----------
        start : sequence of int
            Its first voxel along the three axes; may lie outside of the volume.
        size : sequence of int, optional
            Of the patch; what reaches outside of the volume gets the fill value.
        out : ndarray, optional
            Of that size, of a dtype that holds every stored value (float32 holds all that are
            stored); need not be contiguous. Of the stored dtype by default.

        Returns
        -------
        ndarray
            `out`.

        Raises
        ------
        UsageError
            `out` does not fit.
        ObjectMissing
            The copy was evicted.
        IntegrityError
            A stored byte is not what it was.
        ForkedProcess
            This process was forked from the one that opened the reader.
        """
        self._check_process()
        extent = self.shape if size is None else tuple(int(length) for length in size)
        if len(extent) != 3 or min(extent) < 0 or len(start) != 3:
            raise UsageError("a patch has three first voxels and three sizes")
        if out is None:
            out = np.empty(extent, self.dtype)
        elif out.shape != extent or not out.flags.writeable or not np.can_cast(self.dtype, out.dtype, "safe"):
            raise UsageError(f"out= must be a writeable array of shape {extent} that can hold {self.dtype}")
        a, b, c = (
            list(_slabs(int(first), length, whole, edge))
            for first, length, whole, edge in zip(start, extent, self.shape, self.layout.chunks, strict=True)
        )
        if any(s < 0 or s + n > w for s, n, w in zip(start, extent, self.shape, strict=True)):
            out[...] = self._fill
        if a and b and c:
            with _StillThere():
                self._fill_in(out, a, b, c)
        return out

    def brick(self, number: int) -> Array:
        """Return one brick, decoded, in memory that this thread's next read uses again.

        Parameters
        ----------
        number : int
            In C order.

        Raises
        ------
        ObjectMissing, IntegrityError, ForkedProcess
            As for `read`.
        """
        self._check_process()
        start, length = self._places[number]
        scratch = _scratch("brick", self.layout.brick_bytes)
        if not length:
            brick = scratch[: self.layout.brick_bytes].view(self.dtype).reshape(self.layout.chunks)
            brick[...] = self._fill
            return brick
        opened = _scratch("run", length).data[:length]
        with _StillThere():
            self._reader.read_into(start, opened)
        return decode(opened, self.layout, scratch)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedProcess("opened before a fork: start children with spawn or forkserver")

    def _fill_in(self, out: Array, a: list[_Slab], b: list[_Slab], c: list[_Slab]) -> None:
        """Bring every brick that the patch touches into its place."""
        _, rows, columns = self.layout.grid
        wanted = [
            (*self._places[(i.number * rows + j.number) * columns + k.number], i, j, k)
            for i in a
            for j in b
            for k in c
        ]
        put = self._put_half if self.dtype == np.float16 and out.dtype == np.float32 else _put
        scratch = _scratch("brick", self.layout.brick_bytes)
        layout = self.layout
        for first, last, begin, end in _runs(wanted):
            opened = _scratch("run", end - begin).data[: end - begin]
            self._reader.read_into(begin, opened)
            for start, length, i, j, k in wanted[first:last]:
                if length:
                    brick = decode(opened[start - begin : start - begin + length], layout, scratch)
                    put(brick[i.inside, j.inside, k.inside], out, (i.into, j.into, k.into))
        for _, length, i, j, k in wanted:
            if not length:
                out[i.into, j.into, k.into] = self._fill

    @staticmethod
    def _put_half(brick: Array, out: Array, where: tuple[slice, slice, slice]) -> None:
        """Turn half into single precision; NumPy's own way takes three times as long.

        Exponent and fraction move to their places, and 2¹¹² makes up for the other bias: exact for
        all finite numbers, and there are no others.
        """
        bits = brick.view(np.int16).astype(np.int32)
        np.left_shift(bits, 13, out=bits)
        np.bitwise_and(bits, np.int32(-0x70002000), out=bits)
        np.multiply(bits.view(np.float32), np.float32(2.0**112), out=out[where])


class _StillThere(AbstractContextManager[None]):
    """Says that a copy whose object is gone was evicted: there is nothing to verify or restore."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ObjectMissing):
            raise ObjectMissing(EVICTED) from None


def _put(brick: Array, out: Array, where: tuple[slice, slice, slice]) -> None:
    out[where] = brick


def _slabs(start: int, length: int, whole: int, edge: int) -> Iterator[_Slab]:
    """Cut what a patch and a volume share along one axis at the borders of bricks."""
    at, stop = max(start, 0), min(start + length, whole)
    while at < stop:
        number = at // edge
        end = min(stop, (number + 1) * edge)
        first = number * edge
        yield _Slab(number, slice(at - first, end - first), slice(at - start, end - start))
        at = end


def _runs(wanted: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, int, int, int]]:
    """Yield first, past the last, begin and end of bricks to be read together; those in C order lie so."""
    first, begin, end = -1, 0, 0
    for number, (start, length, *_) in enumerate(wanted):
        if not length:
            continue
        if first < 0 or not (0 <= start - end <= JOIN_GAP and start + length - begin <= JOIN_BYTES):
            if first >= 0:
                yield first, number, begin, end
            first, begin = number, start
        end = start + length
    if first >= 0:
        yield first, len(wanted), begin, end


def _scratch(name: str, length: int) -> Array:
    """Return this thread's memory of that name: fresh memory is what costs."""
    found: Array | None = getattr(_kept, name, None)
    if found is None or len(found) < length:
        found = np.empty(max(length, JOIN_BYTES), np.uint8)
        setattr(_kept, name, found)
    return found


__all__ = ["BrickReader"]
