"""The parent's half of a confined process: started with nothing of ours, bounded, and ended when it fails."""

from __future__ import annotations

import importlib.util
import os
import select
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

from voxelvault.confining import sandbox
from voxelvault.confining.inside import IS_READY, READY
from voxelvault.errors import ChildDied

START_SECONDS = 120.0
"""How long a child may take to import what it needs: PyTorch takes over 60 where many others are at work."""

SLOW = f"a confined process didn't start within {START_SECONDS:.0f} s; this machine is busy, try again later"
"""What a `ChildDied` with `hung` means at the start, for people."""


class ConfinedChild:
    """One process that runs a module of ours over a pipe, with no keys and no environment.

    The module calls `inside.own_pipes` and `inside.give_up` before it reads anything.

    Parameters
    ----------
    module : str
        What it runs.
    packages : sequence of str
        What it may import beside the standard library.
    spare : int
        Address space in bytes that it may use beyond what it needed to start.
    *arguments : str
        For the module.

    Attributes
    ----------
    confined : str
        What holds, for people: ``seccomp, limits``.

    Raises
    ------
    ChildDied
        It does not start.
    """

    def __init__(self, module: str, packages: Sequence[str], spare: int, *arguments: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603  our own module, no foreign word in it
            [sys.executable, "-P", "-s", "-S", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(packages),
            cwd="/",
            bufsize=0,
            start_new_session=True,  # Ctrl-C in the terminal is not for it
        )
        self._in, self._out = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)
        _after_fork.add(self)
        for pipe in (self._in, self._out):
            os.set_blocking(pipe.fileno(), False)
        ready = bytearray(READY.size)
        try:
            self.read(memoryview(ready), time.monotonic() + START_SECONDS)
        except ChildDied:
            self.kill()
            raise
        mark, held, self._base = READY.unpack(ready)
        bounded = mark == IS_READY and self.bound(spare, START_SECONDS)
        self.confined = sandbox.words(held, bounded)

    def bound(self, spare: int, seconds: float) -> bool:
        """Bound memory beyond that of its start, and processor time from now on; see `sandbox.bound`."""
        return sandbox.bound(self._process.pid, self._base + spare, seconds)

    def alive(self) -> bool:
        """Tell whether it runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self.forget()

    def forget(self) -> None:
        """Close the pipes and leave the process to whom it belongs."""
        self._in.close()
        self._out.close()
        if self._process.returncode is None:
            self._process.returncode = 0  # not ours to wait for

    def write(self, data: memoryview, deadline: float) -> None:
        """Send bytes.

        Parameters
        ----------
        data : memoryview
            Of bytes.
        deadline : float
            On the clock of `time.monotonic`, seconds.

        Raises
        ------
        ChildDied
            It died, or was not done at the deadline.
        """
        fd = self._in.fileno()
        while data.nbytes:
            _wait(fd, select.POLLOUT, deadline)
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:
                continue
            except OSError:
                raise ChildDied from None

    def read(self, into: memoryview, deadline: float) -> None:
        """Fill `into` with bytes it sends; as `write`."""
        fd = self._out.fileno()
        while into.nbytes:
            _wait(fd, select.POLLIN, deadline)
            try:
                got = os.readv(fd, [into])
            except BlockingIOError:
                continue
            if not got:
                raise ChildDied
            into = into[got:]


def _wait(fd: int, event: int, deadline: float) -> None:
    """Sleep until the pipe is ready; `ChildDied` at the deadline."""
    poll = select.poll()
    poll.register(fd, event)
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(left * 1000):
        raise ChildDied(hung=True)


_after_fork: weakref.WeakSet[ConfinedChild] = weakref.WeakSet()


def _forget_children() -> None:
    for inherited in list(_after_fork):
        inherited.forget()


os.register_at_fork(after_in_child=_forget_children)


def _environment(packages: Sequence[str]) -> dict[str, str]:
    """Return the child's whole environment: where its packages are, and nothing of ours."""
    roots = []
    for name in packages:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            roots.append(str(Path(spec.origin).parent.parent))
    scrubbed = {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(roots)),
        "PYTHONNOUSERSITE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "LC_ALL": "C.UTF-8",
    }
    libraries = os.environ.get("LD_LIBRARY_PATH")
    return scrubbed | ({"LD_LIBRARY_PATH": libraries} if libraries else {})


__all__ = ["ConfinedChild"]
