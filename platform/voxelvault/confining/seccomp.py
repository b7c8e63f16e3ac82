"""Which system calls a decoder may make: a filter for the Linux kernel, as a pure table.

A decoder reads a pipe, computes, and writes a pipe. What that takes is allowed; everything else
fails with EPERM, and what only code from elsewhere would try (a socket, a program, another process)
ends the process. New memory can't be made executable.

References
----------
Linux kernel, Documentation/userspace-api/seccomp_filter.rst; classic BPF (linux/filter.h).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct

INSTRUCTION = Struct("<HBBI")
"""One `struct sock_filter`: code, jump if true, jump if false, constant."""

ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x00050000 | 1, 0x00050000 | 38

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Offsets in `struct seccomp_data`; arguments are 8 bytes each, little endian."""

_EXECUTABLE, _THREAD = 0x4, 0x10000
"""PROT_EXEC of mmap and mprotect, CLONE_THREAD of clone."""


@dataclass(frozen=True, slots=True)
class Calls:
    """System call numbers of one architecture.

    Parameters
    ----------
    architecture : int
        AUDIT_ARCH value that the kernel reports.
    seccomp : int
        The call that installs a filter.
    allowed : tuple of int
        Memory, pipes that are open, clocks, locks, leaving.
    fatal : tuple of int
        Sockets, programs, other processes.
    mapping : tuple of int
        mmap and mprotect, allowed where nothing becomes executable.
    tgkill, clone, clone3 : int
        A signal to itself (abort) is allowed. A thread is refused, a process is fatal; clone3 is said
        to be missing, so that clone is asked: its flags are no pointer and can be told apart.
    foreign_from : int or None
        Numbers from here on belong to another calling convention (x32).
    """

    architecture: int
    seccomp: int
    allowed: tuple[int, ...]
    fatal: tuple[int, ...]
    mapping: tuple[int, int]
    tgkill: int
    clone: int
    clone3: int = 435
    foreign_from: int | None = None


_ALLOWED_X86_64 = {
    **{"read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "munmap": 11, "brk": 12},
    **{"rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "readv": 19, "writev": 20},
    **{"sched_yield": 24, "mremap": 25, "madvise": 28, "nanosleep": 35, "getpid": 39, "exit": 60},
    **{"getrusage": 98, "sigaltstack": 131, "gettid": 186, "futex": 202, "sched_getaffinity": 204},
    **{"restart_syscall": 219, "clock_gettime": 228, "clock_nanosleep": 230, "exit_group": 231},
    **{"ppoll": 271, "set_robust_list": 273, "getrandom": 318, "rseq": 334},
}
_FATAL_X86_64 = {
    **{"socket": 41, "connect": 42, "bind": 49, "socketpair": 53, "fork": 57, "vfork": 58},
    **{"execve": 59, "kill": 62, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311},
    **{"bpf": 321, "execveat": 322, "io_uring_setup": 425},
}
_ALLOWED_AARCH64 = {
    **{"close": 57, "lseek": 62, "read": 63, "write": 64, "readv": 65, "writev": 66, "ppoll": 73},
    **{"fstat": 80, "exit": 93, "exit_group": 94, "futex": 98, "set_robust_list": 99, "nanosleep": 101},
    **{"clock_gettime": 113, "clock_nanosleep": 115, "sched_getaffinity": 123, "sched_yield": 124},
    **{"restart_syscall": 128, "sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135},
    **{"rt_sigreturn": 139, "getrusage": 165, "getpid": 172, "gettid": 178, "brk": 214, "munmap": 215},
    **{"mremap": 216, "madvise": 233, "getrandom": 278, "rseq": 293},
}
_FATAL_AARCH64 = {
    **{"ptrace": 117, "kill": 129, "socket": 198, "socketpair": 199, "bind": 200, "connect": 203},
    **{"execve": 221, "process_vm_readv": 270, "process_vm_writev": 271, "bpf": 280, "execveat": 281},
    **{"io_uring_setup": 425},
}

ARCHITECTURES: Mapping[str, Calls] = {
    "x86_64": Calls(
        0xC000003E,
        317,
        tuple(_ALLOWED_X86_64.values()),
        tuple(_FATAL_X86_64.values()),
        (9, 10),
        tgkill=234,
        clone=56,
        foreign_from=0x40000000,
    ),
    "aarch64": Calls(
        0xC00000B7,
        277,
        tuple(_ALLOWED_AARCH64.values()),
        tuple(_FATAL_AARCH64.values()),
        (222, 226),
        tgkill=131,
        clone=220,
    ),
}
"""By `platform.machine()`."""


def program(calls: Calls, process_id: int, *, threads: bool = False) -> bytes:
    """Return the filter: `INSTRUCTION` after `INSTRUCTION`.

    Parameters
    ----------
    calls : Calls
        Of the machine it runs on.
    process_id : int
        Of the process it is for: the only one that may be sent a signal.
    threads : bool
        A thread is allowed instead of refused; a process is fatal all the same.

    Returns
    -------
    bytes
        A classic BPF program over `struct seccomp_data`.
    """
    steps = [(_LOAD, 0, 0, _ARCHITECTURE), *_unless(_EQUAL, calls.architecture, KILL)]
    steps.append((_LOAD, 0, 0, _NUMBER))
    if calls.foreign_from is not None:
        steps += _when(_AT_LEAST, calls.foreign_from, [_return(KILL)])
    for number in calls.allowed:
        steps += _when(_EQUAL, number, [_return(ALLOW)])
    for number in calls.fatal:
        steps += _when(_EQUAL, number, [_return(KILL)])
    for number in calls.mapping:
        writable = [_argument(2), *_when(_ANY_BIT, _EXECUTABLE, [_return(EPERM)]), _return(ALLOW)]
        steps += _when(_EQUAL, number, writable)
    itself = [_argument(0), *_when(_EQUAL, process_id, [_return(ALLOW)]), _return(KILL)]
    thread = [_argument(0), *_when(_ANY_BIT, _THREAD, [_return(ALLOW if threads else EPERM)]), _return(KILL)]
    steps += _when(_EQUAL, calls.tgkill, itself)
    steps += _when(_EQUAL, calls.clone, thread)
    steps += _when(_EQUAL, calls.clone3, [_return(ENOSYS)])
    steps.append(_return(EPERM))
    return b"".join(INSTRUCTION.pack(*step) for step in steps)


_Step = tuple[int, int, int, int]


def _return(action: int) -> _Step:
    return _RETURN, 0, 0, action


def _argument(number: int) -> _Step:
    return _LOAD, 0, 0, _ARGUMENTS + 8 * number


def _when(test: int, value: int, then: list[_Step]) -> list[_Step]:
    """Do `then`, which ends in a return, where the test holds; else go on behind it."""
    return [(test, 0, len(then), value), *then]


def _unless(test: int, value: int, action: int) -> list[_Step]:
    return [(test, 1, 0, value), _return(action)]


__all__ = ["ALLOW", "ARCHITECTURES", "Calls", "ENOSYS", "EPERM", "INSTRUCTION", "KILL", "program"]
