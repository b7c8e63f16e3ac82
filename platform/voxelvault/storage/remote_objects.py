"""The object store in S3, GCS, Azure or memory, through `obstore`.

It offers no locks: there the catalog's lease and the log's sequencer belong to PostgreSQL.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import ObjectStore as Remote

from voxelvault.errors import (
    ForkedProcess,
    IntegrityError,
    NoPermission,
    ObjectExists,
    ObjectMissing,
    StorageError,
)
from voxelvault.model import Buffer, ObjectInfo
from voxelvault.storage.layout import check_object, check_prefix


class ObstoreObjects:
    """Objects in one bucket or prefix; implements `voxelvault.model.ObjectStore` but for `lock`.

    Parameters
    ----------
    store : obstore.store.ObjectStore
        Already configured; its prefix is the vault's root.

    Notes
    -----
    `put` holds the object in memory: conditional creation is one request, never a multipart upload.
    """

    def __init__(self, store: Remote) -> None:
        self._store = store
        self._pid = os.getpid()

    def put(self, name: str, parts: Iterable[Buffer]) -> None:
        """Create an object from its parts in order; `ObjectExists` if the name is taken."""
        check_object(name)
        data = bytearray()
        for part in parts:
            data += part
        with self._request(name):
            obstore.put(self._store, name, bytes(data), mode="create")

    def replace(self, name: str, data: Buffer) -> None:
        """Create or atomically replace a document."""
        with self._request(name):
            obstore.put(self._store, check_object(name), bytes(data), mode="overwrite", use_multipart=False)

    def get(self, name: str) -> bytes:
        """Return the whole object; `ObjectMissing` if there is none."""
        with self._request(name):
            return obstore.get(self._store, check_object(name)).bytes().to_bytes()

    def read_into(self, name: str, start: int, out: memoryview) -> None:
        """Fill `out` with bytes from `start` on; `IntegrityError` when the object ends too soon."""
        check_object(name)
        raw = out.cast("B")
        # Stores differ in what they answer to a range past the end.
        if start + len(raw) > self.size(name):
            raise IntegrityError(
                f"{name} ends too soon: run `voxelvault verify`, and restore it from a backup"
            )
        if not raw:
            return
        with self._request(name):
            raw[:] = memoryview(obstore.get_range(self._store, name, start=start, length=len(raw)))

    def size(self, name: str) -> int:
        """Return the length in bytes; `ObjectMissing` if there is none."""
        with self._request(name):
            return obstore.head(self._store, check_object(name))["size"]

    def delete(self, name: str) -> None:
        """Remove an object; no error when it is not there."""
        with self._request(name), suppress(NotFoundError, FileNotFoundError):
            obstore.delete(self._store, check_object(name))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield objects whose name starts with `prefix`, in no particular order."""
        folder, _ = check_prefix(prefix)
        with self._request(folder or "the vault"):
            for batch in obstore.list(self._store, prefix=folder or None):
                for meta in batch:
                    if meta["path"].startswith(prefix):
                        yield ObjectInfo(meta["path"], meta["size"], meta["last_modified"].timestamp())

    def lock(self, name: str, timeout: float) -> AbstractContextManager[None]:
        """Refuse: object storage has no locks.

        Raises
        ------
        StorageError
            Always.
        """
        raise StorageError(
            "object storage has no locks: keep the catalog and the log in PostgreSQL to write here"
        )

    @contextmanager
    def _request(self, name: str) -> Iterator[None]:
        """Turn obstore's failures into ours; theirs are cut off, since they carry addresses."""
        if os.getpid() != self._pid:
            # Reproduced: an inherited client hangs.
            raise ForkedProcess(
                "object storage doesn't survive a fork: start children with spawn or forkserver"
            )
        try:
            yield
        except AlreadyExistsError:
            raise ObjectExists(f"{name} exists and is never overwritten: write under a fresh id") from None
        except (NotFoundError, FileNotFoundError):
            raise ObjectMissing(f"{name} is not in the vault: run `voxelvault verify`") from None
        except (PermissionDeniedError, UnauthenticatedError, PermissionError):
            raise NoPermission(f"object storage denied access: check the credentials ({name})") from None
        except (BaseError, OSError) as error:
            kind = type(error).__name__
            raise StorageError(f"object storage failed: check it, then run again ({kind}, {name})") from None


__all__ = ["ObstoreObjects"]
