"""A worker that takes too long ends itself: nothing in Python stops a library that hangs."""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import IO

_lock = threading.Lock()
_deadlines: list[float] = []


@contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """End this process at once when what is within takes longer.

    The watchdog is a thread of C that waits for no lock of Python's. Of several threads of a worker the
    first that is too late ends it for all: their work is done again elsewhere.

    Parameters
    ----------
    seconds : float or None
        None sets no limit.
    """
    if seconds is None:
        yield
        return
    deadline = time.monotonic() + seconds
    _change(lambda: _deadlines.append(deadline))
    try:
        yield
    finally:
        _change(lambda: _deadlines.remove(deadline))


def _change(change: Callable[[], None]) -> None:
    with _lock:
        change()
        faulthandler.cancel_dump_traceback_later()
        if _deadlines:
            left = max(min(_deadlines) - time.monotonic(), 1e-3)
            faulthandler.dump_traceback_later(left, exit=True, file=_nowhere())


@cache
def _nowhere() -> IO[bytes]:
    # Names of files and functions are none of a log's business.
    return open(os.devnull, "wb")


__all__ = ["limited"]
