"""Commits: all or none, repeatable, by the key, and seen by readers at once."""

from __future__ import annotations

import pickle
import shutil
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from catalog_support import TYPED, MemoryKeys, pack, patient, rows

from voxelvault.catalog.catalog import Change
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


def test_a_pack_commits_and_commits_again_without_doubling(catalog: DuckLakeCatalog) -> None:
    subject, pack_id = new_id(), new_id()
    changes = [patient(subject), *pack(subject, 30, pack_id)]
    first = catalog.commit(changes)
    again = catalog.commit(changes)
    assert again == first == catalog.head()
    assert {t: count(catalog, t) for t in ("patients", "packs", "instances", "frames")} == {
        "patients": 1,
        "packs": 1,
        "instances": 30,
        "frames": 30,
    }


def test_the_digest_chains_and_the_snapshot_grows(catalog: DuckLakeCatalog) -> None:
    start = catalog.head()
    one, two = catalog.commit([patient("a" * 32)]), catalog.commit([patient("b" * 32)])
    assert start.snapshot < one.snapshot < two.snapshot
    assert len({start.digest, one.digest, two.digest}) == 3


def test_merge_sets_the_columns_given_and_leaves_the_others(catalog: DuckLakeCatalog) -> None:
    subject = new_id()
    catalog.commit([patient(subject, "DOE^JANE")])
    catalog.commit([Change("patients", rows(subject_id=[subject], merged_into=["f" * 32]))])
    assert catalog.query("SELECT PatientName, merged_into FROM patients").to_pylist() == [
        {"PatientName": "DOE^JANE", "merged_into": "f" * 32}
    ]


def test_insert_leaves_a_row_that_is_there(catalog: DuckLakeCatalog) -> None:
    subject = new_id()
    catalog.commit([patient(subject, "FIRST")])
    catalog.commit([Change("patients", rows(subject_id=[subject], PatientName=["SECOND"]), "insert")])
    assert catalog.query("SELECT PatientName FROM patients")["PatientName"].to_pylist() == ["FIRST"]


def test_delete_by_key_and_by_any_column(catalog: DuckLakeCatalog) -> None:
    one, two = new_id(), new_id()
    catalog.commit([patient(one), patient(two, "ROE^JO"), *pack(one, 25), *pack(two, 25)])
    catalog.commit(
        [
            Change("frames", rows(subject_id=[one]), "delete"),
            Change("patients", rows(subject_id=[one]), "delete"),
        ]
    )
    assert catalog.query("SELECT DISTINCT subject_id FROM frames")["subject_id"].to_pylist() == [two]
    assert count(catalog, "patients") == 1


def test_types_come_back(catalog: DuckLakeCatalog) -> None:
    catalog.commit(pack(new_id(), 2))
    frames = catalog.query("SELECT ImagePositionPatient FROM frames ORDER BY frame")
    assert frames["ImagePositionPatient"].to_pylist() == [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert frames.schema.field("ImagePositionPatient").type == pa.list_(pa.float64())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (Change("nowhere", rows(a=[1])), "no table"),
        (Change("patients", rows(subject_id=["a"], Nonsense=["x"])), "no column"),
        (Change("patients", rows(PatientName=["x"])), "need its key"),
        (Change("patients", rows(subject_id=["a", "a"])), "twice"),
        (Change("patients", pa.table({"subject_id": pa.array([None], pa.string())})), "empty"),
        (Change("patients", rows(subject_id=["a"]), "upsert"), "insert, merge or delete"),  # type: ignore[arg-type]
    ],
)
def test_a_bad_change_is_refused_and_the_good_one_before_it_undone(
    catalog: DuckLakeCatalog, change: Change, says: str
) -> None:
    before = catalog.head()
    with pytest.raises(CatalogError, match=says):
        catalog.commit([patient(new_id()), change])
    assert catalog.head() == before
    assert count(catalog, "patients") == 0


def test_what_before_commit_raises_undoes_the_commit(catalog: DuckLakeCatalog) -> None:
    def refuse() -> None:
        raise NoSpace("no room for keys: free some")

    with pytest.raises(NoSpace):
        catalog.commit([patient(new_id()), *pack(new_id(), 30)], refuse)
    assert count(catalog, "patients") == count(catalog, "instances") == 0
    catalog.commit([patient(new_id())])
    assert count(catalog, "patients") == 1


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


def test_several_commits_under_one_lease_see_each_other(catalog: DuckLakeCatalog) -> None:
    subject = new_id()
    with catalog.lease() as lease:
        for _ in range(3):
            lease.commit([patient(subject), *pack(subject, 2)])
        inside = lease.query("SELECT count(*) AS n FROM packs WHERE subject_id = $id", {"id": subject})
        # A reader isn't kept waiting by the lease.
        assert count(catalog, "packs") == 3
    assert inside["n"].to_pylist() == [3]


def test_one_lease_at_a_time(catalog: DuckLakeCatalog, objects: LocalObjects, keys: MemoryKeys) -> None:
    other = DuckLakeCatalog.open(objects, keys, TYPED)
    with catalog.lease(), pytest.raises(LockTimeout), other.lease(timeout=0.05):
        pass
    with other.lease() as lease:
        lease.commit([patient(new_id())])
    other.close()
    assert count(catalog, "patients") == 1


def test_threads_that_commit_and_read_lose_nothing(catalog: DuckLakeCatalog) -> None:
    subject = new_id()
    seen: list[int] = []

    def write() -> None:
        for _ in range(3):
            catalog.commit([patient(subject), *pack(subject, 2)])
            seen.append(count(catalog, "packs"))

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(catalog, "packs") == max(seen) == 6
    assert count(catalog, "patients") == 1


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


def test_a_new_tag_becomes_a_column(
    catalog: DuckLakeCatalog, objects: LocalObjects, keys: MemoryKeys
) -> None:
    catalog.commit([patient(new_id())])
    catalog.close()
    more = {**TYPED, "patients": {**TYPED["patients"], "PatientSex": "VARCHAR"}}
    wider = DuckLakeCatalog.open(objects, keys, more)
    before = wider.head().digest
    with wider.lease():
        pass
    assert wider.head().digest == before
    wider.commit([Change("patients", rows(subject_id=["c" * 32], PatientSex=["F"]))])
    assert sorted(wider.query("SELECT PatientSex FROM patients")["PatientSex"].to_pylist(), key=str) == [
        "F",
        None,
    ]
    wider.close()


def test_a_read_only_catalog_reads_and_refuses_writes(
    catalog: DuckLakeCatalog, objects: LocalObjects, keys: MemoryKeys
) -> None:
    catalog.commit([patient(new_id())])
    reader = DuckLakeCatalog.open(objects, keys, TYPED, read_only=True)
    assert count(reader, "patients") == 1
    with pytest.raises(NoPermission):
        reader.commit([patient(new_id())])
    reader.close()


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


def test_an_error_carries_no_value(catalog: DuckLakeCatalog) -> None:
    catalog.commit([patient(new_id(), "PLANTED^NAME")])
    with pytest.raises(CatalogError) as caught:
        catalog.query("SELECT CAST(PatientName AS INTEGER) FROM patients")
    assert "PLANTED" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_neither_catalog_nor_files_pickle(catalog: DuckLakeCatalog) -> None:
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(catalog)


def test_the_lease_is_named_like_the_lock(catalog: DuckLakeCatalog, objects: LocalObjects) -> None:
    with objects.lock(LEASE, 1), pytest.raises(LockTimeout), catalog.lease(timeout=0.05):
        pass


def test_parameters_are_values_whatever_they_hold(catalog: DuckLakeCatalog) -> None:
    for text in ("", "O'Neil", "'; DROP TABLE packs; --", "$other", "\\", "a\0b", "山田\n", "{}"):
        found = catalog.query(
            "SELECT $text AS text, $text IN (SELECT unnest($texts)) AS there, $none IS NULL AS none",
            {"text": text, "texts": ["x", text], "none": None, "other": "not me"},
        )
        assert found.to_pylist() == [{"text": text, "there": True, "none": True}]
    empty = catalog.query("SELECT 'x' IN (SELECT unnest($texts)) AS there", {"texts": []})
    assert empty.to_pylist() == [{"there": False}]
    with pytest.raises(CatalogError, match="incomplete"):
        catalog.query("SELECT $text", {})
