"""Room on the disk for what is counted, sorted and put aside, so that memory does not grow with it."""

from __future__ import annotations

import os
import sqlite3
from tempfile import TemporaryFile
from weakref import finalize

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_CACHE_KIB = 1024


class _Closing(sqlite3.Connection):
    def __del__(self) -> None:
        self.close()


def temporary(schema: str) -> sqlite3.Connection:
    """Return SQLite's own temporary database: it has no name on the disk, and goes with the process.

    What leaves its cache of 1 MiB is written to the system's folder for temporary files. It must hold
    nothing but released values, counts and keyed digests.

    Parameters
    ----------
    schema : str
        Statements that make the tables.

    Returns
    -------
    sqlite3.Connection
        Every statement stands for itself: there is no transaction to end.
    """
    # Of any thread: the garbage collector closes it in whichever it runs.
    made = sqlite3.connect("", isolation_level=None, factory=_Closing, check_same_thread=False)
    for setting in ("journal_mode = off", "synchronous = off", f"cache_size = -{_CACHE_KIB}"):
        made.execute(f"pragma {setting}")
    made.executescript(schema)
    return made


class SealedTexts:
    """Texts on the disk, sealed under a key that only this process has in memory; for what identifies.

    References
    ----------
    NIST SP 800-38D (AES-GCM; a text's place is its nonce, and no place is written twice).
    """

    def __init__(self) -> None:
        self._file = TemporaryFile()
        finalize(self, self._file.close)
        self._cipher = AESGCM(os.urandom(32))
        self._end = 0

    def put(self, text: str) -> int:
        """Put a text aside, and return its place."""
        place = self._end
        sealed = self._cipher.encrypt(place.to_bytes(12, "big"), text.encode("utf-8", "surrogatepass"), None)
        self._file.seek(place)
        self._end += self._file.write(len(sealed).to_bytes(4, "big") + sealed)
        return place

    def get(self, place: int) -> str:
        """Return the text of a place."""
        self._file.seek(place)
        sealed = self._file.read(int.from_bytes(self._file.read(4), "big"))
        return self._cipher.decrypt(place.to_bytes(12, "big"), sealed, None).decode("utf-8", "surrogatepass")


__all__ = ["SealedTexts", "temporary"]
