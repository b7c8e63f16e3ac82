"""What a server keeps of a run, so that a killed one goes on from the last round.

For each round ``0003/weights.safetensors`` with ``moments.safetensors`` of the strategy and, where models
are sent with loss, ``lost.safetensors``: what the round's model lacks of what was aggregated;
``journal`` holds the record and the turns that were used. A round is on the disk once its entry is: it is
written last and names the digest of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load, save

from voxelvault.errors import IntegrityError
from voxelvault_fl.jobs.task import Weights, weights_digest
from voxelvault_fl.rounds import shelf
from voxelvault_fl.rounds.journal import Journal
from voxelvault_fl.rounds.records import Record, aggregate_of


class RunState:
    """The folder of one run.

    Parameters
    ----------
    folder : Path
        Made if need be.
    job : str
        Digest of the job.
    """

    def __init__(self, folder: Path, job: str) -> None:
        self.folder = folder
        self._journal = Journal(folder / "journal", job)

    @property
    def chain(self) -> tuple[Record, ...]:
        """The record so far."""
        return self._journal.chain

    def add(self, record: Record) -> None:
        """Append to the chain, on the disk first."""
        self._journal.add([record])

    def keep(self, round: int, weights: Weights, moments: Weights, lost: Weights | None = None) -> None:
        """Write a round's model; it counts once its record is added."""
        for name, kept in (("weights", weights), ("moments", moments), ("lost", lost)):
            if kept:
                shelf.put(self._file(round, name), save(kept))

    def weights(self, round: int) -> Weights:
        """Return the model that a round gave.

        Raises
        ------
        IntegrityError
            It isn't what the record says.
        """
        found = self._read(round, "weights")
        if weights_digest(found) != aggregate_of(self.chain, round):
            raise IntegrityError(
                "the weights of a round aren't those of its record; restore the run's folder"
            )
        return found

    def moments(self, round: int) -> Weights:
        """Return what the strategy remembered after a round; `IntegrityError` where that is damaged."""
        return self._read(round, "moments")

    def lost(self, round: int) -> Weights:
        """Return what a round's model lacks of what was aggregated, where it was sent with loss."""
        return self._read(round, "lost")

    def _read(self, round: int, name: str) -> Weights:
        data = shelf.get(self._file(round, name))
        try:
            return load(data) if data else {}
        except (SafetensorError, ValueError, KeyError, TypeError):
            raise IntegrityError("a file of a run is damaged; restore the run's folder") from None

    @property
    def last(self) -> int:
        """The last round that is recorded; -1 before the start."""
        return max((one.round for one in self.chain if one.kind in ("start", "round")), default=-1)

    @property
    def head(self) -> str:
        """Digest of the last entry; empty before the first."""
        return self.chain[-1].digest if self.chain else ""

    def next_turn(self) -> int:
        """Return a number that was never used; it is on the disk before it is used."""
        self._journal.use(self._journal.turn + 1)
        return self._journal.turn

    def _file(self, round: int, name: str) -> Path:
        return self.folder / f"{round:04}" / f"{name}.safetensors"

    def of(self, *kinds: str) -> Sequence[Record]:
        """Return the entries of some kinds, in order."""
        return [one for one in self.chain if one.kind in kinds]


__all__ = ["RunState"]
