"""Sealed objects in an object store: written once under a random id, read by range.

The store holds ciphertext, `SealedRef` says what it must be, and the two meet here. Memory is
bounded and reused: one window of segments is read, decrypted into its place, and the next follows.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator
from typing import NoReturn

from voxelvault.crypto.streaming_aead import (
    HEAD_LENGTH,
    HEADER_LENGTH,
    PLAIN_SEGMENT,
    SEGMENT,
    Opener,
    Preamble,
    Sealer,
)
from voxelvault.errors import IntegrityError, UsageError
from voxelvault.model import Buffer, ObjectStore, SealedRef, new_id
from voxelvault.storage.layout import OBJECTS, object_name

_SLICE = 1 << 20
"""Plaintext given to the sealer at a time, in bytes."""
_WINDOW = 8
"""Segments read at a time: 512 KiB stay in the processor's cache between reading and decrypting."""

_scratch = threading.local()


class SealedObjects:
    """Sealed objects of one vault in one area of its store.

    Parameters
    ----------
    objects : ObjectStore
        Where the ciphertext lies.
    vault_id : str
        32 hexadecimal digits; part of what every seal authenticates.
    area : str
        `objects`, or `derived` for caches.
    """

    def __init__(self, objects: ObjectStore, vault_id: str, area: str = OBJECTS) -> None:
        self.objects = objects
        self.vault_id = vault_id
        self.area = area

    def name(self, object_id: str) -> str:
        """Return the name under which the store holds an object."""
        return object_name(self.area, object_id)

    def put(
        self, kind: int, dek: bytes, key_id: str, parts: Iterable[Buffer], object_id: str | None = None
    ) -> SealedRef:
        """Seal the parts into one new object.

        Parameters
        ----------
        kind : int
            What it holds (`crypto.streaming_aead.Kind`).
        dek : bytes
            32 bytes.
        key_id : str
            Id of the key that opens it; for objects of a pack, the pack's id.
        parts : iterable of buffer
            Plaintext in order, taken one by one; a part may be a reused buffer.
        object_id : str, optional
            A fresh random id by default.

        Returns
        -------
        SealedRef
            What the manifest keeps of it.

        Raises
        ------
        ObjectExists
            The id is taken.
        StorageError
            The store refused; nothing was stored.
        """
        object_id = object_id or new_id()
        sealing = _Sealing(dek, Preamble(int(kind), object_id, key_id), self.vault_id)
        self.objects.put(self.name(object_id), sealing.pieces(parts))
        return SealedRef(object_id, key_id, int(kind), sealing.length, sealing.sha256)

    def reader(self, ref: SealedRef, dek: bytes) -> SealedReader:
        """Return a reader of plaintext ranges, its key derived and the object's length checked.

        Raises
        ------
        ObjectMissing
            It is not in the store.
        IntegrityError
            It is longer or shorter than its reference says, or is another object.
        """
        self._check_length(ref)
        head = bytearray(HEAD_LENGTH)
        name = self.name(ref.object_id)
        self.objects.read_into(name, 0, memoryview(head))
        expect = Preamble(ref.kind, ref.object_id, ref.key_id)
        return SealedReader(self.objects, name, Opener(dek, head, self.vault_id, ref.length, expect))

    def read(self, ref: SealedRef, dek: bytes, start: int = 0, stop: int | None = None) -> bytearray:
        """Return the plaintext from `start` to `stop`; see `reader` and `SealedReader.read`."""
        return self.reader(ref, dek).read(start, stop)

    def open_whole(self, ref: SealedRef, dek: bytes) -> bytearray:
        """Return the whole plaintext after comparing the ciphertext's SHA-256 with the reference.

        A forger who holds the DEK can seal other bytes under the same ids: only the digest tells.
        For manifests and other small objects: it holds plaintext and ciphertext at once.

        Raises
        ------
        ObjectMissing, IntegrityError
            As `reader`, or the digest differs.
        """
        self._check_length(ref)
        sealed = memoryview(self.objects.get(self.name(ref.object_id)))
        _check_digest(ref, len(sealed), hashlib.sha256(sealed).hexdigest())
        expect = Preamble(ref.kind, ref.object_id, ref.key_id)
        opener = Opener(dek, sealed[:HEAD_LENGTH], self.vault_id, ref.length, expect)
        first, last = opener.cipher_range(0, opener.size)
        out = bytearray(opener.size)
        opener.open_range(sealed[first:last], 0, opener.size, memoryview(out))
        return out

    def verify(self, ref: SealedRef) -> None:
        """Check length and SHA-256 of the ciphertext; no key is needed.

        Raises
        ------
        ObjectMissing
            It is not in the store.
        IntegrityError
            It is not what its reference says.
        """
        self._check_length(ref)
        _check_digest(ref, ref.length, self._digest(ref.object_id, ref.length))

    def describe(self, object_id: str) -> SealedRef:
        """Return the reference that the stored bytes suggest.

        It proves nothing by itself: compare its digest with one that a manifest or the log commits.

        Raises
        ------
        ObjectMissing
            It is not in the store.
        IntegrityError
            The bytes are no sealed object, or one under another id.
        """
        name = self.name(object_id)
        length = self.objects.size(name)
        head = bytearray(HEAD_LENGTH)
        self.objects.read_into(name, 0, memoryview(head))
        preamble = Preamble.unpack(head)
        if preamble.object_id != object_id:
            raise IntegrityError(f"object {object_id} holds another object: restore it from a backup")
        digest = self._digest(object_id, length)
        return SealedRef(object_id, preamble.key_id, int(preamble.kind), length, digest)

    def preamble(self, object_id: str) -> Preamble:
        """Return what the clear head of an object says; it proves nothing by itself.

        Raises
        ------
        ObjectMissing
            It is not in the store.
        IntegrityError
            The bytes are no sealed object.
        """
        head = bytearray(HEAD_LENGTH)
        self.objects.read_into(self.name(object_id), 0, memoryview(head))
        return Preamble.unpack(head)

    def delete(self, object_id: str) -> None:
        """Remove an object; no error when it is not there."""
        self.objects.delete(self.name(object_id))

    def _check_length(self, ref: SealedRef) -> None:
        # Before anything else: earlier ranges of a cut object would open.
        found = self.objects.size(self.name(ref.object_id))
        if found != ref.length:
            raise IntegrityError(
                f"object {ref.object_id} has {found} bytes instead of {ref.length}: restore it from a backup"
            )

    def _digest(self, object_id: str, length: int) -> str:
        digest = hashlib.sha256()
        for start in range(0, length, _WINDOW * SEGMENT):
            window = _window(min(_WINDOW * SEGMENT, length - start))
            self.objects.read_into(self.name(object_id), start, window)
            digest.update(window)
        return digest.hexdigest()


class SealedReader:
    """Plaintext ranges of one sealed object; safe to share between threads.

    Parameters
    ----------
    objects : ObjectStore
        Where the ciphertext lies.
    name : str
        The object's name there.
    opener : Opener
        Holds the derived key.
    """

    def __init__(self, objects: ObjectStore, name: str, opener: Opener) -> None:
        self._objects = objects
        self._name = name
        self._opener = opener

    @property
    def size(self) -> int:
        """Length of the plaintext in bytes."""
        return self._opener.size

    def read(self, start: int = 0, stop: int | None = None) -> bytearray:
        """Return the plaintext from `start` to `stop` (its end by default).

        Raises
        ------
        UsageError
            The range reaches outside the object.
        IntegrityError
            A byte of it was changed, moved or cut.
        """
        stop = self.size if stop is None else stop
        # Before memory of that size is asked for.
        if not 0 <= start <= stop <= self.size:
            raise UsageError(f"bytes {start} to {stop} are not in an object of {self.size} bytes")
        out = bytearray(stop - start)
        self.read_into(start, memoryview(out))
        return out

    def read_into(self, start: int, out: memoryview) -> None:
        """Fill `out` with plaintext from `start` on.

        Raises
        ------
        UsageError
            The range reaches outside the object.
        IntegrityError
            A byte of it was changed, moved or cut; `out` is then all zero.
        """
        raw = _flat(out)
        try:
            for low, high in _windows(start, start + len(raw)):
                self._open(low, high, raw[low - start : high - start])
        except BaseException:
            # No verified tag, no bytes: not those of the earlier windows either.
            raw[:] = bytes(len(raw))
            raise

    def _open(self, start: int, stop: int, out: memoryview) -> None:
        first, last = self._opener.cipher_range(start, stop)
        cipher = _window(last - first)
        self._objects.read_into(self._name, first, cipher)
        self._opener.open_range(cipher, start, stop, out)

    def __reduce__(self) -> NoReturn:
        raise UsageError("a reader holds a key and is never pickled: open it anew where it is needed")


class _Sealing:
    """Turns the sealer's pushing into the pieces that a store pulls."""

    def __init__(self, dek: bytes, preamble: Preamble, vault_id: str) -> None:
        # One slice flushes at most what the sealer held back (a slice's worth) and itself.
        self._staged = memoryview(bytearray(3 * _SLICE))
        self._filled = 0
        self._sealer = Sealer(dek, preamble, vault_id, self._stage)
        self.length = 0
        self.sha256 = ""

    def pieces(self, parts: Iterable[Buffer]) -> Iterator[memoryview]:
        """Yield the ciphertext, once; each piece is valid until the next is asked for."""
        try:
            for part in parts:
                view = _flat(part)
                for start in range(0, len(view), _SLICE):
                    self._sealer.write(view[start : start + _SLICE])
                    yield from self._take()
            self.length, self.sha256 = self._sealer.close()
            yield from self._take()
        finally:
            # The sealer knows this object, too: a megabyte would wait for the collector.
            del self._sealer

    def _stage(self, piece: memoryview) -> None:
        self._staged[self._filled : self._filled + len(piece)] = piece
        self._filled += len(piece)

    def _take(self) -> Iterator[memoryview]:
        if self._filled:
            yield self._staged[: self._filled]
        self._filled = 0


def _windows(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Cut a plaintext range at segment borders, so that no segment is read twice."""
    if start == stop:
        yield start, stop
    step = _WINDOW * PLAIN_SEGMENT
    while start < stop:
        # The first segment is shorter by the header: count as if the header were plaintext.
        border = ((start + HEADER_LENGTH) // step + 1) * step - HEADER_LENGTH
        yield start, min(border, stop)
        start = min(border, stop)


def _window(length: int) -> memoryview:
    """Return this thread's scratch memory, cut to a length of at most one window."""
    memory: memoryview | None = getattr(_scratch, "memory", None)
    if memory is None:
        memory = _scratch.memory = memoryview(bytearray(_WINDOW * SEGMENT))
    return memory[:length]


def _flat(data: Buffer) -> memoryview:
    view = memoryview(data)
    return view.cast("B") if view.nbytes else memoryview(bytearray())


def _check_digest(ref: SealedRef, length: int, digest: str) -> None:
    if (length, digest) != (ref.length, ref.sha256):
        raise IntegrityError(f"object {ref.object_id} was changed: restore it from a backup")


__all__ = ["SealedObjects", "SealedReader"]
