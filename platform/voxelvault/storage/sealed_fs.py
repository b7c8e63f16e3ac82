"""`sealed://`: the SQL engine's Parquet files as sealed objects under opaque names.

The engine names its files by table and by time; here each name is the HMAC of the path, so a
listing tells neither. Every file is sealed under a DEK of its own.

The engine never really deletes: a lost commit answer makes it remove files that were committed.
`rm` records the wish, and maintenance deletes what no snapshot references.
"""

from __future__ import annotations

import hmac
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from fsspec.spec import AbstractFileSystem

from voxelvault.crypto.key_tree import Role
from voxelvault.crypto.streaming_aead import HEAD_LENGTH, Kind, Opener, Preamble, Sealer, plain_length
from voxelvault.errors import IntegrityError, NoPermission, ObjectMissing, StorageError, VoxelVaultError
from voxelvault.model import ObjectStore
from voxelvault.storage.layout import CATALOG, object_name

PROTOCOL = "sealed"

_SPOOL = 32 << 20
_WINDOW = 4 << 20
_OPEN_FILES = 256
# Objects are immutable, so any constant is the truth that the engine's cache needs.
_MODIFIED = datetime(2000, 1, 1, tzinfo=UTC)


class FileKeys(Protocol):
    """What the file system asks of the key ring."""

    def new_key(self, role: Role) -> str:
        """Stage a fresh key and return its id."""

    def dek(self, key_id: str) -> bytes:
        """Return the raw key."""


class Failures:
    """The last error of ours that the engine swallowed into one of its own, for who catches that."""

    def __init__(self) -> None:
        self.last: VoxelVaultError | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Remember an error of ours that passes."""
        try:
            yield
        except VoxelVaultError as error:
            self.last = error
            raise

    def take(self) -> VoxelVaultError | None:
        """Return the error and forget it."""
        error, self.last = self.last, None
        # Its traceback holds frames, and so the reader: the engine relies on that going.
        return None if error is None else error.with_traceback(None)


class SealedFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """An fsspec file system over sealed objects.

    Parameters
    ----------
    objects : ObjectStore
        Where the objects lie.
    keys : FileKeys
        A key ring; it is asked for one key a written file.
    vault_id : str
        Bound into every file's seal.
    paths_key : bytes
        Key of the HMAC from paths to object ids.
    allowed : collection of str, optional
        Object ids that may be opened. Given, the file system is read-only, every other file does
        not exist in it, and it lists nothing.

    References
    ----------
    RFC 2104 (HMAC); Tink streaming AEAD, AES256-GCM-HKDF.
    """

    protocol = PROTOCOL
    cachable = False

    def __init__(
        self,
        objects: ObjectStore,
        keys: FileKeys,
        *,
        vault_id: str,
        paths_key: bytes,
        allowed: Collection[str] | None = None,
    ) -> None:
        super().__init__()
        self._objects = objects
        self._keys = keys
        self._vault_id = vault_id
        self._paths_key = paths_key
        self._allowed = None if allowed is None else frozenset(allowed)
        self._openers: OrderedDict[str, Opener] = OrderedDict()
        self._guard = threading.Lock()
        self.failures = Failures()
        self.wished: set[str] = set()
        """Object ids that the engine asked to delete."""

    def object_id(self, path: str) -> str:
        """Return the opaque id that stands for a path: the first 16 bytes of its HMAC-SHA256."""
        plain = path.removeprefix(f"{PROTOCOL}://").strip("/")
        return hmac.digest(self._paths_key, plain.encode(), "sha256")[:16].hex()

    def restricted(self, allowed: Collection[str]) -> SealedFileSystem:
        """Return a read-only face that knows only these object ids."""
        return SealedFileSystem(
            self._objects, self._keys, vault_id=self._vault_id, paths_key=self._paths_key, allowed=allowed
        )

    def open(self, path: str, mode: str = "rb", **_: Any) -> SealedReader | SealedWriter:
        """Open a file to read, or to write once from its beginning.

        Raises
        ------
        NoPermission
            Writing through a read-only face.
        ObjectMissing
            There is no such file in this face.
        IntegrityError
            The object is not what its name, key or length says.
        """
        with self.failures.noted():
            object_id = self.object_id(path)
            return self._read(object_id) if mode == "rb" else self._write(object_id, mode)

    def key_id(self, object_id: str) -> str:
        """Return the id of the key that seals an object, from its preamble."""
        return self._head(object_id)[1].key_id

    def size(self, path: str) -> int:
        """Return the length of the plain file in bytes."""
        return plain_length(self._objects.size(self._name(self.object_id(path))))

    def modified(self, path: str) -> datetime:
        """Return one fixed moment: files never change."""
        return _MODIFIED

    def exists(self, path: str, **_: Any) -> bool:
        """Say whether the file is there in this face."""
        return self.isfile(path)

    def isfile(self, path: str) -> bool:
        """Say whether the file is there in this face."""
        try:
            self._objects.size(self._name(self.object_id(path)))
        except ObjectMissing:
            return False
        return True

    def isdir(self, path: str) -> bool:
        """Say no: there are no folders, only names."""
        return False

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Do nothing: there are no folders."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Do nothing: there are no folders."""

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Record the wish and delete nothing; raising here would make the engine's rollback fail."""
        if self._allowed is None:
            self.wished.add(self.object_id(path))

    def glob(self, path: str, maxdepth: int | None = None, **_: Any) -> list[str]:
        """Return the path itself if it is a file of a writable face: opaque names can't be listed."""
        return [path] if self._allowed is None and self.isfile(path) else []

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Return nothing: opaque names can't be turned back into paths."""
        return []

    def __reduce__(self) -> Any:
        """Refuse: keys stay in their process."""
        raise TypeError("a sealed file system holds keys and can't be pickled: open the vault there instead")

    def _read(self, object_id: str) -> SealedReader:
        return SealedReader(self._objects, self._name(object_id), self._opener(object_id), self.failures)

    def _write(self, object_id: str, mode: str) -> SealedWriter:
        if mode != "wb" or self._allowed is not None:
            raise NoPermission("this sealed file system opens files to read only: write through the vault")
        key_id = self._keys.new_key(Role.PARQUET)
        sealer = partial(
            Sealer, self._keys.dek(key_id), Preamble(Kind.PARQUET, object_id, key_id), self._vault_id
        )
        return SealedWriter(self._objects, self._name(object_id), sealer, self.failures)

    def _name(self, object_id: str) -> str:
        if self._allowed is not None and object_id not in self._allowed:
            raise ObjectMissing("no such file among those this session may read: query the tables instead")
        return object_name(CATALOG, object_id)

    def _head(self, object_id: str) -> tuple[bytes, Preamble]:
        head = bytearray(HEAD_LENGTH)
        self._objects.read_into(self._name(object_id), 0, memoryview(head))
        preamble = Preamble.unpack(head)
        if preamble.object_id != object_id or preamble.kind != Kind.PARQUET:
            raise IntegrityError("a catalog file is not the one its name says: run `voxelvault verify`")
        return bytes(head), preamble

    def _opener(self, object_id: str) -> Opener:
        with self._guard:
            if object_id in self._openers:
                self._openers.move_to_end(object_id)
                return self._openers[object_id]
        opener = self._prove(object_id)
        with self._guard:
            self._openers[object_id] = opener
            while len(self._openers) > _OPEN_FILES:
                self._openers.popitem(last=False)
        return opener

    def _prove(self, object_id: str) -> Opener:
        """Open a file's last segment first: only the true length lets it open."""
        head, preamble = self._head(object_id)
        name = self._name(object_id)
        opener = Opener(
            self._keys.dek(preamble.key_id), head, self._vault_id, self._objects.size(name), preamble
        )
        if opener.size:
            _read_range(self._objects, name, opener, opener.size - 1, opener.size)
        return opener


class SealedReader:
    """A file opened to read. The engine never closes it: there is nothing to close but this object."""

    __slots__ = ("_failures", "_name", "_objects", "_opener", "_position", "closed")

    def __init__(self, objects: ObjectStore, name: str, opener: Opener, failures: Failures) -> None:
        self._failures = failures
        self._objects = objects
        self._name = name
        self._opener = opener
        self._position = 0
        self.closed = False

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a byte offset from the start, from here or from the end."""
        base = (0, self._position, self._opener.size)[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes from here on, opened and verified segment by segment."""
        stop = self._opener.size if size < 0 else min(self._position + size, self._opener.size)
        start, self._position = self._position, max(self._position, stop)
        if stop <= start:
            return b""
        with self._failures.noted():
            return b"".join(
                _read_range(self._objects, self._name, self._opener, at, min(at + _WINDOW, stop))
                for at in range(start, stop, _WINDOW)
            )

    def close(self) -> None:
        """Let go of the object."""
        self.closed = True


def _read_range(objects: ObjectStore, name: str, opener: Opener, start: int, stop: int) -> bytearray:
    first, last = opener.cipher_range(start, stop)
    cipher = bytearray(last - first)
    objects.read_into(name, first, memoryview(cipher))
    out = bytearray(stop - start)
    opener.open_range(cipher, start, stop, memoryview(out))
    return out


class SealedWriter:
    """A file opened to write: it exists once `close` returned, whole or not at all.

    What waits for `close` is ciphertext, in memory up to 32 MiB and in a temporary file beyond.
    """

    def __init__(
        self,
        objects: ObjectStore,
        name: str,
        sealer: Callable[[Callable[[memoryview], object]], Sealer],
        failures: Failures,
    ) -> None:
        self._objects = objects
        self._name = name
        self._failures = failures
        self._spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL)
        self._sealer = sealer(self._spool.write)
        self._written = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        """Seal more bytes and return how many."""
        self._sealer.write(data)
        self._written += len(data)
        return len(data)

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._written

    def seek(self, offset: int, whence: int = 0) -> int:
        """Refuse all but staying at the end: sealing goes one way.

        Raises
        ------
        StorageError
            The position asked for is another one.
        """
        if (offset, whence) in ((self._written, 0), (0, 1), (0, 2)):
            return self._written
        raise StorageError("a sealed file is written from its beginning to its end: don't seek")

    def flush(self) -> None:
        """Do nothing: a file is durable when closed."""

    def close(self) -> None:
        """Seal the end and store the object."""
        if self.closed:
            return
        self.closed = True
        self._sealer.close()
        self._spool.seek(0)
        with self._failures.noted(), self._spool as spool:
            self._objects.put(self._name, iter(lambda: spool.read(_WINDOW), b""))

    def __del__(self) -> None:
        """Drop what was never closed; the object doesn't exist then."""
        if not self.closed and hasattr(self, "_spool"):
            self._spool.close()


__all__ = ["PROTOCOL", "FileKeys", "SealedFileSystem", "SealedReader", "SealedWriter"]
