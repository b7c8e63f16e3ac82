"""A party's desk in a process of its own: its log, its letters, and what it attests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from voxelvault.storage.objects import LocalObjects
from voxelvault_fl.provisioning.kit import Kit
from voxelvault_fl.provisioning.roster import Roster
from voxelvault_fl.record.attestation import attest
from voxelvault_fl.record.logbook import Logbook, small_vault
from voxelvault_fl.record.office import Answers, Office, answers_both
from voxelvault_fl.rounds.records import Record

Log = Callable[[BaseException], None]


@dataclass(frozen=True)
class Desk:
    """Where a party keeps its record.

    Parameters
    ----------
    office : Office
        Of its letters.
    book : Logbook
        Of its log.
    """

    office: Office
    book: Logbook

    def meet(self, roster: Roster) -> None:
        """Write to those of the newest roster from now on, and cosign for them alone."""
        self.office.peers = _peers(roster, self.office.name)

    def attest(self, chain: Sequence[Record]) -> str | None:
        """Return what this party attests of a run; see `voxelvault_fl.record.attestation.attest`."""
        return attest(self.office, self.book, chain)

    def answers(self, rounds: Answers, chain: Callable[[str], Sequence[Record]], log: Log) -> Answers:
        """Return what answers messages of rounds and bags of letters.

        Parameters
        ----------
        rounds : callable
            Answers messages of rounds.
        chain : callable
            Gives the record of a job as this party holds it, by the job's digest.
        log : callable
            Gets what was wrong with letters.
        """
        both = answers_both(rounds, self.office, lambda job: self.attest(chain(job)))

        def answer(data: bytes) -> bytes:
            try:
                return both(data)
            finally:
                self.tell(log)

        return answer

    def tell(self, log: Log) -> None:
        """Tell what was wrong with letters since the last time: a forked log above all."""
        alarms, self.office.alarms = self.office.alarms, []
        for alarm in alarms:
            log(alarm)


@contextmanager
def desk(folder: Path, kit: Kit, app: str) -> Iterator[Desk]:
    """Open a party's desk; the first time, begin its log.

    The log is one of its own, not that of a hospital's vault: others see a log's size when they cosign it,
    and how much is done with a vault is none of their business.

    Parameters
    ----------
    folder : Path
        For the log, its key, and what this party cosigned of others.
    kit : Kit
        The party's.
    app : str
        Digest of the code that it runs.
    """
    with small_vault(folder, "federated") as vault:
        log, peers = vault.resources.log, _peers(kit.roster, kit.party)
        kept = LocalObjects(folder / "kept")
        key = kit.keys.signing
        office = Office(kit.party, kit.consortium.id, key, log, vault.resources.objects, kept, peers)
        yield Desk(office, Logbook(log, kit.party, app))


def _peers(roster: Roster, own: str) -> dict[str, bytes]:
    others = [one for one in roster.parties if one.role in ("server", "site") and one.name != own]
    return {one.name: one.verifying_key().public_bytes_raw() for one in others}


__all__ = ["Desk", "desk"]
