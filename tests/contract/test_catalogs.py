"""One contract for both catalogs: the embedded one, and the one on a PostgreSQL server."""

from __future__ import annotations

import pickle
import random
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from catalog_support import TYPED, MemoryKeys, pack, patient, rows
from postgres_support import Cluster
from voxelvault.catalog.catalog import Catalog, Change
from voxelvault.catalog.ducklake import DuckLakeCatalog
from voxelvault.catalog.postgres import PostgresCatalog
from voxelvault.catalog.postgres_server import PostgresServer
from voxelvault.errors import CatalogError, LockTimeout, NoPermission, NoSpace, QueryError
from voxelvault.model import new_id
from voxelvault.storage.objects import LocalObjects

COUNT = "select count(*) as n from patients"

Opening = Callable[..., Catalog]


@pytest.fixture
def keys() -> MemoryKeys:
    return MemoryKeys()


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path / "vault")


@pytest.fixture(params=["embedded", "postgres"])
def opening(request: pytest.FixtureRequest, objects: LocalObjects, keys: MemoryKeys) -> Iterator[Opening]:
    """Make a new catalog; give what opens it again, with a tag list or read-only if asked."""
    opened: list[Catalog] = []
    if request.param == "embedded":
        opened.append(DuckLakeCatalog.create(objects, keys, TYPED))
    else:
        cluster: Cluster = request.getfixturevalue("postgres")
        url = cluster.make_database(f"contract_{secrets.token_hex(4)}")
        opened.append(PostgresCatalog.create(PostgresServer(url), objects, keys, TYPED))

    def open_again(typed: dict[str, dict[str, str]] = TYPED, *, read_only: bool = False) -> Catalog:
        if request.param == "embedded":
            opened.append(DuckLakeCatalog.open(objects, keys, typed, read_only=read_only))
        else:
            server = PostgresServer(url)
            opened.append(PostgresCatalog.open(server, objects, keys, typed, read_only=read_only))
        return opened[-1]

    yield open_again
    for catalog in opened:
        catalog.close()


@pytest.fixture
def catalog(opening: Opening) -> Catalog:
    return opening()


def count(catalog: Catalog, table: str) -> int:
    return int(catalog.query(f"SELECT count(*) AS n FROM {table}")["n"][0].as_py())


def everything(catalog: Catalog) -> dict[str, list[dict[str, object]]]:
    return {
        table: catalog.query(f"SELECT * FROM {table} ORDER BY ALL").to_pylist()
        for table in ("patients", "studies", "series", "packs", "instances", "stacks", "frames")
    }


def test_a_pack_commits_and_commits_again_without_doubling(catalog: Catalog) -> None:
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


def test_the_digest_chains_and_the_snapshot_grows(catalog: Catalog) -> None:
    start = catalog.head()
    one, two = catalog.commit([patient("a" * 32)]), catalog.commit([patient("b" * 32)])
    assert start.snapshot < one.snapshot < two.snapshot
    assert len({start.digest, one.digest, two.digest}) == 3


def test_merge_sets_the_columns_given_and_leaves_the_others(catalog: Catalog) -> None:
    subject = new_id()
    catalog.commit([patient(subject, "DOE^JANE")])
    catalog.commit([Change("patients", rows(subject_id=[subject], merged_into=["f" * 32]))])
    assert catalog.query("SELECT PatientName, merged_into FROM patients").to_pylist() == [
        {"PatientName": "DOE^JANE", "merged_into": "f" * 32}
    ]


def test_insert_leaves_a_row_that_is_there(catalog: Catalog) -> None:
    subject = new_id()
    catalog.commit([patient(subject, "FIRST")])
    catalog.commit([Change("patients", rows(subject_id=[subject], PatientName=["SECOND"]), "insert")])
    assert catalog.query("SELECT PatientName FROM patients")["PatientName"].to_pylist() == ["FIRST"]


def test_delete_by_key_and_by_any_column(catalog: Catalog) -> None:
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


def test_types_come_back(catalog: Catalog) -> None:
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
    catalog: Catalog, change: Change, says: str
) -> None:
    before = catalog.head()
    with pytest.raises(CatalogError, match=says):
        catalog.commit([patient(new_id()), change])
    assert catalog.head() == before
    assert count(catalog, "patients") == 0


def test_what_before_commit_raises_undoes_the_commit(catalog: Catalog) -> None:
    def refuse() -> None:
        raise NoSpace("no room for keys: free some")

    with pytest.raises(NoSpace):
        catalog.commit([patient(new_id()), *pack(new_id(), 30)], refuse)
    assert count(catalog, "patients") == count(catalog, "instances") == 0
    catalog.commit([patient(new_id())])
    assert count(catalog, "patients") == 1


def test_several_commits_under_one_lease_see_each_other(catalog: Catalog) -> None:
    subject = new_id()
    with catalog.lease() as lease:
        for _ in range(3):
            lease.commit([patient(subject), *pack(subject, 2)])
        inside = lease.query("SELECT count(*) AS n FROM packs WHERE subject_id = $id", {"id": subject})
        # A reader isn't kept waiting by the lease.
        assert count(catalog, "packs") == 3
    assert inside["n"].to_pylist() == [3]


def test_threads_that_commit_and_read_lose_nothing(catalog: Catalog) -> None:
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


def test_an_error_carries_no_value(catalog: Catalog) -> None:
    catalog.commit([patient(new_id(), "PLANTED^NAME")])
    with pytest.raises(CatalogError) as caught:
        catalog.query("SELECT CAST(PatientName AS INTEGER) FROM patients")
    assert "PLANTED" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_parameters_are_values_whatever_they_hold(catalog: Catalog) -> None:
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


def test_queries_of_a_lease_and_its_commits(catalog: Catalog) -> None:
    subject = new_id()
    with catalog.lease() as lease:
        assert lease.query(COUNT).to_pylist() == [{"n": 0}]
        first = lease.commit([patient(subject, "DOE^JANE")])
        assert lease.query(COUNT).to_pylist() == [{"n": 1}]
        with pytest.raises(CatalogError):
            lease.query("select nothing from patients")
        second = lease.commit(pack(subject, 3))
        assert second.snapshot > first.snapshot
        assert lease.query("select count(*) as n from instances").to_pylist() == [{"n": 3}]
    assert count(catalog, "patients") == 1


def test_a_lease_that_only_asks_leaves_nothing_behind(catalog: Catalog) -> None:
    before = catalog.head()
    with catalog.lease() as lease:
        lease.query(COUNT)
    assert catalog.head() == before
    catalog.commit([patient(new_id(), "DOE^JANE")])
    catalog.maintain(grace=0)
    assert count(catalog, "patients") == 1


def story(catalog: Catalog, seed: int, steps: int) -> None:
    """Random merges, insertions, deletions and maintenance, against a dictionary."""
    dice, truth = random.Random(seed), dict[str, str | None]()
    ids = [f"{i:032x}" for i in range(60)]
    for step in range(steps):
        some = dice.sample(ids, dice.choice([1, 5, 40]))
        mode = dice.choice(["merge", "merge", "insert", "delete"])
        change = Change(
            "patients", rows(subject_id=some, PatientName=[f"{step}-{i[-3:]}" for i in some]), mode
        )  # type: ignore[arg-type]
        for subject in some:
            if mode == "delete":
                truth.pop(subject, None)
            elif mode == "merge" or subject not in truth:
                truth[subject] = f"{step}-{subject[-3:]}"
        catalog.commit([change])
        if dice.random() < 0.25:
            catalog.maintain(grace=0)
        if dice.random() < 0.15:
            catalog.rebuild()
        found = catalog.query("SELECT subject_id, PatientName FROM patients").to_pylist()
        assert sorted((r["subject_id"], r["PatientName"]) for r in found) == sorted(truth.items()), (
            seed,
            step,
        )


def test_a_random_story_agrees_with_a_dictionary(catalog: Catalog) -> None:
    story(catalog, 1, 12)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
def test_many_random_stories_agree_with_a_dictionary(catalog: Catalog, seed: int) -> None:
    story(catalog, seed, 40)


def test_one_lease_at_a_time(catalog: Catalog, opening: Opening) -> None:
    other = opening()
    with catalog.lease(), pytest.raises(LockTimeout, match="held"), other.lease(timeout=0.05):
        pass
    with other.lease() as lease:
        lease.commit([patient(new_id())])
    assert count(catalog, "patients") == 1


def test_what_one_writer_changes_another_changes_again(catalog: Catalog, opening: Opening) -> None:
    other, subject = opening(), new_id()
    for n, (writer, reader) in enumerate(((catalog, other), (other, catalog), (catalog, other))):
        writer.commit([patient(subject, f"NAME{n}"), *pack(subject, 2)])
        assert reader.query("SELECT PatientName FROM patients").to_pylist() == [{"PatientName": f"NAME{n}"}]
        assert reader.head() == writer.head()
        if n == 1:
            writer.maintain(grace=0)
            assert reader.head().digest == writer.head().digest
    assert everything(catalog) == everything(other)


def test_settled_rows_change_like_new_ones(catalog: Catalog) -> None:
    one, two, pack_id = new_id(), new_id(), new_id()
    changes = [patient(one, "ONE"), patient(two, "TWO"), *pack(one, 25, pack_id), *pack(two, 3)]
    catalog.commit(changes)
    catalog.maintain(grace=0)
    head = catalog.head()
    assert catalog.commit(changes) == head
    catalog.commit([Change("patients", rows(subject_id=[one], merged_into=[two]))])
    superseded = rows(instance_id=[f"{pack_id[:28]}{0:04x}"], superseded=[True])
    catalog.commit([Change("instances", superseded)])
    catalog.commit([Change("frames", rows(subject_id=[two]), "delete")])
    assert catalog.query("SELECT PatientName, merged_into FROM patients ORDER BY 1").to_pylist() == [
        {"PatientName": "ONE", "merged_into": two},
        {"PatientName": "TWO", "merged_into": None},
    ]
    assert catalog.query("SELECT count(*) AS n, count(pack_id) AS packs FROM instances").to_pylist() == [
        {"n": 28, "packs": 28}
    ]
    assert catalog.query("SELECT count(*) AS n FROM instances WHERE superseded").to_pylist() == [{"n": 1}]
    before = everything(catalog)
    assert len(before["frames"]) == 25
    catalog.maintain(grace=0)
    assert everything(catalog) == before


def test_rows_that_were_deleted_may_come_again(catalog: Catalog) -> None:
    subject, pack_id = new_id(), new_id()
    catalog.commit([patient(subject), *pack(subject, 3, pack_id)])
    tables = ("patients", "studies", "series", "packs", "instances", "stacks", "frames")
    for settle in (False, True):
        if settle:
            catalog.maintain(grace=0)
        before = everything(catalog)
        by = {table: "pack_id" if table == "stacks" else "subject_id" for table in tables}
        catalog.commit(
            [Change(t, rows(**{by[t]: [pack_id if t == "stacks" else subject]}), "delete") for t in tables]
        )
        assert not any(everything(catalog).values())
        catalog.commit([patient(subject), *pack(subject, 3, pack_id)])
        assert everything(catalog) == before


def test_values_of_every_type_and_none(catalog: Catalog) -> None:
    catalog.commit(
        [
            Change("patients", rows(subject_id=["a"], PatientBirthDate=["1970-01-31"], provisional=["true"])),
            Change("instances", rows(instance_id=["i"], pack_id=["p"], version=["7"], length=[1 << 40])),
        ]
    )
    catalog.commit([Change("patients", rows(subject_id=["a"], provisional=[None]))])
    found = catalog.query("SELECT PatientBirthDate, provisional, PatientName FROM patients")
    assert str(found.to_pylist()[0]["PatientBirthDate"]) == "1970-01-31"
    assert found["provisional"].to_pylist() == found["PatientName"].to_pylist() == [None]
    assert catalog.query("SELECT version, length FROM instances").to_pylist() == [
        {"version": 7, "length": 1 << 40}
    ]
    head = catalog.head()
    with pytest.raises(CatalogError):
        catalog.commit([Change("patients", rows(subject_id=["a"], PatientBirthDate=["no date"]))])
    assert catalog.head() == head


def test_a_new_tag_becomes_a_column(catalog: Catalog, opening: Opening) -> None:
    catalog.commit([patient("a" * 32)])
    catalog.close()
    wider = opening({**TYPED, "patients": {**TYPED["patients"], "PatientSex": "VARCHAR"}})
    before = wider.head().digest
    with wider.lease():
        pass
    assert wider.head().digest == before
    wider.commit([Change("patients", rows(subject_id=["c" * 32], PatientSex=["F"]))])
    sexes = "SELECT PatientSex FROM patients ORDER BY subject_id"
    assert wider.query(sexes)["PatientSex"].to_pylist() == [None, "F"]
    wider.maintain(grace=0)
    assert wider.query(sexes)["PatientSex"].to_pylist() == [None, "F"]


def test_a_read_only_catalog_reads_and_refuses_writes(catalog: Catalog, opening: Opening) -> None:
    catalog.commit([patient(new_id())])
    reader = opening(read_only=True)
    assert count(reader, "patients") == 1
    for write in (lambda: reader.commit([patient(new_id())]), reader.maintain, reader.rebuild):
        with pytest.raises(NoPermission):
            write()


def test_a_catalog_does_not_pickle(catalog: Catalog) -> None:
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(catalog)


def test_maintenance_and_rebuild_keep_rows_and_digest(
    catalog: Catalog, opening: Opening, keys: MemoryKeys
) -> None:
    subject, reader = new_id(), opening(read_only=True)
    for _ in range(3):
        catalog.commit([patient(subject), *pack(subject, 30)])
    before, head = everything(catalog), catalog.head()
    assert everything(reader) == before
    report = catalog.maintain(grace=0)
    assert everything(catalog) == everything(reader) == before
    assert catalog.head().digest == head.digest
    rebuilt = catalog.rebuild()
    assert rebuilt.dead_keys
    keys.destroy(report.dead_keys + rebuilt.dead_keys)
    assert everything(catalog) == everything(reader) == everything(opening()) == before
    assert catalog.head().digest == head.digest
    catalog.commit([patient(new_id())])
    assert count(reader, "patients") == 2


def test_a_users_session_shows_the_last_commit_and_stays_closed(catalog: Catalog) -> None:
    subject = new_id()
    catalog.commit([patient(subject, "FIRST"), *pack(subject, 30)])
    catalog.maintain(grace=0)
    catalog.commit([patient(subject, "SECOND"), *pack(subject, 5)])
    extra = {"audit": rows(n=[1, 2])}
    with catalog.user_session(extra=extra) as session:
        assert session.info == catalog.head()
        assert session.sql("SELECT PatientName FROM patients").fetchall() == [("SECOND",)]
        assert session.sql("SELECT count(*), count(header) FROM instances").fetchall() == [(35, 35)]
        assert session.sql("SELECT count(*) FROM audit").fetchall() == [(2,)]
        for refused in ("DELETE FROM patients", "SELECT * FROM read_text('/etc/hostname')", "ATTACH 'x.db'"):
            with pytest.raises(QueryError):
                session.sql(refused)
    allowed = {"patients": "SELECT subject_id FROM patients"}
    with catalog.user_session(allowed) as session:
        assert session.sql("SELECT * FROM patients").fetchall() == [(subject,)]
        with pytest.raises(QueryError):
            session.sql("SELECT * FROM instances")
