"""The audit log as its users see it; taking something out of it is an entry itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from voxelvault.audit.checkpoint import open_checkpoint
from voxelvault.audit.events import Event, Kind
from voxelvault.audit.leaf import Entry
from voxelvault.audit.log import AuditLog
from voxelvault.audit.proof import VerifyReport
from voxelvault.audit.table import to_arrow


class AuditView:
    """What `vault.audit` gives.

    Parameters
    ----------
    log : AuditLog
        The vault's log.
    entered : AuditLog
        Where this session's own entries go: the same, but for a vault that can't be written.
    who, purpose : str
        Of the session.
    """

    def __init__(self, log: AuditLog, entered: AuditLog, who: str, purpose: str | None) -> None:
        self._log, self._entered, self._who, self._purpose = log, entered, who, purpose

    def __len__(self) -> int:
        """Return the number of entries."""
        return self._log.size

    def __repr__(self) -> str:
        return f"<audit log of {len(self)} entries>"

    def log(self, last: int | None = None) -> list[Entry]:
        """Return entries in order, all or the last few."""
        size = self._log.size
        return list(self._log.entries(0 if last is None else max(0, size - last), size))

    def table(self) -> pa.Table:
        """Return the whole log as a table; `vault.sql` has it as `audit`."""
        return to_arrow(self._log.entries())

    def verify(self, against: str | None = None) -> VerifyReport:
        """Check every entry, the tree and the signature; with a kept checkpoint, that the log extends it.

        Raises
        ------
        IntegrityError, RollbackDetected
            It does not hold.
        """
        return self._log.verify(against)

    def prove(self, index: int) -> dict[str, Any]:
        """Return a proof that an entry is in the log, for someone who has the log's public key."""
        proof = self._log.prove(index)
        self._enter(Kind.PROOF_GIVEN, {"entry": index, "size": self._log.size}, {})
        return proof

    def checkpoint(self) -> str:
        """Return the newest signed checkpoint: keep it elsewhere, and verify against it later."""
        return self._log.checkpoint()

    def export_checkpoint(self, path: str | Path) -> str:
        """Write the newest checkpoint to a file, and enter that it was given out."""
        note = self._log.checkpoint()
        Path(path).expanduser().write_text(note, "utf-8")
        head = open_checkpoint(note, self._log.key)
        self._enter(Kind.CHECKPOINT_EXPORTED, {"size": head.size}, {"root": head.root.hex()})
        return note

    def _enter(self, kind: Kind, counts: dict[str, int], digests: dict[str, str]) -> None:
        self._entered.append(
            [Event(kind=kind, who=self._who, purpose=self._purpose, counts=counts, digests=digests)]
        )
