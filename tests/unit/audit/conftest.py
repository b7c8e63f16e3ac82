"""A log in memory, under a key ring of a few keys."""

from __future__ import annotations

import pytest
from few_keys import FewKeys

from voxelvault.audit.log import AuditLog
from voxelvault.storage.objects import MemoryObjects


@pytest.fixture
def keys() -> FewKeys:
    return FewKeys()


@pytest.fixture
def objects() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def log(objects: MemoryObjects, keys: FewKeys) -> AuditLog:
    return AuditLog.create(objects, keys)
