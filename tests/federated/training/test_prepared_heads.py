"""Prepared heads: read once, a bounded number of bytes in memory, the others sealed on the disk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from cryptography.exceptions import InvalidTag

from voxelvault_fl.cohorts.members import Member
from voxelvault_fl.training.examples import Example
from voxelvault_fl.training.heads import AHEAD, Heads
from voxelvault_triage.training.dataset import Sample

COUNT = 2 * AHEAD + 3
FOUND = [Example(Member(f"s{at}", f"p{at}", f"{at:02}"), False, "train") for at in range(COUNT)]


def head(number: int) -> Sample:
    hu = np.full((2, 8, 8), number, np.int16)
    return Sample(hu, (hu % 3).astype(np.uint8), np.full(2, 0.1), {"volumes": {}})


ONE = head(0).hu.nbytes + head(0).labels.nbytes


class Reader:
    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, found: Sequence[Example]) -> list[Sample]:
        self.asked.append(len(found))
        return [head(int(one.member.order)) for one in found]


@pytest.mark.parametrize("memory", [1, 3 * ONE, 1 << 20])
def test_each_head_is_read_once_and_few_stay_in_memory(memory: int) -> None:
    reader = Reader()
    heads = Heads(FOUND, reader, memory)
    assert (len(heads), reader.asked) == (COUNT, [])
    for at in (COUNT - 1, *range(COUNT), 5, -1, 0):
        found = heads[at]
        assert (found.hu == at % COUNT).all()
        assert (found.labels == at % COUNT % 3).all()
        assert sum(one.hu.nbytes + one.labels.nbytes for one in heads._near.values()) <= max(memory, ONE)
    assert sum(reader.asked) == COUNT
    assert max(reader.asked) == AHEAD
    assert [int(one.hu[0, 0, 0]) for one in heads[2:5]] == [2, 3, 4]
    with pytest.raises(IndexError):
        heads[COUNT]


def test_what_is_laid_aside_is_sealed_and_nowhere_by_name() -> None:
    heads = Heads(FOUND, Reader(), 1)
    assert len(list(heads)) == COUNT
    file = heads._aside._file
    file.seek(0)
    kept = file.read()
    assert len(kept) > COUNT * ONE
    assert b"PK" not in kept[:2]
    assert head(7).hu.tobytes() not in kept
    assert not isinstance(file.name, str)
    start, length = heads._aside._places[3]
    file.seek(start + length // 2)
    file.write(bytes([kept[start + length // 2] ^ 1]))
    file.flush()
    with pytest.raises(InvalidTag):
        heads[3]
