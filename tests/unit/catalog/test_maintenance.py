"""Joining, sweeping, rebuilding and erasing: rows stay, residue goes."""

from __future__ import annotations

import time
from pathlib import Path

import duckdb
import pytest

from catalog_support import TYPED, MemoryKeys, pack, patient, rows
from voxelvault.catalog.catalog import Change
from voxelvault.catalog.ducklake import DuckLakeCatalog, _password
from voxelvault.catalog.ducklake_sql import LAKE, metadata
from voxelvault.crypto.key_tree import Role
from voxelvault.errors import KeyUnavailable
from voxelvault.model import new_id
from voxelvault.storage.layout import object_id_of, object_name
from voxelvault.storage.objects import LocalObjects


def sealed_files(objects: LocalObjects) -> set[str]:
    return {found for info in objects.list("catalog/") if (found := object_id_of(info.name))}


def everything(catalog: DuckLakeCatalog) -> dict[str, list[dict[str, object]]]:
    return {
        table: catalog.query(f"SELECT * FROM {table} ORDER BY ALL").to_pylist()
        for table in ("patients", "studies", "series", "packs", "instances", "stacks", "frames")
    }


def test_maintenance_joins_files_and_keeps_rows(catalog: DuckLakeCatalog, objects: LocalObjects) -> None:
    subject = new_id()
    with catalog.lease() as lease:
        for _ in range(4):
            lease.commit([patient(subject), *pack(subject, 30)])
    before, files, head = everything(catalog), sealed_files(objects), catalog.head()
    report = catalog.maintain(grace=0)
    assert everything(catalog) == before
    assert set(report.deleted) == files - sealed_files(objects)
    assert len(sealed_files(objects)) < len(files)
    assert len(report.dead_keys) == len(report.deleted)
    assert catalog.head().digest == head.digest
    assert catalog.maintain(grace=0).deleted == ()


def test_the_grace_period_keeps_what_readers_may_use(catalog: DuckLakeCatalog, objects: LocalObjects) -> None:
    with catalog.lease() as lease:
        for _ in range(3):
            lease.commit(pack(new_id(), 30))
    files = sealed_files(objects)
    report = catalog.maintain(grace=3600)
    assert report.deleted == report.dead_keys == ()
    assert files <= sealed_files(objects)


def test_an_orphan_is_swept_after_its_grace(
    catalog: DuckLakeCatalog, objects: LocalObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        catalog.commit(pack(new_id(), 30), die)
    orphans = sealed_files(objects)
    assert orphans
    assert set(catalog.maintain(grace=3600).kept) == orphans
    later = time.time() + 7200
    monkeypatch.setattr("voxelvault.catalog.lease.time.time", lambda: later)
    assert set(catalog.maintain(grace=3600).deleted) == orphans
    assert sealed_files(objects) == set()


def test_a_reader_at_work_survives_a_sweep(
    catalog: DuckLakeCatalog, objects: LocalObjects, keys: MemoryKeys
) -> None:
    reader = DuckLakeCatalog.open(objects, keys, TYPED, read_only=True)
    for _ in range(2):
        catalog.commit(pack(new_id(), 30))
    assert len(reader.query("SELECT * FROM instances")) == 60
    catalog.maintain(grace=0)
    assert len(reader.query("SELECT max(header) FROM instances")) == 1
    reader.close()


def test_rebuild_changes_the_key_and_nothing_else(
    catalog: DuckLakeCatalog, objects: LocalObjects, keys: MemoryKeys
) -> None:
    catalog.commit([patient(new_id()), *pack(new_id(), 30)])
    before, head = everything(catalog), catalog.head()
    report = catalog.rebuild()
    assert report.dead_keys
    keys.destroy(report.dead_keys)
    assert everything(catalog) == before
    assert catalog.head() == head
    fresh = DuckLakeCatalog.open(objects, keys, TYPED)
    fresh.commit([patient(new_id())])
    assert len(fresh.query("FROM patients")) == 2
    fresh.close()
    assert [p.name for p in (objects.root / "catalog").iterdir() if p.is_file()] == ["lake.duckdb"]


def test_a_rebuild_that_dies_leaves_the_old_file_in_use(
    catalog: DuckLakeCatalog, keys: MemoryKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.commit([patient(new_id())])

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("voxelvault.catalog.catalog_file.CatalogFile.install", die)
    with pytest.raises(KeyboardInterrupt):
        catalog.rebuild()
    monkeypatch.undo()
    assert len(keys.keys_of(Role.CATALOG)) == 2
    catalog.commit([patient(new_id())])
    assert len(catalog.query("FROM patients")) == 2


def plain_metadata(path: Path, password: str) -> str:
    """Return every value in the catalog file, the engine's own tables too."""
    connection = duckdb.connect(":memory:")
    connection.execute(f"ATTACH '{path}' AS raw (READ_ONLY, ENCRYPTION_KEY '{password}')")
    tables = connection.execute("SELECT table_name FROM duckdb_tables() WHERE database_name='raw'").fetchall()
    return "\n".join(str(connection.execute(f'FROM raw."{table}"').fetchall()) for (table,) in tables)


def test_an_erasure_leaves_no_residue(
    catalog: DuckLakeCatalog, objects: LocalObjects, keys: MemoryKeys
) -> None:
    victim, other = new_id(), new_id()
    for subject, name in ((victim, "ZZZ^ERASED"), (other, "MMM^STAYS"), (victim, "AAA^ERASED")):
        catalog.commit([patient(subject, name), *pack(subject, 30)])
    many = [f"{i:032x}" for i in range(40)]
    catalog.commit(
        [
            Change(
                "patients",
                rows(subject_id=[*many, "e" * 32], PatientName=["MMM^STAYS"] * 40 + ["ZZZ^ERASED"]),
            )
        ]
    )
    old = objects.root / "catalog" / "lake.duckdb"
    old_key = _password(keys.dek(keys.keys_of(Role.CATALOG)[-1]))
    assert "ERASED" in plain_metadata(old, old_key)
    tables = ("patients", "studies", "series", "packs", "instances", "frames")
    catalog.commit(
        [Change(table, rows(subject_id=[victim]), "delete") for table in tables]
        + [Change("patients", rows(subject_id=["e" * 32]), "delete")]
    )
    report, rebuilt = catalog.maintain(grace=0), catalog.rebuild()
    assert "ERASED" not in plain_metadata(old, _password(keys.dek(keys.keys_of(Role.CATALOG)[-1])))
    keys.destroy(report.dead_keys + rebuilt.dead_keys)
    assert set(catalog.query("SELECT DISTINCT PatientName FROM patients")["PatientName"].to_pylist()) == {
        "MMM^STAYS"
    }
    assert len(catalog.query("FROM instances")) == 30
    with pytest.raises(KeyUnavailable):
        keys.dek(report.dead_keys[0])


def test_what_is_listed_as_referenced_is_there(catalog: DuckLakeCatalog, objects: LocalObjects) -> None:
    catalog.commit(pack(new_id(), 30))
    with catalog.lease() as lease:
        found = lease._connection.execute(f"SELECT path FROM {metadata(LAKE)}.ducklake_data_file").fetchall()
    assert len(found) == len(sealed_files(objects))
    assert all(objects.size(object_name("catalog", object_id)) for object_id in sealed_files(objects))
