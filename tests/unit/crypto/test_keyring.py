"""The stories of the key ring: staging, sharing, moving, erasing, rotating, handing over."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from voxelvault.crypto import vault_record
from voxelvault.crypto.hybrid import PrivateKey
from voxelvault.crypto.key_pages import MERGE_AT
from voxelvault.crypto.keyring import KeyRing, Role
from voxelvault.crypto.providers.env import EnvProvider
from voxelvault.crypto.providers.file import FileProvider
from voxelvault.crypto.providers.passphrase import FLOOR_KIB, PassphraseProvider
from voxelvault.crypto.providers.recipient import recipient_slot
from voxelvault.crypto.providers.recovery import RecoveryProvider, new_code
from voxelvault.crypto.streaming_aead import Kind, Opener, Preamble, Sealer
from voxelvault.crypto.vault_record import NewSlot
from voxelvault.errors import (
    ForgedRecord,
    IntegrityError,
    KeyUnavailable,
    RollbackDetected,
    StorageError,
    UsageError,
    VaultExists,
    VoxelVaultError,
    WrongPassphrase,
)
from voxelvault.model import Buffer, new_id
from voxelvault.storage.objects import MemoryObjects

TOML = b"format = 1\n"


class Vault:
    """A vault with nothing but keys/ and objects/, and a key that opens it."""

    def __init__(self, *more: NewSlot) -> None:
        self.objects, self.vault_id, self.key = MemoryObjects(), new_id(), fresh_key()
        self.ring = KeyRing.create(
            self.objects, self.vault_id, TOML, [self.key.slot(), *more], providers=[self.key]
        )

    def open(self, *providers: object, fingerprint: str | None = None) -> KeyRing:
        return open_copy(self, self.objects, *providers, fingerprint=fingerprint)

    def copy(self) -> MemoryObjects:
        """What a thief or a backup has: every object as it is now."""
        taken = MemoryObjects()
        for info in self.objects.list(""):
            taken.put(info.name, [self.objects.get(info.name)])
        return taken


def open_copy(
    vault: Vault, objects: MemoryObjects, *providers: object, fingerprint: str | None = None
) -> KeyRing:
    with_keys = providers or (vault.key,)
    return KeyRing.open(objects, vault.vault_id, TOML, with_keys, fingerprint=fingerprint)  # type: ignore[arg-type]


def fresh_key() -> EnvProvider:
    return EnvProvider({"VOXELVAULT_KEY": PrivateKey.generate().text()})


def subject_and_study(ring: KeyRing) -> tuple[str, str]:
    subject = ring.new_key(Role.SUBJECT)
    return subject, ring.new_key(Role.STUDY, subject)


def pages(vault: Vault) -> list[str]:
    return [info.name for info in vault.objects.list("keys/pages/")]


@pytest.fixture
def vault() -> Vault:
    return Vault()


# Staging and storing


def test_a_new_key_is_usable_at_once_and_after_reopening(vault: Vault) -> None:
    ring = vault.ring
    subject, study = subject_and_study(ring)
    catalog = ring.new_key(Role.CATALOG)
    before = ring.dek(catalog), ring.sub_key(study, "headers"), ring.sub_key(subject, "x")
    digest = ring.commit()
    again = vault.open()
    assert before == (again.dek(catalog), again.sub_key(study, "headers"), again.sub_key(subject, "x"))
    assert len(set(before)) == 3
    assert digest == again.record_digest == ring.record_digest
    assert (again.number, again.generation, again.parent_of(study)) == (2, 1, subject)


def test_nothing_staged_writes_nothing(vault: Vault) -> None:
    before = {info.name: vault.objects.get(info.name) for info in vault.objects.list("")}
    assert vault.ring.commit() == vault.ring.record_digest
    assert before == {info.name: vault.objects.get(info.name) for info in vault.objects.list("")}


def test_what_is_not_committed_is_not_there(vault: Vault) -> None:
    key = vault.ring.new_key(Role.CATALOG)
    with pytest.raises(KeyUnavailable, match=key):
        vault.open().dek(key)


def test_keys_of_a_role_come_oldest_first(vault: Vault) -> None:
    ring, made = vault.ring, []
    for _ in range(3):
        made += [ring.new_key(Role.PARQUET) for _ in range(3)]
        ring.new_key(Role.CATALOG)
        ring.commit()
    made.append(ring.new_key(Role.PARQUET))
    assert ring.keys_of(Role.PARQUET) == made
    assert vault.open().keys_of(Role.PARQUET) == made[:-1]


def test_a_given_key_id_is_taken_once(vault: Vault) -> None:
    key = new_id()
    assert vault.ring.new_key(Role.LOG, key_id=key) == key
    with pytest.raises(UsageError, match="already"):
        vault.ring.new_key(Role.LOG, key_id=key)


def test_no_key_has_two_uses(vault: Vault) -> None:
    ring = vault.ring
    subject, study = subject_and_study(ring)
    catalog = ring.new_key(Role.CATALOG)
    for wrong in (
        lambda: ring.dek(study),
        lambda: ring.dek(subject),
        lambda: ring.sub_key(catalog, "x"),
        lambda: ring.new_key(Role.STUDY, catalog),
        lambda: ring.wrap_dek(catalog, new_id(), os.urandom(32)),
    ):
        with pytest.raises(UsageError):
            wrong()
    assert ring.sub_key(study, "a") != ring.sub_key(study, "b")


def test_an_unknown_parent_is_refused(vault: Vault) -> None:
    with pytest.raises(KeyUnavailable):
        vault.ring.new_key(Role.STUDY, new_id())


def test_many_commits_leave_few_pages(vault: Vault) -> None:
    made = []
    for _ in range(5 * MERGE_AT):
        made.append(vault.ring.new_key(Role.PARQUET))
        vault.ring.commit()
    assert len(pages(vault)) <= MERGE_AT + 3
    again = vault.open()
    assert again.keys_of(Role.PARQUET) == made
    assert [again.dek(key) for key in made] == [vault.ring.dek(key) for key in made]


def test_a_vault_is_created_once(vault: Vault) -> None:
    with pytest.raises(VaultExists):
        KeyRing.create(vault.objects, vault.vault_id, TOML, [fresh_key().slot()])
    vault.open()


def test_a_vault_needs_a_slot() -> None:
    with pytest.raises(UsageError, match="way in"):
        KeyRing.create(MemoryObjects(), new_id(), TOML, [])


class FailingObjects(MemoryObjects):
    """Refuses one kind of write."""

    refuse = ""

    def replace(self, name: str, data: Buffer) -> None:
        if self.refuse == "replace":
            raise StorageError("refused: try again")
        super().replace(name, data)

    def delete(self, name: str) -> None:
        if self.refuse == "delete":
            raise StorageError("refused: try again")
        super().delete(name)


def test_a_failed_commit_leaves_the_vault_as_it_was_and_can_be_repeated() -> None:
    objects, vault_id, key = FailingObjects(), new_id(), fresh_key()
    ring = KeyRing.create(objects, vault_id, TOML, [key.slot()])
    catalog = ring.new_key(Role.CATALOG)
    objects.refuse = "replace"
    with pytest.raises(StorageError):
        ring.commit()
    assert KeyRing.open(objects, vault_id, TOML, [key]).keys_of(Role.CATALOG) == []
    objects.refuse = ""
    ring.commit()
    assert KeyRing.open(objects, vault_id, TOML, [key]).dek(catalog) == ring.dek(catalog)
    assert len(list(objects.list("keys/pages/"))) == 2  # the page of the failed commit was swept


def test_pages_that_could_not_be_swept_go_with_the_next_write() -> None:
    objects, vault_id, key = FailingObjects(), new_id(), fresh_key()
    ring = KeyRing.create(objects, vault_id, TOML, [key.slot()])
    objects.refuse = "delete"
    ring.rotate()
    objects.refuse = ""
    assert ring.generation == 2
    ring.new_key(Role.CATALOG)
    ring.commit()
    assert len(list(objects.list("keys/pages/"))) == 2


# Several processes


def test_two_rings_committing_at_once_lose_nothing(vault: Vault) -> None:
    rings = [vault.open() for _ in range(3)]
    made: list[str] = []
    failed: list[BaseException] = []

    def work(ring: KeyRing) -> None:
        try:
            for _ in range(20):
                made.append(ring.new_key(Role.PARQUET))
                ring.commit()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(ring,)) for ring in rings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    again = vault.open()
    assert sorted(again.keys_of(Role.PARQUET)) == sorted(made)
    assert again.number == 61
    assert all(again.dek(key) for key in made)


def test_a_key_of_another_process_is_found(vault: Vault) -> None:
    other = vault.open()
    key = other.new_key(Role.CATALOG)
    other.commit()
    assert vault.ring.dek(key) == other.dek(key)


def test_readers_survive_merges_of_pages(vault: Vault) -> None:
    """A page vanishes between reading the record and reading the page: the record is read again."""

    class Racing(MemoryObjects):
        race: Callable[[], object] | None = None

        def get(self, name: str) -> bytes:
            race, self.race = (self.race, None) if name.startswith("keys/pages/") else (None, self.race)
            if race:
                race()
            return super().get(name)

    objects, vault_id, key = Racing(), new_id(), fresh_key()
    ring = KeyRing.create(objects, vault_id, TOML, [key.slot()])
    objects.race = ring.rotate
    assert KeyRing.open(objects, vault_id, TOML, [key]).generation == 2


def test_a_rotation_elsewhere_is_followed_with_staged_keys_kept(vault: Vault) -> None:
    ring, other = vault.ring, vault.open()
    _, study = subject_and_study(ring)
    key = ring.sub_key(study, "x")
    other.rotate()
    ring.commit()
    assert ring.generation == 2
    assert vault.open().sub_key(study, "x") == key


def test_a_rotation_elsewhere_without_a_provider_says_so(vault: Vault) -> None:
    ring = KeyRing.create(objects := MemoryObjects(), vault.vault_id, TOML, [vault.key.slot()])
    KeyRing.open(objects, vault.vault_id, TOML, [vault.key]).rotate()
    with pytest.raises(KeyUnavailable, match="env"):
        ring.refresh()


def test_a_staged_key_below_a_subject_destroyed_elsewhere_fails_once(vault: Vault) -> None:
    ring, other = vault.ring, vault.open()
    subject = ring.new_key(Role.SUBJECT)
    ring.commit()
    study, catalog = ring.new_key(Role.STUDY, subject), ring.new_key(Role.CATALOG)
    other.destroy([subject])
    with pytest.raises(KeyUnavailable, match=f"key {study} .* destroyed meanwhile"):
        ring.commit()
    ring.commit()
    assert vault.open().dek(catalog) == ring.dek(catalog)
    with pytest.raises(KeyUnavailable):
        ring.sub_key(study, "x")


def test_a_staged_move_does_not_undo_an_erasure_elsewhere(vault: Vault) -> None:
    ring, other = vault.ring, vault.open()
    _, study = subject_and_study(ring)
    ring.commit()
    ring.reparent(study, ring.new_key(Role.SUBJECT))
    other.destroy([study])
    with pytest.raises(KeyUnavailable, match=f"key {study} .* destroyed meanwhile"):
        ring.commit()
    ring.commit()
    for reader in (ring, vault.open()):
        with pytest.raises(KeyUnavailable):
            reader.sub_key(study, "x")


def test_two_moves_at_once_can_not_make_a_circle(vault: Vault) -> None:
    ring = vault.ring
    first, second = (subject_and_study(ring)[0] for _ in range(2))
    ring.commit()
    other = vault.open()
    ring.reparent(first, second)
    other.reparent(second, first)
    ring.commit()
    with pytest.raises(KeyUnavailable, match="do that step again"):
        other.commit()
    other.commit()
    assert (other.parent_of(first), other.parent_of(second)) == (second, None)


def test_a_lost_page_says_so(vault: Vault) -> None:
    vault.objects.delete(pages(vault)[0])
    with pytest.raises(IntegrityError, match="missing"):
        vault.open()


def test_a_lost_record_says_so(vault: Vault) -> None:
    vault.objects.delete("keys/record.json")
    with pytest.raises(IntegrityError, match="missing"):
        vault.open()


# Packs, moving and erasing


class Pack:
    """One sealed object, its DEK wrapped as its manifest would have it."""

    def __init__(self, vault: Vault, study: str, text: bytes) -> None:
        self.pack_id, dek, self.what = new_id(), os.urandom(32), Preamble(Kind.SHARD, new_id(), study)
        self.wrapped = vault.ring.wrap_dek(study, self.pack_id, dek)
        parts: list[bytes] = []
        sealer = Sealer(dek, self.what, vault.vault_id, lambda view: parts.append(bytes(view)))
        sealer.write(text)
        self.length, _ = sealer.close()
        self.name = f"objects/{self.what.object_id}"
        vault.objects.put(self.name, parts)

    def read(self, ring: KeyRing, objects: MemoryObjects, study: str) -> bytes:
        dek, whole = ring.unwrap_dek(study, self.pack_id, self.wrapped), objects.get(self.name)
        opener = Opener(dek, whole[:88], ring.vault_id, self.length, self.what)
        out = bytearray(opener.size)
        opener.open_range(whole[88:], 0, opener.size, memoryview(out))
        return bytes(out)


def test_a_packs_key_is_bound_to_pack_and_study(vault: Vault) -> None:
    ring, pack, dek = vault.ring, new_id(), os.urandom(32)
    _, study = subject_and_study(ring)
    _, other = subject_and_study(ring)
    wrapped = ring.wrap_dek(study, pack, dek)
    assert ring.unwrap_dek(study, pack, wrapped) == dek
    for wrong in [
        (other, pack, wrapped),
        (study, new_id(), wrapped),
        (study, pack, wrapped[:-2]),
        (study, pack, "z"),
    ]:
        with pytest.raises(IntegrityError):
            ring.unwrap_dek(*wrong)


@pytest.mark.parametrize("role", [Role.SUBJECT, None])
def test_a_moved_study_reads_as_before_and_follows_its_new_parent(vault: Vault, role: Role | None) -> None:
    """A study moves, and when all of a subject's studies have moved, that is a merge."""
    ring = vault.ring
    old, study = subject_and_study(ring)
    new = ring.new_key(role) if role else None
    pack = Pack(vault, study, b"pixels")
    ring.commit()
    objects_before = {i.name: vault.objects.get(i.name) for i in vault.objects.list("objects/")}
    ring.reparent(study, new)
    ring.commit()
    assert objects_before == {i.name: vault.objects.get(i.name) for i in vault.objects.list("objects/")}
    again = vault.open()
    assert again.parent_of(study) == new
    assert pack.read(again, vault.objects, study) == b"pixels"
    assert again.destroy([old]).destroyed == (old,)
    assert pack.read(vault.open(), vault.objects, study) == b"pixels"
    assert vault.open().keys_of(Role.STUDY) == [study]


def test_a_key_can_not_hang_below_itself(vault: Vault) -> None:
    subject, study = subject_and_study(vault.ring)
    for parent in (study, subject):
        with pytest.raises(UsageError, match="below itself"):
            vault.ring.reparent(subject, parent)


def test_destroying_a_subject_destroys_its_studies(vault: Vault) -> None:
    ring = vault.ring
    subject, study = subject_and_study(ring)
    derived = ring.new_key(Role.DERIVED, study)
    _, kept = subject_and_study(ring)
    ring.commit()
    staged = ring.new_key(Role.STUDY, subject)
    report = ring.destroy([subject])
    assert set(report.destroyed) == {subject, study, derived, staged}
    for reader in (ring, vault.open()):
        for key in report.destroyed:
            with pytest.raises(KeyUnavailable, match="destroyed"):
                reader.parent_of(key)
        assert reader.sub_key(kept, "x") == ring.sub_key(kept, "x")


def test_an_erased_study_stays_erased_in_the_vault_and_open_in_an_old_copy(vault: Vault) -> None:
    """The whole of keys/ and objects/ is put back: it behaves as the certificate says."""
    ring, new_key = vault.ring, fresh_key()
    subject, study = subject_and_study(ring)
    erased, kept_study = Pack(vault, study, b"erased"), ring.new_key(Role.STUDY, subject)
    kept = Pack(vault, kept_study, b"kept")
    ring.commit()
    not_rolled = fresh_key()
    ring.add_slot(not_rolled.slot("laptop"))
    old_copy = vault.copy()

    rolled_id = next(slot.slot_id for slot in ring.slots() if slot.label == "")
    report = ring.destroy([study], roll={rolled_id: new_key.slot()})
    assert report.rolled == (rolled_id,)
    assert report.not_rolled == tuple(slot.slot_id for slot in ring.slots() if slot.label == "laptop")

    # The rolled slot's old secret opens the old copy and nothing of the new generation.
    old_ring = open_copy(vault, old_copy, vault.key)
    assert erased.read(old_ring, old_copy, study) == b"erased"
    with pytest.raises(KeyUnavailable):
        vault.open(vault.key)
    # Its new secret opens the new generation, not the old copy.
    ours = vault.open(new_key)
    assert kept.read(ours, vault.objects, kept_study) == b"kept"
    with pytest.raises(KeyUnavailable):
        open_copy(vault, old_copy, new_key)
    # A slot that was not rolled opens both: that is what the certificate lists it for.
    assert erased.read(open_copy(vault, old_copy, not_rolled), old_copy, study) == b"erased"
    assert kept.read(vault.open(not_rolled), vault.objects, kept_study) == b"kept"
    # In the vault itself nothing opens the erased study, not even with an old page put back.
    for name in (info.name for info in old_copy.list("keys/pages/")):
        vault.objects.put(name, [old_copy.get(name)])
    with pytest.raises(KeyUnavailable, match="destroyed"):
        erased.read(vault.open(new_key), vault.objects, study)
    # The whole old keys/ put back under a ring in use is noticed.
    vault.objects.replace("keys/record.json", old_copy.get("keys/record.json"))
    with pytest.raises((RollbackDetected, KeyUnavailable)):
        ours.refresh()


def test_no_page_of_the_old_generation_stays(vault: Vault) -> None:
    _, study = subject_and_study(vault.ring)
    vault.ring.commit()
    before = set(pages(vault))
    vault.ring.destroy([study])
    assert not before & set(pages(vault))


def test_an_old_record_put_back_is_noticed_by_a_ring_in_use(vault: Vault) -> None:
    old = vault.objects.get("keys/record.json")
    vault.ring.new_key(Role.CATALOG)
    vault.ring.commit()
    vault.objects.replace("keys/record.json", old)
    with pytest.raises(RollbackDetected):
        vault.ring.refresh()
    vault.ring.new_key(Role.CATALOG)
    with pytest.raises(RollbackDetected):
        vault.ring.commit()


def test_an_erasure_can_be_run_again(vault: Vault) -> None:
    _, study = subject_and_study(vault.ring)
    vault.ring.commit()
    assert vault.ring.destroy([study]).destroyed == (study,)
    assert vault.ring.destroy([study]).destroyed == ()


def test_the_logs_signing_key_outlives_all(vault: Vault) -> None:
    with pytest.raises(UsageError, match="identity"):
        vault.ring.destroy(vault.ring.keys_of(Role.LOG_SIGNING))
    with pytest.raises(UsageError, match="no slot"):
        vault.ring.destroy([], roll={new_id(): fresh_key().slot()})


def test_rolling_a_study_key_after_an_instance_is_erased(vault: Vault) -> None:
    """The erased pack's DEK stays wrapped under the old key, which is gone; the others are rewrapped."""
    ring = vault.ring
    subject, study = subject_and_study(ring)
    erased, kept = Pack(vault, study, b"erased"), Pack(vault, study, b"kept")
    ring.commit()
    successor = ring.roll(study)
    kept.wrapped = ring.rewrap_dek(kept.pack_id, kept.wrapped, study, successor)
    ring.commit()
    ring.destroy([study])
    again = vault.open()
    assert again.parent_of(successor) == subject
    assert kept.read(again, vault.objects, successor) == b"kept"
    for key in (study, successor):
        with pytest.raises((KeyUnavailable, IntegrityError)):
            erased.read(again, vault.objects, key)


# Slots


def test_rotation_opens_with_passphrase_and_recovery_code_as_before() -> None:
    code, secret = new_code(), "correct horse"
    passphrase = PassphraseProvider(secret)
    vault = Vault(passphrase.slot(memory_kib=FLOOR_KIB), RecoveryProvider(code).slot())
    catalog = vault.ring.new_key(Role.CATALOG)
    vault.ring.commit()
    old_copy, root = vault.copy(), vault.ring._state.tree.root
    vault.ring.rotate()
    assert vault.ring.generation == 2
    assert vault.ring._state.tree.root != root
    for provider in (vault.key, PassphraseProvider(secret), RecoveryProvider(code)):
        assert vault.open(provider).dek(catalog) == vault.ring.dek(catalog)
    with pytest.raises(WrongPassphrase, match="passphrase opens no slot"):
        vault.open(PassphraseProvider("wrong horse"))
    assert open_copy(vault, old_copy).generation == 1


def test_a_strangers_slot_slipped_in_gets_nothing(vault: Vault) -> None:
    """Whoever can write keys/ but has no key adds a slot of theirs and waits for the next rotation."""
    stranger = fresh_key()
    document = vault.objects.get("keys/record.json")
    slot = stranger.slot().seal(os.urandom(32), vault.vault_id, 1)
    theirs = vault_record.build(
        dataclasses.replace(vault.ring._state.record, slots=(*vault.ring.slots(), slot)),
        os.urandom(32),
        vault.ring.sign,  # even if they had the log's key
    )
    vault.objects.replace("keys/record.json", theirs.document)
    with pytest.raises(ForgedRecord):
        vault.ring.rotate()
    with pytest.raises(ForgedRecord):
        vault.open()
    vault.objects.replace("keys/record.json", document)
    vault.ring.rotate()
    assert len(vault.ring.slots()) == 1
    with pytest.raises(KeyUnavailable):
        vault.open(stranger)


def test_slots_are_added_and_removed(vault: Vault) -> None:
    other = fresh_key()
    slot_id = vault.ring.add_slot(other.slot("workstation"))
    assert vault.open(other).generation == 1
    assert [slot.label for slot in vault.ring.slots()] == ["", "workstation"]
    vault.ring.remove_slot(slot_id)
    assert vault.ring.generation == 2
    with pytest.raises(KeyUnavailable):
        vault.open(other)
    vault.open()


def test_the_last_slot_stays(vault: Vault) -> None:
    with pytest.raises(UsageError, match="last slot"):
        vault.ring.remove_slot(vault.ring.slots()[0].slot_id)
    with pytest.raises(UsageError, match="no slot"):
        vault.ring.remove_slot(new_id())


def test_a_new_recovery_code_voids_the_one_before(vault: Vault) -> None:
    first = vault.ring.new_recovery_code()
    vault.open(RecoveryProvider(first))
    second = vault.ring.new_recovery_code()
    vault.open(RecoveryProvider(second))
    with pytest.raises(WrongPassphrase, match="replaced"):
        vault.open(RecoveryProvider(first))
    assert [slot.provider for slot in vault.ring.slots()] == ["env", "recovery"]


def test_a_vault_without_any_fitting_key_says_which_it_has(vault: Vault) -> None:
    with pytest.raises(KeyUnavailable, match="kinds env"):
        vault.open(fresh_key())
    with pytest.raises(KeyUnavailable, match="kinds env"):
        vault.open(PassphraseProvider("x"), EnvProvider({}))


def test_a_vault_handed_over_opens_with_its_fingerprint_only(vault: Vault, tmp_path: Path) -> None:
    theirs = FileProvider(tmp_path / "key")
    theirs.create()
    vault.ring.add_slot(recipient_slot(theirs.recipient_text()))
    with pytest.raises(KeyUnavailable, match="fingerprint"):
        vault.open(theirs)
    with pytest.raises(ForgedRecord, match="fingerprint"):
        vault.open(theirs, fingerprint=Vault().ring.fingerprint)
    with pytest.raises(ForgedRecord, match="fingerprint"):
        vault.open(theirs, fingerprint="something else")
    opened = vault.open(theirs, fingerprint=vault.ring.fingerprint.lower())
    assert opened.log_public_key == vault.ring.log_public_key
    vault.ring.rotate()
    opened.refresh()
    assert opened.generation == 2


def test_a_forged_vault_has_another_fingerprint(vault: Vault) -> None:
    """Somebody builds a vault of their own around the owner's public key."""
    public = vault.ring.slots()[0].public_key
    forged = MemoryObjects()
    KeyRing.create(forged, vault.vault_id, TOML, [NewSlot("env", public)])
    with pytest.raises(ForgedRecord, match="fingerprint"):
        open_copy(vault, forged, fingerprint=vault.ring.fingerprint)


# What must not open


def test_swapped_pages_are_refused(vault: Vault) -> None:
    for _ in range(2):
        vault.ring.new_key(Role.CATALOG)
        vault.ring.commit()
    first, second = (vault.objects.get(name) for name in pages(vault)[1:])
    vault.objects.replace(pages(vault)[1], second)
    vault.objects.replace(pages(vault)[2], first)
    with pytest.raises(IntegrityError, match="changed or swapped"):
        vault.open()


def test_another_vault_toml_is_refused(vault: Vault) -> None:
    with pytest.raises(ForgedRecord, match=r"vault\.toml"):
        KeyRing.open(vault.objects, vault.vault_id, TOML + b" ", [vault.key])
    with pytest.raises(ForgedRecord):
        KeyRing.open(vault.objects, new_id(), TOML, [vault.key])


def test_a_ring_refuses_to_leave_its_process(vault: Vault) -> None:
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(UsageError, match="never leaves its process") as error:
            attempt(vault.ring)
        assert "\n" not in str(error.value)


def test_no_key_shows_itself(vault: Vault) -> None:
    key = vault.ring.dek(vault.ring.new_key(Role.CATALOG))
    shown = repr(vault.ring) + repr(vault.ring._state.tree) + repr(vault.ring.slots())
    for secret in (key, vault.ring._state.tree.root):
        assert repr(secret) not in shown
        assert secret.hex() not in shown


def test_no_key_is_stored_in_clear(vault: Vault) -> None:
    subject, study = subject_and_study(vault.ring)
    catalog = vault.ring.new_key(Role.CATALOG)
    vault.ring.commit()
    tree = vault.ring._state.tree
    stored = b"".join(vault.objects.get(info.name) for info in vault.objects.list(""))
    for secret in [tree.root, *(tree.raw(key) for key in (subject, study, catalog))]:
        assert secret not in stored
        assert secret.hex().encode() not in stored


# The log's key and the settings


def test_the_logs_key_signs_and_outlives_generations(vault: Vault) -> None:
    key, mark = vault.ring.log_public_key, vault.ring.fingerprint
    Ed25519PublicKey.from_public_bytes(key).verify(vault.ring.sign(b"checkpoint"), b"checkpoint")
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(key).verify(vault.ring.sign(b"checkpoint"), b"other")
    vault.ring.rotate()
    again = vault.open()
    assert (again.log_public_key, again.fingerprint) == (key, mark)
    assert again.sign(b"x") == vault.ring.sign(b"x")


def test_settings_are_part_of_the_record(vault: Vault) -> None:
    vault.ring.change_settings({"read_only_log": "side"})
    vault.ring.change_settings({"other": 1})
    assert dict(vault.open().settings) == {"read_only_log": "side", "other": 1}
    with pytest.raises(TypeError):
        vault.ring.settings["x"] = 1  # type: ignore[index]


def test_a_lock_that_is_held_is_waited_for(vault: Vault) -> None:
    held: AbstractContextManager[None] = vault.objects.lock("keys", 1)
    done = threading.Event()
    vault.ring.new_key(Role.CATALOG)

    def commit() -> None:
        vault.ring.commit()
        done.set()

    with held:
        thread = threading.Thread(target=commit)
        thread.start()
        assert not done.wait(0.2)
    thread.join(10)
    assert done.is_set()


def test_errors_are_one_line_and_say_what_to_do(vault: Vault) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: vault.open(fresh_key()),
        lambda: vault.ring.dek(new_id()),
        lambda: vault.ring.remove_slot(new_id()),
        lambda: pickle.dumps(vault.ring),
    ]
    for attempt in attempts:
        with pytest.raises(VoxelVaultError) as error:
            attempt()
        assert "\n" not in str(error.value)
        assert ":" in str(error.value)
