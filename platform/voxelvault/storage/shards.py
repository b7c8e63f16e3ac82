"""Shards: the chunks of many frames in one object, behind an index (zarr v3 sharding_indexed)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import google_crc32c
import numpy as np

from voxelvault.errors import IntegrityError
from voxelvault.model import Buffer
from voxelvault.storage.sealed_objects import SealedReader

EMPTY = 0xFFFF_FFFF_FFFF_FFFF
"""What the shard index says of a chunk that isn't there (zarr v3 sharding_indexed)."""

JOIN_GAP = 64 << 10
"""Chunks closer than this are read as one range."""


def shard_index(lengths: Sequence[int], slots: int) -> bytes:
    """Return the index that opens a shard: offset and length of each chunk, then its CRC32C.

    Parameters
    ----------
    lengths : sequence of int
        Length of each chunk in bytes; chunks follow the index without gaps.
    slots : int
        Chunks that a whole shard has; the rest is marked empty.

    References
    ----------
    Zarr v3, sharding_indexed codec, ``index_location: start``.
    """
    at = 16 * slots + 4
    entries: list[int] = []
    for length in lengths:
        entries += (at, length)
        at += length
    entries += [EMPTY] * (2 * slots - len(entries))
    index = struct.pack(f"<{len(entries)}Q", *entries)
    return index + struct.pack("<I", crc32c(index))


def crc32c(data: Buffer) -> int:
    """Return the CRC-32C (Castagnoli) of the bytes."""
    return int(google_crc32c.value(bytes(data)))


class OpenShard:
    """One open shard: its sealed reader and its index."""

    def __init__(self, reader: SealedReader, slots: int, used: int) -> None:
        self.reader = reader
        raw = bytes(reader.read(0, 16 * slots + 4)) if reader.size >= 16 * slots + 4 else b""
        index = np.frombuffer(raw[:-4], "<u8").reshape(-1, 2)
        if not raw or crc32c(raw[:-4]) != struct.unpack("<I", raw[-4:])[0]:
            raise IntegrityError("a shard's index does not match its checksum; run `voxelvault verify`")
        starts, lengths = index[:used].T
        if (starts > reader.size).any() or (lengths > reader.size - starts).any():
            raise IntegrityError("a shard's index points outside of it; run `voxelvault verify`")
        self.index = index


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring chunks of one shard, read together: `start` to `stop` in its plaintext."""

    shard: int
    start: int
    stop: int
    items: tuple[tuple[int, int, int], ...]
    """(position in the request, start, length) of each chunk."""


def joined(wanted: Sequence[tuple[int, int, int, int]], limit: int) -> Iterator[Span]:
    """Join (shard, start, length, position), sorted, into spans of at most `limit` bytes or one chunk."""
    items: list[tuple[int, int, int]] = []
    shard, begin, end = -1, 0, 0
    for number, start, length, position in wanted:
        near = number == shard and start - end <= JOIN_GAP and start + length - begin <= limit
        if items and not near:
            yield Span(shard, begin, end, tuple(items))
            items = []
        if not items:
            shard, begin, end = number, start, start
        items.append((position, start, length))
        end = max(end, start + length)
    if items:
        yield Span(shard, begin, end, tuple(items))


__all__ = ["EMPTY", "JOIN_GAP", "OpenShard", "Span", "crc32c", "joined", "shard_index"]
