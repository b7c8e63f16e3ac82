"""The catalog's database file of a vault in object storage: a private copy to work on, and one document.

A writer works on a copy in a private temporary folder, encrypted as it is, and a commit counts once
the whole file has replaced the document, from the version that the writer began with. So it is small
teams' way: each commit carries the file over the network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from voxelvault.catalog.catalog_file import NAME, CatalogFile, FileState
from voxelvault.errors import CatalogError, LockTimeout, ObjectChanged, ObjectMissing, StorageError
from voxelvault.model import ObjectInfo, ObjectStore


class RemoteCatalogFile(CatalogFile):
    """The database file of one vault in a store without files.

    Parameters
    ----------
    objects : ObjectStore
        Where the document is.
    """

    def __init__(self, objects: ObjectStore) -> None:
        super().__init__(objects)
        self._version: str | None = None
        """Of the document that the private file is; None when it is of none."""

    def exists(self) -> bool:
        """Say whether there is a catalog."""
        try:
            self._objects.version(NAME)
        except ObjectMissing:
            return False
        return True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Do nothing: nobody else sees the private file."""
        yield

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Store what was committed meanwhile, as this ends.

        Raises
        ------
        LockTimeout
            Another writer stored something first: this process slept past its lease. Nothing changed.
        StorageError
            It may not be stored.
        """
        if self._version is None:
            raise StorageError("the catalog's last commit was not stored, so neither is this one: run again")
        expected, self._version = self._version, None
        yield
        if self.flush is not None:
            self.flush()
        self._store(self.path, expected)

    def pull(self) -> None:
        """Make the private file what the document is."""
        if self._version is not None and self._version == self._remote():
            return
        data, version = self._read()
        self.drop(self.path)
        _write(self.path, data)
        self._version = version

    def state(self) -> FileState:
        """Return what tells this content of the document from the next."""
        return FileState(self._remote())

    def copy(self) -> tuple[Path, FileState]:
        """Copy the document, encrypted as it is, into the private folder."""
        data, version = self._read()
        target = self.fresh()
        _write(target, data)
        return target, FileState(version)

    def install(self, new: Path) -> None:
        """Put a complete file in the place of the present one."""
        expected, self._version = self._version, None
        self.drop(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(new, self.path)
        self._store(self.path, expected)

    def settled(self, listed: Sequence[ObjectInfo]) -> float:
        """Return the time before which whatever the catalog does not name is nobody's.

        What was written after this writer's last commit, by the store's own clock, may be another's,
        who has the lease by now.
        """
        if self._version is None or self._version != self._remote():
            return 0.0
        return next((info.modified for info in listed if info.name == NAME), 0.0)

    def _store(self, path: Path, expected: str | None) -> None:
        try:
            self._version = self._objects.swap(NAME, path.read_bytes(), expected)
        except ObjectChanged:
            raise LockTimeout(
                "this process was held up so long that another one took the catalog's lock: run again"
            ) from None

    def _read(self) -> tuple[bytes, str]:
        try:
            return self._objects.versioned(NAME)
        except ObjectMissing:
            raise _missing() from None

    def _remote(self) -> str:
        try:
            return self._objects.version(NAME)
        except ObjectMissing:
            raise _missing() from None


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _missing() -> CatalogError:
    return CatalogError("the vault's catalog/ is missing; restore it from a copy")


__all__ = ["RemoteCatalogFile"]
