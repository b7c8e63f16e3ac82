from __future__ import annotations

import os
import re
import socket
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import GenericError, PermissionDeniedError
from obstore.store import MemoryStore, S3Store

from voxelvault.errors import ForkedProcess, NoPermission, ObjectChanged, StorageError
from voxelvault.storage import remote_objects
from voxelvault.storage.remote_objects import ObstoreObjects


def test_a_forked_child_is_told_instead_of_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = ObstoreObjects(MemoryStore())
    objects.put("objects/x", [b"x"])
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    for call in (
        lambda: objects.get("objects/x"),
        lambda: objects.put("objects/y", [b"y"]),
        lambda: list(objects.list("")),
        lambda: objects.lock("log", 0).__enter__(),
    ):
        with pytest.raises(ForkedProcess, match="forkserver"):
            call()


@pytest.mark.parametrize(
    ("error", "kind"), [(PermissionDeniedError, NoPermission), (GenericError, StorageError)]
)
def test_failures_are_ours_and_name_no_address(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], kind: type[StorageError]
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error("https://DOE-JOHN.example/?secret=1")

    monkeypatch.setattr(obstore, "get", fail)
    with pytest.raises(kind) as caught:
        ObstoreObjects(MemoryStore()).get("objects/x")
    assert type(caught.value) is kind
    assert "DOE" not in str(caught.value)
    assert caught.value.__suppress_context__


def lossy(monkeypatch: pytest.MonkeyPatch, answers: int) -> list[str]:
    """Let writes arrive and their first answers get lost."""
    put, lost = obstore.put, list[str]()

    def cut(store: Any, name: str, *args: Any, **options: Any) -> Any:
        result = put(store, name, *args, **options)
        if len(lost) < answers:
            lost.append(name)
            raise GenericError("HTTP error: connection closed before message completed")
        return result

    monkeypatch.setattr(obstore, "put", cut)
    monkeypatch.setattr(remote_objects, "_PAUSE", 0.01)
    return lost


def test_a_write_whose_answer_was_lost_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = ObstoreObjects(MemoryStore())
    version = objects.swap("audit/checkpoint", b"one", None)
    lost = lossy(monkeypatch, 1)
    objects.put("objects/x", [b"mine"])
    assert objects.get("objects/x") == b"mine"
    lost.clear()
    second = objects.swap("audit/checkpoint", b"two", version)
    assert objects.versioned("audit/checkpoint") == (b"two", second)
    assert lost == ["audit/checkpoint"]


def test_a_swap_lost_and_then_overtaken_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = ObstoreObjects(MemoryStore())
    version = objects.swap("audit/checkpoint", b"one", None)
    other = objects.swap("audit/checkpoint", b"theirs", version)
    lossy(monkeypatch, 1)
    with pytest.raises(ObjectChanged):
        objects.swap("audit/checkpoint", b"mine", version)
    assert objects.versioned("audit/checkpoint") == (b"theirs", other)


def test_a_silent_server_is_given_up_and_the_message_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote_objects, "_AGAIN", 0.5)
    monkeypatch.setattr(remote_objects, "_REST", 0.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        store = S3Store(
            "bucket",
            endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}",
            access_key_id="k",
            secret_access_key="s",
            region="us-east-1",
            client_options={"allow_http": True, "read_timeout": timedelta(seconds=0.2)},
            retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=1)},
        )
        objects, began = ObstoreObjects(store), time.monotonic()
        for call in (lambda: objects.get("objects/x"), lambda: objects.put("objects/x", [b"x"])):
            with pytest.raises(StorageError, match=r"did not answer within .* check the network") as caught:
                call()
            assert "127.0.0.1" not in str(caught.value)
        assert time.monotonic() - began < 10


def dead(**retry: Any) -> ObstoreObjects:
    """Return a store whose server is gone: every connection is refused."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    return ObstoreObjects(
        S3Store(
            "bucket",
            endpoint=f"http://127.0.0.1:{port}",
            access_key_id="k",
            secret_access_key="s",
            region="us-east-1",
            client_options={"allow_http": True},
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
        )
    )


def test_a_write_is_given_up_in_time_and_the_message_tells_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_objects, "_AGAIN", 2.5)
    objects, began = dead(), time.monotonic()
    with pytest.raises(StorageError, match=r"did not answer within \d+ s") as caught:
        objects.put("objects/x", [b"x"])
    waited = time.monotonic() - began
    (told,) = re.findall(r"within (\d+) s", str(caught.value))
    assert 1 < waited < 3.5
    assert waited <= int(told) < waited + 1.1


def test_what_tidies_up_after_a_dead_network_does_not_wait_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_objects, "_AGAIN", 1.0)
    objects = dead()
    with pytest.raises(StorageError):
        objects.put("objects/x", [b"x"])
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(StorageError, match="does not answer: check the network"):
            objects.delete("objects/x")
        with pytest.raises(StorageError), objects.lock("log", 30):
            raise AssertionError("held")
    assert time.monotonic() - began < 0.5
    # Before long it is asked again.
    monkeypatch.setattr(remote_objects, "_REST", 0.0)
    objects._rests_until = 0.0
    with pytest.raises(StorageError, match="did not answer within"):
        objects.get("objects/x")


def test_credentials_that_are_missing_are_what_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise GenericError("Error performing PUT http://169.254.169.254/latest: status code: 403")

    monkeypatch.setattr(obstore, "get", refused)
    with pytest.raises(NoPermission, match="check the credentials"):
        ObstoreObjects(MemoryStore()).get("objects/x")


class Careless(ObstoreObjects):
    """A server that overwrites whatever is asked of it."""

    def _put(self, name: str, data: bytes, expected: str | None, began: float) -> str:
        obstore.put(self._store, name, data, mode="overwrite")
        return self._get(name)[1]


def test_a_server_that_ignores_conditions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="ignores conditional writes"):
        Careless(MemoryStore()).require_conditions()
    ObstoreObjects(MemoryStore()).require_conditions()


def test_creators_in_many_threads_leave_one_object() -> None:
    objects = ObstoreObjects(MemoryStore())
    done: list[int] = []

    def put(number: int) -> None:
        objects.put("objects/same", [b"same bytes"])
        done.append(number)

    threads = [threading.Thread(target=put, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 3
    assert objects.get("objects/same") == b"same bytes"
