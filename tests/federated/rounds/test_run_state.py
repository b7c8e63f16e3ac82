"""What a server keeps of a run is what it wrote, or is called damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from voxelvault.errors import IntegrityError
from voxelvault_fl.jobs.task import weights_digest
from voxelvault_fl.rounds.records import Record
from voxelvault_fl.rounds.run_state import RunState

JOB = "a" * 64
FIRST = {"w": np.arange(4, dtype=np.float32)}


def _begun(folder: Path) -> RunState:
    state = RunState(folder, JOB)
    state.keep(0, FIRST, {"rounds": np.ones(1)})
    state.add(Record("start", JOB, 0, "", weights_digest(FIRST)))
    return state


@pytest.mark.parametrize("name", ["weights", "moments"])
def test_a_torn_file_of_a_round_is_called_damaged(tmp_path: Path, name: str) -> None:
    state = _begun(tmp_path)
    file = tmp_path / "0000" / f"{name}.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(IntegrityError, match="restore"):
        getattr(state, name)(0)


@pytest.mark.parametrize("line", [b"torn", b"[1]", b'{"turn":"x"}', b'{"record":{"kind":"round"}}'])
def test_a_journal_that_holds_something_else_is_called_damaged(tmp_path: Path, line: bytes) -> None:
    _begun(tmp_path)
    with (tmp_path / "journal").open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(IntegrityError, match="damaged"):
        RunState(tmp_path, JOB)


def test_an_entry_that_does_not_follow_is_called_damaged(tmp_path: Path) -> None:
    _begun(tmp_path)
    journal = tmp_path / "journal"
    journal.write_bytes(journal.read_bytes().replace(b'"start"', b'"round"'))
    with pytest.raises(IntegrityError, match="damaged"):
        RunState(tmp_path, JOB)
