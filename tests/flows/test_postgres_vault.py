"""A team's vault: its catalog on a PostgreSQL server, which learns nothing and may go at any moment."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from flow_support import counts, exported, person_file, rows, write

import voxelvault as vv
from postgres_support import Cluster, LosingProxy
from s3_servers import Server
from voxelvault.audit.events import Kind
from voxelvault.catalog.catalog import Change
from voxelvault.crypto.keyring import KeyRing, Role
from voxelvault.crypto.ways import Ways
from voxelvault.errors import (
    CatalogError,
    NetworkFileSystem,
    RollbackDetected,
    StorageError,
    UsageError,
    VoxelVaultError,
)
from voxelvault.opening import close_vault, open_vault
from voxelvault.tasks import Step, now, record
from voxelvault.testing.synthetic import uid
from voxelvault.upkeep.rebuilding import rebuild_catalog
from voxelvault.upkeep.removal import delete_instances, delete_study, erase_subject
from voxelvault.upkeep.verify import VerifyOptions, verify
from voxelvault.vault import Vault

NAME, PATIENT, BORN = "Planted^Marker", "PLANTEDID7731", "19370214"
WORDS = (b"Planted^Marker", b"PLANTEDID7731", b"19370214", b"1937-02-14", b"PLANTEDTEXT")


@pytest.fixture
def url(postgres: Cluster) -> str:
    return postgres.make_database(f"vault_{secrets.token_hex(4)}")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    planted = {"PatientName": NAME, "PatientBirthDate": BORN, "StudyDescription": "PLANTEDTEXT"}
    files = [person_file(PATIENT, study=1, instance=n, **planted) for n in range(1, 4)]
    files += [person_file("P2", study=2, instance=n) for n in range(1, 4)]
    return write(tmp_path / "source", files)


def names(vault: Vault) -> list[str]:
    return sorted(row[0] for row in vault.sql("select PatientName from patients").fetchall())


def patients(vault: Vault, *subjects: str) -> list[Change]:
    rows = pa.table({"subject_id": list(subjects), "PatientName": [f"N{s}" for s in subjects]})
    return [Change("patients", rows)]


def found(data: bytes, words: tuple[bytes, ...]) -> list[bytes]:
    """Return which words are in the bytes: as they are, in hexadecimal, in UTF-16."""
    # Megabytes of sealed bytes, written down in hexadecimal, hold any eight digits by chance.
    text = re.sub(rb"\\x[0-9a-f]{32,}", b"", data)
    return [
        word
        for word in words
        if word in text
        or any(form in data for form in (word.hex().encode(), word.decode().encode("utf-16-le")))
    ]


def test_a_word_is_found_in_each_form_and_not_by_chance() -> None:
    word, sealed = b"19370214", rb"\x" + b"ab" * 40
    assert found(sealed + word + sealed, (word,)) == []
    for form in (word, word.hex().encode(), word.decode().encode("utf-16-le")):
        assert found(b"'" + form + b"' " + sealed, (word,)) == [word]
    assert found(sealed + word.hex().encode(), (word,)) == [word]


def test_a_vault_lives_on_a_server_like_on_a_disk(url: str, source: Path, tmp_path: Path) -> None:
    with vv.create(tmp_path / "vault", catalog=url) as vault:
        assert vault.ingest(source, progress=False).stored == 6
        assert vault.ingest(source, progress=False).stored == 0
    text = (tmp_path / "vault" / "vault.toml").read_text()
    assert f'catalog = "{url}"' in text
    with vv.open(tmp_path / "vault") as vault:
        assert names(vault) == ["Doe^Jo", NAME]
        assert vault.verify(progress=False).ok
        before = exported(vault, tmp_path / "before")
        vault.resources.catalog.maintain(grace=0)
        vault.resources.catalog.rebuild()
        assert exported(vault, tmp_path / "after") == before
        assert len(before) == 6


def test_the_server_learns_no_value(url: str, source: Path, postgres: Cluster, tmp_path: Path) -> None:
    database = url.rpartition("/")[2]
    with vv.create(tmp_path / "vault", catalog=url) as vault:
        vault.ingest(source, progress=False)
        catalog, schema = vault.resources.catalog, f"voxelvault_{vault.resources.settings.vault_id}"
        catalog.maintain(grace=0)
        assert len(vault.sql(f"select * from patients where PatientName = '{NAME}'")) == 1
        subject = catalog.query("select subject_id from patients where PatientID = 'P2'").to_pylist()
        renamed = pa.table({"subject_id": [subject[0]["subject_id"]], "PatientName": ["Planted^Marker^2"]})
        catalog.commit([Change("patients", renamed)])
        # What fails is written down by a server, statement and all.
        postgres.sql(f"ALTER TABLE {schema}.entries ADD CHECK (seq < 0) NOT VALID", database)
        with pytest.raises(CatalogError, match="code 23514"):
            catalog.commit([Change("patients", renamed.rename_columns(["subject_id", "PatientID"]))])
    # The search finds: the same words, planted beside, are in each of the places searched.
    postgres.sql("CREATE TABLE control (name text); INSERT INTO control VALUES ('Control^Word')", database)
    postgres.sql("CHECKPOINT; SELECT pg_switch_wal()", database)
    dump = postgres.dump(database).encode()
    seen: dict[bytes, set[str]] = {}
    for path in (path for path in postgres.folder.rglob("*") if path.is_file()):
        for word in found(path.read_bytes(), (*WORDS, b"Control^Word", b"patients", b"ducklake")):
            seen.setdefault(word, set()).add(path.relative_to(postgres.folder).parts[0:2][-1])
    assert seen.pop(b"Control^Word") == {"base", "pg_wal", "log"}
    assert seen == {}
    assert found(dump, (b"Control^Word",))
    assert not found(dump, (*WORDS, b"patients", b"ducklake"))
    assert b"entries" in dump


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("postgresql://me:secret@host/db", "PGPASSWORD"),
        ("postgresql://host/db?password=secret", "PGPASSWORD"),
        ("postgresql://host", "host"),
        ("mysql://host/db", "embedded"),
        ('postgresql://host/db"\ncodec = "x', "host"),
    ],
)
def test_a_catalogs_address_is_public_and_well_formed(tmp_path: Path, address: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        vv.create(tmp_path / "vault", catalog=address)
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "vault").exists()


def test_no_server_no_vault(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="can't be reached") as caught:
        vv.create(tmp_path / "vault", catalog="postgresql://planted@127.0.0.1:1/db")
    assert "planted" not in str(caught.value)
    assert not (tmp_path / "vault").exists()


@pytest.fixture
def proxy(postgres: Cluster) -> Iterator[LosingProxy]:
    made = LosingProxy(postgres.port)
    yield made
    made.close()


def test_a_commit_whose_answer_is_lost_counts_once(
    url: str, postgres: Cluster, proxy: LosingProxy, tmp_path: Path
) -> None:
    database = url.rpartition("/")[2]
    with vv.create(tmp_path / "vault", catalog=postgres.url(database, proxy.port)) as vault:
        catalog = vault.resources.catalog
        changes = patients(vault, "a" * 32)
        proxy.cut_after = lambda data: b".entries SELECT" in data
        first = catalog.commit(changes)
        assert proxy.cuts == 1
        assert catalog.commit(changes) == first == catalog.head()
        assert len(catalog.query("from patients")) == 1
    with vv.open(tmp_path / "vault") as vault:
        assert vault.resources.catalog.head() == first
        assert vault.verify(progress=False).ok


def test_a_commit_that_never_arrived_counts_never(
    url: str, postgres: Cluster, proxy: LosingProxy, tmp_path: Path
) -> None:
    database = url.rpartition("/")[2]
    with vv.create(tmp_path / "vault", catalog=postgres.url(database, proxy.port)) as vault:
        catalog = vault.resources.catalog
        before = catalog.head()
        proxy.drop = True
        proxy.cut_after = lambda data: b".entries SELECT" in data
        with pytest.raises(StorageError, match="before the commit counted: run again"):
            catalog.commit(patients(vault, "a" * 32))
        assert catalog.head() == before
        assert len(catalog.query("from patients")) == 0
        catalog.commit(patients(vault, "a" * 32))
        assert len(catalog.query("from patients")) == 1


def test_maintenance_whose_answer_is_lost_deletes_nothing_that_counts(
    url: str, source: Path, postgres: Cluster, proxy: LosingProxy, tmp_path: Path
) -> None:
    database = url.rpartition("/")[2]
    with vv.create(tmp_path / "vault", catalog=postgres.url(database, proxy.port)) as vault:
        vault.ingest(source, progress=False)
        catalog = vault.resources.catalog
        before = catalog.query("select * from instances order by all").to_pylist()
        for drop in (False, True):
            proxy.drop = drop
            proxy.cut_after = lambda data: b"COMMIT" in data
            with pytest.raises(StorageError):
                catalog.maintain(grace=0)
            assert catalog.query("select * from instances order by all").to_pylist() == before
        assert proxy.cuts == 2
        catalog.maintain(grace=0)
        assert catalog.query("select * from instances order by all").to_pylist() == before
        assert vault.verify(progress=False).ok


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """A server of this test alone, to be stopped."""
    cluster = Cluster(durable=True)
    yield cluster
    cluster.remove()


def test_a_server_that_goes_and_comes_back(own: Cluster, source: Path, tmp_path: Path) -> None:
    url = own.make_database("team")
    with vv.create(tmp_path / "vault", catalog=url) as vault:
        vault.ingest(source, progress=False)
        catalog = vault.resources.catalog
        own.stop("immediate")
        attempts: tuple[Callable[[], Any], ...] = (
            lambda: vault.sql("select 1"),
            lambda: catalog.commit(patients(vault, "a" * 32)),
            lambda: vv.open(tmp_path / "vault"),
            lambda: vault.ingest(source, progress=False),
        )
        for attempt in attempts:
            with pytest.raises(VoxelVaultError) as caught:
                attempt()
            assert "\n" not in str(caught.value)
            assert "127.0.0.1" not in str(caught.value)
        own.start()
        assert names(vault) == ["Doe^Jo", NAME]
        with catalog.lease() as lease:
            lease.commit(patients(vault, "a" * 32))
            own.stop("immediate")
            own.start()
            with pytest.raises(StorageError):
                lease.commit(patients(vault, "b" * 32))
        catalog.commit(patients(vault, "b" * 32))
        assert len(catalog.query("from patients")) == 4
        vault.verify(repair=True, progress=False)
        assert vault.verify(progress=False).ok


def test_yesterdays_database_put_back_is_noticed(
    url: str, source: Path, postgres: Cluster, tmp_path: Path
) -> None:
    database = url.rpartition("/")[2]
    with vv.create(tmp_path / "vault", catalog=url) as vault:
        vault.ingest(source, progress=False)
    postgres.sql(f"CREATE DATABASE {database}_old TEMPLATE {database}")
    with vv.open(tmp_path / "vault") as vault:
        more = write(tmp_path / "more", [person_file("P3", study=3)])
        vault.ingest(more, progress=False)
    postgres.sql(f"ALTER DATABASE {database} RENAME TO {database}_new")
    postgres.sql(f"ALTER DATABASE {database}_old RENAME TO {database}")
    with pytest.raises(RollbackDetected):
        vv.open(tmp_path / "vault")
    postgres.sql(f"DROP DATABASE {database} WITH (FORCE)")
    with pytest.raises((CatalogError, StorageError)):
        vv.open(tmp_path / "vault")
    postgres.sql(f"ALTER DATABASE {database}_new RENAME TO {database}")
    with vv.open(tmp_path / "vault") as vault:
        assert len(names(vault)) == 3


def test_a_lost_database_is_written_anew_from_packs_and_log(
    url: str, source: Path, postgres: Cluster, tmp_path: Path
) -> None:
    database = url.rpartition("/")[2]
    rows = "select * from instances order by all"
    with vv.create(tmp_path / "vault", catalog=url) as vault:
        vault.ingest(source, progress=False)
        before = vault.resources.catalog.query(rows).to_pylist()
    for emptied in (True, False):
        if emptied:
            postgres.sql(f"DROP DATABASE {database} WITH (FORCE)")
            postgres.sql(f"CREATE DATABASE {database}")
        resources = open_vault(tmp_path / "vault", Ways(), anew=True)
        assert rebuild_catalog(resources).complete
        close_vault(resources)
        with vv.open(tmp_path / "vault") as vault:
            assert vault.resources.catalog.query(rows).to_pylist() == before
            assert vault.ingest(source, progress=False).stored == 0
            assert vault.verify(progress=False).ok


def test_objects_may_lie_in_object_storage(
    url: str, source: Path, s3_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    place = f"{s3_server.place()}/vault"
    with vv.create(place, catalog=url) as vault:
        assert vault.ingest(source, progress=False).stored == 6
    with vv.open(place) as vault:
        assert names(vault) == ["Doe^Jo", NAME]
        assert vault.verify(progress=False).ok


def test_a_network_file_system_may_hold_the_objects_then(
    url: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "voxelvault.storage.mounts._mounts", lambda: ["1 0 0:1 / / rw - nfs4 server:/share rw"]
    )
    with pytest.raises(NetworkFileSystem, match="--catalog"):
        vv.create(tmp_path / "embedded")
    with vv.create(tmp_path / "vault", catalog=url) as vault:
        assert vault.ingest(source, progress=False).stored == 6
    with vv.open(tmp_path / "vault") as vault:
        assert not vault.resources.read_only
        assert vault.verify(progress=False).ok
    # No lock was a file's.
    assert not (tmp_path / "vault" / "locks").exists()


WRITER = """
import sys
import voxelvault as vv
with vv.open(sys.argv[1]) as vault:
    print(vault.ingest(sys.argv[2], progress=False).stored)
"""


def test_writers_on_several_hosts_lose_nothing_and_double_nothing(url: str, tmp_path: Path) -> None:
    """Halves of one series and a person of both, by processes that share the folder and the server."""
    vv.create(tmp_path / "vault", catalog=url).close()
    halves = [
        write(
            tmp_path / f"half{half}",
            [person_file("P1", study=1, instance=n) for n in range(half, 20, 2)]
            + [person_file("P2", study=2, instance=n) for n in range(3)],
        )
        for half in (0, 1)
    ]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "vault"), str(half)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        for half in halves
    ]
    stored = [int(process.communicate()[0]) for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert sum(stored) == 23
    with vv.open(tmp_path / "vault") as vault:
        assert len(names(vault)) == 2
        assert vault.sql("select count(*), count(distinct SOPInstanceUID) from instances").fetchall() == [
            (23, 23)
        ]
        assert vault.verify(progress=False).ok


STEADY = """
import secrets, sys, time
from pathlib import Path
import pyarrow as pa
import voxelvault as vv
from voxelvault.audit.events import Kind
from voxelvault.catalog.catalog import Change
from voxelvault.errors import VoxelVaultError

vault, stop = vv.open(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
subject = secrets.token_hex(16)
while not stop.exists():
    try:
        vault.resources.catalog.commit([Change("patients", pa.table({"subject_id": [subject]}))])
    except VoxelVaultError:
        time.sleep(0.05)
        continue
    print(subject, flush=True)
    subject = secrets.token_hex(16)
"""


@pytest.mark.long
def test_a_server_killed_while_four_write_loses_nothing_acknowledged(own: Cluster, tmp_path: Path) -> None:
    url, stop = own.make_database("team"), tmp_path / "stop"
    vv.create(tmp_path / "vault", catalog=url).close()
    command = [sys.executable, "-c", STEADY, str(tmp_path / "vault"), str(stop)]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for _ in range(12):
        time.sleep(2)
        own.stop("immediate")
        own.start()
    time.sleep(2)
    stop.touch()
    acknowledged = [line for writer in writers for line in writer.communicate()[0].split()]
    assert [writer.returncode for writer in writers] == [0] * 4
    with vv.open(tmp_path / "vault") as vault:
        catalog = vault.resources.catalog
        rows = catalog.query("select subject_id from patients")["subject_id"].to_pylist()
        assert set(acknowledged) <= set(rows)
        assert len(rows) == len(set(rows)) == len(acknowledged)
        catalog.maintain(grace=0)
        assert len(catalog.query("from patients")) == len(rows) > 20


def test_what_is_taken_away_is_gone_and_the_rest_stays(
    url: str, source: Path, postgres: Cluster, tmp_path: Path
) -> None:
    """Instance, study and subject, while another host's process looks on; no present key opens old rows."""
    with vv.create(tmp_path / "vault", catalog=url) as vault, vv.open(tmp_path / "vault") as other:
        same = {"PatientName": NAME, "PatientBirthDate": BORN}
        more = write(tmp_path / "more", [person_file(PATIENT, study=3, **same), person_file("P3", study=4)])
        vault.ingest(source, progress=False)
        vault.ingest(more, progress=False)
        assert len(names(other)) == 3
        keys = set(vault.resources.keys.keys_of(Role.CATALOG))
        listed = rows(vault, "select * from instances order by SOPInstanceUID")
        one = next(row for row in listed if row["SOPInstanceUID"] == uid(1, 1, 1))
        assert delete_instances(vault.resources, [one["instance_id"]]).instances == 1
        assert counts(other, "instances", "studies", "patients") == (7, 4, 3)
        third = next(row for row in listed if row["SOPInstanceUID"] == uid(3, 1, 1))
        assert delete_study(vault.resources, third["study_id"]).instances == 1
        assert counts(other, "instances", "studies", "patients") == (6, 3, 3)
        fourth = next(row for row in listed if row["SOPInstanceUID"] == uid(4, 1, 1))
        assert erase_subject(other.resources, fourth["subject_id"]).instances == 1
        assert counts(vault, "instances", "studies", "patients") == (5, 2, 2)
        for each in (vault, other):
            report = each.verify(progress=False)
            assert report.ok, report.failures
            assert (report.orphans, report.retired) == (0, 0)
            assert len(exported(each, tmp_path / f"out {id(each)}")) == 5
            assert not keys & set(each.resources.keys.keys_of(Role.CATALOG))
        assert vault.ingest(more, progress=False).stored == 2


def test_a_removal_that_died_after_its_commit_is_finished_by_repair(
    url: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with vv.create(tmp_path / "vault", catalog=url) as vault:
        vault.ingest(source, progress=False)
        (study,) = rows(vault, f"select * from studies where StudyInstanceUID = '{uid(2)}'")
        monkeypatch.setattr(KeyRing, "destroy", dies)
        with pytest.raises(KeyboardInterrupt):
            delete_study(vault.resources, study["study_id"])
    monkeypatch.undo()
    with vv.open(tmp_path / "vault") as vault:
        assert study["key_id"] in vault.resources.keys.keys_of(Role.STUDY)
        options = VerifyOptions(quick=True, repair=True, grace=0, readers=0)
        assert verify(vault.resources, options).ok
        assert study["key_id"] not in vault.resources.keys.keys_of(Role.STUDY)
        report = vault.verify(progress=False)
        assert report.ok, report.failures
        assert (report.orphans, report.retired, report.unfinished) == (0, 0, 0)
        assert counts(vault, "instances", "studies", "patients") == (3, 1, 1)


def dies(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_the_worklist_lives_on_a_server_too(url: str, source: Path, tmp_path: Path) -> None:
    def listed(vault: Vault) -> list[dict[str, Any]]:
        return rows(
            vault,
            "select t.*, i.* exclude (state, task_id) from tasks t join reading_items i using (task_id)",
        )

    with vv.create(tmp_path / "vault", catalog=url) as vault:
        vault.ingest(source, progress=False)
        ids = [row["study_id"] for row in rows(vault, "select study_id from studies")]
        for study_id in ids:
            task = {"task_id": secrets.token_hex(16), "study_id": study_id, "scheduled": now(), "attempt": 1}
            item = {"item_id": secrets.token_hex(16), "study_id": study_id, "task_id": task["task_id"]}
            done = {"task_id": task["task_id"], "reasons": ["kernel"], "score": 0.25, "ended": now()}
            steps = [
                Step(Kind.TASK_SCHEDULED, task),
                Step(Kind.READING_LISTED, item),
                Step(Kind.TASK_COMPLETED, done),
            ]
            record(vault.resources, lambda _query, steps=steps: steps)  # type: ignore[misc]
        delete_study(vault.resources, ids[0])
        before = listed(vault)
    assert [(row["state"], row["score"], row["reasons"]) for row in before] == [
        ("COMPLETED", 0.25, ["kernel"])
    ]
    resources = open_vault(tmp_path / "vault", Ways(), anew=True)
    rebuild_catalog(resources)
    close_vault(resources)
    with vv.open(tmp_path / "vault") as vault:
        assert listed(vault) == before
