"""Making and opening a vault: nothing half made is one, and others may write meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import voxelvault as vv
from voxelvault import opening
from voxelvault.audit.events import Kind
from voxelvault.catalog.ducklake import DuckLakeCatalog
from voxelvault.config import Pins
from voxelvault.crypto.providers.passphrase import FLOOR_KIB
from voxelvault.dicom.decode import DecoderPool
from voxelvault.errors import (
    AuditError,
    KeyUnavailable,
    NoPermission,
    PolicyDenied,
    RollbackDetected,
    VoxelVaultError,
)
from voxelvault.policy.access import Decision
from voxelvault.storage.layout import TAGS, VAULT_TOML
from voxelvault.upkeep import keys


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    monkeypatch.delenv("VOXELVAULT_KEY", raising=False)
    return tmp_path / "configuration"


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[vv.Vault]:
    with vv.create(tmp_path / "vault") as made:
        yield made


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was closed, by class."""
    found: list[str] = []
    for part in (DuckLakeCatalog, DecoderPool):

        def close(self: Any, original: Callable[[Any], None] = part.close) -> None:
            found.append(type(self).__name__)
            original(self)

        monkeypatch.setattr(part, "close", close)
    return found


def refuse(*_: object, **__: object) -> None:
    raise AuditError("no")


def test_without_a_configuration_nothing_is_made_that_could_be_taken_for_a_vault(
    tmp_path: Path, configuration: Path, closed: list[str]
) -> None:
    configuration.write_text("in the way")
    with pytest.raises((VoxelVaultError, OSError)):
        vv.create(tmp_path / "vault", key_file=tmp_path / "a.key")
    assert not (tmp_path / "vault" / VAULT_TOML).exists()
    assert sorted(closed) == ["DecoderPool", "DuckLakeCatalog"]


def test_without_an_entry_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: list[str]) -> None:
    monkeypatch.setattr(opening.AuditLog, "append", refuse)
    with pytest.raises(AuditError):
        vv.create(tmp_path / "vault")
    assert not (tmp_path / "vault" / VAULT_TOML).exists()


@pytest.mark.parametrize("step", ["check_pin", "check_heads"])
def test_another_process_writing_meanwhile_is_no_rollback(
    vault: vv.Vault, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    check, calls = getattr(opening, step), []

    def after_a_write(*args: Any, **options: Any) -> None:
        calls.append(step)
        if len(calls) == 1:
            keys.rotate(vault.resources)
            opening.remember(
                Pins(),
                args[1] if step == "check_pin" else vault.resources.settings.vault_id,
                vault.resources.log,
                vault.resources.keys.number,
            )
        check(*args, **options)

    monkeypatch.setattr(opening, step, after_a_write)
    with vv.open(vault.path) as again:
        assert again.resources.keys.number == vault.resources.keys.number
    assert len(calls) == 2


@pytest.mark.parametrize("step", ["check_pin", "check_heads"])
def test_what_is_refused_is_closed(
    vault: vv.Vault, monkeypatch: pytest.MonkeyPatch, closed: list[str], step: str
) -> None:
    calls = []

    def refused(*_: object, **__: object) -> None:
        calls.append(step)
        raise RollbackDetected("older")

    monkeypatch.setattr(opening, step, refused)
    with pytest.raises(RollbackDetected):
        vv.open(vault.path)
    assert sorted(closed) == ["DecoderPool", "DuckLakeCatalog"]
    assert len(calls) == 2


def test_without_an_entry_of_the_opening_all_is_closed(
    vault: vv.Vault, monkeypatch: pytest.MonkeyPatch, closed: list[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(opening.AuditLog, "append", refuse)
        with pytest.raises(AuditError):
            vv.open(vault.path)
    assert sorted(closed) == ["DecoderPool", "DuckLakeCatalog"]


SITE = '[instances]\nInstanceCreationDate = "DATE"\n'


def test_a_tag_list_is_adopted_only_where_the_vault_can_be_written(
    vault: vv.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site.toml").write_text(SITE)
    refused = opening.replace(vault.resources, read_only=True)
    with pytest.raises(NoPermission):
        opening.adopt_tags(refused, tmp_path / "site.toml")
    with monkeypatch.context() as patch:
        patch.setattr(type(vault.resources.policy), "decide", lambda *_: Decision(False, "test"))
        with pytest.raises(PolicyDenied):
            vault.reindex(tmp_path / "site.toml")
    with monkeypatch.context() as patch:
        patch.setattr(opening.AuditLog, "append", refuse)
        with pytest.raises(AuditError):
            vault.reindex(tmp_path / "site.toml")
    assert not (vault.path / TAGS).exists()
    assert vault.resources.catalog.head()


def test_a_tag_list_is_read_once(vault: vv.Vault, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, SITE.encode())
    os.close(write)
    try:
        assert vault.reindex(f"/dev/fd/{read}") == 0
    finally:
        os.close(read)
    assert (vault.path / TAGS).read_text() == SITE
    assert "InstanceCreationDate" in vault.sql("select * from instances").columns
    assert ("tags",) in [
        entry.codes.get("mode") for entry in vault.audit.log() if entry.kind == Kind.CATALOG_CHANGED
    ]


@pytest.mark.parametrize("with_slot", [False, True])
def test_a_passphrase_is_asked_for_only_if_one_opens_the_vault(
    vault: vv.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_slot: bool
) -> None:
    asked = []

    def typed(prompt: str) -> str:
        asked.append(prompt)
        return "words"

    if with_slot:
        keys.add_passphrase(vault.resources, "words", memory_kib=FLOOR_KIB)
    else:
        keys.add_file(vault.resources, tmp_path / "second.key", "passphrase")
    monkeypatch.setattr(opening, "_has_terminal", lambda: True)
    monkeypatch.setattr("getpass.getpass", typed)
    if with_slot:
        vv.open(vault.path, key_file=tmp_path / "none").close()
    else:
        with pytest.raises(KeyUnavailable):
            vv.open(vault.path, key_file=tmp_path / "none")
    assert bool(asked) is with_slot


def test_a_new_vaults_warnings(tmp_path: Path) -> None:
    with vv.create(tmp_path / "vault", key_file=tmp_path / "a.key") as vault:
        vault_id = vault.resources.settings.vault_id
        assert list(vault.warnings) == opening.key_file_warnings(vault.path, tmp_path / "a.key", vault_id)
        assert vault.warnings
