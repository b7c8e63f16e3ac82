"""Worker processes of a loader: from a fork server, deaf to Ctrl-C, without the caller's script.

Fork itself is out: a child inherits runtimes (decoders, object stores, DuckDB) whose threads it
doesn't have, and hangs now and then. The fork server is a process that has only imported modules.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import context, forkserver, popen_forkserver
from typing import Any

_swapping = threading.Lock()


class _Deaf:
    """Whoever unpickles this ignores Ctrl-C from then on: the parent hears it, and ends its workers."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return ignore_interrupts, ()


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent process, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Popen(popen_forkserver.Popen):
    def _launch(self, process_obj: Any) -> None:
        with _without_main():
            super()._launch(process_obj)  # type: ignore[misc]


class WorkerProcess(context.ForkServerProcess):
    """A process that runs its target without importing the script that started it.

    A script need not be guarded by ``if __name__ == "__main__"``, and a worker doesn't import all
    that the script does; functions of the script come by value (`voxelvault.training.carrying`).
    """

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return _Popen(process_obj)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # First of all arguments, so that it takes effect before the rest is even imported.
        return _restore, (_Deaf(), type(self), self.__dict__)


def _restore(_: None, kind: type[WorkerProcess], state: dict[str, Any]) -> WorkerProcess:
    process = kind.__new__(kind)
    process.__dict__.update(state)
    return process


class WorkerContext(context.ForkServerContext):
    """A multiprocessing context whose processes are `WorkerProcess`."""

    Process = WorkerProcess


def start_server(preload: Sequence[str]) -> None:
    """Start the fork server, which imports modules while the caller goes on.

    Parameters
    ----------
    preload : sequence of str
        Modules that every worker needs. A server that runs already keeps its own: workers then import them.
    """
    multiprocessing.set_forkserver_preload(list(preload))
    # The server's own path to the caller's script isn't wanted either.
    with _without_main():
        forkserver.ensure_running()


@contextmanager
def _without_main() -> Iterator[None]:
    """Show multiprocessing a `__main__` without a file, so that no child imports it."""
    with _swapping:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


__all__ = ["WorkerContext", "WorkerProcess", "ignore_interrupts", "start_server"]
