"""A vault's folder that several hosts write: its locks are somewhere else than in the folder.

On a network file system flock can't be trusted; creating a name once can. A file can't be replaced
on the condition that it is still the one that was read, so a lock is looked at once more in the moment
before a file gets its name: a host that slept, and whose lock is another's, replaces nothing of his.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from voxelvault.model import Buffer
from voxelvault.storage.layout import check_name
from voxelvault.storage.objects import LocalObjects


class LockService(Protocol):
    """Named locks between processes and hosts."""

    def lock(self, name: str, timeout: float) -> AbstractContextManager[Callable[[], object]]:
        """Hold the named lock, see `ObjectStore.lock`; give what raises `StorageError` once it is lost."""


class _Held(threading.local):
    """What tells, for each lock that this thread holds, that it still does."""

    def __init__(self) -> None:
        self.checks: list[Callable[[], object]] = []


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
        object.__setattr__(self, "_held", _Held())

    @contextmanager
    def lock(self, name: str, timeout: float) -> Iterator[None]:
        """Hold the named lock across threads, processes and hosts; see `ObjectStore.lock`."""
        locks: LockService = self.__dict__["_locks"]
        checks: list[Callable[[], object]] = self.__dict__["_held"].checks
        with locks.lock(check_name(name), timeout) as check:
            checks.append(check)
            try:
                yield
            finally:
                checks.remove(check)

    @contextmanager
    def _temporary(self, path: str, parts: Iterable[Buffer]) -> Iterator[str]:
        with super()._temporary(path, parts) as temporary:
            for check in self.__dict__["_held"].checks:
                check()
            yield temporary

    def __reduce__(self) -> Any:
        """Pickle as the folder alone: who gets it elsewhere reads, and adds under fresh names."""
        return LocalObjects, (self.root, self.durable)


__all__ = ["LockService", "SharedFolder"]
