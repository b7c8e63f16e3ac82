"""Keeps a set of processes alive: starts them, restarts what ends with growing waits, ends them together."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from voxelvault_fl.errors import ProcessFailed
from voxelvault_fl.processes.lifetime import cut, set_aside, tell

_GRACE = 8.0
_STEADY = 120.0
_BETWEEN = 5.0


@dataclass(frozen=True)
class Program:
    """What to keep running.

    Parameters
    ----------
    name : str
        Its log is `log/<name>.log`.
    command : sequence of str
        The program and its arguments.
    least, most : float
        Seconds to wait before it is restarted: the first time, and at most.
    ready : callable
        Tells whether it serves; the next program starts only then.
    """

    name: str
    command: Sequence[str]
    least: float = 1.0
    most: float = 60.0
    ready: Callable[[], bool] = lambda: True


def wait_before(failures: int, least: float, most: float) -> float:
    """Return the seconds to wait after so many failures in a row: doubling, from `least` to `most`."""
    return min(most, least * 2.0 ** max(0, failures - 1))


@dataclass
class _Child:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    since: float = 0.0
    due: float = 0.0


@dataclass
class Supervisor:
    """Runs programs in order and keeps them running until it is told to stop.

    Parameters
    ----------
    programs : sequence of Program
        Started in this order, ended in the reverse.
    state : Path
        Folder for logs and `processes.json`.
    environment : mapping
        Of each process.
    """

    programs: Sequence[Program]
    state: Path
    environment: Mapping[str, str]
    _children: list[_Child] = field(default_factory=list)
    _cut_due: float = 0.0

    def start(self, patience: float = 180.0) -> None:
        """Start all, each once the one before it is ready.

        Raises
        ------
        ProcessFailed
            One ended or was not ready in time; the others have been ended.
        """
        for program in self.programs:
            child = _Child(program)
            self._children.append(child)
            self._launch(child)
            if not self._becomes_ready(child, patience):
                self.stop()
                raise ProcessFailed(f"the {program.name} did not start; its log is log/{program.name}.log")
        self._tell()

    def look_after(self) -> None:
        """Restart what has ended and whose wait is over, and keep logs short; call it often."""
        now = time.monotonic()
        if now >= self._cut_due:
            self._cut_due = now + _BETWEEN
            self._cut_logs()
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                self._note_end(child, now)
            elif child.process is None and now >= child.due:
                self._launch(child)
                self._tell()

    def restart(self, name: str) -> None:
        """End a program and start it again at once."""
        for child in self._children:
            if child.program.name == name:
                if child.process is not None:
                    end(child.process)
                self._launch(child)
        self._tell()

    def stop(self) -> None:
        """End all, the last started first: politely, then not."""
        for child in reversed(self._children):
            if child.process is not None:
                end(child.process)
                child.process = None
        self._children.clear()
        self._tell()

    def _log(self, child: _Child) -> Path:
        return self.state / "log" / f"{child.program.name}.log"

    def _cut_logs(self) -> None:
        # What others write fills them: the gate's has a line for each connection.
        for child in self._children:
            with suppress(OSError):
                cut(self._log(child))

    def _launch(self, child: _Child) -> None:
        log = self._log(child)
        log.parent.mkdir(parents=True, exist_ok=True)
        set_aside(log)
        with log.open("ab") as out:
            child.process = subprocess.Popen(  # noqa: S603 - our own command lines
                child.program.command,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=dict(self.environment),
                start_new_session=True,
                preexec_fn=die_with_parent if sys.platform == "linux" else None,
            )
        child.since = time.monotonic()

    def _becomes_ready(self, child: _Child, patience: float) -> bool:
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if child.process is None or child.process.poll() is not None:
                return False
            if child.program.ready():
                return True
            time.sleep(0.05)
        return False

    def _note_end(self, child: _Child, now: float) -> None:
        child.failures = 1 if now - child.since > _STEADY else child.failures + 1
        wait = wait_before(child.failures, child.program.least, child.program.most)
        child.process, child.due = None, now + wait
        self._tell()

    def _tell(self) -> None:
        said = {
            child.program.name: {
                "pid": child.process.pid if child.process is not None else None,
                "failures": child.failures,
            }
            for child in self._children
        }
        tell(self.state / "processes.json", said)


def end(process: subprocess.Popen[bytes], grace: float = _GRACE) -> None:
    """End a process and those it started: SIGTERM, then after `grace` seconds SIGKILL."""
    _signal(process, signal.SIGTERM)
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
        process.wait()


def die_with_parent() -> None:
    """Have the kernel end the calling process when its parent dies, however that happens (Linux)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


__all__ = ["Program", "Supervisor", "die_with_parent", "end", "wait_before"]
