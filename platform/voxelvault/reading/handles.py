"""Open handles: what the log knows of something that is open for reading."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import NoReturn

from voxelvault.audit.events import Event, Kind
from voxelvault.errors import PolicyDenied, VaultClosed
from voxelvault.reading.processes import check_process
from voxelvault.resources import Resources

GRANTS_NAMED = 256
"""Grants that the closing of a handle names, the last ones: an entry holds no more than 64 KiB."""

CLOSED = "this handle is closed; open the series again"


class Handle:
    """What the log knows of an open handle: which, and how much was read under it.

    Parameters
    ----------
    resources : Resources
        The open vault.
    action : str
        Joins its opening and closing in the log.
    ids : mapping of str to tuple of str
        Opaque ids by role, as its opening was entered.
    kind_code : str
        What was opened: ``series``, ``cohort``, ``loader`` and so on.
    """

    def __init__(
        self,
        resources: Resources,
        action: str,
        ids: Mapping[str, tuple[str, ...]],
        kind_code: str = "series",
    ) -> None:
        self._resources = resources
        self._action = action
        self._ids = ids
        self._kind_code = kind_code
        self._grants: list[str] = []
        self._ends: list[Callable[[], object]] = []
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self.frames = 0
        self.samples = 0
        self.bytes = 0
        self.closed = False

    def __reduce__(self) -> NoReturn:
        raise TypeError("a handle stays in its process; lend what it opened (`reading.lending.lend`)")

    def check(self) -> None:
        """Refuse reads after closing, and in a forked child.

        Raises
        ------
        PolicyDenied
            It is closed.
        VaultClosed
            The vault is: opening the series again would not help.
        """
        check_process(self._pid)
        if self.closed:
            self._refuse()

    def count(self, frames: int, size: int) -> None:
        """Count a read."""
        with self._lock:
            self.frames += frames
            self.bytes += size

    def count_samples(self, samples: int, size: int) -> None:
        """Count what a data set gave out, and bytes of it that worker processes read."""
        with self._lock:
            self.samples += samples
            self.bytes += size

    def lent(self, grant_id: str, end: Callable[[], object]) -> None:
        """Note a grant that stands on this handle: its closing names it, and calls `end`.

        Raises
        ------
        PolicyDenied, VaultClosed
            It, or its vault, was closed meanwhile.
        """
        with self._lock:
            if self.closed:
                self._refuse()
            self._grants.append(grant_id)
            self._ends.append(end)

    def _refuse(self) -> NoReturn:
        if self._resources.keys.closed:
            raise VaultClosed
        raise PolicyDenied(CLOSED)

    def close(self) -> None:
        """Enter the counts in the log, once; a forked child leaves that to its parent."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            if self.closed:
                return
            self.closed = True
        while self._ends:
            self._ends.pop()()
        grants = tuple(self._grants[-GRANTS_NAMED:])
        samples = {"samples": self.samples} if self._kind_code == "loader" else {}
        self._resources.audit.append(
            [
                Event(
                    kind=Kind.HANDLE_CLOSED,
                    who=self._resources.who,
                    purpose=self._resources.purpose,
                    action=self._action,
                    ids={**self._ids, **({"grant": grants} if grants else {})},
                    counts={"frames": self.frames, "bytes": self.bytes, **samples},
                    codes={"type": (self._kind_code,)},
                )
            ]
        )
