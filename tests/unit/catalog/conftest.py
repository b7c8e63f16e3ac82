"""A vault's objects, its keys, and a new catalog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from catalog_support import TYPED, MemoryKeys

from voxelvault.catalog.ducklake import DuckLakeCatalog
from voxelvault.storage.objects import LocalObjects


@pytest.fixture
def keys() -> MemoryKeys:
    return MemoryKeys()


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path / "vault")


@pytest.fixture
def catalog(objects: LocalObjects, keys: MemoryKeys) -> Iterator[DuckLakeCatalog]:
    made = DuckLakeCatalog.create(objects, keys, TYPED)
    yield made
    made.close()
