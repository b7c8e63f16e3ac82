"""Ctrl-C as a wish to stop at the next good moment."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_heeded = threading.Lock()
"""Held while somebody heeds Ctrl-C."""


@contextmanager
def interruptible(at_hand: str = "series") -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a wish to stop after what is at hand; the second one insists.

    Within another one it wishes nothing: what is a step of something larger is done whole, and the
    larger one stops after it.

    Parameters
    ----------
    at_hand : str
        What is ended first, as it is told.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread() or not _heeded.acquire(blocking=False):
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        print(f"finishing the {at_hand} at hand; Ctrl-C again stops at once", file=sys.stderr, flush=True)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
        _heeded.release()
