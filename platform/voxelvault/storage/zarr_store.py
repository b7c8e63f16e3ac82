"""The zarr face of sealed objects: a pack read through zarr, and arrays written sealed.

Both subclass `zarr.abc.store.Store` itself, never a wrapper: what isn't written here isn't there, so
no method can fall through to a store that writes plaintext.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Protocol, TypeAlias

from voxelvault.crypto.streaming_aead import Kind
from voxelvault.errors import ObjectExists, UsageError
from voxelvault.model import Buffer, SealedRef
from voxelvault.storage.importing import whole
from voxelvault.storage.sealed_objects import SealedObjects, SealedReader

with whole("zarr"):
    from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
    from zarr.core.buffer import Buffer as ZarrBuffer
    from zarr.core.buffer import BufferPrototype


class RangeReader(Protocol):
    """Ranges of one stored value; `SealedReader` is one."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def read(self, start: int, stop: int) -> Buffer:
        """Return the bytes from `start` to `stop`, authenticated."""


Entry: TypeAlias = bytes | RangeReader
"""A value at hand (a `zarr.json`), or one that is read by range (a shard)."""


class PackStore(Store):
    """A pack as a read-only zarr store.

    Parameters
    ----------
    entries : mapping of str to bytes or RangeReader
        Every key of the store. The mapping binds each key to its object, so that a shard put in the
        place of another doesn't open.

    Notes
    -----
    zarr takes an absent key for a chunk of fill values. So an object that is listed but lost or
    changed raises (`ObjectMissing`, `IntegrityError`); it never reads as absent.
    """

    supports_writes: bool = False
    supports_deletes: bool = False
    supports_listing: bool = True

    def __init__(self, entries: Mapping[str, Entry], *, read_only: bool = True) -> None:
        super().__init__(read_only=read_only)
        self._entries = entries

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> ZarrBuffer | None:
        """Return a value or a range of it; None for a key that the pack doesn't have."""
        await self._ensure_open()
        if key not in self._entries:
            return None
        data = await asyncio.to_thread(self._read, key, byte_range)
        return prototype.buffer.from_bytes(data)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[ZarrBuffer | None]:
        """Return several ranges, in the order asked for."""
        return list(await asyncio.gather(*(self.get(key, prototype, span) for key, span in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Say whether the pack has the key."""
        return key in self._entries

    async def getsize(self, key: str) -> int:
        """Return a value's length in bytes; `FileNotFoundError` for a key that the pack doesn't have."""
        if key not in self._entries:
            raise FileNotFoundError(key)
        return await asyncio.to_thread(lambda: _size(self._entries[key]))

    async def set(self, key: str, value: ZarrBuffer) -> None:
        """Refuse: a pack is immutable (`ValueError`, as zarr's callers expect)."""
        self._check_writable()
        raise UsageError("a pack is never written again: ingest makes a new one")

    async def delete(self, key: str) -> None:
        """Refuse: a pack is immutable (`ValueError`, as zarr's callers expect)."""
        self._check_writable()
        raise UsageError("a pack is never written again: ingest makes a new one")

    async def list(self) -> AsyncIterator[str]:
        """Yield every key."""
        for key in tuple(self._entries):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys that start with `prefix`."""
        for key in tuple(self._entries):
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names directly below `prefix`, each once."""
        folder = prefix.rstrip("/")
        start = f"{folder}/" if folder else ""
        below = (key.removeprefix(start) for key in tuple(self._entries) if key.startswith(start))
        for name in dict.fromkeys(rest.partition("/")[0] for rest in below):
            yield name

    def with_read_only(self, read_only: bool = False) -> PackStore:
        """Return a read-only store over the same entries; a writable one is refused."""
        if not read_only:
            raise UsageError("a pack is never written again: open it with mode='r'")
        return PackStore(self._entries)

    def __eq__(self, value: object) -> bool:
        return type(value) is type(self) and self._entries is value._entries

    __hash__ = Store.__hash__

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._entries)} entries)"

    def _read(self, key: str, byte_range: ByteRequest | None) -> Buffer:
        entry = self._entries[key]
        start, stop = _span(byte_range, _size(entry))
        return entry[start:stop] if isinstance(entry, bytes) else entry.read(start, stop)


class SealedEntries(Mapping[str, RangeReader]):
    """Readers of sealed objects by key, each opened at its first use and kept.

    Parameters
    ----------
    sealed : SealedObjects
        Where the objects are.
    refs : mapping of str to SealedRef
        Which object each key is; keys added later are seen.
    dek : bytes
        The one key of them all.
    """

    def __init__(self, sealed: SealedObjects, refs: Mapping[str, SealedRef], dek: bytes) -> None:
        self._sealed = sealed
        self._refs = refs
        self._dek = dek
        self._readers: dict[str, SealedReader] = {}

    def __getitem__(self, key: str) -> RangeReader:
        ref = self._refs[key]
        reader = self._readers.get(key)
        if reader is None:
            # Two threads may both open it; either reader is good.
            reader = self._readers.setdefault(key, self._sealed.reader(ref, self._dek))
        return reader

    def __contains__(self, key: object) -> bool:
        return key in self._refs

    def __iter__(self) -> Iterator[str]:
        return iter(self._refs)

    def __len__(self) -> int:
        return len(self._refs)


class WritableSealedStore(PackStore):
    """A zarr store that seals each value, `zarr.json` too, as an object of its own.

    A value is set once and whole: a second set and the deletion of a stored key are refused, so a
    partial write, which zarr makes by reading a shard and setting it again, fails instead of sealing
    everything twice. Write arrays in whole shards.

    Parameters
    ----------
    sealed : SealedObjects
        Where the objects go.
    dek : bytes
        Seals them all.
    key_id : str
        Id of that key.
    kind : int
        What the objects hold.

    Attributes
    ----------
    refs : dict of str to SealedRef
        What was written: keep it, sealed, to open the store again (`SealedEntries`).
    """

    supports_writes: bool = True

    def __init__(self, sealed: SealedObjects, dek: bytes, key_id: str, kind: int = Kind.DERIVED) -> None:
        self.refs: dict[str, SealedRef] = {}
        super().__init__(SealedEntries(sealed, self.refs, dek), read_only=False)
        self._sealed = sealed
        self._dek = dek
        self._key_id = key_id
        self._kind = kind
        self._claimed: set[str] = set()
        self._guard = threading.Lock()

    async def set(self, key: str, value: ZarrBuffer) -> None:
        """Seal one value under its key.

        Raises
        ------
        ObjectExists
            The key was set before: the write was partial, or came twice.
        StorageError
            The store refused; nothing was stored, and the key may be set again.
        """
        await self._ensure_open()
        if not self._claim(key):
            raise ObjectExists("a sealed chunk is written once: write whole shards, or make a new array")
        await asyncio.to_thread(self._seal, key, memoryview(value.as_buffer_like()))

    async def set_if_not_exists(self, key: str, value: ZarrBuffer) -> None:
        """Seal one value unless its key was set before."""
        await self._ensure_open()
        if self._claim(key):
            await asyncio.to_thread(self._seal, key, memoryview(value.as_buffer_like()))

    async def delete(self, key: str) -> None:
        """Do nothing for an absent key (zarr deletes chunks of fill values); refuse for a stored one."""
        if key in self._claimed:
            raise UsageError("a sealed chunk is never deleted alone: make a new array")

    def _claim(self, key: str) -> bool:
        with self._guard:
            if key in self._claimed:
                return False
            self._claimed.add(key)
            return True

    def _seal(self, key: str, data: memoryview) -> None:
        try:
            self.refs[key] = self._sealed.put(self._kind, self._dek, self._key_id, [data])
        except BaseException:
            self._claimed.discard(key)
            raise


def _size(entry: Entry) -> int:
    return len(entry) if isinstance(entry, bytes) else entry.size


def _span(request: ByteRequest | None, size: int) -> tuple[int, int]:
    """Return start and stop of a request, cut to the value's size."""
    match request:
        case None:
            start, stop = 0, size
        case RangeByteRequest(first, end):
            start, stop = first, end
        case OffsetByteRequest(offset):
            start, stop = offset, size
        case SuffixByteRequest(suffix):
            start, stop = size - suffix, size
        case _:
            raise ValueError(f"Unexpected byte_range, got {request!r}: give one of zarr.abc.store's requests")
    start = min(max(start, 0), size)
    return start, max(start, min(stop, size))


__all__ = ["Entry", "PackStore", "RangeReader", "SealedEntries", "WritableSealedStore"]
