"""Whether the server answers, and why not, as a site's status says it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from voxelvault_fl.processes.contact import LOST, QUIET, Contact
from voxelvault_fl.provisioning.files import write

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


class Clock:
    """A clock that is set by hand."""

    time = NOON

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _fails(error: Exception) -> Any:
    def call(**named: Any) -> None:
        raise error

    return call


def _status(code: int) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "https://localhost")
    return httpx.HTTPStatusError("", request=request, response=httpx.Response(code, request=request))


def test_an_answer_is_noted_and_grows_old(tmp_path: Path, clock: Clock) -> None:
    contact = Contact(tmp_path, clock)
    assert contact.standing()["text"] == "the server has not answered yet"
    assert contact.asked(lambda **named: named["path"])(path="/pull") == "/pull"
    assert contact.standing() == {
        "answers": True, "answered": NOON.isoformat(), "why": "", "text": "the server answers",
    }  # fmt: skip
    clock.time = NOON + LOST
    assert contact.standing()["text"] == "nothing was heard of the server for minutes"


@pytest.mark.parametrize(
    ("path", "code", "why"),
    [
        ("/v1/fleet/activate-node", 500, "not-signed-on"),
        ("/v1/fleet/pull-messages", 503, "not-serving"),
        ("/v1/fleet/pull-messages", 403, "turned-away"),
    ],
)
def test_a_refusal_is_told_apart(tmp_path: Path, clock: Clock, path: str, code: int, why: str) -> None:
    contact = Contact(tmp_path, clock)
    with pytest.raises(httpx.HTTPStatusError):
        contact.asked(_fails(_status(code)))(path=path)
    assert (contact.standing()["answers"], contact.standing()["why"]) == (False, why)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("server ended=SC received=0 tls=-", "not-reached"),
        ("server ended=SC received=0 tls=167772294", "not-believed"),
        ("server ended=SD received=0 tls=-", "not-admitted"),
        ("", "not-reached"),
    ],
)
def test_why_a_connection_brings_nothing_is_in_the_connectors_log(
    tmp_path: Path, clock: Clock, line: str, why: str
) -> None:
    write(tmp_path / "log" / "connector.log", f"{line}\nserver ended=-- received=99 tls=-\n".encode())
    contact = Contact(tmp_path, clock)
    contact.heard()
    with pytest.raises(httpx.TransportError):
        contact.asked(_fails(httpx.ReadError("")))(path="/pull")
    # A gate that starts again is no fault yet.
    assert contact.standing()["answers"] is True
    clock.time = NOON + QUIET + timedelta(seconds=1)
    assert (contact.standing()["answers"], contact.standing()["why"]) == (False, why)
