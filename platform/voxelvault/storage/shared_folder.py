"""A vault's folder that several hosts write: its locks are somewhere else than in the folder.

On a network file system flock can't be trusted; creating a name once can.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from voxelvault.storage.layout import check_name
from voxelvault.storage.objects import LocalObjects


class LockService(Protocol):
    """Named locks between processes and hosts."""

    def lock(self, name: str, timeout: float) -> AbstractContextManager[None]:
        """Hold the named lock; see `ObjectStore.lock`."""


class SharedFolder(LocalObjects):
    """Objects as files below one folder, locked by a service.

    Parameters
    ----------
    root : Path
        The vault's folder.
    locks : LockService
        Used for every lock, also for those under which documents change hands.
    """

    def __init__(self, root: Path, locks: LockService) -> None:
        super().__init__(root)
        object.__setattr__(self, "_locks", locks)

    @contextmanager
    def lock(self, name: str, timeout: float) -> Iterator[None]:
        """Hold the named lock across threads, processes and hosts; see `ObjectStore.lock`."""
        locks: LockService = self.__dict__["_locks"]
        with locks.lock(check_name(name), timeout):
            yield

    def __reduce__(self) -> Any:
        """Pickle as the folder alone: who gets it elsewhere reads, and adds under fresh names."""
        return LocalObjects, (self.root, self.durable)


__all__ = ["LockService", "SharedFolder"]
