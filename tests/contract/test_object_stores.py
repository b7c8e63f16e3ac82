"""Every object store under the one contract."""

from __future__ import annotations

from pathlib import Path

import pytest
from obstore.store import MemoryStore as RemoteMemory

from s3_servers import Server
from voxelvault.model import ObjectStore
from voxelvault.storage.objects import LocalObjects, MemoryObjects
from voxelvault.storage.places import place_of, store_at
from voxelvault.storage.remote_objects import ObstoreObjects
from voxelvault.testing.object_store_contract import LockContract, ObjectStoreContract


class TestLocalObjects(ObjectStoreContract, LockContract):
    @pytest.fixture
    def objects(self, tmp_path: Path) -> ObjectStore:
        return LocalObjects(tmp_path / "vault")


class TestLocalObjectsNotDurable(ObjectStoreContract, LockContract):
    @pytest.fixture
    def objects(self, tmp_path: Path) -> ObjectStore:
        return LocalObjects(tmp_path / "vault", durable=False)


class TestMemoryObjects(ObjectStoreContract, LockContract):
    @pytest.fixture
    def objects(self) -> ObjectStore:
        return MemoryObjects()


class TestObstoreInMemory(ObjectStoreContract, LockContract):
    @pytest.fixture
    def objects(self) -> ObjectStore:
        return ObstoreObjects(RemoteMemory())


def at(server: Server, patch: pytest.MonkeyPatch) -> ObstoreObjects:
    for name, value in server.environment.items():
        patch.setenv(name, value)
    store = store_at(place_of(server.place()))
    assert isinstance(store, ObstoreObjects)
    return store


class TestS3(ObjectStoreContract, LockContract):
    """Moto's server."""

    @pytest.fixture
    def objects(self, s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
        return at(s3_server, monkeypatch)

    def test_conditions_are_heeded(self, objects: ObstoreObjects) -> None:
        """What a vault needs of a server; the probe leaves nothing behind."""
        objects.require_conditions()
        assert list(objects.list("")) == []


@pytest.mark.long
class TestSeaweedFS(TestS3):
    """A server as a small team may run it."""

    @pytest.fixture
    def objects(self, weed_server: Server, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
        return at(weed_server, monkeypatch)
