"""The audit log: append events, read them back proved, prove them to others, verify it all.

References
----------
RFC 6962 (hashes and proofs); C2SP tlog-tiles, tlog-checkpoint, signed-note.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from voxelvault.audit.checkpoint import Checkpoint, NoteKey, open_checkpoint
from voxelvault.audit.envelope import LogKeys, seal_text
from voxelvault.audit.events import Event
from voxelvault.audit.leaf import Entry, TextRef, decode_leaf, encode_leaf
from voxelvault.audit.merkle import consistency_path, inclusion_path, leaf_hash
from voxelvault.audit.proof import VerifyReport, consistency_proof, inclusion_proof
from voxelvault.audit.sequencer import Sequencer
from voxelvault.audit.shelf import Head, Shelf, text_name
from voxelvault.audit.tiles import WIDTH, Tile, Tree
from voxelvault.errors import AuditError, IntegrityError, VoxelVaultError
from voxelvault.model import ObjectStore

LOCK_TIMEOUT = 30.0


def utc_now() -> datetime:
    """Return the time an entry is stamped with."""
    return datetime.now(UTC)


class AuditLog:
    """A vault's transparency log; threads may share one, forked children may not.

    Parameters
    ----------
    objects : ObjectStore
        Where the log lies, below `audit/`.
    keys : LogKeys
        The key ring.
    origin : str, optional
        Name of the log; `voxelvault/<vault id>` unless it is a side log.
    timeout : float
        How many seconds to wait for another process that appends.
    clock : callable
        Returns the time of an entry.
    """

    def __init__(
        self,
        objects: ObjectStore,
        keys: LogKeys,
        *,
        origin: str | None = None,
        timeout: float = LOCK_TIMEOUT,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.key = NoteKey(origin or f"voxelvault/{keys.vault_id}", keys.log_public_key)
        self._shelf = Shelf(objects, keys, self.key)
        self._sequencer = Sequencer(self._shelf, timeout)
        self._clock = clock

    @classmethod
    def create(cls, objects: ObjectStore, keys: LogKeys, **options: Any) -> AuditLog:
        """Start an empty log.

        Parameters
        ----------
        objects, keys, **options
            As for the class.

        Returns
        -------
        AuditLog
            With its first checkpoint, of size 0, signed.

        Raises
        ------
        AuditError
            There is a log already.
        StorageError
            The store refused.
        """
        log = cls(objects, keys, **options)
        log._sequencer.create()
        return log

    @classmethod
    def open(cls, objects: ObjectStore, keys: LogKeys, **options: Any) -> AuditLog:
        """Open a log and check its newest state.

        Parameters
        ----------
        objects, keys, **options
            As for the class.

        Returns
        -------
        AuditLog
            Its checkpoint is signed by the vault's log key and fits the tree's right edge.

        Raises
        ------
        IntegrityError
            The checkpoint is missing, or does not fit.
        """
        log = cls(objects, keys, **options)
        log._sequencer.head()
        return log

    @property
    def size(self) -> int:
        """Number of entries now."""
        return self._sequencer.head().size

    def checkpoint(self) -> str:
        """Return the newest signed checkpoint; keep it elsewhere to verify against later."""
        return self._sequencer.head().note

    def names(self) -> set[str]:
        """Return the names of the objects that the log is made of, but for its texts."""
        return self._shelf.names(self._sequencer.head())

    def append(self, events: Sequence[Event]) -> range:
        """Enter events; when this returns they are durable and signed.

        Parameters
        ----------
        events : sequence of Event
            Entered together, in order.

        Returns
        -------
        range
            Their indexes.

        Raises
        ------
        AuditError
            Nothing was entered, so whatever it was about must not happen.
        UsageError
            An event is too long.
        ForkedProcess
            The log was opened before a fork.
        """
        leaves = [self._leaf(event) for event in events]
        return self._sequencer.append(leaves) if leaves else range(0)

    def _leaf(self, event: Event) -> bytes:
        text = None if event.text is None else self._store_text(event.text)
        return encode_leaf(event, self._clock(), secrets.token_bytes(32), text)

    def _store_text(self, text: str) -> TextRef:
        ref, sealed = seal_text(self._shelf.keys, text)
        try:
            self._shelf.objects.put(text_name(ref), [sealed])
        except VoxelVaultError as error:
            raise AuditError(f"no audit entry could be written, so nothing was done: {error}") from error
        return ref

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
        """Yield entries, each proved to be in the tree that the checkpoint signs.

        Parameters
        ----------
        start, stop : int
            Half-open range; to the end as of the call by default.

        Yields
        ------
        Entry
            In order.

        Raises
        ------
        IntegrityError
            An entry is not the one that was logged.
        """
        head = self._sequencer.head()
        stop = head.size if stop is None else min(stop, head.size)
        for index, leaf in self._leaves(head, max(start, 0), stop):
            yield decode_leaf(index, leaf)

    def _leaves(self, head: Head, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        for number in range(start // WIDTH, -(-stop // WIDTH)):
            for index, leaf in enumerate(self._shelf.leaves(head, number), number * WIDTH):
                if start <= index < stop:
                    yield index, leaf

    def text_of(self, entry: Entry) -> str | None:
        """Return an entry's free text.

        Parameters
        ----------
        entry : Entry
            From this log.

        Returns
        -------
        str or None
            None when it has none, or when it was erased.

        Raises
        ------
        IntegrityError
            The stored text is not the one that the entry commits to.
        """
        return None if entry.text is None else self._shelf.text(entry.text)

    def erase_text(self, entry: Entry) -> None:
        """Remove an entry's free text; the entry, and every proof of it, stays.

        Parameters
        ----------
        entry : Entry
            From this log.

        Raises
        ------
        StorageError
            The store refused.
        """
        if entry.text is not None:
            self._shelf.objects.delete(text_name(entry.text))

    def prove(self, index: int) -> dict[str, Any]:
        """Prove an entry to someone who has the log's public key and nothing else of the vault.

        Parameters
        ----------
        index : int
            Which entry.

        Returns
        -------
        dict
            For `verify_proof`; plain JSON, holds the leaf in clear.

        Raises
        ------
        UsageError
            There is no such entry.
        """
        head = self._sequencer.head()
        path = inclusion_path(index, head.size, head.reader.node)
        leaf = self._shelf.leaves(head, index // WIDTH)[index % WIDTH]
        return inclusion_proof(index, leaf, path, head.note)

    def prove_at(self, index: int, note: str) -> dict[str, Any]:
        """Prove an entry by an earlier checkpoint, such as one that witnesses cosigned.

        Parameters
        ----------
        index : int
            Which entry.
        note : str
            The signed checkpoint, with whatever cosignatures it has: the proof carries it.

        Returns
        -------
        dict
            As `prove` gives it.

        Raises
        ------
        UsageError
            The log hadn't that entry then.
        RollbackDetected, IntegrityError
            The log does not continue that checkpoint.
        """
        older = self.extends(note)
        head = self._sequencer.head()
        path = inclusion_path(index, older.size, head.reader.node)
        leaf = self._shelf.leaves(head, index // WIDTH)[index % WIDTH]
        return inclusion_proof(index, leaf, path, note)

    def consistency(self, old_size: int) -> dict[str, Any]:
        """Prove that the log only grew since it had `old_size` entries.

        Parameters
        ----------
        old_size : int
            Size of the earlier checkpoint.

        Returns
        -------
        dict
            `old_size`, `hashes` (RFC 6962, 2.1.2; hexadecimal) and the newest `checkpoint`.

        Raises
        ------
        UsageError
            The log is shorter.
        """
        head = self._sequencer.head()
        path = consistency_path(old_size, head.size, head.reader.node)
        return consistency_proof(old_size, path, head.note)

    def extends(self, note: str) -> Checkpoint:
        """Check that the log is a continuation of an earlier state of itself.

        Parameters
        ----------
        note : str
            Signed checkpoint that was kept.

        Returns
        -------
        Checkpoint
            What it says.

        Raises
        ------
        RollbackDetected
            The log is shorter, or its history is another one.
        IntegrityError
            The note is not a checkpoint of this log.
        """
        older = open_checkpoint(note, self.key)
        self._sequencer.head().extends(older)
        return older

    def verify(self, against: str | None = None, *, texts: bool = False) -> VerifyReport:
        """Open every bundle, rebuild the whole tree and compare it with tiles and checkpoints.

        Parameters
        ----------
        against : str, optional
            An earlier signed checkpoint that was kept elsewhere.
        texts : bool
            Open every free text that is left, too, and compare it with its entry.

        Returns
        -------
        VerifyReport
            Says what this proves.

        Raises
        ------
        IntegrityError
            Something is missing or was changed; `RollbackDetected` when the log does not continue
            `against`.
        """
        head = self._sequencer.head()
        tree, opened = Tree(), 0
        for number in range(-(-head.size // WIDTH)):
            leaves = self._shelf.leaves(head, number)
            self._compare(head, tree.extend([leaf_hash(leaf) for leaf in leaves]))
            opened += self._open_texts(leaves, number * WIDTH) if texts else 0
        if tree.root != head.checkpoint.root:
            raise IntegrityError(
                "the audit log's entries do not make the root that was signed; restore audit/"
            )
        older = None if against is None else open_checkpoint(against, self.key)
        if older is not None:
            head.extends(older)
        return VerifyReport(
            size=head.size,
            root=tree.root.hex(),
            checkpoint=head.note,
            against=None if older is None else older.size,
            texts=opened if texts else None,
        )

    def _compare(self, head: Head, tiles: dict[Tile, bytes]) -> None:
        # Full tiles only: partial ones on the way belong to older checkpoints, the last are the edge.
        for tile, data in tiles.items():
            if tile.width == WIDTH and b"".join(head.reader.hashes(tile.level, tile.index)) != data:
                raise IntegrityError(f"audit tile {tile.path} was changed; restore audit/ from a copy")

    def _open_texts(self, leaves: Sequence[bytes], start: int) -> int:
        entries = [decode_leaf(index, leaf) for index, leaf in enumerate(leaves, start)]
        return sum(self.text_of(entry) is not None for entry in entries)

    def sweep_texts(self, before: float) -> int:
        """Remove sealed texts of no entry: an append that failed or was killed left them.

        Parameters
        ----------
        before : float
            Seconds since the epoch; younger ones may belong to an append at work and stay.

        Returns
        -------
        int
            How many were removed.

        Raises
        ------
        IntegrityError
            The log can't be read whole; nothing was removed.
        """
        old = [info.name for info in self._shelf.objects.list("audit/text/") if info.modified < before]
        known = {text_name(entry.text) for entry in self.entries() if entry.text is not None}
        orphans = [name for name in old if name not in known]
        for name in orphans:
            self._shelf.objects.delete(name)
        return len(orphans)

    def sweep_attempts(self, before: float) -> int:
        """Remove what killed appends left; the entries that they were to make were never there.

        Parameters
        ----------
        before : float
            Seconds since the epoch; younger ones stay.

        Returns
        -------
        int
            How many objects were removed.

        Raises
        ------
        StorageError
            The store refused.
        """
        return self._shelf.sweep(before)
