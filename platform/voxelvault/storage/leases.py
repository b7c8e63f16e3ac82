"""Named locks in an object store that has none: lease documents, replaced by compare-and-set.

A lease orders who waits for whom and guards nothing by itself. Its holder renews it; whoever has
seen it unchanged for longer than it lasts, by a clock of his own, takes it over: no two hosts'
clocks are compared. A holder that slept too long does not know that it lost its lease, so what it
commits must be fenced: replaced by `ObjectStore.swap` against the version that it read.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from random import uniform

from voxelvault.errors import LockTimeout, ObjectChanged, ObjectMissing, StorageError

_FREE = b"free "
_HELD = b"held "
_POLL = (0.05, 1.0)
"""First and longest pause between two looks at somebody else's lease, in seconds."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How leases run, in seconds.

    Parameters
    ----------
    lasts : float
        A lease that nobody renewed for so long is taken over: what a killed writer costs the next.
    beat : float
        How often a holder renews it.
    """

    lasts: float = 20.0
    beat: float = 4.0


@dataclass(eq=False)
class _Held:
    """One lease in this process's hands; `version` is None once it is lost."""

    name: str
    version: str | None
    stopped: threading.Event = field(default_factory=threading.Event)


class Leases:
    """The leases of one store; threads share it and queue before they ask the store.

    Parameters
    ----------
    read : callable
        `ObjectStore.versioned` for lease documents.
    swap : callable
        `ObjectStore.swap` for them.
    pace : Pace
        How long they last.
    """

    def __init__(
        self,
        read: Callable[[str], tuple[bytes, str]],
        swap: Callable[[str, bytes, str | None], str],
        pace: Pace,
    ) -> None:
        self._read = read
        self._swap = swap
        self._pace = pace
        self._guard = threading.Lock()
        self._queues: dict[str, threading.Lock] = {}
        self._released: dict[str, str | None] = {}

    @contextmanager
    def hold(self, name: str, title: str, timeout: float) -> Iterator[None]:
        """Hold a lease, renewed in the background.

        Parameters
        ----------
        name : str
            Of the lease document.
        title : str
            What the message calls the lock.
        timeout : float
            Seconds to wait in all.

        Raises
        ------
        LockTimeout
            Somebody else held it all the time.
        StorageError
            The store refused.
        """
        until = time.monotonic() + timeout
        with self._guard:
            queue = self._queues.setdefault(name, threading.Lock())
        if not queue.acquire(timeout=max(timeout, 0)):
            raise _too_late(title, timeout)
        try:
            held = _Held(name, self._acquire(name, title, timeout, until))
            beat = threading.Thread(target=self._beat, args=(held,), name="lease", daemon=True)
            beat.start()
            try:
                yield
            finally:
                held.stopped.set()
                beat.join()
                self._release(held)
        finally:
            queue.release()

    def _acquire(self, name: str, title: str, timeout: float, until: float) -> str:
        # What this process released last is most likely still there: one request instead of two.
        version, takeable, tries = self._released.pop(name, None), True, 0
        since, seen, pause = time.monotonic(), version, _POLL[0]
        while True:
            if takeable:
                tries += 1
                with suppress(ObjectChanged):
                    return self._swap(name, _HELD + _mark(), version)
            version, free = self._look(name)
            now = time.monotonic()
            if version != seen:
                since, seen = now, version
            takeable = free or now - since > self._pace.lasts
            # However little time there is, a lease that is free is asked for once.
            if takeable and (tries < 2 or now < until):
                continue
            if now >= until:
                raise _too_late(title, timeout)
            time.sleep(min(uniform(pause / 2, pause), until - now))
            pause = min(2 * pause, _POLL[1])

    def _look(self, name: str) -> tuple[str | None, bool]:
        """Return the document's version, None when there is none, and whether nobody holds it."""
        try:
            data, version = self._read(name)
        except ObjectMissing:
            return None, True
        return version, data.startswith(_FREE)

    def _beat(self, held: _Held) -> None:
        while not held.stopped.wait(self._pace.beat):
            try:
                held.version = self._swap(held.name, _HELD + _mark(), held.version)
            except ObjectChanged:
                held.version = None
                return
            except StorageError:
                # The network may be back by the next beat; the lease outlasts several.
                continue

    def _release(self, held: _Held) -> None:
        if held.version is None:
            return
        try:
            self._released[held.name] = self._swap(held.name, _FREE + _mark(), held.version)
        except StorageError:
            # Lost, or not to be reached: then the next one waits until it has run out.
            return


def _mark() -> bytes:
    """Return what makes each state of a lease another version."""
    return secrets.token_hex(16).encode()


def _too_late(title: str, timeout: float) -> LockTimeout:
    return LockTimeout(
        f"another process held the vault's {title} lock for {timeout:g} s: let it finish, then run again"
    )


__all__ = ["Leases", "Pace"]
