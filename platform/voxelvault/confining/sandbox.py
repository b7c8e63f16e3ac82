"""What a process gives up before it sees a stranger's bytes.

Everywhere: no new file descriptor, no growing file, no core dump, no further process. On Linux
(x86_64, aarch64) the kernel also refuses every system call that decoding does not take
(`voxelvault.confining.seccomp`). Memory and processor time are set from outside, frame by frame
(`bound`), since a process that may lower its own limits may raise them again.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import sys
import time

from voxelvault.confining.seccomp import ARCHITECTURES, INSTRUCTION, program

LIMITS, FILTER = 1, 2
"""What holds, as bits."""

_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER_MODE = 38, 22, 2
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_FINAL = ("RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_NPROC")


def confine(*, threads: bool = False) -> int:
    """Give up files, network, programs and other processes, for good.

    Descriptors that are open stay usable. What is to be imported must have been.

    Parameters
    ----------
    threads : bool
        Further threads may be started where the filter holds, which tells them from processes.

    Returns
    -------
    int
        `LIMITS` and `FILTER`, as far as they hold.
    """
    # The limit on processes counts threads, and only the filter can tell them apart.
    held = LIMITS if all([_lowered(name) for name in (_FINAL[:-1] if threads else _FINAL)]) else 0
    if sys.platform == "linux" and _filtered(threads):
        return held | FILTER
    return held if not threads or _lowered(_FINAL[-1]) else 0


def _lowered(name: str) -> bool:
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(getattr(resource, name), (0, 0))
        return True
    return False


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _filtered(threads: bool) -> bool:
    """Install the filter for every thread; False where the kernel or the machine has none."""
    calls = ARCHITECTURES.get(platform.machine())
    if calls is None:
        return False
    code = program(calls, os.getpid(), threads=threads)
    filled = _Program(len(code) // INSTRUCTION.size, code)
    libc = ctypes.CDLL(None, use_errno=True)
    long, nothing = ctypes.c_ulong, ctypes.c_ulong(0)
    if libc.prctl(_NO_NEW_PRIVILEGES, long(1), nothing, nothing, nothing):
        return False
    installed = libc.syscall(
        ctypes.c_long(calls.seccomp), long(_SET_MODE_FILTER), long(_ALL_THREADS), ctypes.byref(filled)
    )
    return bool(installed == 0)


def bound(process_id: int, address_space: int, seconds: float) -> bool:
    """Bound memory and processor time of a confined process for what it does next.

    Parameters
    ----------
    process_id : int
        A child of this process.
    address_space : int
        Bytes.
    seconds : float
        Of processor time, from now on; the process is killed two seconds later.

    Returns
    -------
    bool
        False where the system lets nobody set another process's limits.
    """
    if not hasattr(resource, "prlimit"):
        return False
    try:
        spent = time.clock_gettime((~process_id << 3) | 2)  # as clock_getcpuclockid(3) makes it
        for kind, value in (
            (resource.RLIMIT_AS, address_space),
            (resource.RLIMIT_CPU, int(spent + seconds) + 2),
        ):
            _, hard = resource.prlimit(process_id, kind)
            lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.prlimit(process_id, kind, (lowest, hard))
    except (OSError, ValueError):
        return False
    return True


def words(held: int, bounded: bool) -> str:
    """Say what holds, for people: ``seccomp, limits``.

    Parameters
    ----------
    held : int
        What `confine` returned in the decoding process.
    bounded : bool
        Whether `bound` could set its limits.
    """
    limits = "limits" if held & LIMITS and bounded else "limits in part"
    return f"seccomp, {limits}" if held & FILTER else f"{limits} only: this system has no seccomp filter"


__all__ = ["FILTER", "LIMITS", "bound", "confine", "words"]
