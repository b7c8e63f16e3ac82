"""Queries keep a transaction open: an error, a commit elsewhere and a second commit don't see it."""

from __future__ import annotations

import threading

import pytest

from catalog_support import TYPED, MemoryKeys, patient
from voxelvault.catalog.ducklake import DuckLakeCatalog
from voxelvault.catalog.readers import RENEWED
from voxelvault.errors import CatalogError
from voxelvault.model import new_id
from voxelvault.storage.objects import LocalObjects

COUNT = "select count(*) as n from patients"


def count(catalog: DuckLakeCatalog) -> int:
    return int(catalog.query(COUNT).to_pylist()[0]["n"])


def test_a_query_after_a_wrong_one(filled: DuckLakeCatalog) -> None:
    assert count(filled) == 1
    for _ in range(3):
        with pytest.raises(CatalogError):
            filled.query("select nothing from patients")
        assert count(filled) == 1


def test_a_reader_sees_what_another_catalog_commits(objects: LocalObjects, keys: MemoryKeys) -> None:
    writer = DuckLakeCatalog.create(objects, keys, TYPED)
    reader = DuckLakeCatalog.open(objects, keys, TYPED)
    for expected in range(3):
        assert count(reader) == expected
        writer.commit([patient(new_id(), "DOE^JANE")])
    writer.close()
    reader.close()


def test_threads_that_read_while_one_commits(catalog: DuckLakeCatalog) -> None:
    seen: list[int] = []
    failed: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                seen.append(count(catalog))
        except BaseException as error:
            failed.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(4):
        catalog.commit([patient(new_id(), "DOE^JANE")])
    done.set()
    for reader in readers:
        reader.join()
    assert not failed
    assert set(seen) <= set(range(5))
    assert count(catalog) == 4


def test_instances_are_made_anew_and_queries_go_on(catalog: DuckLakeCatalog) -> None:
    readers = catalog._readers
    for expected in range(2 * RENEWED + 1):
        assert count(catalog) == expected
        readers = readers or catalog._readers
        catalog.commit([patient(new_id(), "DOE^JANE")])
    assert readers is not None
    first = readers.connection
    with readers.cursor() as (cursor, alias):
        for _ in range(RENEWED):
            catalog.commit([patient(new_id(), "DOE^JANE")])
            count(catalog)
        assert readers.connection is not first
        # Whoever was reading goes on with what it saw.
        seen = cursor.execute(f"select count(*) from {alias}.patients").fetchall()
    assert seen == [(2 * RENEWED + 1,)]
    assert count(catalog) == 3 * RENEWED + 1
