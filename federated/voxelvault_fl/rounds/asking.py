"""The server asks sites: signed messages that bring the record and the model, and answers that fit them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from voxelvault_fl.errors import KitRefused, MessageRefused, fixed_word
from voxelvault_fl.jobs.strict import plain
from voxelvault_fl.jobs.task import Weights
from voxelvault_fl.rounds.broadcast import LACKS, Broadcast
from voxelvault_fl.rounds.messages import SERVER, Message, body_of, message_digest, pack, signed_head, unpack
from voxelvault_fl.rounds.records import Record
from voxelvault_fl.rounds.run_state import RunState
from voxelvault_fl.rounds.transport import Fault, Sites

_ECHOED = ("kind", "job", "round", "site", "turn")
HEADROOM = 1 << 16
"""Bytes that a container of weights may have beside the weights."""
LARGEST_HEAD = 1 << 13
"""Bytes of an answer without its weights: that stands in the record, at the server and at every site."""
PAGE = 4 << 20
"""Bytes of the record in one message: what a site lacks beyond that comes before, in messages of its own."""


@dataclass(frozen=True, slots=True)
class Parties:
    """Who takes part: the server's key, what gives a site's from the roster of now, and the way to them."""

    key: Ed25519PrivateKey
    key_of: Callable[[str], Ed25519PublicKey]
    sites: Sites


@dataclass(slots=True)
class Given:
    """What came back from one ask."""

    replies: dict[str, Message] = field(default_factory=dict)
    signed: dict[str, str] = field(default_factory=dict)
    body: dict[str, str] = field(default_factory=dict)
    size: dict[str, int] = field(default_factory=dict)
    aside: dict[str, str] = field(default_factory=dict)
    sent: int = 0
    received: int = 0


class Asking:
    """The way of one job's messages to sites.

    Parameters
    ----------
    job : str
        Digest of the job.
    parties : Parties
        Who takes part.
    state : RunState
        Gives turns and the record.
    broadcast : Broadcast
        Knows which model each site holds.
    most : int
        Bytes of weights that an answer may have.
    """

    def __init__(self, job: str, parties: Parties, state: RunState, broadcast: Broadcast, most: int) -> None:
        self._job, self._parties, self._state = job, parties, state
        self._broadcast, self._most = broadcast, most
        self._told: dict[str, int] = {}

    def ask(
        self,
        kind: str,
        number: int,
        names: Sequence[str],
        weights: Weights | None = None,
        said: Mapping[str, Any] | None = None,
    ) -> Given:
        """Ask sites, and return what came back; those that lack the model are asked again with all of it.

        Parameters
        ----------
        kind : str
            One of `KINDS`.
        number : int
            The round.
        names : sequence of str
            The sites.
        weights : mapping of str to array, optional
            The model that it is about.
        said : mapping, optional
            What is said beside the record.
        """
        given = Given()
        if kind != "offer":
            names = self._followed(given, number, names)
        self._send(given, kind, number, names, weights or {}, said or {})
        if lacking := [name for name, rule in given.aside.items() if rule == LACKS]:
            # They started anew since they were asked last; now they get the whole model.
            for name in lacking:
                del given.aside[name]
            lacking = self._followed(given, number, lacking)
            self._send(given, kind, number, lacking, weights or {}, said or {})
        return given

    def _followed(self, given: Given, number: int, names: Sequence[str]) -> list[str]:
        """Send those that lack more of the record than a message holds a page after the other.

        Returns
        -------
        list of str
            Who lacks a page at most now; why the others don't is in `given`.
        """
        left = list(names)
        while behind := [name for name in left if self._heard(name) + len(self._page(name)) < self._size]:
            pages = Given()
            self._send(pages, "follow", number, behind, {}, {})
            given.sent, given.received = given.sent + pages.sent, given.received + pages.received
            given.aside |= pages.aside
            left = [name for name in left if name not in pages.aside]
        return left

    def _heard(self, name: str) -> int:
        return self._told.get(name, 0)

    @property
    def _size(self) -> int:
        return len(self._state.chain)

    def _page(self, name: str) -> list[Record]:
        """Return what a site lacks of the record, or as much of it as a message brings."""
        page, size = list[Record](), 0
        for one in self._state.chain[self._heard(name) :]:
            size += len(one.document)
            if page and size > PAGE:
                break
            page.append(one)
        return page

    def _send(
        self,
        given: Given,
        kind: str,
        number: int,
        names: Sequence[str],
        weights: Weights,
        said: Mapping[str, Any],
    ) -> None:
        requests, asked = {}, {}
        turn = self._state.next_turn() if names else 0
        for name in sorted(names):
            records = [] if kind == "offer" else self._page(name)
            more = {"records": list(map(plain, records))} if records else {}
            of, carried = self._broadcast.parcel(name, _model_of(kind, number), weights)
            one = Message(kind, self._job, number, name, turn, SERVER, {**said, **more, **of}, carried)
            asked[name], requests[name] = one, pack(one, self._parties.key)
        given.sent += sum(map(len, requests.values()))
        answers = self._parties.sites.ask(number, requests) if requests else {}
        for name, request in requests.items():
            self._take(given, asked[name], request, answers.get(name, Fault("no-answer")))

    def _take(self, given: Given, asked: Message, request: bytes, answer: bytes | Fault) -> None:
        name = asked.site
        if isinstance(answer, Fault):
            given.aside[name] = answer.rule
            self._forget(name)
            return
        given.received += len(answer)
        try:
            reply = self._reply(asked, request, answer)
        except MessageRefused as refused:
            given.aside[name] = refused.rule
            return
        except KitRefused:
            # It left the roster while it answered.
            given.aside[name] = "revoked"
            return
        if "fault" in reply.said:
            given.aside[name] = fixed_word(reply.said["fault"])
            self._forget(name)
            return
        given.replies[name], given.size[name] = reply, len(answer)
        head = signed_head(answer)
        given.signed[name] = b64encode(head).decode()
        given.body[name] = body_of(head)
        if reply.kind != "offer":
            self._told[name] = self._heard(name) + len(asked.said.get("records", ()))
        if reply.kind == "follow":
            # It may know more than it was told since this server started.
            self._told[name] = max(self._told[name], self._known(reply))
        if reply.kind not in ("offer", "follow", "finish"):
            self._broadcast.arrived(name, _model_of(reply.kind, reply.round))

    def _known(self, reply: Message) -> int:
        told = reply.said.get("entries")
        return min(told, self._size) if isinstance(told, int) else 0

    def _forget(self, name: str) -> None:
        """Count on nothing that a site may have lost: the record starts anew, the model goes whole."""
        self._told[name] = 0
        self._broadcast.forget(name)

    def _reply(self, asked: Message, request: bytes, answer: bytes) -> Message:
        name = asked.site
        reply = unpack(answer, self._parties.key_of(name), self._most)
        if len(signed_head(answer)) > LARGEST_HEAD:
            raise MessageRefused("size", "the answer says more than an answer has to")
        # All of it stands in the record: what names another round there would spoil everybody's proof.
        same = all(getattr(asked, key) == getattr(reply, key) for key in _ECHOED)
        if not same or reply.sender != name or reply.answers != message_digest(request):
            raise MessageRefused("replayed", "the answer is to another message")
        return reply


def _model_of(kind: str, number: int) -> int:
    """Return the round whose model a message of a round is about."""
    return number - 1 if kind == "train" else number


def largest_answer(model: Weights) -> int:
    """Return the bytes that an answer of a site may have in a run of a model."""
    return most_weights(model) + LARGEST_HEAD


def most_weights(model: Weights) -> int:
    """Return the bytes of weights that an answer may have."""
    return sum(one.nbytes for one in model.values()) + HEADROOM


__all__ = ["LARGEST_HEAD", "Asking", "Given", "Parties", "largest_answer", "most_weights"]
