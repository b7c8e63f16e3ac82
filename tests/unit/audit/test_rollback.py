"""An older copy is noticed by who saw a newer one, until the restore is accepted on record."""

from __future__ import annotations

from pathlib import Path

import pytest
from few_keys import FewKeys

from voxelvault.audit.events import Event, Kind
from voxelvault.audit.log import AuditLog
from voxelvault.audit.rollback import accept_restore, check_pin, remember
from voxelvault.config import Pins
from voxelvault.errors import AuditError, RollbackDetected
from voxelvault.storage.objects import MemoryObjects

EVENTS = [Event(kind=Kind.VAULT_OPENED, who="alice")]


@pytest.fixture
def pins(tmp_path: Path) -> Pins:
    return Pins(tmp_path)


def put_back(objects: MemoryObjects, old: dict[str, bytes]) -> None:
    for info in list(objects.list("audit/")):
        objects.delete(info.name)
    for name, data in old.items():
        objects.replace(name, data)


def saved(objects: MemoryObjects) -> dict[str, bytes]:
    return {info.name: objects.get(info.name) for info in objects.list("audit/")}


def test_a_vault_that_only_grows_opens(pins: Pins, log: AuditLog, keys: FewKeys) -> None:
    for number in (1, 1, 2):
        check_pin(pins, keys.vault_id, log, number)
        log.append(EVENTS)
    pin = remember(pins, keys.vault_id, log, 2)
    assert pins.load(keys.vault_id) == pin
    assert (pin.size, pin.record_number, pin.checkpoint) == (3, 2, log.checkpoint())


def test_an_older_log_is_noticed_and_a_restore_is_an_entry(
    pins: Pins, log: AuditLog, objects: MemoryObjects, keys: FewKeys
) -> None:
    log.append(EVENTS)
    old = saved(objects)
    log.append(EVENTS * 2)
    check_pin(pins, keys.vault_id, log, 5)
    put_back(objects, old)
    log = AuditLog.open(objects, keys)
    with pytest.raises(RollbackDetected, match="--accept-restore"):
        check_pin(pins, keys.vault_id, log, 5)
    with pytest.raises(RollbackDetected):  # noticing it once changes nothing
        check_pin(pins, keys.vault_id, log, 5)

    pin = accept_restore(pins, keys.vault_id, log, 4, who="alice", reason="the disk died")
    *_, entry = log.entries()
    assert entry.kind == Kind.RESTORE_ACCEPTED
    assert entry.counts == {
        "pinned_size": 3,
        "found_size": 1,
        "pinned_record_number": 5,
        "found_record_number": 4,
    }
    assert log.text_of(entry) == "the disk died"
    assert (pin.size, pin.record_number) == (2, 4)
    check_pin(pins, keys.vault_id, log, 4)


def test_a_rewritten_log_is_noticed(pins: Pins, log: AuditLog, objects: MemoryObjects, keys: FewKeys) -> None:
    old = saved(objects)
    log.append(EVENTS * 3)
    check_pin(pins, keys.vault_id, log, 1)
    put_back(objects, old)
    log = AuditLog.open(objects, keys)
    log.append(EVENTS * 5)
    with pytest.raises(RollbackDetected, match="rewritten"):
        check_pin(pins, keys.vault_id, log, 1)


def test_older_keys_are_noticed(pins: Pins, log: AuditLog, keys: FewKeys) -> None:
    check_pin(pins, keys.vault_id, log, 7)
    with pytest.raises(RollbackDetected, match="vault record 6 was found and 7"):
        check_pin(pins, keys.vault_id, log, 6)


def test_a_checkpoint_given_by_hand_counts_without_a_pin(
    pins: Pins, log: AuditLog, objects: MemoryObjects, keys: FewKeys
) -> None:
    old = saved(objects)
    log.append(EVENTS)
    kept = log.checkpoint()
    check_pin(pins, keys.vault_id, log, 1, given=kept)
    put_back(objects, old)
    with pytest.raises(RollbackDetected):
        check_pin(Pins(Path("/nowhere")), keys.vault_id, AuditLog.open(objects, keys), 1, given=kept)


def test_a_restore_that_cant_be_logged_is_not_accepted(
    pins: Pins, log: AuditLog, keys: FewKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append(EVENTS)
    pin = remember(pins, keys.vault_id, log, 3)

    def fail(*_: object) -> None:
        raise AuditError("no")

    monkeypatch.setattr(AuditLog, "append", fail)
    with pytest.raises(AuditError):
        accept_restore(pins, keys.vault_id, log, 2, who="alice")
    assert pins.load(keys.vault_id) == pin


def test_a_restore_of_a_vault_never_seen(pins: Pins, log: AuditLog, keys: FewKeys) -> None:
    accept_restore(pins, keys.vault_id, log, 2, who="alice")
    pin = pins.load(keys.vault_id)
    assert pin is not None
    assert pin.size == 1
