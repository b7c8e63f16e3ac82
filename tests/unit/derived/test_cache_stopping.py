"""Ctrl-C while a cache is built: what is at hand is kept, or nothing of it is left."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from derived_support import cache, names

import voxelvault as vv
from voxelvault.derived import building, making
from voxelvault.derived.shelf import entries
from voxelvault.derived.stopping import TOLD

SECONDS = 30


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Let SIGINT mean what it does in a session: pytest's worker processes ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def objects(vault: vv.Vault) -> set[str]:
    return {name[-32:] for name in names(vault)}


def rows(vault: vv.Vault) -> set[str]:
    return {entry.ref.object_id for entry in entries(vault.resources)}


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Wait until something is said."""
    until, lines = time.monotonic() + SECONDS, list[str]()
    while not lines and time.monotonic() < until:
        time.sleep(0.05)
        lines = capsys.readouterr().err.splitlines()
    return lines


def test_the_first_says_what_it_does_and_keeps_what_is_at_hand(
    vault: vv.Vault, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    vault.options.threads = 1
    told_meanwhile = []

    def slow(*arguments: Any) -> Any:
        press()
        told_meanwhile.extend(told(capsys))
        return making.attempt(*arguments)

    monkeypatch.setattr(building, "attempt", slow)
    with pytest.raises(KeyboardInterrupt):
        cache(vault)
    assert told_meanwhile == [TOLD]
    assert len(rows(vault)) == 1
    assert objects(vault) == rows(vault)
    monkeypatch.setattr(building, "attempt", making.attempt)
    assert (cache(vault).kept, vault.verify(progress=False).ok) == (1, True)


def test_the_second_waits_for_nothing_and_leaves_nothing_without_a_row(
    vault: vv.Vault, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    vault.options.threads = 1
    go_on, thrown, calls = threading.Event(), threading.Event(), []

    def stuck(*arguments: Any) -> Any:
        made = making.attempt(*arguments)
        calls.append(1)
        if len(calls) == 3:
            press()
            told(capsys)
            press()
            go_on.wait(SECONDS)
        return made

    discard = building.Committer.discard

    def noted(self: building.Committer, items: Any) -> None:
        discard(self, items)
        if items and go_on.is_set():
            thrown.set()

    monkeypatch.setattr(building, "attempt", stuck)
    monkeypatch.setattr(building.Committer, "discard", noted)
    with pytest.raises(KeyboardInterrupt):
        cache(vault)
    kept = rows(vault)
    assert len(kept) == 2
    assert len(objects(vault)) == len(kept) + 1
    go_on.set()
    assert thrown.wait(SECONDS)
    assert objects(vault) == kept == rows(vault)
    monkeypatch.setattr(building, "attempt", making.attempt)
    assert cache(vault).kept == len(kept)
