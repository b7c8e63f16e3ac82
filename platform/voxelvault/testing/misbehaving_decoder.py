"""Decoders that abort, hang, eat memory, lie, chatter and break out, for `DecoderPool(module=…)` in tests."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import socket
import sys
import threading
from collections.abc import Callable

import numpy as np

from voxelvault.dicom.decode_child import main
from voxelvault.dicom.decoders import DECODERS, Decoder
from voxelvault.dicom.native import Pixels, frame_shape, native_dtype
from voxelvault.model import Buffer, FrameSpec


def _abort(data: Buffer, spec: FrameSpec) -> Pixels:
    """Die as a C++ decoder does when an exception escapes it."""
    ctypes.CDLL(None).abort()
    raise AssertionError


def _hang(data: Buffer, spec: FrameSpec) -> Pixels:
    """Loop for ever."""
    while True:
        pass


def _eat(data: Buffer, spec: FrameSpec) -> Pixels:
    """Want far more memory than the frame explains."""
    return np.ones((8 << 30) // 8)


def _lie(data: Buffer, spec: FrameSpec) -> Pixels:
    """Return a frame twice as high."""
    return np.zeros((2 * spec.rows, spec.columns), native_dtype(spec))


def _forge(data: Buffer, spec: FrameSpec) -> Pixels:
    """Answer past the protocol, as a decoder taken over could."""
    for fd in range(3, 16):
        try:
            os.write(fd, b"\x00" + (1 << 40).to_bytes(8, "big") + b"x" * 100)
        except OSError:
            continue
    os._exit(0)


def _chatter(data: Buffer, spec: FrameSpec) -> Pixels:
    """Print to standard output, then decode."""
    os.write(1, b"warning: " * 1000)
    print("noise", file=sys.stderr)
    return np.frombuffer(data, native_dtype(spec)).reshape(frame_shape(spec))


def _environment(data: Buffer, spec: FrameSpec) -> Pixels:
    """Return what the process can see of its parent: names of variables and open files."""
    names = "\n".join([*os.environ, *INHERITED]).encode()
    return np.frombuffer(names.ljust(spec.columns, b"\0")[: spec.columns], np.uint8).reshape(1, spec.columns)


def _open_files() -> list[str]:
    if not os.path.exists("/proc/self/fd"):
        return []
    fds = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
    return [os.readlink(f"/proc/self/fd/{fd}") for fd in fds]


INHERITED = _open_files()
"""Looked up when the process begins: later it can't."""


def _breaking_out(attempt: Callable[[], object]) -> Decoder:
    """Return a decoder that succeeds where the attempt does."""

    def decode(data: Buffer, spec: FrameSpec) -> Pixels:
        attempt()
        return np.zeros(frame_shape(spec), native_dtype(spec))

    return decode


def _fork() -> None:
    if not os.fork():
        os._exit(0)


def _raise_limits() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _executable_memory() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)


ATTEMPTS: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "open": lambda: os.open(os.__file__, os.O_RDONLY),
    "create": lambda: os.open(f"/tmp/voxelvault-{os.getpid()}", os.O_CREAT | os.O_WRONLY),  # noqa: S108
    "list": lambda: os.listdir("/"),
    "stat": lambda: os.stat("/"),
    "pipe": os.pipe,
    "raise limits": _raise_limits,
    "executable memory": _executable_memory,
    "socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "fork": _fork,
    "thread": lambda: threading.Thread(target=int).start(),
    "exec": lambda: os.execv("/bin/sleep", ["sleep", "60"]),  # noqa: S606
    "signal": lambda: os.kill(os.getppid(), 0),
}
"""What a decoder that was taken over might do."""


MISBEHAVING: dict[str, Decoder] = {
    "abort": _abort,
    "hang": _hang,
    "eat": _eat,
    "lie": _lie,
    "forge": _forge,
    "chatter": _chatter,
    "environment": _environment,
    **{name: _breaking_out(attempt) for name, attempt in ATTEMPTS.items()},
}

if __name__ == "__main__":
    main(DECODERS | MISBEHAVING)
