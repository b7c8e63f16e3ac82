"""A vault's objects, its keys, and a new catalog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog_support import TYPED, MemoryKeys, pack, patient
from voxelvault.catalog.ducklake import DuckLakeCatalog
from voxelvault.model import new_id
from voxelvault.storage.objects import LocalObjects


@pytest.fixture
def keys() -> MemoryKeys:
    return MemoryKeys()


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path / "vault")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckLakeCatalog]:
    """A catalog to read: one patient, renamed since, with a series of 60 instances."""
    made = DuckLakeCatalog.create(LocalObjects(tmp_path_factory.mktemp("vault")), MemoryKeys(), TYPED)
    subject = new_id()
    made.commit([patient(subject, "PLANTED^NAME"), *pack(subject, 60)])
    made.commit([patient(subject, "DOE^JANE")])
    yield made
    made.close()


@pytest.fixture
def catalog(objects: LocalObjects, keys: MemoryKeys) -> Iterator[DuckLakeCatalog]:
    made = DuckLakeCatalog.create(objects, keys, TYPED)
    yield made
    made.close()
