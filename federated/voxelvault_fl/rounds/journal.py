"""A journal of one job: turns that were used and the run's record, in the order in which they came."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

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
    MessageRefused
        What stands there is no chain of the job's entries.
    """

    def __init__(self, path: Path, job: str) -> None:
        self._path, self._job, self.turn = path, job, 0
        records = []
        for line in shelf.lines(path):
            said = json.loads(line)
            self.turn = max(self.turn, int(said.get("turn", 0)))
            records += [record_of(said["record"])] if "record" in said else []
        self.chain = extended((), records, job)

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
