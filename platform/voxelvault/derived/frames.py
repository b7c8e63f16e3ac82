"""Frames out of fast copies, through the reader that frames come through anyway.

A copy stands in for one stack of one pack: whoever reads frames gets the same stored values, and
headers, chunks and files still come from the pack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar, cast

import numpy.typing as npt

from voxelvault.derived.brick_reader import BrickReader
from voxelvault.errors import ObjectMissing, UsageError
from voxelvault.reading.packs import PackSource
from voxelvault.storage.pack_reader import Convert, PackReader

Array = npt.NDArray[Any]
Named = TypeVar("Named")

_A_THREAD = 8
"""Frames that are worth a thread of their own."""


def there(open_copy: Callable[[Named], BrickReader], copies: Iterable[Named]) -> list[BrickReader]:
    """Return readers of the copies that are there: frames of one that was evicted come from its pack."""
    readers = []
    for copy in copies:
        with suppress(ObjectMissing):
            readers.append(open_copy(copy))
    return readers


class CopiedPacks:
    """Packs some of whose stacks are read from copies; a `PackSource`.

    Parameters
    ----------
    packs : PackSource
        Opens the packs.
    copies : iterable of BrickReader
        Of kind `frames`: their layouts say what they are copies of.
    """

    def __init__(self, packs: PackSource, copies: Iterable[BrickReader]) -> None:
        self._packs = packs
        self._copies: dict[str, dict[int, BrickReader]] = {}
        for copy in copies:
            if copy.layout.pack is None:
                raise UsageError("these are no copies of frames: make them with `cache_frames`")
            pack_id, stack = copy.layout.pack
            self._copies.setdefault(pack_id, {})[stack] = copy

    def reader(self, pack_id: str) -> PackReader:
        """Return the reader of one pack."""
        reader, copies = self._packs.reader(pack_id), self._copies.get(pack_id)
        return cast(PackReader, _CopiedReader(reader, copies)) if copies else reader


class _CopiedReader:
    """A pack's reader whose `read` takes frames from copies where there are any."""

    def __init__(self, reader: PackReader, copies: Mapping[int, BrickReader]) -> None:
        self._reader, self._copies = reader, copies

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def read(
        self,
        stack: int,
        frames: Sequence[int],
        out: Array,
        convert: Convert | None = None,
        threads: int | None = None,
    ) -> Array:
        """Read frames of one stack; see `PackReader.read`."""
        copy = self._copies.get(stack)
        if copy is None:
            return self._reader.read(stack, frames, out, convert, threads)
        try:
            return self._read(copy, stack, frames, out, convert, threads)
        except ObjectMissing:
            # Evicted meanwhile: the pack has the same frames.
            return self._reader.read(stack, frames, out, convert, threads)

    def _read(
        self,
        copy: BrickReader,
        stack: int,
        frames: Sequence[int],
        out: Array,
        convert: Convert | None,
        threads: int | None,
    ) -> Array:
        key = self._reader.manifest.stacks[stack].key
        if any(not 0 <= frame < copy.shape[0] for frame in frames):
            raise UsageError(f"there is no such frame: this stack has frames 0 to {copy.shape[0] - 1}")
        if convert is None and (out.shape != (len(frames), *key.shape) or out.dtype != copy.dtype):
            raise UsageError(
                f"out must be an array of shape {(len(frames), *key.shape)} and dtype {copy.dtype}"
            )

        def work(position: int) -> None:
            # A frame is a brick.
            frame = copy.brick(frames[position]).reshape(key.shape)
            if convert is None:
                out[position] = frame
            else:
                convert(position, frame, out[position])

        workers = min(threads or 1, len(frames) // _A_THREAD)
        if workers <= 1:
            for position in range(len(frames)):
                work(position)
        else:
            with ThreadPoolExecutor(workers) as executor:
                list(executor.map(work, range(len(frames))))
        return out


__all__ = ["CopiedPacks", "there"]
