"""The log as its users meet it: append, read, prove, verify, and what tampering does."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from few_keys import FewKeys

from voxelvault.audit.checkpoint import NoteKey
from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.audit.log import AuditLog
from voxelvault.audit.proof import verify_growth, verify_proof
from voxelvault.audit.shelf import CHECKPOINT
from voxelvault.crypto.key_tree import Role
from voxelvault.errors import (
    AuditError,
    ForkedProcess,
    IntegrityError,
    NoSpace,
    RollbackDetected,
    UsageError,
    VoxelVaultError,
)
from voxelvault.model import Buffer, ObjectStore
from voxelvault.storage.objects import LocalObjects, MemoryObjects


def opened(count: int) -> list[Event]:
    return [Event(kind=Kind.VAULT_OPENED, who="alice", counts={"record_number": i}) for i in range(count)]


def names(objects: ObjectStore, prefix: str = "audit/") -> set[str]:
    return {info.name for info in objects.list(prefix)}


def numbers(log: AuditLog, start: int = 0, stop: int | None = None) -> list[int]:
    return [entry.counts["record_number"] for entry in log.entries(start, stop)]


def root(log: AuditLog) -> str:
    return log.verify().root


def no_more(name: str, data: Buffer, expected: str | None) -> str:
    raise NoSpace("the disk is full")


def change(objects: MemoryObjects, name: str, at: int = -1) -> None:
    data = bytearray(objects.get(name))
    data[at] ^= 1
    objects.replace(name, data)


def test_entries_come_back_in_order(log: AuditLog, objects: MemoryObjects, keys: FewKeys) -> None:
    assert log.append(opened(3)) == range(3)
    assert log.append(opened(2)) == range(3, 5)
    assert log.append([]) == range(0)
    assert numbers(log) == [0, 1, 2, 0, 1]
    again = AuditLog.open(objects, keys)
    assert again.size == 5
    assert numbers(again, 1, 4) == [1, 2, 0]
    assert numbers(again, 4, 99) == [1]
    assert numbers(again, 7) == []


@pytest.mark.parametrize("batch", [1, 7, 255, 256, 257, 600])
def test_any_batches_make_one_log(batch: int, log: AuditLog, objects: MemoryObjects, keys: FewKeys) -> None:
    total = 0
    while total < 520:
        total = log.append(opened(batch)).stop
    assert numbers(AuditLog.open(objects, keys)) == [i % batch for i in range(total)]
    report = AuditLog.open(objects, keys).verify()
    assert report.size == total
    assert numbers(log, 250, 260) == [i % batch for i in range(250, 260)]


def test_what_is_superseded_goes_and_what_a_checkpoint_needs_stays(
    log: AuditLog, objects: MemoryObjects
) -> None:
    for _ in range(3):
        log.append(opened(1))
    assert names(objects) == {CHECKPOINT, f"audit/edge/{root(log)}"}
    log.append(opened(300))
    assert names(objects) == {
        CHECKPOINT,
        f"audit/edge/{root(log)}",
        "audit/entries/000",
        "audit/tile/0/000",
    }


def test_what_killed_appends_left_is_swept(log: AuditLog, objects: MemoryObjects, keys: FewKeys) -> None:
    log.append(opened(10))
    swap = objects.swap
    objects.swap = no_more  # type: ignore[method-assign]
    with pytest.raises(AuditError):
        log.append(opened(300))
    objects.swap = swap  # type: ignore[method-assign]
    log.append(opened(1))
    assert len(names(objects)) == 4
    assert log.sweep_attempts(before=0.0) == 0
    assert log.sweep_attempts(before=float("inf")) == 2
    assert names(objects) == {CHECKPOINT, f"audit/edge/{root(log)}"}
    assert log.verify().size == 11


def test_no_object_holds_a_word_of_an_entry(log: AuditLog, objects: MemoryObjects) -> None:
    log.append([Event(kind=Kind.QUERY, who="planted-who", purpose="planted-purpose", text="planted text")])
    for name in names(objects):
        data = objects.get(name)
        assert b"planted" not in data
        assert name == CHECKPOINT or b"query" not in data


def test_a_second_log_in_the_same_place_is_refused(
    log: AuditLog, objects: MemoryObjects, keys: FewKeys
) -> None:
    log.append(opened(1))
    with pytest.raises(AuditError, match="already"):
        AuditLog.create(objects, keys)


def test_an_empty_log(log: AuditLog, objects: MemoryObjects, keys: FewKeys) -> None:
    assert list(AuditLog.open(objects, keys).entries()) == []
    assert log.verify().size == 0
    with pytest.raises(UsageError):
        log.prove(0)


def test_two_logs_on_one_store_take_turns(log: AuditLog, objects: MemoryObjects, keys: FewKeys) -> None:
    other = AuditLog.open(objects, keys)
    for i in range(20):
        assert (log, other)[i % 2].append(opened(40)).start == 40 * i
    assert log.verify() == other.verify()


def test_two_processes_take_turns(tmp_path: Path, keys: FewKeys) -> None:
    objects = LocalObjects(tmp_path, durable=False)
    log = AuditLog.create(objects, keys)
    children = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            try:
                own = AuditLog.open(objects, keys)
                for _ in range(30):
                    own.append(opened(3))
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    for _ in range(30):
        log.append(opened(3))
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
    assert log.verify().size == 270


def test_a_forked_child_may_not_append(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(ForkedProcess):
        log.append(opened(1))


def test_new_keys_seal_and_old_ones_still_open(log: AuditLog, keys: FewKeys) -> None:
    log.append(opened(2))
    keys.new_key(Role.LOG)
    log.append(opened(300))
    assert log.verify().size == 302


# Proofs


def test_a_proof_needs_nothing_but_the_public_key(log: AuditLog) -> None:
    log.append(opened(700))
    key = NoteKey.parse(str(log.key))
    for index in (0, 255, 256, 699):
        proof = json.loads(json.dumps(log.prove(index)))
        entry = verify_proof(proof, key)
        assert (entry.index, entry.counts["record_number"]) == (index, index)


@pytest.mark.parametrize("part", ["leaf", "index", "hashes", "checkpoint"])
def test_a_changed_proof_is_refused(log: AuditLog, part: str) -> None:
    log.append(opened(5))
    proof, other = log.prove(2), log.prove(3)
    log.append(opened(1))
    other["checkpoint"] = log.checkpoint()
    with pytest.raises(IntegrityError):
        verify_proof({**proof, part: other[part]}, log.key)
    with pytest.raises(IntegrityError, match="not a proof"):
        verify_proof({**proof, part: None} if part != "checkpoint" else {}, log.key)


def test_growth_is_proved_to_who_kept_a_checkpoint(log: AuditLog) -> None:
    log.append(opened(300))
    kept = log.checkpoint()
    log.append(opened(300))
    newer = verify_growth(log.consistency(300), kept, log.key)
    assert newer.size == 600
    with pytest.raises(IntegrityError):
        verify_growth({**log.consistency(300), "hashes": log.consistency(299)["hashes"]}, kept, log.key)
    with pytest.raises(IntegrityError, match="not a proof"):
        verify_growth({}, kept, log.key)


# Verification


def test_verify_says_what_it_proved(log: AuditLog) -> None:
    log.append(opened(300))
    kept = log.checkpoint()
    log.append(opened(10))
    report = log.verify()
    assert (report.size, report.against, report.checkpoint) == (310, None, log.checkpoint())
    assert "nothing older was given" in str(report)
    report = log.verify(kept)
    assert report.against == 300
    assert "begin with the 300 entries" in str(report)
    assert "no witness" in str(report)


def test_every_changed_byte_of_every_object_is_noticed(
    log: AuditLog, objects: MemoryObjects, keys: FewKeys
) -> None:
    log.append(opened(600))
    for name in names(objects):
        whole = objects.get(name)
        for at in (0, len(whole) // 2, len(whole) - 1):
            change(objects, name, at)
            with pytest.raises(VoxelVaultError):
                AuditLog.open(objects, keys).verify()
            objects.replace(name, whole)
    assert AuditLog.open(objects, keys).verify().size == 600


def test_every_missing_object_is_noticed(log: AuditLog, objects: MemoryObjects, keys: FewKeys) -> None:
    log.append(opened(600))
    for name in names(objects):
        whole = objects.get(name)
        objects.delete(name)
        with pytest.raises(IntegrityError, match="missing"):
            AuditLog.open(objects, keys).verify()
        objects.replace(name, whole)


def test_swapped_bundles_are_noticed(log: AuditLog, objects: MemoryObjects) -> None:
    log.append(opened(512))
    first, second = "audit/entries/000", "audit/entries/001"
    a, b = objects.get(first), objects.get(second)
    objects.replace(first, b)
    objects.replace(second, a)
    with pytest.raises(IntegrityError, match="bundle 0"):
        next(log.entries())
    with pytest.raises(IntegrityError, match="bundle 1"):
        log.prove(300)


def test_an_object_under_a_key_that_is_not_the_logs_is_refused(
    log: AuditLog, objects: MemoryObjects, keys: FewKeys
) -> None:
    log.append(opened(2))
    keys.by_role[Role.CATALOG] += keys.by_role[Role.LOG]
    keys.by_role[Role.LOG] = []
    with pytest.raises(IntegrityError, match="not the log's"):
        next(log.entries())


def test_an_older_copy_put_back_is_noticed_by_who_saw_more(
    log: AuditLog, objects: MemoryObjects, keys: FewKeys
) -> None:
    log.append(opened(3))
    old = {name: objects.get(name) for name in names(objects)}
    log.append(opened(1))
    kept = log.checkpoint()
    for name in names(objects):
        objects.delete(name)
    for name, data in old.items():
        objects.replace(name, data)
    with pytest.raises(AuditError, match="older copy"):
        log.append(opened(1))
    fresh = AuditLog.open(objects, keys)  # who never saw more can't know
    with pytest.raises(RollbackDetected, match="3 entries and had 4"):
        fresh.verify(kept)
    fresh.append(opened(2))
    with pytest.raises(RollbackDetected, match="rewritten"):
        fresh.verify(kept)
    with pytest.raises(RollbackDetected):
        log.append([]) or log.size


def test_a_checkpoint_of_another_vault_is_refused(log: AuditLog) -> None:
    other = AuditLog.create(MemoryObjects(), FewKeys())
    with pytest.raises(IntegrityError, match="another log"):
        log.verify(other.checkpoint())


# Free text


def test_free_text_is_kept_apart_and_can_be_erased(log: AuditLog, objects: MemoryObjects) -> None:
    log.append([Event(kind=Kind.QUERY, who="a", text=text) for text in ("select 1", "größer", "")])
    entries = list(log.entries())
    assert [log.text_of(entry) for entry in entries] == ["select 1", "größer", ""]
    assert log.verify(texts=True).texts == 3
    log.erase_text(entries[1])
    assert [log.text_of(entry) for entry in entries] == ["select 1", None, ""]
    assert len(names(objects, "audit/text/")) == 2
    assert log.verify(texts=True).texts == 2


def test_a_text_that_is_not_the_entrys_is_refused(log: AuditLog, objects: MemoryObjects) -> None:
    log.append([Event(kind=Kind.QUERY, who="a", text=text) for text in ("one", "two")])
    first, second = names(objects, "audit/text/")
    objects.replace(first, objects.get(second))
    with pytest.raises(IntegrityError):
        log.verify(texts=True)


def test_texts_of_no_entry_are_swept(log: AuditLog, objects: MemoryObjects, keys: FewKeys) -> None:
    log.append([Event(kind=Kind.QUERY, who="a", text="kept")])
    keys.sign = broken  # type: ignore[method-assign]
    with pytest.raises(AuditError):
        log.append([Event(kind=Kind.QUERY, who="a", text="orphan")])
    assert len(names(objects, "audit/text/")) == 2
    assert log.sweep_texts(before=0.0) == 0
    assert log.sweep_texts(before=float("inf")) == 1
    assert log.verify(texts=True).texts == 1


def test_a_text_too_long_is_refused(log: AuditLog) -> None:
    with pytest.raises(UsageError, match="keep it below"):
        log.append([Event(kind=Kind.QUERY, who="a", text="x" * (1 << 20 | 1))])
    assert log.size == 0


def test_an_event_too_long_for_a_bundle_is_refused(log: AuditLog) -> None:
    with pytest.raises(UsageError, match="split"):
        log.append([Event(kind=Kind.HANDLE_OPENED, who="a", ids={"series": ("ab" * 16,) * 2000})])
    assert log.size == 0


def broken(message: bytes) -> bytes:
    raise RuntimeError("planted detail")


def test_an_append_that_fails_says_so_and_no_more(log: AuditLog, keys: FewKeys) -> None:
    log.append(opened(1))
    sign, keys.sign = keys.sign, broken  # type: ignore[method-assign]
    with pytest.raises(AuditError, match=r"nothing was done: RuntimeError$"):
        log.append(opened(1))
    keys.sign = sign  # type: ignore[method-assign]
    assert log.append(opened(1)) == range(1, 2)


def test_a_full_disk_fails_closed(
    log: AuditLog, objects: MemoryObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise NoSpace("the disk is full: free some space")

    monkeypatch.setattr(MemoryObjects, "replace", full)
    with pytest.raises(AuditError, match="disk is full"):
        log.append(opened(1))
    monkeypatch.setattr(MemoryObjects, "put", full)
    with pytest.raises(AuditError, match="disk is full"):
        log.append([Event(kind=Kind.QUERY, who="a", text="x")])


def test_intent_and_outcome_share_an_action(log: AuditLog) -> None:
    intent = Event(kind=Kind.INGEST, who="a", outcome=Outcome.INTENT)
    log.append([intent])
    log.append([Event(kind=Kind.INGEST, who="a", action=intent.action, counts={"instances": 1})])
    first, second = log.entries()
    assert first.action == second.action
    assert re.fullmatch("[0-9a-f]{32}", first.action)
