"""The object store on a local disk and in memory.

Writes are whole or absent: a temporary file in the same folder, fsync, a hard link that fails
when the name is taken, fsync of the folder. No threads, no open files between calls: both stores
survive a fork, and `LocalObjects` a pickle.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from voxelvault.errors import (
    IntegrityError,
    LockTimeout,
    NoPermission,
    NoSpace,
    ObjectChanged,
    ObjectExists,
    ObjectMissing,
    StorageError,
)
from voxelvault.model import Buffer, ObjectInfo
from voxelvault.storage import locks
from voxelvault.storage.layout import LOCKS, check_name, check_object, check_prefix
from voxelvault.storage.mounts import is_network_fs, require_local

_TEMPORARY = ".tmp-"
_SWAP, _SWAP_SECONDS = "swap", 60.0
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


@dataclass(frozen=True)
class LocalObjects:
    """Objects as files below one folder.

    Parameters
    ----------
    root : Path
        The vault's folder; made by the first write.
    durable : bool
        fsync before a write returns. Off only for what can be rebuilt.
    """

    root: Path
    durable: bool = True

    def __post_init__(self) -> None:
        # A relative root would move with the working directory.
        object.__setattr__(self, "root", Path(self.root).absolute())

    def put(self, name: str, parts: Iterable[Buffer]) -> None:
        """Create an object; see `ObjectStore.put`. A part may be a reused buffer: it is written at once."""
        path = self._path(name)
        with storage_errors(name), self._temporary(path, parts) as temporary:
            _link_once(temporary, path)
        self._sync_folder(path)

    def replace(self, name: str, data: Buffer) -> None:
        """Create or atomically replace a document."""
        path = self._path(name)
        with storage_errors(name), self._temporary(path, [data]) as temporary:
            os.replace(temporary, path)
        self._sync_folder(path)

    def swap(self, name: str, data: Buffer, expected: str | None) -> str:
        """Replace a document if it still is the version that the caller read; return the new version."""
        with self.lock(_SWAP, _SWAP_SECONDS):
            _check_version(name, self, expected)
            self.replace(name, data)
        return content_version(data)

    def versioned(self, name: str) -> tuple[bytes, str]:
        """Return a document and its version; `ObjectMissing` if there is none."""
        data = self.get(name)
        return data, content_version(data)

    def version(self, name: str) -> str:
        """Return a document's version: its SHA-256."""
        return self.versioned(name)[1]

    def get(self, name: str) -> bytes:
        """Return the whole object; `ObjectMissing` if there is none."""
        with storage_errors(name), open(self._path(name), "rb", buffering=0) as file:
            return file.readall()

    def read_into(self, name: str, start: int, out: memoryview) -> None:
        """Fill `out` with bytes from `start` on; `IntegrityError` when the object ends too soon."""
        with storage_errors(name):
            fd = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                filled = _pread(fd, start, out.cast("B"))
            finally:
                os.close(fd)
        if not filled:
            raise _too_short(name)

    def size(self, name: str) -> int:
        """Return the length in bytes; `ObjectMissing` if there is none."""
        with storage_errors(name):
            return os.stat(self._path(name)).st_size

    def delete(self, name: str) -> None:
        """Remove an object; no error when it is not there."""
        path = self._path(name)
        with storage_errors(name):
            try:
                os.unlink(path)
            except (FileNotFoundError, NotADirectoryError):
                return
        self._sync_folder(path)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield objects whose name starts with `prefix`, in no particular order.

        Temporary files, lock files and files whose name no object can have are left out.
        """
        folder, _ = check_prefix(prefix)
        return (info for info in self._walk(folder) if info.name.startswith(prefix))

    @contextmanager
    def lock(self, name: str, timeout: float) -> Iterator[None]:
        """Hold the named lock across threads and processes; see `ObjectStore.lock`."""
        path = f"{self.root}/{LOCKS}/{check_name(name)}"
        with ExitStack() as held:
            with storage_errors(f"{LOCKS}/{name}"):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                held.enter_context(locks.hold(path, name, timeout))
            yield

    def sweep_temporary(self, before: float) -> int:
        """Remove what killed writers left; return how many files.

        Parameters
        ----------
        before : float
            Seconds since the epoch; younger files may belong to a writer at work and stay.
        """
        swept = 0
        with storage_errors("temporary files"):
            for folder, _, files in os.walk(self.root):
                for path in (os.path.join(folder, f) for f in files if f.startswith(_TEMPORARY)):
                    with suppress(FileNotFoundError):
                        if os.stat(path).st_mtime < before:
                            os.unlink(path)
                            swept += 1
        return swept

    def _path(self, name: str) -> str:
        return f"{self.root}/{check_object(name)}"

    @contextmanager
    def _temporary(self, path: str, parts: Iterable[Buffer]) -> Iterator[str]:
        """Write the parts beside `path`; the temporary file is gone afterwards, also when parts fail."""
        temporary = f"{os.path.dirname(path)}/{_TEMPORARY}{secrets.token_hex(8)}"
        fd = self._create(temporary)
        try:
            try:
                for part in parts:
                    _write(fd, memoryview(part).cast("B"))
                if self.durable:
                    _sync(fd)
            finally:
                os.close(fd)
            yield temporary
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)

    def _create(self, path: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            self._make_folder(Path(path).parent)
            return os.open(path, flags, 0o666)

    def _make_folder(self, folder: Path) -> None:
        missing = [folder, *folder.parents]
        missing = missing[: next(i for i, f in enumerate(missing) if f.is_dir())]
        for new in reversed(missing):
            new.mkdir(exist_ok=True)
            self._sync_folder(str(new))

    def _sync_folder(self, path: str) -> None:
        """Make the entry of `path` in its folder durable."""
        if not self.durable:
            return
        with storage_errors("the vault's folder"):
            fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _sync(fd)
            finally:
                os.close(fd)

    def _walk(self, folder: str) -> Iterator[ObjectInfo]:
        for entry in self._scan(folder):
            name = f"{folder}/{entry.name}" if folder else entry.name
            if not _listable(name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(name)
            elif entry.is_file():
                # Deleted since the folder was read: then it is no longer there to list.
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    yield ObjectInfo(name, status.st_size, status.st_mtime)

    def _scan(self, folder: str) -> Sequence[os.DirEntry[str]]:
        with storage_errors(folder or "the vault's folder"):
            try:
                with os.scandir(f"{self.root}/{folder}") as entries:
                    return sorted(entries, key=lambda entry: entry.name)
            except (FileNotFoundError, NotADirectoryError):
                return []


@dataclass
class MemoryObjects:
    """Objects in this process's memory: for tests and throw-away vaults."""

    _objects: dict[str, tuple[bytes, float]] = field(default_factory=dict, repr=False)
    _locks: dict[str, threading.Lock] = field(default_factory=dict, repr=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def put(self, name: str, parts: Iterable[Buffer]) -> None:
        """Create an object from its parts in order; `ObjectExists` if the name is taken."""
        check_object(name)
        data = bytearray()
        for part in parts:
            data += part
        with self._guard:
            if name in self._objects:
                raise _taken(name)
            self._objects[name] = bytes(data), time.time()

    def replace(self, name: str, data: Buffer) -> None:
        """Create or atomically replace a document."""
        self._objects[check_object(name)] = bytes(data), time.time()

    def swap(self, name: str, data: Buffer, expected: str | None) -> str:
        """Replace a document if it still is the version that the caller read; return the new version."""
        with self._guard:
            _check_version(name, self, expected)
            self.replace(name, data)
        return content_version(data)

    def versioned(self, name: str) -> tuple[bytes, str]:
        """Return a document and its version; `ObjectMissing` if there is none."""
        data = self.get(name)
        return data, content_version(data)

    def version(self, name: str) -> str:
        """Return a document's version: its SHA-256."""
        return self.versioned(name)[1]

    def get(self, name: str) -> bytes:
        """Return the whole object; `ObjectMissing` if there is none."""
        try:
            return self._objects[check_object(name)][0]
        except KeyError:
            raise _missing(name) from None

    def read_into(self, name: str, start: int, out: memoryview) -> None:
        """Fill `out` with bytes from `start` on; `IntegrityError` when the object ends too soon."""
        data, raw = self.get(name), out.cast("B")
        if start + len(raw) > len(data):
            raise _too_short(name)
        raw[:] = memoryview(data)[start : start + len(raw)]

    def size(self, name: str) -> int:
        """Return the length in bytes; `ObjectMissing` if there is none."""
        return len(self.get(name))

    def delete(self, name: str) -> None:
        """Remove an object; no error when it is not there."""
        self._objects.pop(check_object(name), None)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield objects whose name starts with `prefix`, in no particular order."""
        check_prefix(prefix)
        found = [(name, *held) for name, held in self._objects.copy().items() if name.startswith(prefix)]
        return (ObjectInfo(name, len(data), modified) for name, data, modified in found)

    @contextmanager
    def lock(self, name: str, timeout: float) -> Iterator[None]:
        """Hold the named lock across threads; a memory store has one process."""
        with self._guard:
            lock = self._locks.setdefault(check_name(name), threading.Lock())
        if not lock.acquire(timeout=max(timeout, 0)):
            raise LockTimeout(
                f"another thread held the {name} lock for {timeout:g} s: let it finish, then run again"
            )
        try:
            yield
        finally:
            lock.release()


def content_version(data: Buffer) -> str:
    """Return the version of a document in a store that keeps none: its SHA-256."""
    return hashlib.sha256(data).hexdigest()


def _check_version(name: str, objects: LocalObjects | MemoryObjects, expected: str | None) -> None:
    try:
        found: str | None = objects.version(name)
    except ObjectMissing:
        found = None
    if found != expected:
        raise changed(name)


def changed(name: str) -> ObjectChanged:
    """Return the error of a document that somebody else replaced since it was read."""
    return ObjectChanged(f"another process replaced {name} meanwhile, so nothing was changed: run again")


def _link_once(temporary: str, path: str) -> None:
    """Give the file its name, unless the name is taken (`FileExistsError`)."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        # A network file system may ask twice, and take its own first answer for somebody else's.
        if not os.path.samefile(temporary, path):
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without hard links: reserve the name, then rename over the reservation.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        os.replace(temporary, path)


def _write(fd: int, view: memoryview) -> None:
    while view:
        view = view[os.write(fd, view) :]


def _pread(fd: int, start: int, out: memoryview) -> bool:
    """Fill `out`; False when the file ends first."""
    while out:
        count = os.preadv(fd, [out], start)
        if count == 0:
            return False
        out, start = out[count:], start + count
    return True


def _sync(fd: int) -> None:
    # On macOS fsync stops at the drive's cache.
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        os.fsync(fd)
    else:
        fcntl.fcntl(fd, full)


def _listable(name: str) -> bool:
    try:
        check_object(name)
    except StorageError:
        return False
    return True


_REFUSALS: dict[int, tuple[type[StorageError], str]] = {
    errno.ENOSPC: (NoSpace, "the vault's disk is full: free some space, then run again"),
    errno.EDQUOT: (NoSpace, "the disk quota is used up: free some space or ask for more, then run again"),
    errno.EACCES: (NoPermission, "no permission on the vault's files: ask their owner for access"),
    errno.EPERM: (NoPermission, "the system forbids this on the vault's files: ask their owner for access"),
    errno.EROFS: (NoPermission, "the vault's disk is read-only: remount it for writing, or only read"),
}


@contextmanager
def storage_errors(name: str) -> Iterator[None]:
    """Turn the operating system's refusals into ours.

    The original is cut off (`from None`): it names the vault's folder, which may name a person.
    """
    try:
        yield
    except FileExistsError:
        raise _taken(name) from None
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise _missing(name) from None
    except OSError as error:
        kind, advice = _REFUSALS.get(error.errno or 0, (StorageError, "check the disk, then run again"))
        reason = os.strerror(error.errno or 0)
        raise kind(f"{advice} ({reason}, {name})") from None


def _taken(name: str) -> ObjectExists:
    return ObjectExists(f"{name} exists and is never overwritten: write under a fresh id")


def _missing(name: str) -> ObjectMissing:
    return ObjectMissing(f"{name} is not in the vault: run `voxelvault verify`, or restore it from a backup")


def _too_short(name: str) -> IntegrityError:
    return IntegrityError(f"{name} ends too soon: run `voxelvault verify`, and restore it from a backup")


__all__ = ["LocalObjects", "MemoryObjects", "is_network_fs", "require_local", "storage_errors"]
