"""What a site sends is put together by Flower; what can't be is that site's fault alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from flwr.app import Message
from flwr.supercore.task_identity import TaskIdentity

from voxelvault_fl.processes.envelope import wrap
from voxelvault_fl.rounds.transport import Fault
from voxelvault_fl.server.flower_sites import FlowerSites
from voxelvault_fl.server.superlink import Node

SITES = ("east", "north", "west")


class Grid:
    """Gives the answer of each site, or breaks at one."""

    def __init__(self, error: Exception) -> None:
        self.error, self.sent = error, list[Message]()

    def push_messages(self, messages: Sequence[Message]) -> list[str]:
        self.sent = list(messages)
        return [f"{at}" for at in range(len(messages))]

    def pull_messages(self, messages: Sequence[str]) -> Iterator[Any]:
        for one in messages:
            if one == "1":
                raise self.error
            content = wrap(SITES[int(one)].encode())
            yield SimpleNamespace(
                metadata=SimpleNamespace(reply_to_message_id=one), has_error=lambda: False, content=content
            )


def _sites(error: Exception) -> FlowerSites:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    parties = [SimpleNamespace(name=one, node_key=one) for one in SITES]
    nodes = {one: Node(at + 2, True) for at, one in enumerate(SITES)}
    roster = SimpleNamespace(sites=lambda: parties)
    return FlowerSites(Grid(error), lambda: nodes, lambda: roster, 5.0)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("error", [ValueError(), KeyError(), RecursionError(), IndexError()])
def test_an_answer_that_can_not_be_read_is_set_aside_and_the_others_count(error: Exception) -> None:
    given = _sites(error).ask(1, dict.fromkeys(SITES, b"asked"))
    assert given == {"east": b"east", "north": Fault("malformed"), "west": b"west"}


def test_a_superlink_that_is_down_is_no_fault_of_a_site() -> None:
    with pytest.raises(httpx.HTTPError):
        _sites(httpx.ConnectError("down")).ask(1, dict.fromkeys(SITES, b"asked"))
