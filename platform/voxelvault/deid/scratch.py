"""Room on the disk for what is counted and sorted, so that memory does not grow with it."""

from __future__ import annotations

import sqlite3

_CACHE_KIB = 4096


def temporary(schema: str) -> sqlite3.Connection:
    """Return SQLite's own temporary database: it has no name on the disk, and goes with the process.

    What leaves its cache of 4 MiB is written to the system's folder for temporary files. It must hold
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
    made = sqlite3.connect("", isolation_level=None)
    for setting in ("journal_mode = off", "synchronous = off", f"cache_size = -{_CACHE_KIB}"):
        made.execute(f"pragma {setting}")
    made.executescript(schema)
    return made


__all__ = ["temporary"]
