"""The catalog's database file: where it is, when it changed, copies of it, and its replacement.

Another process can't open a file that the engine holds, so readers take a copy. The file changes
only under the file lock, which a writer holds for the moment of a commit, not for its lease.
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

from voxelvault.catalog.engine import private_folder
from voxelvault.errors import CatalogError, NoPermission, StorageError
from voxelvault.model import ObjectInfo, ObjectStore

NAME = "catalog/lake.duckdb"
LOCK = "catalog-file"

_WAIT = 60.0
# Two writes within one tick of the file system's clock look the same: a younger state isn't trusted.
_TICK_NS = 50_000_000
_TRIES = 50


@dataclass(frozen=True)
class FileState:
    """What tells one content of the file from the next.

    On a disk: inode, size, time of main file and journals; in object storage: the document's version.
    """

    parts: tuple[tuple[str, int, int, int], ...] | str
    racy: bool = False

    def same(self, other: FileState) -> bool:
        """Say whether nothing was written between the two."""
        return self.parts == other.parts and not self.racy


class CatalogFile:
    """The database file of one vault.

    Parameters
    ----------
    objects : ObjectStore
        Gives the lock and, when it has a local `root`, the place.

    Attributes
    ----------
    flush : callable or None
        Brings all that was committed into the file itself, while it is attached.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self.flush: Callable[[], object] | None = None
        self.private = private_folder(self)
        root = getattr(objects, "root", None)
        self.local = root is not None
        self.path = (Path(root) if root is not None else self.private) / NAME

    def exists(self) -> bool:
        """Say whether there is a catalog."""
        return self.path.is_file()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the file still, while it is attached or detached."""
        with self._objects.lock(LOCK, _WAIT):
            yield

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the file still, while something is committed to it."""
        with self.held():
            yield

    def pull(self) -> None:
        """Do nothing: the file is where it is worked on."""

    def settled(self, listed: Sequence[ObjectInfo]) -> float:
        """Return the time before which whatever the catalog does not name is nobody's: any.

        A lock on a local disk can't be lost while its holder sleeps.
        """
        return inf

    def state(self) -> FileState:
        """Return what tells this content of the file from the next.

        Raises
        ------
        CatalogError
            There is no file.
        """
        parts = []
        for path in self._parts(self.path):
            with suppress(FileNotFoundError):
                found = path.stat()
                parts.append((path.name, found.st_ino, found.st_size, found.st_mtime_ns))
        if not parts:
            raise CatalogError("the vault's catalog/ is missing; restore it from a copy")
        return FileState(tuple(parts), racy=max(part[3] for part in parts) > time.time_ns() - _TICK_NS)

    def copy(self) -> tuple[Path, FileState]:
        """Copy the file, encrypted as it is, into the private folder; return the copy and its state."""
        target = self.fresh()
        try:
            with self.held():
                return target, self._copy(target)
        except NoPermission:
            # A read-only place has no lock; nor does it have a writer that can be heard of.
            return target, self._copy_unlocked(target)

    def fresh(self) -> Path:
        """Return an unused private path."""
        return self.private / secrets.token_hex(8)

    def beside(self) -> Path:
        """Return an unused path beside the file, for what will replace it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.path.with_name(f"{self.path.name}.{secrets.token_hex(8)}")

    def install(self, new: Path) -> None:
        """Put a complete file in the place of the present one, durably and at once."""
        descriptor = os.open(new, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # The old journals belong to the old file.
        for part in self._parts(self.path)[1:]:
            part.unlink(missing_ok=True)
        os.replace(new, self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def drop(self, path: Path) -> None:
        """Remove a copy and its journals."""
        for part in self._parts(path):
            part.unlink(missing_ok=True)

    def _copy(self, target: Path) -> FileState:
        state = self.state()
        for source in self._parts(self.path):
            if source.exists():
                shutil.copyfile(source, target.with_name(target.name + source.name[len(self.path.name) :]))
        return state

    def _copy_unlocked(self, target: Path) -> FileState:
        for _ in range(_TRIES):
            before = self._copy(target)
            if before.parts == self.state().parts:
                return before
        raise StorageError("the catalog changed during every attempt to copy it: try again in a moment")

    @staticmethod
    def _parts(path: Path) -> list[Path]:
        """Return the file and its journals in the order in which they may be removed."""
        return [path, *(path.with_name(f"{path.name}.wal{end}") for end in ("", ".checkpoint", ".recovery"))]


__all__ = ["LOCK", "NAME", "CatalogFile", "FileState"]
