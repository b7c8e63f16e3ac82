"""Decoders that abort, hang, eat memory, lie and chatter, for `DecoderPool(module=…)` in tests."""

from __future__ import annotations

import ctypes
import os
import sys

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
    names = "\n".join([*os.environ, *(os.readlink(f"/proc/self/fd/{fd}") for fd in _open_files())]).encode()
    return np.frombuffer(names.ljust(spec.columns, b"\0")[: spec.columns], np.uint8).reshape(1, spec.columns)


def _open_files() -> list[str]:
    return [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]


MISBEHAVING: dict[str, Decoder] = {
    "abort": _abort,
    "hang": _hang,
    "eat": _eat,
    "lie": _lie,
    "forge": _forge,
    "chatter": _chatter,
    "environment": _environment,
}

if __name__ == "__main__":
    main(DECODERS | MISBEHAVING)
