"""The catalog's database file: one document of the vault, and a private copy that is worked on.

The engine never opens the document. A commit counts once the whole file has replaced the document, at
once and durably. So whenever the power goes, what lies in the vault is one complete file, and nothing
depends on how the engine recovers from a crash (decision 16).
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Protocol

from voxelvault.catalog.engine import private_folder
from voxelvault.errors import CatalogError, ObjectMissing, StorageError
from voxelvault.model import ObjectInfo, ObjectStore
from voxelvault.storage.objects import storage_errors

NAME = "catalog/lake.duckdb"

# Two writes within one tick of the file system's clock look the same: a younger state isn't trusted.
_TICK_NS = 50_000_000
_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class FileState:
    """What tells one content of the document from the next.

    On a disk: inode, size, time; in object storage: its version.
    """

    parts: tuple[int, int, int] | str
    racy: bool = False

    def same(self, other: FileState) -> bool:
        """Say whether nothing was written between the two."""
        return self.parts == other.parts and not self.racy


class Document(Protocol):
    """Where the catalog file lies."""

    def state(self) -> FileState | None:
        """Return what tells this content from the next; None if there is none."""

    def fetch(self, target: Path) -> FileState | None:
        """Copy it, encrypted as it is, to a new file; return the copy's state, None if there is none."""

    def store(self, path: Path, expected: FileState | None) -> FileState:
        """Replace it by a whole file, if it still is what the caller read, durably and at once."""

    def settled(self, state: FileState | None, listed: Sequence[ObjectInfo]) -> float:
        """Return the time from which on files that are listed may be another writer's."""


class CatalogFile:
    """The database file of one vault.

    Parameters
    ----------
    document : Document
        Where it lies.

    Attributes
    ----------
    path : Path
        The private copy that a writer works on.
    flush : callable or None
        Brings all that was committed into the private copy itself, while it is attached.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self.flush: Callable[[], object] | None = None
        self.private = private_folder(self)
        self.path = self.private / "lake.duckdb"
        self._state: FileState | None = None
        """Of the document that the private copy is; None when it is of none."""

    def present(self) -> FileState | None:
        """Return what tells this content of the document from the next; None if there is no catalog."""
        return self._document.state()

    def state(self) -> FileState:
        """Return the same of a catalog that must be there.

        Raises
        ------
        CatalogError
            There is no catalog.
        """
        return _there(self._document.state())

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
        if self._state is None:
            raise StorageError("the catalog's last commit was not stored, so neither is this one: run again")
        expected, self._state = self._state, None
        yield
        if self.flush is not None:
            self.flush()
        self._state = self._document.store(self.path, expected)

    def pull(self) -> FileState:
        """Make the private copy what the document is; return its state."""
        if self._state is None or not self._state.same(self.state()):
            self._state = None
            self.drop(self.path)
            self._state = _there(self._document.fetch(self.path))
        return self._state

    def copy(self) -> tuple[Path, FileState]:
        """Copy the document, encrypted as it is, into the private folder; return the copy and its state."""
        target = self.fresh()
        return target, _there(self._document.fetch(target))

    def fresh(self) -> Path:
        """Return an unused private path."""
        return self.private / secrets.token_hex(8)

    def install(self, new: Path, expected: FileState | None) -> None:
        """Put a complete private file in the place of the present one, which the caller saw in this state."""
        self._state = None
        self.drop(self.path)
        os.replace(new, self.path)
        self._state = self._document.store(self.path, expected)

    def settled(self, listed: Sequence[ObjectInfo]) -> float:
        """Return the time before which whatever the catalog does not name is nobody's."""
        return self._document.settled(self._state, listed)

    def drop(self, path: Path) -> None:
        """Remove a private file."""
        path.unlink(missing_ok=True)


class LocalDocument:
    """The catalog file of a vault on a local disk.

    Parameters
    ----------
    objects : ObjectStore
        Replaces documents.
    root : Path
        The vault's folder.
    """

    def __init__(self, objects: ObjectStore, root: Path) -> None:
        self._objects = objects
        self._path = root / NAME

    def state(self) -> FileState | None:
        """Return inode, size and time, which a replacement changes."""
        with suppress(ObjectMissing), storage_errors(NAME):
            return _state(self._path.stat())
        return None

    def fetch(self, target: Path) -> FileState | None:
        """Copy the file. What is open stays what it is, whoever replaces it meanwhile."""
        with suppress(ObjectMissing), storage_errors(NAME), self._path.open("rb") as source:
            state = _state(os.fstat(source.fileno()))
            with private_errors(), target.open("xb") as copy:
                shutil.copyfileobj(source, copy, _AT_ONCE)
            return state
        return None

    def store(self, path: Path, expected: FileState | None) -> FileState:
        """Replace the file. The kernel keeps the writer's lock, so nobody can have replaced it."""
        self._objects.replace(NAME, path.read_bytes())
        return _there(self.state())

    def settled(self, state: FileState | None, listed: Sequence[ObjectInfo]) -> float:
        """Return any time: a lock on a local disk can't be lost while its holder sleeps."""
        return inf


class NoDocument:
    """Of a catalog that nobody sees yet: its private file is all there is."""

    def state(self) -> FileState | None:
        """Return that it never changes."""
        return FileState("")

    def fetch(self, target: Path) -> FileState | None:
        """Return that there is none."""
        return None

    def store(self, path: Path, expected: FileState | None) -> FileState:
        """Leave it where it is."""
        return FileState("")

    def settled(self, state: FileState | None, listed: Sequence[ObjectInfo]) -> float:
        """Return any time: nobody else writes."""
        return inf


@contextmanager
def private_errors() -> Iterator[None]:
    """Turn the operating system's refusals of a private copy into ours.

    Raises
    ------
    StorageError
        In their place.
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise StorageError(
            f"the catalog's private copy could not be written ({reason}): free some space in the temporary "
            "folder (TMPDIR), then run again"
        ) from None


def _state(found: os.stat_result) -> FileState:
    parts = (found.st_ino, found.st_size, found.st_mtime_ns)
    return FileState(parts, racy=found.st_mtime_ns > time.time_ns() - _TICK_NS)


def _there(state: FileState | None) -> FileState:
    if state is None:
        raise CatalogError(
            "the vault's catalog/ is missing; restore it from a copy, or write it anew with "
            "`voxelvault verify --rebuild-catalog`"
        )
    return state


__all__ = ["NAME", "CatalogFile", "Document", "FileState", "LocalDocument", "NoDocument", "private_errors"]
