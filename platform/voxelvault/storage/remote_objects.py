"""The object store in S3, GCS, Azure or memory, through `obstore`.

Creation and the replacement of documents are conditional requests (`If-None-Match`, `If-Match`),
which all three services offer; a server that ignores them is refused (`require_conditions`). Locks
are leases in the same store.

References
----------
RFC 9110, 13.1 (preconditions); Amazon S3 User Guide, conditional writes.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from math import ceil
from typing import Any, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import ObjectStore as Remote

from voxelvault.errors import (
    ForkedProcess,
    IntegrityError,
    NoPermission,
    ObjectChanged,
    ObjectExists,
    ObjectMissing,
    StorageError,
    Unanswered,
)
from voxelvault.model import Buffer, ObjectInfo
from voxelvault.storage.layout import LOCKS, check_name, check_object, check_prefix
from voxelvault.storage.leases import Leases, Pace
from voxelvault.storage.objects import changed

_AGAIN, _PAUSE = 30.0, 0.5
"""Seconds within which a write that was not answered is tried again, and the first pause before that."""

_REST = 5.0
"""Seconds for which a store that was given up is not asked: what tidies up after a failure waits no more."""

_NETWORK = "check the network, then run again; nothing that was stored is lost"
_STATUS = re.compile(r"status code: (\d{3})")

T = TypeVar("T")


class _Resting(Unanswered):
    """The store was given up a moment ago, and was not asked."""


class ObstoreObjects:
    """Objects in one bucket or prefix; implements `voxelvault.model.ObjectStore`.

    Parameters
    ----------
    store : obstore.store.ObjectStore
        Already configured; its prefix is the vault's root.
    url : str
        Where that is, for a process that is to open it, too.
    pace : Pace
        Of the leases.

    Notes
    -----
    `put` holds the object in memory: conditional creation is one request, never a multipart upload.
    A write whose answer got lost is asked for again and then recognised by its content, so that it
    counts exactly once.
    """

    def __init__(self, store: Remote, url: str = "", pace: Pace | None = None) -> None:
        self._store = store
        self._pid = os.getpid()
        self._rests_until = 0.0
        self.url = url
        self._leases = Leases(self._get, self._swap, pace or Pace())

    def __repr__(self) -> str:
        return "<ObstoreObjects>"

    def put(self, name: str, parts: Iterable[Buffer]) -> None:
        """Create an object from its parts in order; `ObjectExists` if the name is taken."""
        check_object(name)
        data = bytearray()
        for part in parts:
            data += part
        self._create(name, bytes(data))

    def replace(self, name: str, data: Buffer) -> None:
        """Create or atomically replace a document."""
        with self._request(name):
            obstore.put(self._store, check_object(name), bytes(data), mode="overwrite", use_multipart=False)

    def swap(self, name: str, data: Buffer, expected: str | None) -> str:
        """Replace a document if it still is the version that the caller read; return the new version."""
        return self._swap(check_object(name), bytes(data), expected)

    def get(self, name: str) -> bytes:
        """Return the whole object; `ObjectMissing` if there is none."""
        return self._get(check_object(name))[0]

    def versioned(self, name: str) -> tuple[bytes, str]:
        """Return a document and its version; `ObjectMissing` if there is none."""
        return self._get(check_object(name))

    def version(self, name: str) -> str:
        """Return a document's version: what the service calls ETag, and generation where it has one."""
        with self._request(name):
            return _version(obstore.head(self._store, check_object(name)))

    def read_into(self, name: str, start: int, out: memoryview) -> None:
        """Fill `out` with bytes from `start` on; `IntegrityError` when the object ends too soon."""
        check_object(name)
        raw = out.cast("B")
        if not raw:
            return
        try:
            with self._request(name):
                found = memoryview(obstore.get_range(self._store, name, start=start, length=len(raw)))
        except ObjectMissing:
            raise
        except StorageError:
            # Stores differ in what they answer to a range past the end.
            if start + len(raw) <= self.size(name):
                raise
            raise _too_short(name) from None
        if len(found) != len(raw):
            raise _too_short(name)
        raw[:] = found

    def size(self, name: str) -> int:
        """Return the length in bytes; `ObjectMissing` if there is none."""
        with self._request(name):
            return obstore.head(self._store, check_object(name))["size"]

    def delete(self, name: str) -> None:
        """Remove an object; no error when it is not there."""
        with self._request(name), suppress(NotFoundError, FileNotFoundError):
            obstore.delete(self._store, check_object(name))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield objects whose name starts with `prefix`, in no particular order; leases are left out."""
        folder, _ = check_prefix(prefix)
        with self._request(folder or "the vault"):
            for batch in obstore.list(self._store, prefix=folder or None):
                for meta in batch:
                    name = meta["path"]
                    if name.startswith(prefix) and not name.startswith(f"{LOCKS}/"):
                        yield ObjectInfo(name, meta["size"], meta["last_modified"].timestamp())

    def lock(self, name: str, timeout: float) -> AbstractContextManager[None]:
        """Hold the named lease across threads, processes and hosts; see `ObjectStore.lock`."""
        return self._leases.hold(f"{LOCKS}/{check_name(name)}", name, timeout)

    def require_conditions(self) -> None:
        """Prove that the store heeds conditional requests, with one throw-away object.

        Raises
        ------
        NoPermission
            Nothing may be written here.
        StorageError
            It ignores them: two writers would silently overwrite one another.
        """
        name, mark = f"{LOCKS}/probe-{secrets.token_hex(8)}", secrets.token_hex(8)
        try:
            version = self._swap(name, mark.encode(), None)
            heeded = all(
                self._refuses(name, expected) for expected in (None, f'"{secrets.token_hex(16)}"')
            ) and bool(self._swap(name, f"{mark}-".encode(), version))
        except ObjectMissing:
            raise StorageError(
                "there is no such bucket, or it is in another region: make it, or set AWS_REGION"
            ) from None
        except ObjectChanged:
            heeded = False
        finally:
            with suppress(StorageError), self._request(name):
                obstore.delete(self._store, name)
        if not heeded:
            raise StorageError(
                "this object storage ignores conditional writes (If-Match, If-None-Match), so two writers "
                "would overwrite one another: use a server that has them, or a vault on a local disk"
            )

    def _refuses(self, name: str, expected: str | None) -> bool:
        try:
            self._swap(name, secrets.token_bytes(16), expected)
        except ObjectChanged:
            return True
        return False

    def _get(self, name: str) -> tuple[bytes, str]:
        with self._request(name):
            found = obstore.get(self._store, name)
            return found.bytes().to_bytes(), _version(found.meta)

    def _create(self, name: str, data: bytes) -> None:
        try:
            self._again(lambda began: self._put(name, data, None, began))
        except ObjectExists:
            # An earlier try may have arrived though its answer did not; two writers' bytes never agree.
            if self.get(name) != data:
                raise

    def _swap(self, name: str, data: bytes, expected: str | None) -> str:
        try:
            return self._again(lambda began: self._put(name, data, expected, began))
        except (ObjectExists, ObjectChanged):
            with suppress(ObjectMissing):
                found, version = self._get(name)
                if found == data:
                    return version
            raise changed(name) from None

    def _put(self, name: str, data: bytes, expected: str | None, began: float) -> str:
        with self._request(name, began):
            mode: Any = "create" if expected is None else _condition(expected)
            return _version(obstore.put(self._store, name, data, mode=mode))

    def _again(self, write: Callable[[float], T]) -> T:
        """Try a write again that was not answered; what the store answered stands.

        Parameters
        ----------
        write : callable
            Takes the time when it was tried first.
        """
        began, pause = time.monotonic(), _PAUSE
        while True:
            tried = time.monotonic()
            try:
                return write(began)
            except _Resting:
                raise
            except Unanswered:
                now = time.monotonic()
                # Another try may take as long as this one did.
                if now + pause + (now - tried) > began + _AGAIN:
                    self._rests_until = now + _REST
                    raise
                time.sleep(pause)
                pause *= 2

    @contextmanager
    def _request(self, name: str, began: float | None = None) -> Iterator[None]:
        """Turn obstore's failures into ours; theirs are cut off, since they carry addresses.

        Parameters
        ----------
        name : str
            What is asked for.
        began : float, optional
            When it was asked for first, by whoever asks again; the client itself has asked several times
            before it fails.
        """
        if os.getpid() != self._pid:
            # Reproduced: an inherited client hangs.
            raise ForkedProcess(
                "object storage doesn't survive a fork: start children with spawn or forkserver"
            )
        first = time.monotonic() if began is None else began
        if time.monotonic() < self._rests_until:
            raise _Resting(f"object storage does not answer: {_NETWORK} ({name})")
        try:
            yield
        except AlreadyExistsError:
            raise ObjectExists(f"{name} exists and is never overwritten: write under a fresh id") from None
        except PreconditionError:
            raise changed(name) from None
        except (NotFoundError, FileNotFoundError):
            raise ObjectMissing(f"{name} is not in the vault: run `voxelvault verify`") from None
        except (PermissionDeniedError, UnauthenticatedError, PermissionError):
            raise _denied(name) from None
        except (BaseError, OSError) as error:
            ours = _failed(error, time.monotonic() - first, name)
            if began is None and isinstance(ours, Unanswered):
                self._rests_until = time.monotonic() + _REST
            raise ours from None


def _failed(error: Exception, seconds: float, name: str) -> StorageError:
    text = str(error)
    status = _STATUS.search(text)
    if status is None and "HTTP error" in text:
        return Unanswered(f"object storage did not answer within {ceil(seconds)} s: {_NETWORK} ({name})")
    if status and status[1] in ("401", "403"):
        # Such as from the service that hands out a machine's credentials, where none were given.
        return _denied(name)
    what = f"status {status[1]}" if status else type(error).__name__
    kind = Unanswered if status and status[1].startswith("5") else StorageError
    return kind(f"object storage failed: check it, then run again ({what}, {name})")


def _denied(name: str) -> NoPermission:
    return NoPermission(f"object storage denied access: check the credentials ({name})")


def _version(found: Mapping[str, Any]) -> str:
    """Return a version as one text: S3 and Azure compare the ETag, Google the generation."""
    if not found["e_tag"]:
        raise StorageError("this object storage gives no ETag, so writers can't take turns: use another")
    return f"{found['e_tag']}\n{found['version'] or ''}"


def _condition(version: str) -> dict[str, str]:
    etag, _, generation = version.partition("\n")
    return {"e_tag": etag} | ({"version": generation} if generation else {})


def _too_short(name: str) -> IntegrityError:
    return IntegrityError(f"{name} ends too soon: run `voxelvault verify`, and restore it from a backup")


__all__ = ["ObstoreObjects"]
