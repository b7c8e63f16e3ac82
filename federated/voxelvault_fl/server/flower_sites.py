"""The sites as rounds see them, over Flower's grid."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import httpx
from flwr.app import Message
from flwr.superlink.grid.http_grid import HttpGrid

from voxelvault_fl.processes.envelope import fault_of, unwrap, wrap
from voxelvault_fl.processes.pace import Pace
from voxelvault_fl.provisioning.roster import Roster
from voxelvault_fl.rounds.transport import Fault
from voxelvault_fl.server.superlink import Node

_KIND = "query.voxelvault"


class FlowerSites:
    """Sends bytes to sites and waits for theirs.

    Parameters
    ----------
    grid : HttpGrid
        Of the run.
    nodes : callable
        The SuperNodes by public key, as they are now.
    roster : callable
        The newest roster: who is not in it any more is not waited for.
    patience : float
        Seconds that a site has for an answer.
    pause : float
        Most seconds between two looks.
    """

    def __init__(
        self,
        grid: HttpGrid,
        nodes: Callable[[], Mapping[str, Node]],
        roster: Callable[[], Roster],
        patience: float = 3600.0,
        pause: float = 0.2,
    ) -> None:
        self._grid, self._nodes, self._roster = grid, nodes, roster
        self._patience, self._pause = patience, pause

    def ready(self) -> tuple[str, ...]:
        """Return the names of the sites that are signed on and not revoked."""
        nodes = self._nodes()
        return tuple(
            site.name for site in self._roster().sites() if nodes.get(site.node_key, Node(0, False)).online
        )

    def ask(self, round: int, requests: Mapping[str, bytes]) -> Mapping[str, bytes | Fault]:
        """Send each site its request and return what came back in time, or why nothing did."""
        waiting = self._sent(round, requests)
        given: dict[str, bytes | Fault] = {
            name: Fault("disconnected") for name in requests if name not in waiting.values()
        }
        until, pace = time.monotonic() + self._patience, Pace(self._pause)
        while waiting and time.monotonic() < until:
            for message, said in self._come(list(waiting)):
                given[waiting.pop(message)] = said
            for message in self._gone(waiting):
                given[waiting.pop(message)] = Fault("revoked")
            if waiting:
                pace.rest()
        return {**given, **{name: Fault("timeout") for name in waiting.values()}}

    def _come(self, messages: list[str]) -> Iterator[tuple[str, bytes | Fault]]:
        """Give the answers that are there, each taken by itself: one that can't be read spoils no other."""
        for message in messages:
            try:
                for reply in self._grid.pull_messages([message]):
                    yield message, _said(reply)
            except httpx.HTTPError:
                raise
            except Exception:
                # What a site sent is put together by Flower, which fails in as many ways as there are.
                yield message, Fault("malformed")

    def _sent(self, round: int, requests: Mapping[str, bytes]) -> dict[str, str]:
        nodes, roster = self._nodes(), self._roster()
        keys = {site.name: site.node_key for site in roster.sites()}
        reached = [name for name in requests if keys.get(name) in nodes]
        messages = [
            Message(
                wrap(requests[name]), nodes[keys[name]].id, _KIND, ttl=self._patience, group_id=str(round)
            )
            for name in reached
        ]
        sent = self._grid.push_messages(messages) if messages else []
        return {message: name for message, name in zip(sent, reached, strict=True) if message}

    def _gone(self, waiting: Mapping[str, str]) -> list[str]:
        admitted = {site.name for site in self._roster().sites()}
        return [message for message, name in waiting.items() if name not in admitted]


def _said(reply: Message) -> bytes | Fault:
    if reply.has_error():
        return Fault(fault_of(reply))
    try:
        return unwrap(reply.content)
    except (KeyError, TypeError, AttributeError):
        return Fault("malformed")


__all__ = ["FlowerSites"]
