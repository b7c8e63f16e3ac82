"""A vault's store in a worker: reads, and additions where they were allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxelvault.errors import PolicyDenied, UsageError
from voxelvault.storage.lent_objects import LentObjects, describe_store, lent_store
from voxelvault.storage.objects import LocalObjects, MemoryObjects

NAME = "objects/ab/abcdef"


def test_nothing_is_changed_and_only_own_objects_are_taken_back(tmp_path: Path) -> None:
    store = LocalObjects(tmp_path)
    store.put(NAME, [b"there"])
    lent = LentObjects(store, ("objects",))
    assert lent.get(NAME) == b"there"
    lent.put("objects/cd/cdef01", [b"new"])
    lent.delete("objects/cd/cdef01")
    assert [info.name for info in store.list("objects/")] == [NAME]
    for attempt in (
        lambda: lent.put("derived/ab/abcdef", [b"x"]),
        lambda: lent.put("catalog/x", [b"x"]),
        lambda: lent.delete(NAME),
        lambda: lent.replace("vault.toml", b""),
        lambda: lent.swap("vault.toml", b"", None),
        lambda: lent.list("objects/"),
        lambda: lent.lock("commit", 1.0),
        lambda: LentObjects(store).put("objects/ef/ef", [b"x"]),
    ):
        with pytest.raises(PolicyDenied):
            attempt()


def test_a_store_is_described_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from voxelvault.storage.places import store_at

    store = LocalObjects(tmp_path)
    store.put(NAME, [b"there"])
    assert lent_store(describe_store(store)).get(NAME) == b"there"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-id")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    described = describe_store(store_at("s3://bucket/vault"))
    assert described["url"] == "s3://bucket/vault"
    assert described["config"]["endpoint"] == "http://127.0.0.1:9"
    assert "hush" not in repr(described)
    assert "key-id" not in repr(described)
    assert lent_store(described)._store.url == described["url"]  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="in memory"):
        describe_store(MemoryObjects())
