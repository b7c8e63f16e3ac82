"""A run's record in a party's own audit log: of a vault, or of a small one made for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import voxelvault
from voxelvault.audit.events import Event, Kind
from voxelvault.audit.leaf import Entry
from voxelvault.audit.log import AuditLog
from voxelvault.errors import NotAVault
from voxelvault.vault import Vault
from voxelvault_fl.rounds.records import Record

_WINDOW = 256
_MILLION = 1_000_000


def small_vault(folder: Path, purpose: str) -> Vault:
    """Open the vault that a party without one keeps its log in; the first time, make it.

    Parameters
    ----------
    folder : Path
        For the vault and, beside it, its key.
    purpose : str
        Stands in the log's entries.
    """
    key = folder / "log.key"
    try:
        return voxelvault.open(folder / "log", purpose=purpose, key_file=key)
    except NotAVault:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return voxelvault.create(folder / "log", purpose=purpose, key_file=key)


class Logbook:
    """Enters what happens in a run.

    Parameters
    ----------
    log : AuditLog
        The party's.
    party : str
        Its name in the roster.
    app : str
        Digest of the code that it runs.
    """

    def __init__(self, log: AuditLog, party: str, app: str) -> None:
        self._log, self._party, self._app = log, party, app

    def noted(self, record: Record) -> None:
        """Enter an entry of a run's record.

        Raises
        ------
        AuditError
            It could not be entered: what it is about must not go on.
        """
        self._log.append([self._event(record)])

    def catch_up(self, chain: Sequence[Record]) -> None:
        """Enter what a run's record has at its end and the log has not, as after a killed process."""
        missing: list[Record] = []
        for one in reversed(chain):
            if self.find(one) is not None:
                break
            missing.append(one)
        for one in reversed(missing):
            self.noted(one)

    def _event(self, record: Record) -> Event:
        mine = record.sites.get(self._party, {})
        return Event(
            kind=Kind.FEDERATED_ENTERED,
            who=self._party,
            counts={
                "round": record.round,
                "sites": len(record.sites),
                "aside": len(record.aside),
                "sent": record.sent,
                "received": record.received,
                **_counted(mine),
            },
            digests={
                "job": record.job,
                "record": record.digest,
                "aggregate": record.aggregate,
                "app": self._app,
                **({"previous": record.previous} if record.previous else {}),
                **{name: mine[name] for name in ("update", "cohort") if mine.get(name)},
            },
            codes={"entry": (record.kind,)},
        )

    def charged(self, job: str, round: int, steps: int, epsilon: float) -> None:
        """Enter what a round costs a subject, all jobs of this site together, before it is trained."""
        counts = {"round": round, "steps": steps, "epsilon_millionths": int(epsilon * _MILLION)}
        event = Event(kind=Kind.FEDERATED_CHARGED, who=self._party, counts=counts, digests={"job": job})
        self._log.append([event])

    def find(self, record: Record) -> Entry | None:
        """Return the newest entry of the log that holds an entry of the record."""
        for entry in self._backwards():
            if entry.kind == Kind.FEDERATED_ENTERED and entry.digests.get("record") == record.digest:
                return entry
        return None

    def _backwards(self) -> Iterator[Entry]:
        size = self._log.size
        for start in range((size - 1) // _WINDOW * _WINDOW, -1, -_WINDOW):
            yield from reversed(list(self._log.entries(start, min(start + _WINDOW, size))))


def _counted(mine: Mapping[str, Any]) -> dict[str, int]:
    found = {"examples": int(mine["examples"])} if "examples" in mine else {}
    epsilon = dict(mine.get("spent", {})).get("epsilon")
    return {**found, **({} if epsilon is None else {"epsilon_millionths": int(float(epsilon) * _MILLION)})}


__all__ = ["Logbook", "small_vault"]
