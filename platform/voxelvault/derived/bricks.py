"""How a volume is cut into bricks, and how they lie in one object.

::

    index | brick | brick | …          inside the seal

The index is that of a zarr v3 shard (`sharding_indexed`, at the start): offset and length of each
brick in C order, then a CRC-32C; a brick that holds nothing but the fill value isn't stored. So what
is sealed is one whole zarr shard. Raw bricks are cut so that they are nearly as long as segments and
laid at their borders: opening the seal of a brick opens nothing besides, which saves a quarter of the
time that a patch takes.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from operator import index as whole
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault.crypto.streaming_aead import FIRST_PLAIN, PLAIN_SEGMENT
from voxelvault.errors import IntegrityError, UsageError
from voxelvault.model import Buffer
from voxelvault.storage.shards import EMPTY, crc32c

Array = npt.NDArray[Any]
Triple = tuple[int, int, int]
Painted = tuple[tuple[int, tuple[int, ...]], ...]

DTYPES = ("float32", "float16", "int16", "uint8")
"""Of resampled volumes; frames have what was stored."""
CODECS = ("raw", "lz4", "zstd")
_BLOSC = {"lz4": ("lz4", 0), "zstd": ("zstd", 0), "fast": ("lz4", 1 << 17)}
"""Compressor and block size. `fast` frames are decoded three times as fast as Zstandard's, and are a
quarter larger: copies are there for speed."""
LARGEST_EDGE = 512
DAMAGED = "a cache is damaged: evict it and build it anew"
_SPARED = 8
"""A brick may move by this part of its size to lie at a segment's border."""


@dataclass(frozen=True, slots=True)
class BrickLayout:
    """What a reader must know of a volume in bricks.

    Parameters
    ----------
    shape : tuple of int
        Of the volume, in the order of its own axes.
    chunks : tuple of int
        Of each brick; bricks at the far borders are filled up.
    dtype : str
        NumPy name of the stored values.
    codec : {"raw", "lz4", "zstd", "fast"}
        How each brick is encoded: all but `raw` by Blosc, bytes shuffled.
    fill : float
        Value outside of the volume, and of bricks that aren't stored.
    affine_ras : tuple of tuple of float
        (4, 4): index along the array's own three axes to mm, RAS.
    unit : str
        Unit of the values, such as HU; empty where there is none.
    labels : tuple of str
        For masks: label i + 1 is `labels[i]`.
    pack : tuple of (str, int) or None
        For frames: the pack and the stack in it that they are copies of.
    painted : tuple of (int, tuple of int)
        For masks: the labels that there are objects for, and which labels cover voxels of each.
    """

    shape: Triple
    chunks: Triple
    dtype: str
    codec: str
    fill: float
    affine_ras: tuple[tuple[float, ...], ...]
    unit: str = ""
    labels: tuple[str, ...] = ()
    pack: tuple[str, int] | None = None
    painted: Painted = ()

    @property
    def grid(self) -> Triple:
        """Bricks along each axis."""
        a, b, c = (-(-size // edge) for size, edge in zip(self.shape, self.chunks, strict=True))
        return a, b, c

    @property
    def slots(self) -> int:
        """Bricks in all."""
        return math.prod(self.grid)

    @property
    def brick_bytes(self) -> int:
        """Length of a decoded brick in bytes."""
        return math.prod(self.chunks) * np.dtype(self.dtype).itemsize

    @property
    def index_bytes(self) -> int:
        """Length of the index at the object's start."""
        return 16 * self.slots + 4

    def to_json(self) -> str:
        """Return what the catalog keeps."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> BrickLayout:
        """Return what `to_json` was given.

        Raises
        ------
        IntegrityError
            It describes no bricks.
        """
        try:
            found: dict[str, Any] = json.loads(text)
            for name in ("shape", "chunks", "labels"):
                found[name] = tuple(found[name])
            found["affine_ras"] = tuple(tuple(float(x) for x in row) for row in found["affine_ras"])
            found["pack"] = None if found["pack"] is None else tuple(found["pack"])
            found["painted"] = tuple((value, tuple(over)) for value, over in found.get("painted", ()))
            layout = cls(**found)
            layout.check()
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            raise IntegrityError(DAMAGED) from None
        return layout

    def check(self) -> None:
        """Refuse what describes no bricks; `ValueError` or `TypeError`."""
        sizes, edges = [whole(size) for size in self.shape], [whole(edge) for edge in self.chunks]
        if len(sizes) != 3 or len(edges) != 3 or min(sizes) < 0 or min(edges) < 1:
            raise ValueError("sizes")
        if self.codec not in (*CODECS, "fast") or self.dtype not in np.sctypeDict:
            raise ValueError("codec or dtype")
        if np.dtype(self.dtype).itemsize < 1 or [len(row) for row in self.affine_ras] != [4] * 4:
            raise ValueError("dtype or affine")
        float(self.fill)


def check_chunks(chunks: int | Sequence[int]) -> int | Triple:
    """Return the edge of bricks, or three.

    Raises
    ------
    UsageError
        They are not numbers from 1 to 512.
    """
    edges = (chunks,) * 3 if isinstance(chunks, int) else tuple(int(edge) for edge in chunks)
    if len(edges) != 3 or min(edges) < 1 or max(edges) > LARGEST_EDGE:
        raise UsageError(f"chunks= is the edge of a brick in voxels, or three of them: 1 to {LARGEST_EDGE}")
    return chunks if isinstance(chunks, int) else (edges[0], edges[1], edges[2])


def check_fill(fill: float, dtype: str) -> None:
    """Refuse a fill value that bricks of a dtype can't hold.

    Raises
    ------
    UsageError
        It is out of range, or not whole where the dtype is.
    """
    target = np.dtype(dtype)
    info: Any = np.iinfo(target) if target.kind in "iu" else np.finfo(target)
    # Written so that nan fails, too.
    if not float(info.min) <= fill <= float(info.max):
        raise UsageError(f"fill= is from {info.min:g} to {info.max:g} for {dtype}; pass another")
    if target.kind in "iu" and fill != int(fill):
        raise UsageError(f"fill= is a whole number for {dtype}")


def brick_shape(shape: Triple, chunks: int | Triple, dtype: str, codec: str) -> Triple:
    """Return the shape of a volume's bricks: as given, or about cubes of one edge that fit it well.

    Edges go from three quarters to five quarters of the one given. What counts is the room that all
    bricks take, filled up at the volume's borders; raw bricks that don't end at a segment's border
    are held against it, since reading them opens a segment more.
    """
    if not isinstance(chunks, int):
        a, b, c = (min(edge, size) for edge, size in zip(chunks, shape, strict=True))
        return a, b, c
    size = np.dtype(dtype).itemsize
    rows, columns = (_edges(length, chunks) for length in shape[1:])
    found: list[tuple[float, Triple]] = []
    for b in rows:
        for c in columns:
            for a in _edges(shape[0], chunks) | _whole_segments(shape[0], chunks, b * c * size, codec):
                bricks = math.prod(-(-n // edge) for n, edge in zip(shape, (a, b, c), strict=True))
                found.append((bricks * _room(a * b * c * size, codec), (a, b, c)))
    whole = math.prod(shape) * size
    # Among those that take about as much room, long rows are written into a patch fastest.
    return min(found, key=lambda cost: (round(20 * cost[0] / whole), -cost[1][2], -math.prod(cost[1])))[1]


def _edges(length: int, edge: int) -> set[int]:
    """Return edges near the one given that cut a length into like parts."""
    low, high = max(1, edge * 3 // 4), edge * 5 // 4
    even = {-(-length // parts) for parts in range(max(1, length // high), -(-length // low) + 1)}
    return {found for found in even if low <= found <= high} | {min(edge, length)}


def _whole_segments(length: int, edge: int, layer: int, codec: str) -> set[int]:
    """Return how many layers make bricks that are about as long as whole segments."""
    segments = max(1, round(edge * layer / PLAIN_SEGMENT))
    layers = segments * PLAIN_SEGMENT // layer
    return {layers} if codec == "raw" and edge * 3 // 4 <= layers <= min(length, edge * 5 // 4) else set()


def _room(size: int, codec: str) -> float:
    """Return the bytes that a brick takes, counted half again as much where its ends lie in segments."""
    if codec != "raw":
        return size
    whole = -(-size // PLAIN_SEGMENT) * PLAIN_SEGMENT
    return whole if whole - size <= size // _SPARED else 1.5 * size


def cut(volume: Array, layout: BrickLayout) -> Iterator[Array | None]:
    """Yield the bricks of a volume in C order; None where all is fill.

    Parameters
    ----------
    volume : ndarray
        Of the layout's shape and dtype.
    """
    fill = np.array(layout.fill, volume.dtype)
    for corner in np.ndindex(*layout.grid):
        starts = [place * edge for place, edge in zip(corner, layout.chunks, strict=True)]
        part = volume[tuple(slice(s, s + e) for s, e in zip(starts, layout.chunks, strict=True))]
        if (part == fill).all():
            yield None
            continue
        if part.shape == layout.chunks:
            yield np.ascontiguousarray(part)
            continue
        whole = np.full(layout.chunks, fill)
        whole[tuple(slice(0, size) for size in part.shape)] = part
        yield whole


def encoded(volume: Array, layout: BrickLayout) -> Iterator[Buffer]:
    """Yield what is sealed: the index, then bricks, with zeros between where they are laid at borders.

    Encoded bricks are held until all are known, since the index comes first: at most a volume.
    """
    bricks = [None if brick is None else encode(brick, layout.codec) for brick in cut(volume, layout)]
    places = place([0 if brick is None else len(brick) for brick in bricks], layout.index_bytes)
    at = layout.index_bytes
    yield _index(places)
    for brick, (start, length) in zip(bricks, places, strict=True):
        if brick is None:
            continue
        yield bytes(start - at)
        yield brick
        at = start + length


def place(lengths: Sequence[int], start: int) -> list[tuple[int, int]]:
    """Return offset and length of bricks behind an index; bricks of length 0 are nowhere."""
    places, at = [], start
    for length in lengths:
        if not length:
            places.append((EMPTY, EMPTY))
            continue
        border = _next_border(at)
        gap = border - at
        # Where a brick at the border opens fewer segments, a small gap is worth it.
        near = gap <= length // _SPARED or at == start
        if near and _segments(border, length) < _segments(at, length):
            at = border
        places.append((at, length))
        at += length
    return places


def _next_border(at: int) -> int:
    return FIRST_PLAIN + -(-(at - FIRST_PLAIN) // PLAIN_SEGMENT) * PLAIN_SEGMENT


def _segments(at: int, length: int) -> int:
    """Return how many segments hold a range; the first one is shorter."""
    offset = PLAIN_SEGMENT - FIRST_PLAIN
    return (at + length - 1 + offset) // PLAIN_SEGMENT - (at + offset) // PLAIN_SEGMENT + 1


def _index(places: Sequence[tuple[int, int]]) -> bytes:
    flat = np.array(places, "<u8").tobytes()
    return flat + struct.pack("<I", crc32c(flat))


def read_index(raw: Buffer, layout: BrickLayout, size: int) -> list[tuple[int, int]]:
    """Return offset and length of every brick; length 0 for those that aren't stored.

    Raises
    ------
    IntegrityError
        The index does not match its checksum, or points outside of the object.
    """
    data = bytes(raw)
    if len(data) != layout.index_bytes or crc32c(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
        raise IntegrityError(DAMAGED)
    index = np.frombuffer(data[:-4], "<u8").reshape(-1, 2)
    there = index[:, 0] != EMPTY
    starts, lengths = index[there].T
    if (starts > size).any() or (lengths > size - starts).any():
        raise IntegrityError(DAMAGED)
    found = np.zeros(index.shape, np.int64)
    found[there] = index[there]
    return [(start, length) for start, length in found.tolist()]


@cache
def _blosc() -> Any:
    # One thread a brick: the patches of a batch are spread over processes already.
    import numcodecs.blosc

    numcodecs.blosc.use_threads = False
    return numcodecs.blosc


def encode(brick: Array, codec: str) -> Buffer:
    """Encode one brick; what comes back is never empty."""
    flat = brick.reshape(-1).view(np.uint8)
    if codec == "raw":
        return flat.data
    blosc, (name, block) = _blosc(), _BLOSC[codec]
    return bytes(blosc.compress(flat, name.encode(), 1, blosc.SHUFFLE, block, brick.itemsize))


def decode(chunk: memoryview, layout: BrickLayout, scratch: Array) -> Array:
    """Return a decoded brick, a view of the chunk or of the scratch array.

    Parameters
    ----------
    chunk : memoryview
        Encoded bytes.
    scratch : ndarray
        uint8, at least as long as a decoded brick.

    Raises
    ------
    IntegrityError
        The chunk has the wrong length, or does not decode.
    """
    if layout.codec == "raw":
        if len(chunk) != layout.brick_bytes:
            raise IntegrityError(DAMAGED)
        return np.frombuffer(chunk, layout.dtype).reshape(layout.chunks)
    # Bytes 4 and 12 of a chunk say how long it is decoded and as it lies: the decoder believes both.
    if len(chunk) < 16 or struct.unpack_from("<I4xI", chunk, 4) != (layout.brick_bytes, len(chunk)):
        raise IntegrityError(DAMAGED)
    flat = scratch[: layout.brick_bytes]
    try:
        _blosc().decompress(chunk, flat)
    except (RuntimeError, ValueError) as error:
        raise IntegrityError(DAMAGED) from error
    return flat.view(layout.dtype).reshape(layout.chunks)


__all__ = [
    "CODECS",
    "DTYPES",
    "BrickLayout",
    "brick_shape",
    "check_chunks",
    "check_fill",
    "decode",
    "encoded",
    "read_index",
]
