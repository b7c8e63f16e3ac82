"""Commits: all or none, repeatable, by the key, and seen by readers at once."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest

from catalog_support import TYPED, MemoryKeys, pack, patient
from voxelvault.catalog import engine
from voxelvault.catalog.ducklake import LEASE, DuckLakeCatalog
from voxelvault.catalog.schema import TABLES
from voxelvault.crypto.key_tree import Role
from voxelvault.errors import (
    CatalogError,
    IntegrityError,
    LockTimeout,
    NetworkFileSystem,
    NoPermission,
    NoSpace,
    StorageError,
)
from voxelvault.model import new_id
from voxelvault.storage.objects import LocalObjects, MemoryObjects


def count(catalog: DuckLakeCatalog, table: str) -> int:
    return int(catalog.query(f"SELECT count(*) AS n FROM {table}")["n"][0].as_py())


def test_keys_are_durable_before_the_commit_counts(catalog: DuckLakeCatalog, keys: MemoryKeys) -> None:
    staged: list[int] = []
    catalog.commit(pack(new_id(), 40), lambda: staged.append(len(keys.staged)))
    assert staged[0] >= 2
    assert not keys.staged
    assert count(catalog, "instances") == 40


def test_a_failure_of_the_store_comes_out_as_itself(
    catalog: DuckLakeCatalog, objects: LocalObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise NoSpace("the disk is full: free some space")

    monkeypatch.setattr(LocalObjects, "put", full)
    with pytest.raises(NoSpace):
        catalog.commit(pack(new_id(), 40))
    monkeypatch.undo()
    catalog.commit(pack(new_id(), 40))
    assert count(catalog, "instances") == 40


def test_nothing_at_rest_tells_a_name(catalog: DuckLakeCatalog, objects: LocalObjects) -> None:
    catalog.commit([patient(new_id(), "PLANTED^NAME"), *pack(new_id(), 50)])
    with catalog.lease() as lease:
        lease.commit([patient(new_id(), "PLANTED^AGAIN")])
        found = [path for path in objects.root.rglob("*") if path.is_file()]
        for path in found:
            data = path.read_bytes()
            assert not any(word in data for word in (b"PLANTED", b"00080060", b"PAR1", b"ducklake"))
            assert not any(table in str(path.relative_to(objects.root)) for table in TABLES)
    assert len([path for path in found if path.parent.parent.name == "catalog"]) >= 2


def test_a_reader_without_locks_copies_all_the_same(
    catalog: DuckLakeCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.commit([patient(new_id())])

    def denied(*_: object) -> None:
        raise NoPermission("read-only place: copy it")

    monkeypatch.setattr(LocalObjects, "lock", denied)
    assert count(catalog, "patients") == 1


def test_a_network_file_system_is_refused_for_writing(
    catalog: DuckLakeCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise NetworkFileSystem("move it to a local disk")

    monkeypatch.setattr("voxelvault.catalog.ducklake.require_local", refuse)
    assert count(catalog, "patients") == 0
    with pytest.raises(NetworkFileSystem):
        catalog.commit([patient(new_id())])


def test_a_vault_in_memory_has_a_catalog(keys: MemoryKeys) -> None:
    catalog = DuckLakeCatalog.create(MemoryObjects(), keys, TYPED)
    catalog.commit([patient(new_id()), *pack(new_id(), 30)])
    assert count(catalog, "instances") == 30
    catalog.close()


def test_create_twice_keeps_what_is_there(
    catalog: DuckLakeCatalog, objects: LocalObjects, keys: MemoryKeys
) -> None:
    catalog.commit([patient(new_id())])
    again = DuckLakeCatalog.create(objects, keys, TYPED)
    assert count(again, "patients") == 1
    again.close()


def test_missing_damaged_and_foreign_files_say_so(
    catalog: DuckLakeCatalog, objects: LocalObjects, keys: MemoryKeys
) -> None:
    path = objects.root / "catalog" / "lake.duckdb"
    catalog.close()
    whole = path.read_bytes()
    stranger = MemoryKeys()
    for role in (Role.PATHS, Role.CATALOG):
        stranger.new_key(role)
    foreign = DuckLakeCatalog.open(objects, stranger, TYPED)
    with pytest.raises(IntegrityError, match="none of the vault's keys"):
        foreign.head()
    path.write_bytes(whole[:4096] + bytes(len(whole) - 4096))
    broken = DuckLakeCatalog.open(objects, keys, TYPED)
    with pytest.raises((IntegrityError, CatalogError)):
        broken.head()
    path.unlink()
    with pytest.raises(CatalogError, match="restore it"):
        DuckLakeCatalog.open(objects, keys, TYPED)


def test_a_removed_file_is_an_error_and_not_fewer_rows(
    catalog: DuckLakeCatalog, objects: LocalObjects
) -> None:
    catalog.commit(pack(new_id(), 50))
    for folder in (objects.root / "catalog").iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    with pytest.raises(StorageError):
        catalog.query("SELECT max(header) FROM instances")


def test_neither_catalog_nor_files_pickle(catalog: DuckLakeCatalog) -> None:
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(catalog)


def test_the_lease_is_named_like_the_lock(catalog: DuckLakeCatalog, objects: LocalObjects) -> None:
    with objects.lock(LEASE, 1), pytest.raises(LockTimeout), catalog.lease(timeout=0.05):
        pass


def test_queries_take_threads_where_tables_are_large(
    catalog: DuckLakeCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def threads() -> int:
        return int(catalog.query("SELECT current_setting('threads') AS n")["n"][0].as_py())

    monkeypatch.setattr(engine, "SMALL", 40)
    catalog.commit(pack(new_id(), 39))
    assert threads() == 1
    catalog.commit(pack(new_id(), 39))
    assert threads() == os.cpu_count()
