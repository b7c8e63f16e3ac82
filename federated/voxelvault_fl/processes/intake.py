"""What one site may have at rest at the SuperLink: a single answer, no larger than the run's can be.

Flower's fleet API takes whatever a registered SuperNode announces: objects without number, of any size
together, messages that answer nothing or are told in another's name. And it shows an answer before all of it
is there, so that whoever waits for answers waits for that one. This stands before its handlers: a site
announces an answer to what it was asked, in its own name; the answer before it goes; what is over the
allowance is refused with all that came of it; an answer is shown once it is whole; and one of which no more
comes, as its site has gone, is lost.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from flwr.app import Array
from flwr.common.constant import FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE as LARGEST_PIECE
from flwr.proto.fleet_pb2 import PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import PushObjectRequest, PushObjectResponse
from flwr.supercore.constant import OBJECT_PUSH_SESSION_TTL_SECONDS, NodeStatus
from flwr.supercore.inflatable.inflatable_object import (
    get_object_body,
    get_object_head_values_from_object_content,
    iterate_object_tree,
)

from voxelvault_fl.processes.lifetime import note

ALLOWANCE = "allowance"
"""File of a server's state folder: bytes that one site's answer may have in the run of now."""
_SPARE, _PIECE, _LINE = 32, 1 << 20, 256
"""Objects of a small answer; bytes that an object of a large one has at least; bytes that announce one."""


@dataclass
class _Answer:
    """An answer on its way: to which message, its root, what is to come of it, bytes of what came."""

    to: str
    root: str
    left: set[str]
    since: float
    size: int = 0
    unpacked: int = 0


class Intake:
    """Stands before two handlers of the fleet API; the node of a request was authenticated before.

    Parameters
    ----------
    push_messages, push_object : callable
        The handlers.
    allowance : callable
        Gives the bytes that an answer may have now.
    refused : callable
        Told the name of a site and a word, the first time that something of it is refused for that.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        push_messages: Callable[..., PushMessagesResponse],
        push_object: Callable[..., PushObjectResponse],
        allowance: Callable[[], int],
        refused: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._push_messages, self._push_object = push_messages, push_object
        self._allowance, self._refused, self._clock = allowance, refused, clock
        self._answers: dict[int, _Answer] = {}
        self._told: set[tuple[int, str]] = set()
        self._lock = threading.Lock()

    def push_messages(self, request: PushMessagesRequest, state: Any) -> PushMessagesResponse:
        """Let a site announce an answer; the one before is gone then, taken or not.

        Raises
        ------
        HTTPException
            It answers nothing, is in another's name, or has more objects than an answer has.
        """
        node = request.node.node_id
        if not _one_answer(request):
            self._refuse(state, node, "no-answer")
        objects = _SPARE + self._allowance() // _PIECE
        tree = request.message_object_trees[0]
        if request.ByteSize() > _LINE * objects or sum(1 for _ in iterate_object_tree(tree)) > objects:
            self._refuse(state, node, "too-many-objects")
        said = request.messages_list[0].metadata
        coming = _Answer(said.reply_to_message_id, tree.object_id, {tree.object_id}, self._clock())
        before = self._swap(node, coming)
        try:
            response = self._push_messages(request=request, state=state)
        except BaseException:
            self._swap(node, before)
            raise
        if not response.objects_to_push:
            # Told twice, or not taken.
            self._swap(node, before)
            return response
        coming.left = set(response.objects_to_push)
        known = {one.object_id for one in iterate_object_tree(tree)} - coming.left
        if before is not None and before.root == coming.root:
            return response
        if before is not None:
            state.object_store.delete(before.root)
        # An array holds what was signed for one answer; only its pieces may be those of another.
        if any(_unpacked(state.object_store.get(one) or b"") for one in known):
            self._withdraw(state, node, coming, "over-allowance")
        return response

    def push_object(self, request: PushObjectRequest, state: Any) -> PushObjectResponse:
        """Take an object of the answer that a site announced last.

        Raises
        ------
        HTTPException
            The answer is larger than the allowance: none of it stays.
        """
        node = request.node.node_id
        with self._lock:
            answer = self._answers.get(node)
            if answer is None or request.object_id not in answer.left:
                return PushObjectResponse(stored=False)
            answer.size += len(request.object_content)
            answer.unpacked += _unpacked(request.object_content)
            answer.since = self._clock()
            over = max(answer.size, answer.unpacked - LARGEST_PIECE) > self._allowance()
        if over:
            self._withdraw(state, node, answer, "over-allowance")
        response = self._push_object(request=request, state=state)
        if response.stored:
            self._arrived(node, request.object_id)
        return response

    def shown(self, state: Any, messages: Set[str]) -> set[str]:
        """Return the messages without those whose answers are on their way.

        What stands still, or is of a site whose lease is over, is taken away: it would come no more.
        """
        with self._lock:
            coming = {node: one for node, one in self._answers.items() if one.left and one.to in messages}
        if not coming:
            return set(messages)
        there = {
            one.node_id for one in state.get_node_info(node_ids=list(coming), statuses=[NodeStatus.ONLINE])
        }
        late = self._clock() - OBJECT_PUSH_SESSION_TTL_SECONDS
        for node, one in list(coming.items()):
            if node not in there or one.since < late:
                self._remove(state, node, coming.pop(node))
        return set(messages) - {one.to for one in coming.values()}

    def _swap(self, node: int, answer: _Answer | None) -> _Answer | None:
        with self._lock:
            before = self._answers.pop(node, None)
            if answer is not None:
                self._answers[node] = answer
            return before

    def _arrived(self, node: int, name: str) -> None:
        with self._lock:
            if node in self._answers:
                self._answers[node].left.discard(name)

    def _remove(self, state: Any, node: int, answer: _Answer) -> None:
        """Take all of an answer away, so that whoever waits for it is told that there is none."""
        with self._lock:
            # The site may have come back meanwhile, with another.
            if self._answers.get(node) is answer:
                del self._answers[node]
        state.delete_messages(message_ins_ids={answer.to})
        state.object_store.delete(answer.root)

    def _withdraw(self, state: Any, node: int, answer: _Answer, word: str) -> None:
        self._remove(state, node, answer)
        self._refuse(state, node, word)

    def _refuse(self, state: Any, node: int, word: str) -> None:
        if (node, word) not in self._told:
            # Once: whoever can fill a log needs no disk.
            self._told.add((node, word))
            known = state.get_node_info(node_ids=[node])
            self._refused(known[0].name if known else "unknown", word)
        raise HTTPException(413, word)


def _one_answer(request: PushMessagesRequest) -> bool:
    if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
        return False
    said = request.messages_list[0].metadata
    return bool(said.src_node_id == request.node.node_id and said.reply_to_message_id)


def _unpacked(content: bytes) -> int:
    """Return the bytes that an array becomes, with its last piece whole: it may name one piece many times."""
    try:
        kind, _, _ = get_object_head_values_from_object_content(content)
        pieces = json.loads(get_object_body(content, Array))["arraychunk_ids"] if kind == "Array" else ()
        return len(pieces) * LARGEST_PIECE
    except (ValueError, KeyError, TypeError, RecursionError):
        # Flower can't read it either.
        return 0


def stand_before(state: Path, clock: Callable[[], float] = time.monotonic) -> Intake:
    """Put an intake before the handlers of a SuperLink that runs in this process.

    Parameters
    ----------
    state : Path
        The server's folder: what is refused stands in its log of events.
    clock : callable
        Seconds.
    """
    from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState
    from flwr.superlink.servicer.fleet import fleet_handlers as handlers

    def refused(site: str, why: str) -> None:
        note(state, "refused", site=site, why=why)

    made = Intake(handlers.push_messages, handlers.push_object, partial(_allowed, state), refused, clock)
    vars(handlers).update(push_messages=made.push_messages, push_object=made.push_object)
    answers = SqlLinkState.get_message_res

    def whole(self: SqlLinkState, message_ids: set[str], run_id: int) -> list[Any]:
        return answers(self, made.shown(self, message_ids), run_id)

    SqlLinkState.get_message_res = whole  # type: ignore[method-assign]
    return made


def _allowed(state: Path) -> int:
    with suppress(OSError, ValueError):
        return int((state / ALLOWANCE).read_text())
    # No run has begun: there is nothing to answer.
    return 0


__all__ = ["ALLOWANCE", "Intake", "stand_before"]
