"""The catalog file of a vault in object storage: one document, swapped from the version that was read.

It is small teams' way: each commit carries the file over the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxelvault.catalog.catalog_file import NAME, FileState, private_errors
from voxelvault.errors import LockTimeout, ObjectChanged, ObjectMissing
from voxelvault.model import ObjectInfo, ObjectStore


class RemoteDocument:
    """The catalog file of a vault in a store without files.

    Parameters
    ----------
    objects : ObjectStore
        Where it is.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def state(self) -> FileState | None:
        """Return its version."""
        try:
            return FileState(self._objects.version(NAME))
        except ObjectMissing:
            return None

    def fetch(self, target: Path) -> FileState | None:
        """Copy it, encrypted as it is, to a new file."""
        try:
            data, version = self._objects.versioned(NAME)
        except ObjectMissing:
            return None
        with private_errors():
            target.write_bytes(data)
        return FileState(version)

    def store(self, path: Path, expected: FileState | None) -> FileState:
        """Swap it by a whole file.

        Raises
        ------
        LockTimeout
            It is no longer what the caller read.
        """
        before = str(expected.parts) if expected else None
        try:
            return FileState(self._objects.swap(NAME, path.read_bytes(), before))
        except ObjectChanged:
            raise LockTimeout(
                "this process was held up so long that another one took the catalog's lock: run again"
            ) from None

    def settled(self, state: FileState | None, listed: Sequence[ObjectInfo]) -> float:
        """Return the time before which whatever the catalog does not name is nobody's.

        What was written after this writer's last commit, by the store's own clock, may be another's,
        who has the lease by now.
        """
        if state is None or state != self.state():
            return 0.0
        return next((info.modified for info in listed if info.name == NAME), 0.0)


__all__ = ["RemoteDocument"]
