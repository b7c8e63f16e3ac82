"""One order for all entries: group commit inside a process, one lock across processes.

Whoever comes first writes for all who wait: bundles and tiles first, and when they are durable the
signed checkpoint is replaced by compare-and-set. An append that did not get that far never happened.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from voxelvault.audit.checkpoint import Checkpoint, sign_note
from voxelvault.audit.merkle import EMPTY_ROOT, leaf_hash
from voxelvault.audit.shelf import CHECKPOINT, Head, Shelf
from voxelvault.audit.tiles import WIDTH
from voxelvault.errors import AuditError, ForkedProcess, LockTimeout, ObjectChanged, VoxelVaultError

LOCK = "log"


@dataclass(eq=False)
class _Ticket:
    leaves: Sequence[bytes]
    start: int | None = None
    error: BaseException | None = None
    leads: bool = False
    woken: threading.Event = field(default_factory=threading.Event)

    @property
    def done(self) -> bool:
        return self.start is not None or self.error is not None

    def result(self) -> range:
        if self.start is None:
            # Only our own messages are known to carry nothing identifying.
            why = self.error if isinstance(self.error, VoxelVaultError) else type(self.error).__name__
            raise AuditError(f"no audit entry could be written, so nothing was done: {why}") from self.error
        return range(self.start, self.start + len(self.leaves))


class Sequencer:
    """Append leaves, one writer at a time.

    Parameters
    ----------
    shelf : Shelf
        Reads and stores.
    timeout : float
        How many seconds to wait for another process.
    """

    def __init__(self, shelf: Shelf, timeout: float) -> None:
        self._shelf = shelf
        self._timeout = timeout
        self._pid = os.getpid()
        self._queue_lock = threading.Lock()
        self._waiting: list[_Ticket] = []
        self._led = False
        self._head: Head | None = None
        self._tail: tuple[str, list[bytes]] = "", []

    def create(self) -> None:
        """Write the checkpoint of the empty log.

        Raises
        ------
        AuditError
            There is a log already.
        """
        with self._shelf.objects.lock(LOCK, self._timeout):
            if any(self._shelf.objects.list("audit/")):
                raise AuditError("there is an audit log here already; open it, or choose an empty place")
            self._shelf.objects.swap(CHECKPOINT, self._sign(0, EMPTY_ROOT).encode(), None)

    def head(self) -> Head:
        """Return the newest state; one that does not extend the last seen is refused."""
        head = self._shelf.head(self._head)
        if self._head is None or head.size >= self._head.size:
            self._head = head
        return head

    def append(self, leaves: Sequence[bytes]) -> range:
        """Make leaves durable and signed.

        Parameters
        ----------
        leaves : sequence of bytes
            In order; they stay together.

        Returns
        -------
        range
            Their indexes.

        Raises
        ------
        AuditError
            They are not in the log, for whatever reason.
        ForkedProcess
            The log was opened by a parent process.
        """
        if os.getpid() != self._pid:
            raise ForkedProcess("the audit log was opened before a fork; open the vault anew in this process")
        ticket = _Ticket(leaves)
        try:
            with self._queue_lock:
                self._waiting.append(ticket)
                ticket.leads, self._led = not self._led, True
            if not ticket.leads:
                ticket.woken.wait()
            if not ticket.done:
                self._flush()
        finally:
            self._leave(ticket)
        return ticket.result()

    def _flush(self) -> None:
        """Write what waits, in the one thread that leads."""
        with self._queue_lock:
            batch, self._waiting = self._waiting, []
        try:
            start = self._commit([leaf for ticket in batch for leaf in ticket.leaves])
            for ticket in batch:
                ticket.start, start = start, start + len(ticket.leaves)
        except BaseException as error:
            for ticket in batch:
                ticket.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            for ticket in batch:
                ticket.woken.set()

    def _leave(self, ticket: _Ticket) -> None:
        """Let one of those who came meanwhile lead; an interrupted caller takes its entries along.

        Not a lock that all wait for: those whose entries are written would stand in line with the
        others, and hardly two entries would share a flush.
        """
        with self._queue_lock:
            if not ticket.done and ticket in self._waiting:
                self._waiting.remove(ticket)
            if not ticket.leads:
                return
            self._led = bool(self._waiting)
            if self._waiting:
                self._waiting[0].leads = True
                self._waiting[0].woken.set()

    def _commit(self, leaves: list[bytes]) -> int:
        shelf = self._shelf
        with shelf.objects.lock(LOCK, self._timeout):
            head = self.head()
            pending = [*self._last_bundle(head), *leaves]
            tree = head.tree.copy()
            tiles = tree.extend(map(leaf_hash, leaves))
            note = self._sign(tree.size, tree.root)
            try:
                self._head = shelf.commit(head, tree, tiles, pending, note)
            except ObjectChanged:
                raise LockTimeout(
                    "this process was held up so long that another one took the log's lock: run again"
                ) from None
            self._tail = note, pending[len(pending) - tree.size % WIDTH :]
        return head.size

    def _last_bundle(self, head: Head) -> list[bytes]:
        """Leaves of the last, partial bundle: they are sealed anew with what follows them."""
        if not head.size % WIDTH:
            return []
        note, leaves = self._tail
        return leaves if note == head.note else self._shelf.leaves(head, head.size // WIDTH)

    def _sign(self, size: int, root: bytes) -> str:
        checkpoint = Checkpoint(self._shelf.key.name, size, root)
        return sign_note(checkpoint.text, self._shelf.key, self._shelf.keys.sign)
