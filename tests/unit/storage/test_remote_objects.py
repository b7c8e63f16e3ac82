from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import GenericError, PermissionDeniedError
from obstore.store import LocalStore, MemoryStore

from voxelvault.errors import ForkedProcess, NoPermission, StorageError
from voxelvault.storage.remote_objects import ObstoreObjects


def test_it_has_no_locks() -> None:
    with pytest.raises(StorageError, match="PostgreSQL"):
        ObstoreObjects(MemoryStore()).lock("keys", 1)


def test_a_forked_child_is_told_instead_of_hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = ObstoreObjects(LocalStore(tmp_path))
    objects.put("objects/x", [b"x"])
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    for call in (
        lambda: objects.get("objects/x"),
        lambda: objects.put("objects/y", [b"y"]),
        lambda: list(objects.list("")),
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
