"""Every object store under the one contract."""

from __future__ import annotations

from pathlib import Path

import pytest
from obstore.store import LocalStore
from obstore.store import MemoryStore as RemoteMemory

from voxelvault.model import ObjectStore
from voxelvault.storage.objects import LocalObjects, MemoryObjects
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


class TestObstoreInMemory(ObjectStoreContract):
    @pytest.fixture
    def objects(self) -> ObjectStore:
        return ObstoreObjects(RemoteMemory())


class TestObstoreOnDisk(ObjectStoreContract):
    """Stands in for a remote store that writes files."""

    @pytest.fixture
    def objects(self, tmp_path: Path) -> ObjectStore:
        return ObstoreObjects(LocalStore(tmp_path))
