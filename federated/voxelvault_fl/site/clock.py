"""A site's clock that only goes forward: one that is set back makes no expired job valid again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from voxelvault_fl.hospital import now
from voxelvault_fl.rounds import shelf

LATEST = "latest-time"
"""File of a site's state folder: the latest time that was seen, ISO 8601, UTC."""
_STEP = timedelta(minutes=1)


class Forward:
    """The time, and never an earlier one than was seen from this state folder.

    Parameters
    ----------
    state : Path
        The site's; the time is kept there to the minute.
    clock : callable
        The machine's, UTC.
    """

    def __init__(self, state: Path, clock: Callable[[], datetime] = now) -> None:
        self._path, self._clock = state / LATEST, clock
        self._latest = self._kept = self._read()

    def __call__(self) -> datetime:
        """Return the time, UTC."""
        self._latest = max(self._latest, self._clock())
        if self._latest - self._kept >= _STEP:
            self._kept = self._latest
            # On a full disk the process that runs remembers it all the same.
            with suppress(OSError):
                shelf.put(self._path, self._latest.isoformat().encode())
        return self._latest

    def _read(self) -> datetime:
        try:
            return datetime.fromisoformat((shelf.get(self._path) or b"").decode()).astimezone(UTC)
        except (ValueError, OSError):
            return datetime.min.replace(tzinfo=UTC)


__all__ = ["LATEST", "Forward"]
