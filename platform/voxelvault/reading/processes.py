"""Which process this is: what was opened before a fork is not used after it.

A forked child inherits locks, threads that are not there and open runtimes; it hangs or worse. A
fork server forks too, but from a process that has opened nothing, and that is as good as a fresh one.
"""

from __future__ import annotations

import os

from voxelvault.errors import ForkedProcess

_opened = False
_inherited = False


def opened() -> None:
    """Note that this process has opened something: from now on its forks are refused loans."""
    global _opened
    _opened = True


def check_process(pid: int | None = None) -> None:
    """Refuse to go on in a forked child.

    Parameters
    ----------
    pid : int, optional
        Process in which the thing at hand was opened; without it, whether this process was forked
        from one that had something open.

    Raises
    ------
    ForkedProcess
        It is one.
    """
    if _inherited if pid is None else os.getpid() != pid:
        raise ForkedProcess("this was opened before a fork; start children with spawn or forkserver")


def _after_fork() -> None:
    global _inherited
    _inherited = _inherited or _opened


os.register_at_fork(after_in_child=_after_fork)

__all__ = ["check_process", "opened"]
