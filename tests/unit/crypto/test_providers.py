"""Providers: where private keys come from, and the one-line errors when they don't."""

from __future__ import annotations

import dataclasses
import os
import unicodedata
from pathlib import Path

import pytest

from voxelvault.crypto.hybrid import PrivateKey, public_from_text
from voxelvault.crypto.providers.env import EnvProvider
from voxelvault.crypto.providers.file import FileProvider
from voxelvault.crypto.providers.passphrase import FLOOR_KIB, PassphraseProvider
from voxelvault.crypto.providers.recipient import recipient_slot
from voxelvault.crypto.providers.recovery import RecoveryProvider, new_code
from voxelvault.crypto.vault_record import NewSlot, Slot
from voxelvault.crypto.ways import Ways
from voxelvault.errors import ForgedRecord, KeyUnavailable, NoPermission, UsageError, WrongPassphrase
from voxelvault.model import new_id

ROOT, VAULT = os.urandom(32), new_id()


def sealed(slot: NewSlot) -> Slot:
    return slot.seal(ROOT, VAULT, 1)


def opens(provider: FileProvider | EnvProvider | PassphraseProvider | RecoveryProvider, slot: Slot) -> bool:
    key = provider.unlock(slot)
    return key is not None and slot.open(key, VAULT, 1) == ROOT


@pytest.fixture
def key_file(tmp_path: Path) -> FileProvider:
    return FileProvider(tmp_path / "home" / "key")


def test_file_round_trip(key_file: FileProvider, tmp_path: Path) -> None:
    slot = sealed(key_file.create())
    assert slot.provider == "file"
    assert opens(FileProvider(tmp_path / "home" / "key"), slot)
    assert key_file.slot().public_key == slot.public_key
    assert (tmp_path / "home" / "key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


def test_a_key_file_is_never_overwritten(key_file: FileProvider) -> None:
    slot = sealed(key_file.create())
    with pytest.raises(UsageError, match="already"):
        key_file.create()
    assert opens(key_file, slot)


def test_no_key_file_is_no_key(key_file: FileProvider) -> None:
    assert key_file.unlock(sealed(NewSlot("file", PrivateKey.generate().public_key()))) is None
    with pytest.raises(KeyUnavailable, match="no key file"):
        key_file.slot()


def test_a_key_file_that_was_named_and_is_missing_says_so(key_file: FileProvider, tmp_path: Path) -> None:
    slot = sealed(key_file.create())
    given = Ways(key_file=tmp_path / "hoem" / "key").providers(new_id())
    with pytest.raises(KeyUnavailable, match="no key file at the given place"):
        [provider.unlock(slot) for provider in given]
    by_default = Ways().providers(new_id())
    assert [provider.unlock(slot) for provider in by_default] == [None] * len(by_default)


def test_a_key_file_that_others_can_read_is_refused_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "key"
    slot = sealed(FileProvider(path).create())
    path.chmod(0o640)
    with pytest.raises(KeyUnavailable, match="chmod 600"):
        FileProvider(path).unlock(slot)
    assert opens(FileProvider(path, allow_shared=True), slot)


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xfe", b"voxelvault-secret-key-1:AAAA"])
def test_a_damaged_key_file_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    slot = sealed(FileProvider(path).create())
    path.write_bytes(content)
    with pytest.raises(KeyUnavailable, match="damaged"):
        FileProvider(path).unlock(slot)


def test_an_unreadable_key_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    with pytest.raises(KeyUnavailable, match="can't be read"):
        FileProvider(tmp_path / "key").slot()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_without_permission_says_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(NoPermission):
        FileProvider(tmp_path / "key").create()


def test_errors_name_no_path(tmp_path: Path) -> None:
    path = tmp_path / "DOE_JANE" / "key"
    FileProvider(path).create()
    path.write_text("x")
    with pytest.raises(KeyUnavailable) as error:
        FileProvider(path).slot()
    assert "DOE" not in str(error.value)


def test_a_replaced_key_file_opens_both_until_promoted(key_file: FileProvider) -> None:
    old, new = sealed(key_file.create()), sealed(key_file.create_next())
    assert old.public_key != new.public_key
    assert key_file.create_next().public_key == new.public_key
    assert opens(key_file, old)
    assert opens(key_file, new)
    key_file.promote()
    assert opens(key_file, new)
    assert key_file.unlock(old) is None


def test_a_recipient_opens_what_was_sealed_to_the_text(key_file: FileProvider) -> None:
    key_file.create()
    text = key_file.recipient_text()
    slot = sealed(recipient_slot(text, "clinic B"))
    assert (slot.provider, slot.label) == ("recipient", "clinic B")
    assert opens(key_file, slot)


def test_a_recipients_public_key_makes_no_vault_of_ones_own(key_file: FileProvider) -> None:
    """A forged vault that calls its recipient's slot `file` would open without a fingerprint."""
    key_file.create()
    forged = sealed(NewSlot("file", public_from_text(key_file.recipient_text())))
    assert key_file.unlock(forged) is None


def test_a_damaged_recipient_text_is_refused(key_file: FileProvider) -> None:
    key_file.create()
    with pytest.raises(UsageError, match="damaged"):
        recipient_slot(key_file.recipient_text()[:-2])


def test_env_round_trip() -> None:
    provider = EnvProvider({"VOXELVAULT_KEY": PrivateKey.generate().text() + "\n"})
    slot = sealed(provider.slot())
    assert slot.provider == "env"
    assert opens(provider, slot)
    assert EnvProvider({}).unlock(slot) is None
    with pytest.raises(KeyUnavailable, match="VOXELVAULT_KEY is not set"):
        EnvProvider({}).slot()
    with pytest.raises(KeyUnavailable, match="damaged"):
        EnvProvider({"VOXELVAULT_KEY": "secret"}).unlock(slot)


def test_env_reads_the_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXELVAULT_KEY", PrivateKey.generate().text())
    assert opens(EnvProvider(), sealed(EnvProvider().slot()))


def test_recovery_round_trip() -> None:
    code = new_code()
    assert len(code.split("-")) == 9
    slot = sealed(RecoveryProvider(code).slot())
    assert opens(RecoveryProvider(code.lower().replace("-", " ")), slot)
    assert RecoveryProvider(new_code()).unlock(slot) is None


def test_recovery_code_with_a_typing_error_says_so() -> None:
    code = new_code()
    with pytest.raises(WrongPassphrase, match="typing error"):
        RecoveryProvider(code[:-1] + ("2" if code[-1] != "2" else "3"))


def test_recovery_key_is_fixed() -> None:
    """A golden value: if this changes, printed recovery codes open nothing any more."""
    from voxelvault.crypto.text_code import to_groups

    seed = RecoveryProvider(to_groups(bytes(range(20))))._key.seed
    assert seed.hex() == "f5f8e1321dfca5f9007159c687eeb0ef5b368f9ab00b4a759890d862381e3ae9"


@pytest.fixture(scope="module")
def passphrase_slot() -> Slot:
    composed = unicodedata.normalize("NFC", "Grüße an die Röntgenröhre")
    return sealed(PassphraseProvider(composed).slot(memory_kib=FLOOR_KIB))


def test_passphrase_round_trip(passphrase_slot: Slot) -> None:
    decomposed = unicodedata.normalize("NFD", "Grüße an die Röntgenröhre")
    assert opens(PassphraseProvider(decomposed), passphrase_slot)
    assert PassphraseProvider("Gruesse").unlock(passphrase_slot) is None


def test_passphrase_leaves_other_slots_alone(passphrase_slot: Slot) -> None:
    assert PassphraseProvider("x").unlock(dataclasses.replace(passphrase_slot, provider="file")) is None


@pytest.mark.parametrize(
    "change",
    [
        {"memory_kib": FLOOR_KIB - 1},
        {"memory_kib": 1 << 40},
        {"passes": 2},
        {"passes": 1 << 30},
        {"lanes": 0},
        {"lanes": 1 << 20},
        {"salt": "00"},
        {"salt": "zz"},
        {"memory_kib": "lots"},
    ],
)
def test_passphrase_work_is_bounded_before_it_is_done(
    passphrase_slot: Slot, change: dict[str, int | str]
) -> None:
    hostile = dataclasses.replace(passphrase_slot, parameters={**passphrase_slot.parameters, **change})
    with pytest.raises(ForgedRecord, match="restore"):
        PassphraseProvider("x").unlock(hostile)


def test_passphrase_parameters_that_are_missing_are_refused(passphrase_slot: Slot) -> None:
    with pytest.raises(ForgedRecord):
        PassphraseProvider("x").unlock(dataclasses.replace(passphrase_slot, parameters={}))


def test_passphrase_costs_below_the_floor_are_refused() -> None:
    with pytest.raises(UsageError, match="256 MiB"):
        PassphraseProvider("x").slot(memory_kib=1 << 16)
    with pytest.raises(UsageError, match="empty"):
        PassphraseProvider("")


def test_the_default_cost_is_what_the_design_says() -> None:
    from voxelvault.crypto.providers import passphrase

    assert passphrase.MEMORY_KIB == 1024 * 1024
    assert passphrase.PassphraseProvider.slot.__kwdefaults__ == {
        "memory_kib": 1 << 20,
        "passes": 3,
        "lanes": 4,
    }


def test_memory_that_is_not_there_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from voxelvault.crypto.providers import passphrase

    class Hungry:
        def __init__(self, **_: object) -> None:
            pass

        def derive(self, _: bytes) -> bytes:
            raise MemoryError

    monkeypatch.setattr(passphrase, "Argon2id", Hungry)
    with pytest.raises(KeyUnavailable, match="1024 MiB"):
        PassphraseProvider("x").slot()
