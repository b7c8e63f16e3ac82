"""A clock that is set back makes no expired job valid again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from voxelvault_fl.rounds import shelf
from voxelvault_fl.site.clock import LATEST, Forward

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


def test_time_goes_forward_only_also_after_a_restart(tmp_path: Path) -> None:
    times = iter([NOON, NOON + timedelta(hours=2), NOON, NOON + timedelta(hours=1)])
    clock = Forward(tmp_path, lambda: next(times))
    assert [clock() for _ in range(3)] == [NOON, NOON + timedelta(hours=2), NOON + timedelta(hours=2)]
    assert Forward(tmp_path, lambda: next(times))() == NOON + timedelta(hours=2)


def test_a_damaged_file_is_no_time(tmp_path: Path) -> None:
    (tmp_path / LATEST).write_bytes(b"\xff?")
    assert Forward(tmp_path, lambda: NOON)() == NOON


def test_a_full_disk_turns_no_clock_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shelf, "put", full)
    times = iter([NOON, NOON - timedelta(days=9)])
    clock = Forward(tmp_path, lambda: next(times))
    assert [clock(), clock()] == [NOON, NOON]
