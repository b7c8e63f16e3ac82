"""Key services as ways in: a vault made with one, slots added and rolled, what erasures say of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import voxelvault as vv
from key_servers import TOKEN, Answers, FakeTransit, serving, transit_errors
from voxelvault.audit.events import Kind
from voxelvault.config import Pins
from voxelvault.crypto.providers.passphrase import FLOOR_KIB
from voxelvault.errors import KeyUnavailable, UsageError
from voxelvault.interfaces.cli import main
from voxelvault.upkeep import keys, rolling


@pytest.fixture
def transit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    """Give the fake of Transit, with the environment that leads to it."""
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    for name in ("VOXELVAULT_KEY", "VOXELVAULT_PASSPHRASE", "VAULT_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("voxelvault.crypto.providers.vault_transit._PAUSES", ())
    with serving(Answers(FakeTransit())) as server:
        monkeypatch.setenv("VAULT_ADDR", server.url)
        monkeypatch.setenv("VAULT_TOKEN", TOKEN)
        yield server


def make(tmp_path: Path) -> tuple[str, str]:
    """Make a vault with a Transit slot alone and a recovery code; return code and fingerprint."""
    with vv.create(tmp_path / "vault", key_service=("vault-transit", "vault")) as vault:
        assert vault.recovery_code
        assert vault.warnings == ()
        return vault.recovery_code, vault.resources.keys.fingerprint


def test_a_vault_opens_by_its_service_alone(transit: Answers, tmp_path: Path) -> None:
    make(tmp_path)
    assert not list((tmp_path / "configuration").rglob("*.key"))
    with vv.open(tmp_path / "vault") as vault:
        kinds = [slot.provider for slot in keys.list_slots(vault.resources)]
        assert kinds == ["vault-transit", "recovery"]
        keys.rotate(vault.resources)
    with vv.open(tmp_path / "vault") as vault:
        assert vault.resources.keys.generation == 2


def test_a_service_that_is_down_leaves_the_recovery_code(transit: Answers, tmp_path: Path) -> None:
    code, _ = make(tmp_path)
    transit.script += [transit_errors(503, "Vault is sealed")] * 2
    with pytest.raises(KeyUnavailable, match="sealed or down"):
        vv.open(tmp_path / "vault")
    with vv.open(tmp_path / "vault", recovery_code=code) as vault:
        assert vault.resources.keys.generation == 1


def test_elsewhere_the_fingerprint_comes_first(
    transit: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, fingerprint = make(tmp_path)
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "colleague"))
    asked = len(transit.seen)
    with pytest.raises(KeyUnavailable, match="give the fingerprint"):
        vv.open(tmp_path / "vault")
    assert len(transit.seen) == asked
    vv.open(tmp_path / "vault", fingerprint=fingerprint).close()
    vv.open(tmp_path / "vault").close()


def test_whoever_may_wrap_but_not_unwrap_makes_no_vault(transit: Answers, tmp_path: Path) -> None:
    def handle(path: str, headers: object, body: bytes) -> tuple[int, bytes]:
        if "decrypt" in path:
            return transit_errors(403, "permission denied")
        return FakeTransit()(path, {"X-Vault-Token": TOKEN}, body)

    transit.handle = handle
    with pytest.raises(KeyUnavailable, match="denied it"):
        vv.create(tmp_path / "vault", key_service=("vault-transit", "vault"))
    assert not (tmp_path / "vault" / "vault.toml").exists()
    with pytest.raises(UsageError, match="or another key"):
        vv.create(tmp_path / "v", key_service=("vault-transit", "vault"), key_file=tmp_path / "k")


def test_an_erasure_says_what_still_opens_old_copies(transit: Answers, tmp_path: Path) -> None:
    make(tmp_path)
    with vv.open(tmp_path / "vault") as vault:
        resources = vault.resources
        keys.add_service(resources, "vault-transit", "kms/eu/vault", "site B")
        found = rolling.successors(resources)
        assert len(found.roll) == 2
        assert found.refused == {}
        report = resources.keys.destroy([], found.roll)
        transit_slots = [slot.slot_id for slot in resources.keys.slots() if slot.provider != "recovery"]
        assert list(report.rolled) == transit_slots
        lines = rolling.old_copies(resources, report)
        assert len(lines) == 3
        assert f"rolled: vault-transit slot {transit_slots[1]} (site B); old copies" in lines[2]
        assert "kms/eu/vault serves, until that key's former versions are retired" in lines[2]
        recovery = next(line for line in lines if "recovery" in line)
        assert recovery.startswith("not rolled: recovery slot")
        assert "any old copy of keys/" in recovery
    with vv.open(tmp_path / "vault") as vault:
        assert vault.resources.keys.generation == 2


def test_a_service_that_refuses_leaves_its_slot_as_it_was(transit: Answers, tmp_path: Path) -> None:
    make(tmp_path)
    with vv.open(tmp_path / "vault") as vault:
        slot = vault.resources.keys.slots()[0]
        transit.script.append(transit_errors(403, "permission denied"))
        found = rolling.successors(vault.resources)
        assert found.roll == {}
        assert "denied it" in found.refused[slot.slot_id]
        report = vault.resources.keys.destroy([], found.roll)
        assert slot.slot_id in report.not_rolled
    vv.open(tmp_path / "vault").close()


def test_the_log_names_the_kind_and_never_the_service(transit: Answers, tmp_path: Path) -> None:
    make(tmp_path)
    with vv.open(tmp_path / "vault") as vault:
        keys.add_service(vault.resources, "vault-transit", "kms/eu/vault")
        added = [entry for entry in vault.audit.log() if entry.kind == Kind.SLOT_ADDED]
        assert {entry.codes["provider"] for entry in added} == {("vault-transit",)}
        assert "kms/eu" not in repr(added)
        assert Pins().load(vault.resources.settings.vault_id) is not None


def test_the_command_line_adds_lists_and_rotates(
    transit: Answers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vault = str(tmp_path / "vault")
    assert main(["init", vault, "--key-service", "vault-transit", "vault", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["key_file"] is None
    add = ["--vault", vault, "keys", "add"]
    assert main([*add, "vault-transit", "kms/eu/vault", "--label", "site B"]) == 0
    assert main([*add, "vault-transit"]) == 2
    assert main([*add, "aws-kms", "alias/x"]) == 2
    assert main([*add, "cloud", "x"]) == 2
    assert "aws-kms, pkcs11, vault-transit" in capsys.readouterr().err
    assert main(["--vault", vault, "keys", "list"]) == 0
    assert re.search(r"vault-transit +site B +kms/eu/vault\n", capsys.readouterr().out)
    assert main(["--vault", vault, "keys", "rotate", "--yes", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["generation"] == 2
    assert any("transit/keys/NAME/rotate" in line for line in done["plan"])
    assert main(["--key-file", "k", "init", f"{vault}2", "--key-service", "vault-transit", "vault"]) == 2


def test_a_service_that_is_down_is_not_waited_for_twice(
    transit: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fast:
        """Argon2id takes its time, which is not what this is about."""

        def __init__(self, *, salt: bytes, **_: object) -> None:
            self.salt = salt

        def derive(self, words: bytes) -> bytes:
            return hashlib.sha256(self.salt + words).digest()

    monkeypatch.setattr("voxelvault.crypto.providers.passphrase.Argon2id", Fast)
    make(tmp_path)
    with vv.open(tmp_path / "vault") as vault:
        keys.add_passphrase(vault.resources, "open sesame", memory_kib=FLOOR_KIB)
    asked = len(transit.seen)
    transit.script += [transit_errors(503, "Vault is sealed")] * 9
    monkeypatch.setattr("voxelvault.opening._has_terminal", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda _: "open sesame")
    vv.open(tmp_path / "vault").close()
    assert len(transit.seen) == asked + 1
