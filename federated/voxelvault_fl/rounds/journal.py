"""A journal of one job: turns that were used and the run's record, in the order in which they came."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from voxelvault.errors import IntegrityError
from voxelvault_fl.errors import MessageRefused
from voxelvault_fl.jobs.strict import canonical, plain
from voxelvault_fl.rounds import shelf
from voxelvault_fl.rounds.records import Record, extended, record_of


class Journal:
    """The file of it.

    Parameters
    ----------
    path : Path
        Made at the first line.
    job : str
        Digest of the job.

    Raises
    ------
    IntegrityError
        What stands there is no chain of the job's entries.
    """

    def __init__(self, path: Path, job: str) -> None:
        self._path, self._job = path, job
        try:
            said = [dict(json.loads(line)) for line in shelf.lines(path)]
            self.turn = max((int(one.get("turn", 0)) for one in said), default=0)
            self.chain = extended((), [record_of(one["record"]) for one in said if "record" in one], job)
        except (ValueError, TypeError, MessageRefused):
            raise IntegrityError("the journal of a job is damaged; restore the job's folder") from None

    def use(self, turn: int) -> None:
        """Note that a turn is used, before anything is done with it."""
        shelf.append(self._path, [canonical({"turn": turn})])
        self.turn = turn

    def add(self, records: Sequence[Record]) -> None:
        """Add the entries that aren't known yet; see `extended`."""
        chain = extended(self.chain, records, self._job)
        if fresh := chain[len(self.chain) :]:
            shelf.append(self._path, [canonical({"record": plain(one)}) for one in fresh])
        self.chain = chain


__all__ = ["Journal"]
