"""Flower's grid within one process: no server, no socket, no ray. Each site is a node that is a function."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flwr.app import DEFAULT_TTL, Message, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.serverapp import Grid

from voxelvault_fl.errors import MessageRefused
from voxelvault_fl.processes.envelope import fault_of, fault_reply, unwrap, wrap
from voxelvault_fl.rounds.site import SiteSide
from voxelvault_fl.rounds.transport import Fault

_KIND = "query.voxelvault"
_SERVER = 0

Node = Callable[[Message], Message]


class LocalGrid(Grid):
    """A grid whose nodes answer at once.

    Parameters
    ----------
    nodes : mapping of int to callable
        Node id to what answers a message.
    """

    def __init__(self, nodes: Mapping[int, Node]) -> None:
        self._nodes, self._replies, self._count = nodes, dict[str, Message](), 0
        self._run: Any = None

    def set_run(self, run: Any) -> None:
        """Take over Flower's run."""
        self._run = run

    @property
    def run(self) -> Any:
        """Flower's run, where one was set."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message to a node."""
        # `Message` itself asks which task of a SuperLink this process is; it is none.
        about = Metadata(
            run_id=0, message_id="", src_node_id=_SERVER, dst_node_id=dst_node_id, reply_to_message_id="",
            group_id=group_id, created_at=time.time(), ttl=ttl or DEFAULT_TTL, message_type=message_type,
        )  # fmt: skip
        return make_message(about, content)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes."""
        return list(self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Let the nodes answer, one after the other; return what to ask for."""
        return [self._answered(message) for message in messages]

    def _answered(self, message: Message) -> str:
        self._count += 1
        self._replies[str(self._count)] = self._nodes[message.metadata.dst_node_id](message)
        return str(self._count)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the answers, each once."""
        return [self._replies.pop(one) for one in message_ids if one in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send, and return what comes back; it is there already."""
        return self.pull_messages(self.push_messages(messages))


class LocalSites:
    """Sites as rounds see them, over a grid of this process.

    Parameters
    ----------
    sides : mapping of str to SiteSide
        Each site's rules.
    """

    def __init__(self, sides: Mapping[str, SiteSide]) -> None:
        self._ids = {name: at + 1 for at, name in enumerate(sorted(sides))}
        self._grid = LocalGrid({self._ids[name]: node(one.answer) for name, one in sides.items()})

    def ready(self) -> tuple[str, ...]:
        """Return all sites."""
        return tuple(self._ids)

    def ask(self, round: int, requests: Mapping[str, bytes]) -> Mapping[str, bytes | Fault]:
        """Send each site its request and return its answer."""
        return {name: self._one(round, self._ids[name], data) for name, data in requests.items()}

    def _one(self, round: int, to: int, data: bytes) -> bytes | Fault:
        message = self._grid.create_message(wrap(data), _KIND, to, str(round))
        (reply,) = self._grid.send_and_receive([message])
        return Fault(fault_of(reply)) if reply.has_error() else unwrap(reply.content)


def node(answer: Callable[[bytes], bytes]) -> Node:
    """Return a node of what answers bytes."""

    def answered(message: Message) -> Message:
        try:
            return Message(wrap(answer(unwrap(message.content))), reply_to=message)
        except MessageRefused as refused:
            return fault_reply(refused.rule, message)

    return answered


__all__ = ["LocalGrid", "LocalSites", "node"]
