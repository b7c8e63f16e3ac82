"""Worker processes of a loader: from a fork server, deaf to Ctrl-C, without the caller's script.

Fork itself is out: a child inherits runtimes (decoders, object stores, DuckDB) whose threads it
doesn't have, and hangs now and then. The fork server is a process that has only imported modules.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection, context, forkserver, popen_forkserver
from typing import Any

from voxelvault.reading.lending import SECRETS

_swapping = threading.Lock()


class _Deaf:
    """Whoever unpickles this ignores Ctrl-C from then on: the parent hears it, and ends its workers."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _begin, ()


def _begin() -> None:
    ignore_interrupts()
    sys.excepthook = _quiet


def _quiet(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Say nothing of queues that vanished while they were handed over: the parent was interrupted."""
    if not issubclass(kind, OSError | EOFError):
        sys.__excepthook__(kind, error, trace)


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent process, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def settle() -> None:
    """Make this process a worker: deaf to Ctrl-C, gone when its parent is, and nothing left behind then.

    torch's own watch looks at the parent by process id, and that of a worker is the fork server: the
    two would keep each other alive.
    """
    ignore_interrupts()
    # Workers have no children, so their locks (numcodecs makes one) need no name that outlives them.
    multiprocessing.set_start_method("fork", force=True)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_outlive, args=(parent.sentinel,), daemon=True).start()


def _outlive(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


class _Popen(popen_forkserver.Popen):
    def _launch(self, process_obj: Any) -> None:
        with _bare():
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
    sys.excepthook = sys.__excepthook__
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
    with _bare():
        forkserver.ensure_running()


@contextmanager
def _bare() -> Iterator[None]:
    """Show multiprocessing a `__main__` without a file, which no child imports, and no vault's secrets.

    A launch may start the fork server anew, whose environment is every worker's.
    """
    with _swapping:
        main = sys.modules["__main__"]
        secrets = {name: os.environ.pop(name) for name in SECRETS if name in os.environ}
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main
            os.environ.update(secrets)


__all__ = ["WorkerContext", "WorkerProcess", "settle", "start_server"]
