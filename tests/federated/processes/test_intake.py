"""Flower's own handlers over its own database, with our intake before them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import HTTPException
from flwr.app import Message, Metadata
from flwr.app.message.message import make_message, remove_content_from_message
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID, SUPERLINK_NODE_ID
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState
from flwr.supercore.constant import NOOP_FEDERATION_ID, OBJECT_PUSH_SESSION_TTL_SECONDS, TaskType
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.servicer.fleet import fleet_handlers

from voxelvault_fl.processes.envelope import fault_of, wrap
from voxelvault_fl.processes.intake import ALLOWANCE, stand_before

MOST = 200_000
# Flower's migrations of its own database.
pytestmark = pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning")


@dataclass
class Link:
    """A SuperLink's state with a run and two sites, and what they send it."""

    path: Path
    time: float = 0.0

    def __post_init__(self) -> None:
        database = str(self.path / "state.db")
        self.state: Any = LinkStateFactory(
            database, NoOpFederationManager(), ObjectStoreFactory(database)
        ).state()
        self.run = self.state.create_run(
            None, None, None, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        task = self.state.get_tasks(run_ids=[self.run])[0].task_id
        self.state.claim_task(task)
        self.state.activate_task(task)
        self.nodes = {name: self._node(name) for name in ("north", "south")}
        (self.path / ALLOWANCE).write_text(str(MOST))

    def _node(self, name: str) -> int:
        node: int = self.state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, name.encode(), 0, name=name)
        self.state.activate_node(node, 1e4)
        return node

    def ask(self, name: str) -> str:
        """Ask a site, as a run does, and return the message's name."""
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = self.run, SUPERLINK_NODE_ID, 1
        made = Message(wrap(name.encode()), self.nodes[name], "query.voxelvault", ttl=60.0)
        said = _metadata(made.metadata, src_node_id=SUPERLINK_NODE_ID, message_id=made.object_id)
        stored = self.state.store_message_ins(make_message(said, content=made.content))
        assert stored
        return str(stored)

    def reply(self, name: str, to: str, data: bytes, **more: Any) -> Message:
        said = Metadata(
            run_id=self.run, message_id="", src_node_id=self.nodes[name], dst_node_id=SUPERLINK_NODE_ID,
            reply_to_message_id=to, group_id="", created_at=now().timestamp(), ttl=30.0,
            message_type="query.voxelvault",
        )  # fmt: skip
        made = make_message(_metadata(said, **more), content=wrap(data))
        vars(made.metadata)["_message_id"] = made.object_id
        return made

    def announce(self, name: str, said: Message, tree: ObjectTree | None = None) -> Any:
        request = PushMessagesRequest(
            node=Node(node_id=self.nodes[name]),
            messages_list=[message_to_proto(remove_content_from_message(said))],
            message_object_trees=[tree or get_object_tree(said)],
        )
        return fleet_handlers.push_messages(request=request, state=self.state)

    def push(self, name: str, said: Message, session: str, most: int = 1000) -> list[bool]:
        """Push the objects of an answer, those without others in them first."""
        parts = list(get_all_nested_objects(said).items())[:most]
        return [
            fleet_handlers.push_object(
                request=PushObjectRequest(
                    node=Node(node_id=self.nodes[name]), run_id=self.run, object_id=which,
                    object_content=one.deflate(), session_id=session,
                ),
                state=self.state,
            ).stored
            for which, one in parts
        ]  # fmt: skip

    def answers(self, *asked: str) -> list[str]:
        """Return whose answers whoever waits is shown."""
        names = {node: name for name, node in self.nodes.items()}
        found = self.state.get_message_res(message_ids=set(asked), run_id=self.run)
        return sorted(names[one.metadata.src_node_id] for one in found if not one.has_error())

    def events(self) -> list[tuple[str, str, str]]:
        path = self.path / "log" / "events.jsonl"
        said = map(json.loads, path.read_text().splitlines()) if path.exists() else []
        return [(one["event"], one["site"], one["why"]) for one in said]


def _metadata(said: Metadata, **more: Any) -> Metadata:
    names = ("run_id", "message_id", "src_node_id", "dst_node_id", "reply_to_message_id", "group_id",
             "created_at", "ttl", "message_type")  # fmt: skip
    return Metadata(**{**{name: getattr(said, name) for name in names}, **more})


@pytest.fixture
def link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Link:
    # What the intake replaces is put back.
    for name in ("push_messages", "push_object"):
        monkeypatch.setattr(fleet_handlers, name, getattr(fleet_handlers, name))
    monkeypatch.setattr(SqlLinkState, "get_message_res", SqlLinkState.get_message_res)
    made = Link(tmp_path)
    stand_before(tmp_path, lambda: made.time)
    return made


def _refused(call: Callable[[], Any], why: str) -> None:
    with pytest.raises(HTTPException) as refused:
        call()
    assert (refused.value.status_code, refused.value.detail) == (413, why)


def test_an_answer_within_the_allowance_arrives_and_is_shown_once_it_is_whole(link: Link) -> None:
    asked = link.ask("north"), link.ask("south")
    said, other = link.reply("north", asked[0], bytes(MOST // 2)), link.reply("south", asked[1], b"short")
    session = link.announce("north", said).session_id
    assert all(link.push("north", said, session, most=2))
    # Another is not waited for.
    assert all(link.push("south", other, link.announce("south", other).session_id))
    assert link.answers(*asked) == ["south"]
    link.push("north", said, session)
    assert link.answers(*asked) == ["north"]
    assert link.events() == []


@pytest.mark.parametrize("how", ["gone", "still"])
def test_an_answer_of_which_no_more_comes_is_lost(link: Link, how: str) -> None:
    asked = link.ask("north")
    said = link.reply("north", asked, bytes(MOST // 2))
    session = link.announce("north", said).session_id
    link.push("north", said, session, most=2)
    assert link.state.get_message_res(message_ids={asked}, run_id=link.run) == []
    if how == "gone":
        link.state.deactivate_node(link.nodes["north"])
    else:
        link.time += OBJECT_PUSH_SESSION_TTL_SECONDS + 1
    told = link.state.get_message_res(message_ids={asked}, run_id=link.run)
    assert [fault_of(one) for one in told] == ["lost"]
    assert not any(one in link.state.object_store for one in get_all_nested_objects(said))
    assert not any(link.push("north", said, session))


def test_what_is_over_the_allowance_is_refused_whole_and_others_go_on(link: Link) -> None:
    asked = link.ask("north"), link.ask("south")
    said, other = link.reply("north", asked[0], bytes(MOST)), link.reply("south", asked[1], b"short")
    session = link.announce("north", said).session_id
    _refused(lambda: link.push("north", said, session), "over-allowance")
    assert len(link.state.object_store) == 0
    assert all(link.push("south", other, link.announce("south", other).session_id))
    told = link.state.get_message_res(message_ids={asked[0]}, run_id=link.run)
    assert [fault_of(one) for one in told] == ["lost"]
    assert link.answers(*asked) == ["south"]
    assert link.events() == [("refused", "north", "over-allowance")]


def test_a_small_answer_that_unpacks_to_a_large_one_is_over_the_allowance(link: Link) -> None:
    (link.path / ALLOWANCE).write_text(str(8 << 20))
    said = link.reply("north", link.ask("north"), bytes(20 << 20))
    # All of its pieces are one.
    assert sum(len(one.deflate()) for one in get_all_nested_objects(said).values()) < 6 << 20
    session = link.announce("north", said).session_id
    _refused(lambda: link.push("north", said, session), "over-allowance")
    assert len(link.state.object_store) == 0


def test_an_array_counts_in_each_answer_that_has_it(link: Link) -> None:
    (link.path / ALLOWANCE).write_text(str(8 << 20))
    array = bytes([7]) * (6 << 20)
    said = link.reply("north", link.ask("north"), array)
    assert all(link.push("north", said, link.announce("north", said).session_id))
    again = link.reply("north", link.ask("north"), array)
    _refused(lambda: link.announce("north", again), "over-allowance")


def test_a_site_has_one_answer_at_rest_whatever_it_was_asked(link: Link) -> None:
    rest = []
    for turn in range(3):
        said = link.reply("north", link.ask("north"), bytes([turn]) * (MOST // 2))
        assert all(link.push("north", said, link.announce("north", said).session_id))
        rest.append(len(link.state.object_store))
    assert rest == [rest[0]] * 3


def test_what_answers_nothing_or_is_told_in_anothers_name_is_refused(link: Link) -> None:
    asked = link.ask("south")
    forged = link.reply("north", asked, b"mine", src_node_id=link.nodes["south"])
    order = link.reply("north", "", b"do this", src_node_id=SUPERLINK_NODE_ID,
                       dst_node_id=link.nodes["south"])  # fmt: skip
    for said in (forged, order, forged):
        _refused(lambda said=said: link.announce("north", said), "no-answer")
    assert link.answers(asked) == []
    assert len(link.state.object_store) == 0
    assert link.events() == [("refused", "north", "no-answer")]


def test_more_objects_than_an_answer_has_are_refused(link: Link) -> None:
    said = link.reply("north", link.ask("north"), b"short")
    many = [ObjectTree(object_id=f"{at:064x}") for at in range(40)]
    tree = ObjectTree(object_id=said.object_id, children=many)
    _refused(lambda: link.announce("north", said, tree), "too-many-objects")
    assert len(link.state.object_store) == 0


def test_before_a_run_has_begun_nothing_is_taken(link: Link) -> None:
    (link.path / ALLOWANCE).unlink()
    said = link.reply("north", link.ask("north"), b"short")
    session = link.announce("north", said).session_id
    _refused(lambda: link.push("north", said, session), "over-allowance")
