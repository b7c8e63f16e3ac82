"""Named locks between processes: flock on a file, with a time limit.

The kernel drops a lock when its process ends, however it ends, so a killed writer blocks nobody.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from voxelvault.errors import LockTimeout

_POLL = (0.001, 0.05)
"""First and longest pause between two tries, in seconds."""

_guard = threading.Lock()
_threads: dict[str, threading.Lock] = {}


def _forget_after_fork() -> None:
    """Start a forked child with free in-process locks: the threads that held them are not in it."""
    global _guard
    _guard = threading.Lock()
    _threads.clear()


os.register_at_fork(after_in_child=_forget_after_fork)


@contextmanager
def hold(path: str, name: str, timeout: float) -> Iterator[None]:
    """Hold the lock on one existing or new file; threads of this process queue before its flock.

    Parameters
    ----------
    path : str
        The lock file; its folder exists. It stays behind: removing it would let two holders in.
    name : str
        What the message calls the lock.
    timeout : float
        Seconds to wait in all.

    Raises
    ------
    LockTimeout
        Somebody else held it all the time.
    OSError
        The file can't be opened.
    """
    until = time.monotonic() + timeout
    with _guard:
        queue = _threads.setdefault(os.path.realpath(path), threading.Lock())
    if not queue.acquire(timeout=max(timeout, 0)):
        raise _too_late(name, timeout)
    try:
        with _flocked(path, name, timeout, until):
            yield
    finally:
        queue.release()


@contextmanager
def _flocked(path: str, name: str, timeout: float, until: float) -> Iterator[None]:
    holder = os.getpid()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _wait(fd, name, timeout, until)
        try:
            yield
        finally:
            # Said aloud, since a child forked meanwhile shares the open file and would keep the lock;
            # and not said by such a child, which would take it from its parent.
            if os.getpid() == holder:
                fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def _wait(fd: int, name: str, timeout: float, until: float) -> None:
    pause, longest = _POLL
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            left = until - time.monotonic()
            if left <= 0:
                raise _too_late(name, timeout) from None
            time.sleep(min(pause, left))
            pause = min(2 * pause, longest)


def _too_late(name: str, timeout: float) -> LockTimeout:
    return LockTimeout(
        f"another process held the vault's {name} lock for {timeout:g} s: let it finish, then run again"
    )


__all__ = ["hold"]
