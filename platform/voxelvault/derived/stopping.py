"""Ctrl-C while copies are made: first a wish to stop after the volumes at hand, then to stop at once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

TOLD = "finishing the volumes at hand; Ctrl-C again stops at once"
LOOK = 0.2
"""Seconds between looks at the wish."""


@dataclass(slots=True)
class Wish:
    """What was wished so far.

    Parameters
    ----------
    asked : bool
        Begin nothing more, and keep what is at hand.
    insisted : bool
        Wait for nothing.
    """

    asked: bool = False
    insisted: bool = False
    _told: bool = False

    def tell(self) -> None:
        """Say once what a first Ctrl-C does; not from within the handler, which may interrupt a write."""
        if self.asked and not self._told:
            self._told = True
            print(TOLD, file=sys.stderr, flush=True)


@contextmanager
def stopping() -> Iterator[Wish]:
    """Turn the first two presses of Ctrl-C into wishes; a third one interrupts wherever it finds us.

    Nothing is raised in the middle of a commit, which leaves each copy with its row or without an object.
    """
    wish, before = Wish(), signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield wish
        return

    def note(_number: int, _frame: FrameType | None) -> None:
        if wish.asked:
            wish.insisted = True
            signal.signal(signal.SIGINT, before)
        wish.asked = True

    signal.signal(signal.SIGINT, note)
    try:
        yield wish
    finally:
        signal.signal(signal.SIGINT, before)


__all__ = ["LOOK", "TOLD", "Wish", "stopping"]
