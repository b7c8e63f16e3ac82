"""Objects of a process that sleeps past its lock, as object storage allows, while others are at work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from voxelvault.model import Buffer, ObjectInfo
from voxelvault.storage.objects import MemoryObjects


class Sleepy(MemoryObjects):
    """Falls asleep before one step, with its lock lost meanwhile.

    Parameters
    ----------
    objects : MemoryObjects
        The same objects, as others see them.
    at : int
        Before which step, from 1: writing, removing, listing; 0 for none.
    meanwhile : callable
        What others do in that time.
    """

    def __init__(
        self, objects: MemoryObjects, at: int = 0, meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        super().__init__(objects._objects)
        self.left, self.meanwhile = at, meanwhile

    @contextmanager
    def lock(self, name: str, timeout: float) -> Iterator[None]:
        yield

    def _nap(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.meanwhile()

    def swap(self, name: str, data: Buffer, expected: str | None) -> str:
        self._nap()
        return super().swap(name, data, expected)

    def put(self, name: str, parts: Iterable[Buffer]) -> None:
        self._nap()
        super().put(name, parts)

    def delete(self, name: str) -> None:
        self._nap()
        super().delete(name)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._nap()
        return super().list(prefix)
