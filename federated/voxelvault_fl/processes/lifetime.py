"""The life of a supervised set: one at a time in a folder, ended by a signal, told in a file."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from voxelvault_fl.errors import ProcessFailed
from voxelvault_fl.provisioning.files import private_folder, write

LONG = 8 * 1024 * 1024
"""Bytes of a log: of each there are two such files at most, but for what a second brings."""


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Hold a state folder for as long as the block runs.

    Raises
    ------
    ProcessFailed
        Another process has it.
    """
    private_folder(state)
    with (state / "lock").open("a+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ProcessFailed("another process serves from this folder; `federated stop` ends it") from None
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
        yield


class Ending:
    """True once SIGTERM or SIGINT came."""

    def __init__(self) -> None:
        self.came = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.came = True


def ask_to_end(state: Path, patience: float = 40.0) -> bool:
    """End what serves from a folder, and wait until it has; False where nothing does.

    Raises
    ------
    ProcessFailed
        It does not end in time.
    """
    pid = holder(state)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + patience
    while holder(state) is not None:
        if time.monotonic() > until:
            raise ProcessFailed("it does not end; kill the process whose number is in the file `lock`")
        time.sleep(0.1)
    return True


def holder(state: Path) -> int | None:
    """Return the number of the process that holds a folder, or None."""
    try:
        with (state / "lock").open("r+") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(held.read())
            return None
    except (OSError, ValueError):
        return None


def note(state: Path, event: str, **about: str | int) -> None:
    """Add a line to the log of events: what happened when, and to which site."""
    path = state / "log" / "events.jsonl"
    said = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event, **about}
    # A full disk must not end what runs.
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        set_aside(path)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(said) + "\n")


def set_aside(log: Path, most: int = LONG) -> None:
    """Move a log that has grown long to `<name>.1`, in the place of what was there."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > most:
            log.replace(log.with_name(f"{log.name}.1"))


def cut(log: Path, most: int = LONG) -> None:
    """Copy a log that has grown long to `<name>.1` and empty it: a process goes on appending to it."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > most:
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)


def tell(path: Path, said: Mapping[str, Any]) -> None:
    """Write what `status` shows, which is of now; on a full disk it shows what was before."""
    with suppress(OSError):
        write(path, json.dumps(said, indent=1).encode(), durable=False)


def lines(path: Path) -> int:
    """Return how many lines a file has; 0 where there is none."""
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def every(seconds: float, do: Callable[[], None]) -> Callable[[], None]:
    """Return what does something, but not more often than every so many seconds."""
    last = -seconds

    def maybe() -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            do()
            last = time.monotonic()

    return maybe


__all__ = [
    "LONG", "Ending", "alone", "ask_to_end", "cut", "every", "holder", "lines", "note", "set_aside", "tell",
]  # fmt: skip
