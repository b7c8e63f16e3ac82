"""Values and seams that every room shares: ids, sealed references, the object store."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

FORMAT = 1
"""Version of everything at rest; a reader refuses a larger one with `NewerFormat`."""

LAYOUT = 2
"""Version of how a vault lies in its store, as vault.toml says: 2 is the log whose parts are never
overwritten."""

Buffer: TypeAlias = bytes | bytearray | memoryview

MOST_LABELS = 255
"""Of a mask: it is uint8, and 0 is background."""

UID = re.compile(r"(?=.*[0-9])[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
"""What is taken for a UID: digits and dots, or such as ``ID_0a1b2c3d`` of public data sets."""


def new_id() -> str:
    """Return a fresh random id: 16 bytes as 32 lower-case hexadecimal digits."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class SealedRef:
    """Where a sealed object is and what its ciphertext must be.

    Parameters
    ----------
    object_id, key_id : str
        Opaque ids, 32 hexadecimal digits.
    kind : int
        What it holds (`voxelvault.crypto.streaming_aead.Kind`).
    length : int
        Length of the ciphertext in bytes, preamble and header included.
    sha256 : str
        SHA-256 of the whole ciphertext, hexadecimal.
    """

    object_id: str
    key_id: str
    kind: int
    length: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One listed object: name, length in bytes, modification time in seconds since the epoch."""

    name: str
    length: int
    modified: float


class ObjectStore(Protocol):
    """Named immutable objects, a few replaceable documents, and locks.

    Names are relative POSIX paths of `[a-z0-9._-]` parts. Every write is durable when the call
    returns (local disk: temporary file, fsync, rename, fsync of the folder).
    Failures are `StorageError` and its children.
    """

    def put(self, name: str, parts: Iterable[Buffer]) -> None:
        """Create an object from its parts in order; `ObjectExists` if the name is taken."""

    def replace(self, name: str, data: Buffer) -> None:
        """Create or atomically replace a document."""

    def swap(self, name: str, data: Buffer, expected: str | None) -> str:
        """Replace a document if it still is the version that the caller read; return the new version.

        `expected` None stands for a document that does not exist yet. `ObjectChanged` when it is
        another version, or gone; then nothing was written.
        """

    def get(self, name: str) -> bytes:
        """Return the whole object; `ObjectMissing` if there is none."""

    def versioned(self, name: str) -> tuple[bytes, str]:
        """Return a document and its version, for `swap`; `ObjectMissing` if there is none."""

    def version(self, name: str) -> str:
        """Return a document's version: opaque, and another one for another content."""

    def read_into(self, name: str, start: int, out: memoryview) -> None:
        """Fill `out` with bytes from `start` on; `IntegrityError` when the object ends too soon."""

    def size(self, name: str) -> int:
        """Return the length in bytes; `ObjectMissing` if there is none."""

    def delete(self, name: str) -> None:
        """Remove an object; no error when it is not there."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose name starts with `prefix` (a folder ends in `/`)."""

    def lock(self, name: str, timeout: float) -> AbstractContextManager[None]:
        """Hold the named lock across processes; `LockTimeout` after `timeout` seconds. Not reentrant."""


@dataclass(frozen=True, slots=True)
class FrameSpec:
    """What a header says of each frame of its pixels (PS3.3 C.7.6.3).

    Parameters
    ----------
    rows, columns : int
        Image size in pixels.
    samples : int
        SamplesPerPixel.
    bits_allocated, bits_stored : int
        In bits; 32 and 64 for FloatPixelData and DoubleFloatPixelData.
    pixel_representation : int
        0 unsigned, 1 two's complement.
    photometric : str
        PhotometricInterpretation as sent.
    planar : int
        PlanarConfiguration; 0 when absent.
    floating : bool
        The pixels came in FloatPixelData or DoubleFloatPixelData.
    """

    rows: int
    columns: int
    samples: int = 1
    bits_allocated: int = 16
    bits_stored: int = 16
    pixel_representation: int = 0
    photometric: str = "MONOCHROME2"
    planar: int = 0
    floating: bool = False


__all__ = [
    "FORMAT",
    "LAYOUT",
    "Buffer",
    "FrameSpec",
    "ObjectInfo",
    "ObjectStore",
    "SealedRef",
    "UID",
    "new_id",
]
