"""The server's record of one run: its log, the roster that the run was made with, and the proved model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from voxelvault.errors import StorageError, VoxelVaultError
from voxelvault_fl.errors import FederatedError
from voxelvault_fl.jobs.job import SignedJob
from voxelvault_fl.provisioning.kit import Kit
from voxelvault_fl.record.desk import Desk
from voxelvault_fl.record.hub import Hub
from voxelvault_fl.record.provenance import Signed, believed, document
from voxelvault_fl.rounds import shelf
from voxelvault_fl.rounds.messages import SERVER
from voxelvault_fl.rounds.records import Record
from voxelvault_fl.rounds.run import Outcome
from voxelvault_fl.rounds.run_state import RunState
from voxelvault_fl.rounds.transport import Sites

_log = logging.getLogger("voxelvault_fl.server")


@dataclass(frozen=True)
class Recording:
    """What the server notes of a run, and what it makes of that in the end.

    Parameters
    ----------
    desk : Desk
        The server's.
    kit : callable
        Gives the server's kit with the newest roster.
    signed : SignedJob
        The job.
    state : RunState
        Of the run.
    """

    desk: Desk
    kit: Callable[[], Kit]
    signed: SignedJob
    state: RunState

    def begin(self) -> None:
        """Enter what a killed server has on its disk but not in its log."""
        self.desk.meet(self.kit().roster)
        self.desk.book.catch_up(self.state.chain)

    def noted(self, record: Record) -> None:
        """Enter an entry in the server's log.

        Raises
        ------
        AuditError
            It could not be entered.
        """
        self.desk.book.noted(record)
        if record.kind in ("start", "joined"):
            self._keep_roster()

    def prove(self, outcome: Outcome, sites: Sites, place: Path) -> bool:
        """Have all logs cosigned, gather what everybody attests, and write the model with its proof.

        Parameters
        ----------
        outcome : Outcome
            Of the run, which has ended.
        sites : Sites
            The way to the sites.
        place : Path
            Folder for `bundle/`, `bundle.sig` and `maker.pem`.

        Returns
        -------
        bool
            Whether there is one; why there is none is in the server's log.

        Raises
        ------
        StorageError
            The disk refused: there may be one the next time.
        """
        try:
            self._write(outcome, self._gathered(sites), place)
        except StorageError:
            raise
        except VoxelVaultError as refused:
            _log.error("job %s: no bundle was made: %s", self.signed.job.digest[:12], refused)
            return False
        return True

    def _gathered(self, sites: Sites) -> dict[str, str]:
        self.desk.meet(self.kit().roster)
        hub = Hub(self.desk.office, sites)
        hub.exchange(job=self.signed.job.digest)
        self.desk.tell(lambda alarm: _log.error("a letter isn't right: %s", alarm))
        own = self.desk.attest(self.state.chain)
        return {**hub.attestations, **({} if own is None else {SERVER: own})}

    def _write(self, outcome: Outcome, attestations: dict[str, str], place: Path) -> None:
        # Models need the pipeline's package; a run needs it only here.
        from voxelvault_fl.record.bundle import bundle_of, place_signed

        roster, chain, job = self._roster(), self.state.chain, self.signed.job
        good = believed(attestations, roster.open(), job, chain)
        for name in attestations.keys() - good.keys():
            _log.error("what a party attests is left out, as it doesn't prove itself: %s", name)
        provenance = document(roster, self.signed, chain, outcome.best, good)
        place_signed(
            place, bundle_of(job, outcome.best, outcome.weights, provenance), self.kit().keys.signing
        )

    @property
    def _kept(self) -> Path:
        return self.state.folder / "roster"

    def _keep_roster(self) -> None:
        """Keep the newest roster that knows all who joined: who is revoked later stays provable."""
        joined = {name for one in self.state.of("start", "joined") for name in one.sites}
        try:
            found = _signed(self.kit())
            if joined <= {one.name for one in found.open().parties}:
                shelf.put(self._kept, found.content + b"\n" + found.signature)
        except FederatedError:
            # Roster and signature are two files: between the two writes the pair is not believed.
            _log.warning("the roster is being written; the one before stays with the run")

    def _roster(self) -> Signed:
        kept = shelf.get(self._kept)
        if kept is None:
            return _signed(self.kit())
        content, _, signature = kept.partition(b"\n")
        return Signed(content, signature, self.kit().authority)


def _signed(kit: Kit) -> Signed:
    content, signature = (kit.file(name).read_bytes() for name in ("roster.json", "roster.sig"))
    return Signed(content, signature, kit.authority)


__all__ = ["Recording"]
