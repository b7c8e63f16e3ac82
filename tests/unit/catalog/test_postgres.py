"""The server's side: locks, addresses, entries bound to their place, settling."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from catalog_support import TYPED, MemoryKeys, pack, patient, rows
from postgres_support import Cluster
from voxelvault.catalog import history
from voxelvault.catalog import postgres as module
from voxelvault.catalog.catalog import Change
from voxelvault.catalog.postgres import PostgresCatalog
from voxelvault.catalog.postgres_locks import PostgresLocks
from voxelvault.catalog.postgres_server import PostgresServer, checked_url
from voxelvault.catalog.sealed_entries import Entry, open_entry, seal_entry
from voxelvault.crypto.key_tree import Role
from voxelvault.errors import (
    CatalogError,
    IntegrityError,
    KeyUnavailable,
    LockTimeout,
    NoPermission,
    RollbackDetected,
    StorageError,
    UsageError,
)
from voxelvault.model import new_id
from voxelvault.storage import objects as local_objects
from voxelvault.storage.objects import LocalObjects
from voxelvault.storage.shared_folder import SharedFolder
from voxelvault.testing.object_store_contract import LockContract, ObjectStoreContract

VAULT = "0f" * 16


@pytest.fixture
def url(postgres: Cluster) -> str:
    return postgres.make_database(f"unit_{secrets.token_hex(4)}")


@pytest.fixture
def shared(url: str, objects: LocalObjects, keys: MemoryKeys) -> Iterator[PostgresCatalog]:
    made = PostgresCatalog.create(PostgresServer(url), objects, keys, TYPED)
    yield made
    made.close()


class TestSharedFolder(LockContract, ObjectStoreContract):
    """A folder whose locks are a server's keeps the contract of every object store."""

    @pytest.fixture
    def objects(self, tmp_path: Path, postgres: Cluster) -> SharedFolder:
        return SharedFolder(tmp_path / "store", PostgresLocks(PostgresServer(postgres.url()), new_id()))


@pytest.mark.parametrize(
    "good",
    [
        "postgresql://host/db",
        "postgresql://me@host:5433/db?sslmode=verify-full",
        "postgresql:///db?host=/var/run/postgresql",
        "postgresql://one,two/db",
    ],
)
def test_an_address_may_say_who_and_how(good: str) -> None:
    assert checked_url(good) == good


@pytest.mark.parametrize(
    "bad",
    ["embedded", "postgresql://host", "postgresql://host:x/db", "postgresql://h/d b", "postgresql://h/d\n"],
)
def test_other_addresses_are_refused(bad: str) -> None:
    with pytest.raises(UsageError, match="embedded"):
        checked_url(bad)


@pytest.mark.parametrize(
    "secret", ["postgresql://me:pw@h/d", "postgresql://h/d?password=pw", "postgresql://h/d?sslpassword=pw"]
)
def test_a_password_is_refused_with_where_it_goes(secret: str) -> None:
    with pytest.raises(UsageError, match="PGPASSWORD"):
        checked_url(secret)


def test_a_lock_keeps_others_out_and_other_vaults_in(postgres: Cluster) -> None:
    mine, theirs = (PostgresLocks(PostgresServer(postgres.url()), VAULT) for _ in range(2))
    other = PostgresLocks(PostgresServer(postgres.url()), new_id())
    with mine.lock("log", 1):
        for one in (mine, theirs):
            with pytest.raises(LockTimeout, match="log lock for"), one.lock("log", 0.05):
                pass
        with theirs.lock("keys", 1), other.lock("log", 1):
            pass
    with theirs.lock("log", 1):
        pass


HOLDER = """
import sys, time
from voxelvault.catalog.postgres_locks import PostgresLocks
from voxelvault.catalog.postgres_server import PostgresServer
with PostgresLocks(PostgresServer(sys.argv[1]), sys.argv[2]).lock("log", 5):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_holder_blocks_nobody(postgres: Cluster) -> None:
    locks = PostgresLocks(PostgresServer(postgres.url()), VAULT)
    command = [sys.executable, "-c", HOLDER, postgres.url(), VAULT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockTimeout), locks.lock("log", 0.1):
            pass
        holder.kill()
        with locks.lock("log", 10):
            pass


def test_a_lock_lost_meanwhile_is_not_reported_as_held(postgres: Cluster) -> None:
    locks = PostgresLocks(PostgresServer(postgres.url()), VAULT)
    end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
    held = locks.lock("log", 5)
    held.__enter__()
    postgres.sql(end)
    with pytest.raises((CatalogError, StorageError)):
        held.__exit__(None, None, None)
    with locks.lock("log", 5):
        pass


def test_a_lock_that_can_t_be_given_back_goes_with_its_connection(postgres: Cluster) -> None:
    locks, other = (PostgresLocks(PostgresServer(postgres.url()), VAULT) for _ in range(2))
    with locks.held("log", 1) as connection:
        connection.execute("BEGIN")
        with suppress(psycopg.Error):
            connection.execute("SELECT 1 / 0")
    with other.lock("log", 2):
        pass


def test_a_line_that_is_dead_is_given_up_by_both_ends(postgres: Cluster) -> None:
    with PostgresServer(postgres.url()).connection() as connection:
        shown = connection.execute("SHOW tcp_user_timeout").fetchone()
    assert shown in (("30s",), ("30000",))


def test_a_base_says_itself_which_entries_are_in_it(
    shared: PostgresCatalog, url: str, postgres: Cluster, objects: LocalObjects, keys: MemoryKeys
) -> None:
    """An older state under a newer number would pass for the newest that the log knows of."""
    shared.commit([patient(new_id())])
    shared.maintain(grace=0)
    shared.commit([patient(new_id())])
    schema = f"voxelvault_{keys.vault_id}"
    postgres.sql(f"TRUNCATE {schema}.entries; UPDATE {schema}.base SET seq = seq + 1", url.rpartition("/")[2])
    with pytest.raises(IntegrityError, match="newest backup"):
        PostgresCatalog.open(PostgresServer(url), objects, keys, TYPED)


def test_a_backup_at_work_holds_nobody_up(
    shared: PostgresCatalog, url: str, keys: MemoryKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_READERS_WAIT", 200)
    monkeypatch.setattr(module, "SETTLE_ENTRIES", 2)
    with psycopg.connect(url) as backup:
        # As pg_dump does for as long as it runs.
        backup.execute(f"LOCK TABLE voxelvault_{keys.vault_id}.entries IN ACCESS SHARE MODE")
        began = time.monotonic()
        for _ in range(3):
            shared.commit([patient(new_id())])
        with pytest.raises(LockTimeout, match="backup"):
            shared.maintain()
        assert len(shared.query("FROM patients")) == 3
        assert time.monotonic() - began < 20
    shared.maintain()
    assert len(shared.query("FROM patients")) == 3


def test_a_sleeper_whose_lock_is_another_s_sweeps_nothing(
    shared: PostgresCatalog,
    url: str,
    postgres: Cluster,
    objects: LocalObjects,
    keys: MemoryKeys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = PostgresCatalog.open(PostgresServer(url), objects, keys, TYPED)
    end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
    subject, listed = new_id(), type(objects).list

    def slept(store: LocalObjects, prefix: str) -> object:
        monkeypatch.setattr(type(objects), "list", listed)
        postgres.sql(end)
        other.commit([patient(subject), *pack(subject, 2)])
        other.maintain()
        return listed(store, prefix)

    monkeypatch.setattr(type(objects), "list", slept)
    with pytest.raises(StorageError):
        shared.maintain(grace=0)
    assert len(other.query("FROM instances")) == 2
    other.close()
    again = PostgresCatalog.open(PostgresServer(url), objects, keys, TYPED)
    assert len(again.query("FROM instances")) == 2
    again.close()


def test_threads_ask_one_replica_at_once(shared: PostgresCatalog) -> None:
    """The last waiting cursor is taken by one of two that saw it."""
    shared.commit([patient(new_id())])
    with shared._follower.present() as replica:

        class Raced(list):  # type: ignore[type-arg]
            def __len__(self) -> int:
                return 1

        replica._idle = Raced()
        with replica.cursor() as cursor:
            assert cursor.execute("SELECT count(*) FROM patients").fetchall() == [(1,)]


def test_a_sleeper_in_a_shared_folder_replaces_nothing_of_another_s(
    tmp_path: Path, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its look at the document and the replacement it sleeps, and its lock is another's."""
    mine, other = (
        SharedFolder(tmp_path / "store", PostgresLocks(PostgresServer(postgres.url()), VAULT))
        for _ in range(2)
    )
    version, sync = mine.swap("audit/checkpoint", b"first", None), local_objects._sync

    def slept(descriptor: int) -> None:
        monkeypatch.setattr(local_objects, "_sync", sync)
        postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        other.swap("audit/checkpoint", b"theirs", version)
        sync(descriptor)

    monkeypatch.setattr(local_objects, "_sync", slept)
    with pytest.raises(StorageError):
        mine.swap("audit/checkpoint", b"mine", version)
    assert mine.get("audit/checkpoint") == b"theirs"
    mine.swap("audit/checkpoint", b"mine", mine.version("audit/checkpoint"))
    assert [info.name for info in mine.list("")] == ["audit/checkpoint"]


def test_a_role_that_may_only_read_reads(
    shared: PostgresCatalog, url: str, postgres: Cluster, objects: LocalObjects, keys: MemoryKeys
) -> None:
    shared.commit([patient(new_id())])
    role, database = f"reader_{secrets.token_hex(4)}", url.rpartition("/")[2]
    schema = f"voxelvault_{keys.vault_id}"
    postgres.sql(
        f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {role}; "
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}",
        database,
    )
    reader = PostgresCatalog.open(PostgresServer(url.replace("vault@", f"{role}@")), objects, keys, TYPED)
    assert len(reader.query("FROM patients")) == 1
    with pytest.raises(NoPermission):
        reader.commit([patient(new_id())])
    assert reader.head() == shared.head()
    reader.close()


def test_an_entry_opens_only_at_its_place(keys: MemoryKeys) -> None:
    key_id = keys.new_key(Role.CATALOG)
    entry = Entry("a" * 64, "b" * 64, [Change("patients", rows(subject_id=["x"]))])
    sealed = seal_entry(keys, key_id, 7, entry)
    back = open_entry(keys, 7, sealed)
    assert (back.previous, back.digest, back.changes[0].rows.to_pylist()) == (
        "a" * 64,
        "b" * 64,
        [{"subject_id": "x"}],
    )
    with pytest.raises(IntegrityError, match="another place"):
        open_entry(keys, 8, sealed)
    with pytest.raises(IntegrityError):
        open_entry(keys, 7, sealed[:-1] + bytes([sealed[-1] ^ 1]))


def test_entries_that_a_server_drops_reorders_or_forgets_are_noticed(
    shared: PostgresCatalog, url: str, postgres: Cluster, objects: LocalObjects, keys: MemoryKeys
) -> None:
    database, entries = url.rpartition("/")[2], f"voxelvault_{keys.vault_id}.entries"
    for _ in range(3):
        shared.commit([patient(new_id())])
    postgres.sql(
        f"CREATE TABLE kept AS SELECT * FROM {entries}; DELETE FROM {entries} WHERE seq = 3", database
    )
    with pytest.raises(RollbackDetected):
        shared.head()
    put_back = f"DELETE FROM {entries}; INSERT INTO {entries} SELECT"
    for columns in ("seq, sealed FROM kept WHERE seq <> 2", "4 - seq, sealed FROM kept"):
        postgres.sql(f"{put_back} {columns}", database)
        with pytest.raises(IntegrityError):
            PostgresCatalog.open(PostgresServer(url), objects, keys, TYPED)
    postgres.sql(f"{put_back} * FROM kept", database)
    assert len(shared.query("FROM patients")) == 3


def test_entries_settle_by_themselves(
    shared: PostgresCatalog, url: str, postgres: Cluster, keys: MemoryKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLE_ENTRIES", 3)
    subject = new_id()
    for _ in range(4):
        shared.commit([patient(subject), *pack(subject, 2)])
    counted = f"SELECT count(*) FROM voxelvault_{keys.vault_id}.entries"
    assert postgres.sql(counted, url.rpartition("/")[2]).strip() == "1"
    assert len(shared.query("FROM instances")) == 8


def test_what_the_old_key_opened_is_gone_after_a_rebuild(
    shared: PostgresCatalog, url: str, postgres: Cluster, keys: MemoryKeys
) -> None:
    shared.commit([patient("a" * 32, "ERASED"), patient("b" * 32, "STAYS")])
    shared.commit([Change("patients", rows(subject_id=["a" * 32]), "delete")])
    swept, rebuilt = shared.maintain(grace=0), shared.rebuild()
    schema = f"voxelvault_{keys.vault_id}"
    sealed = postgres.sql(
        f"SELECT encode(sealed, 'hex') FROM {schema}.base UNION ALL "
        f"SELECT encode(sealed, 'hex') FROM {schema}.entries",
        url.rpartition("/")[2],
    ).split()
    assert len(sealed) == 1
    assert not any(key_id in text[:200] for text in sealed for key_id in rebuilt.dead_keys)
    keys.destroy(swept.dead_keys + rebuilt.dead_keys)
    assert shared.query("SELECT PatientName FROM patients").to_pylist() == [{"PatientName": "STAYS"}]
    with pytest.raises(KeyUnavailable):
        keys.dek(rebuilt.dead_keys[0])


def test_a_reader_follows_while_a_writer_settles(
    shared: PostgresCatalog,
    url: str,
    objects: LocalObjects,
    keys: MemoryKeys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SETTLE_ENTRIES", 4)
    reader = PostgresCatalog.open(PostgresServer(url), objects, keys, TYPED, read_only=True)
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(len(reader.query("FROM packs")))
            time.sleep(0.01)

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(10):
        shared.commit(pack(new_id(), 1))
    done.set()
    thread.join()
    assert seen == sorted(seen)
    assert len(reader.query("FROM packs")) == 10
    reader.close()


def test_the_tail_takes_what_arrow_refuses_to_cast(shared: PostgresCatalog) -> None:
    odd = pa.table({"instance_id": ["i"], "pack_id": ["p"], "version": [2.5]})
    shared.commit([Change("instances", odd)])
    assert shared.query("SELECT version FROM instances").to_pylist() == [{"version": 2}]
