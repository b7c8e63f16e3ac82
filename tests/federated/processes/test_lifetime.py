"""What is told on a full disk is lost; what tells it goes on."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from voxelvault_fl.processes.lifetime import LONG, note, set_aside, tell
from voxelvault_fl.provisioning.files import read_json, write


def test_a_full_disk_ends_nothing_that_tells_how_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(tmp_path / "status.json", {"running": True})

    def full(*given: Any, **named: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    tell(tmp_path / "status.json", {"running": False})
    assert (tmp_path / "status.json").read_text() == '{\n "running": true\n}'
    assert [one.name for one in tmp_path.iterdir()] == ["status.json"]
    monkeypatch.setattr(Path, "open", full)
    note(tmp_path, "started")
    assert not (tmp_path / "log" / "events.jsonl").exists()


def test_what_is_only_of_now_is_replaced_whole_and_not_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = list[int]()
    monkeypatch.setattr(os, "fsync", synced.append)
    for running in (True, False):
        tell(tmp_path / "status.json", {"running": running})
        assert read_json(tmp_path / "status.json") == {"running": running}
    assert not synced
    write(tmp_path / "registered", b"1")
    assert len(synced) == 2


def test_a_long_log_of_events_is_set_aside_and_the_one_before_goes(tmp_path: Path) -> None:
    log = tmp_path / "log" / "events.jsonl"
    note(tmp_path, "first")
    set_aside(log)
    for turn in ("a", "b"):
        log.write_text(turn * (LONG + 1))
        note(tmp_path, turn)
        assert len(log.read_text().splitlines()) == 1
    assert sorted(one.name for one in log.parent.iterdir()) == ["events.jsonl", "events.jsonl.1"]
    assert (log.parent / "events.jsonl.1").read_text(encoding="utf-8")[0] == "b"
