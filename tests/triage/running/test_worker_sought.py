"""A scheduler that doesn't answer is sought for a stated time, and said at once."""

from __future__ import annotations

import socket
import time

import pytest
from mean_hu import MeanHU, Threshold

import voxelvault as vv
from voxelvault.errors import WorkerDied
from voxelvault_triage.running.runner import Runner
from voxelvault_triage.running.session import Hands, work_through


def test_nobody_there_is_told_once_and_ends_in_time(vault: vv.Vault) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tls://127.0.0.1:{taken.getsockname()[1]}"
        told: list[str] = []
        hands = Hands(address, pause=0.05, patience=0.4, tell=told.append)
        began = time.monotonic()
        with pytest.raises(WorkerDied, match=r"does not answer.*sought \d times"):
            work_through(vault, Runner(vault, MeanHU(), Threshold()), hands)
        assert time.monotonic() - began < 20
    assert [text.count("sought again") for text in told] == [1]
