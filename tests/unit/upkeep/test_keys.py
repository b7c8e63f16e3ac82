"""Ways to the root key as plain functions, and what the log says of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import voxelvault as vv
from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.audit.log import AuditLog
from voxelvault.crypto.key_store import PAGES
from voxelvault.crypto.providers.passphrase import FLOOR_KIB
from voxelvault.errors import AuditError, NoPermission, PolicyDenied, UsageError, WrongPassphrase
from voxelvault.interfaces.cli import main
from voxelvault.policy.access import Decision, Request
from voxelvault.upkeep import keys


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[vv.Vault]:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    monkeypatch.delenv("VOXELVAULT_KEY", raising=False)
    with vv.create(tmp_path / "vault") as made:
        yield made


def outcomes(vault: vv.Vault, kind: Kind) -> list[str]:
    return [entry.outcome for entry in vault.audit.log() if entry.kind == kind]


def test_each_change_has_intent_and_outcome_with_the_records_digest(vault: vv.Vault, tmp_path: Path) -> None:
    slot_id = keys.add_file(vault.resources, tmp_path / "second.key", "second")
    keys.rotate(vault.resources)
    keys.remove(vault.resources, slot_id)
    for kind in (Kind.SLOT_ADDED, Kind.KEYS_ROTATED, Kind.SLOT_REMOVED):
        assert outcomes(vault, kind) == [Outcome.INTENT, Outcome.OK]
    last = vault.audit.log(1)[0]
    assert last.digests["record"] == vault.resources.keys.record_digest
    assert last.counts["generation"] == vault.resources.keys.generation == 3
    assert last.ids["slot"] == (slot_id,)
    added = next(entry for entry in vault.audit.log() if entry.kind == Kind.SLOT_ADDED and entry.ids)
    assert added.ids["slot"] == (slot_id,)
    assert added.codes["provider"] == ("file",)


def test_a_failure_is_logged_as_one(vault: vv.Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise UsageError("no")

    monkeypatch.setattr(type(vault.resources.keys), "rotate", lambda _self: refuse())
    with pytest.raises(UsageError):
        keys.rotate(vault.resources)
    assert outcomes(vault, Kind.KEYS_ROTATED) == [Outcome.INTENT, Outcome.FAILED]


def test_no_entry_no_change(vault: vv.Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: object, _events: object) -> None:
        raise AuditError("no")

    monkeypatch.setattr(type(vault.resources.audit), "append", fail)
    with pytest.raises(AuditError):
        keys.rotate(vault.resources)
    assert vault.resources.keys.generation == 1


def test_the_policy_decides(vault: vv.Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(_self: object, request: Request) -> Decision:
        return Decision(allowed=request.action != Kind.KEYS_ROTATED, reason_code="test")

    monkeypatch.setattr(type(vault.resources.policy), "decide", deny)
    with pytest.raises(PolicyDenied):
        keys.rotate(vault.resources)
    assert vault.resources.keys.generation == 1


def test_the_same_key_is_not_added_twice(vault: vv.Vault, tmp_path: Path) -> None:
    keys.add_file(vault.resources, tmp_path / "second.key")
    with pytest.raises(UsageError, match="already"):
        keys.add_file(vault.resources, tmp_path / "second.key")
    assert len(keys.list_slots(vault.resources)) == 3


def test_an_environment_key_and_a_passphrase(
    vault: vv.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.public_key(tmp_path / "job.key")
    monkeypatch.setenv("VOXELVAULT_KEY", (tmp_path / "job.key").read_text())
    keys.add_env(vault.resources, "jobs")
    vv.open(vault.path, key_file=tmp_path / "none").close()
    monkeypatch.delenv("VOXELVAULT_KEY")
    keys.add_passphrase(vault.resources, "open sesame", memory_kib=FLOOR_KIB)
    vv.open(vault.path, key_file=tmp_path / "none", passphrase="open sesame").close()


@pytest.mark.parametrize("with_passphrase", [False, True])
def test_recovery_replaces_the_code(vault: vv.Vault, tmp_path: Path, with_passphrase: bool) -> None:
    code = vault.recovery_code
    none = tmp_path / "none"
    way = {"passphrase": "new words"} if with_passphrase else {"key_file": tmp_path / "new.key"}
    with vv.open(vault.path, recovery_code=code, key_file=none) as opened:
        done = keys.recover(opened.resources, **way, memory_kib=FLOOR_KIB)  # type: ignore[arg-type]
    with vv.open(vault.path, **{"key_file": none, **way}) as opened:  # type: ignore[arg-type]
        assert done.slot_id in {slot.slot_id for slot in keys.list_slots(opened.resources)}
    with pytest.raises(WrongPassphrase):
        vv.open(vault.path, recovery_code=code, key_file=none)
    vv.open(vault.path, recovery_code=done.recovery_code, key_file=none).close()


@pytest.fixture
def no_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log takes intents, and of recovery codes no outcome: the disk is full by then."""
    append = AuditLog.append

    def fail(self: AuditLog, events: Sequence[Event]) -> range:
        if any(event.kind == Kind.KEYS_ROTATED and event.outcome != Outcome.INTENT for event in events):
            raise AuditError("no")
        return append(self, events)

    monkeypatch.setattr(AuditLog, "append", fail)


@pytest.mark.usefixtures("no_outcome")
def test_a_new_code_is_in_the_error_if_its_outcome_is_not_logged(vault: vv.Vault, tmp_path: Path) -> None:
    with pytest.raises(keys.OutcomeNotLogged, match="were changed") as caught:
        keys.renew_recovery_code(vault.resources)
    code = caught.value.recovery_code
    assert code is not None
    assert code not in str(caught.value)
    vv.open(vault.path, recovery_code=code, key_file=tmp_path / "none").close()
    with pytest.raises(keys.OutcomeNotLogged) as caught:
        keys.rotate(vault.resources)
    assert caught.value.recovery_code is None


@pytest.mark.usefixtures("no_outcome")
@pytest.mark.parametrize("verb", ["add", "recover"])
def test_the_command_prints_the_new_code_with_the_error(
    vault: vv.Vault,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
) -> None:
    monkeypatch.setenv("VOXELVAULT_RECOVERY_CODE", str(vault.recovery_code))
    words = {
        "add": ["keys", "add", "recovery", "--yes"],
        "recover": ["--key-file", str(tmp_path / "new.key"), "keys", "recover"],
    }
    assert main(["--vault", str(vault.path), *words[verb]]) == 1
    said = capsys.readouterr().err
    assert "were changed" in said
    code = next(line for line in said.splitlines() if line.startswith("recovery code")).split()[-1]
    vv.open(vault.path, recovery_code=code, key_file=tmp_path / "none").close()


def test_old_pages_that_stay_keep_no_code_back(
    vault: vv.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: object, _name: str) -> None:
        raise NoPermission("no")

    objects = vault.resources.objects
    with monkeypatch.context() as patch:
        patch.setattr(type(objects), "delete", refuse)
        code = keys.renew_recovery_code(vault.resources)
    vv.open(vault.path, recovery_code=code, key_file=tmp_path / "none").close()
    assert outcomes(vault, Kind.KEYS_ROTATED) == [Outcome.INTENT, Outcome.OK]
    keys.rotate(vault.resources)
    assert len(list(objects.list(PAGES))) == 1


def test_recovery_makes_one_everyday_key(vault: vv.Vault, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        keys.recover(vault.resources)
    with pytest.raises(UsageError):
        keys.recover(vault.resources, key_file=tmp_path / "k", passphrase="x")


def test_the_last_slot_stays(vault: vv.Vault) -> None:
    first, second = keys.list_slots(vault.resources)
    keys.remove(vault.resources, second.slot_id)
    with pytest.raises(UsageError, match="last"):
        keys.remove(vault.resources, first.slot_id)
    with pytest.raises(UsageError, match="keys list"):
        keys.remove(vault.resources, second.slot_id)


def test_a_key_file_on_the_vaults_disk_is_told(vault: vv.Vault, tmp_path: Path) -> None:
    vault_id = vault.resources.settings.vault_id
    assert keys.key_file_warnings(vault.path, None, vault_id)
    assert keys.key_file_warnings(vault.path, tmp_path / "none", vault_id) == []
