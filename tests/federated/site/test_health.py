"""An executor that can't open its vault, or whose vault fails later, says so where people look."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from voxelvault.errors import IntegrityError, NotAVault
from voxelvault.interfaces.cli.command import Session
from voxelvault_fl.consortium import consortium_of
from voxelvault_fl.errors import MessageRefused, ProcessFailed
from voxelvault_fl.provisioning.files import read_json, write
from voxelvault_fl.provisioning.kit import Kit, read_kit
from voxelvault_fl.provisioning.newest import NewestKit
from voxelvault_fl.provisioning.trial import provision
from voxelvault_fl.site import answering
from voxelvault_fl.site.health import Health
from voxelvault_fl.site.running import Settings, SiteFolder, _Part

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
FAILS = (
    'import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(\'{"fault": "no vault is here"}\'); exit(1)'
)


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    heads = {"id": "heads", "name": "H", "server": {"host": "localhost"}, "sites": ["east", "north"]}
    provision(consortium_of(heads), tmp_path / "kits", datetime.now(UTC))
    return read_kit(tmp_path / "kits" / "east")


def _part(kit: Kit, state: Path, *executor: str) -> _Part:
    newest = NewestKit(kit, state, lambda why: None)
    part = _Part(Settings(kit.path, state, lambda port: executor), kit, newest)
    part.folder = SiteFolder(state)
    return part


def test_a_vault_that_is_not_there_is_told(kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "state"
    monkeypatch.setattr(answering, "stay_here", lambda record: None)
    write(state / "supernode.secret", b"?")
    session = Session(vault=str(tmp_path / "none"))
    answering.write_settings(state, session, kit.path, tmp_path / "policy.toml", None, "StudyInstanceUID")
    with pytest.raises(NotAVault) as refused:
        answering.main([str(state), "1"])
    health = Health(state)
    assert not health.open
    assert health.fault == str(refused.value)


def test_a_site_does_not_start_without_its_vault_and_says_why(kit: Kit, tmp_path: Path) -> None:
    state = tmp_path / "state"
    part = _part(kit, state, sys.executable, "-c", FAILS, str(state / "executor.json"))
    with pytest.raises(ProcessFailed, match="the executor did not start: no vault is here"):
        part.start()
    # The SuperNode, which signs on at the server, never ran.
    assert not (state / "log" / "supernode.log").exists()


def test_the_latest_fault_is_a_warning_of_status_and_names_nobody(kit: Kit, tmp_path: Path) -> None:
    part, health = _part(kit, tmp_path / "state"), Health(tmp_path / "state", lambda: NOON)

    def warned() -> list[str]:
        part._about()
        return list(read_json(part.folder.about)["warnings"])

    health.opened(["a codec is missing"])
    health.failed(MessageRefused("replayed", "answered before"))
    health.failed(ValueError("Doe^Jane has no window"))
    assert warned() == ["a codec is missing"]
    health.failed(IntegrityError("a pack is damaged;\nrestore it"))
    said = f"the executor, {NOON.isoformat()}: a pack is damaged; restore it"
    assert warned() == ["a codec is missing", said]
    health.ended(ValueError("Doe^Jane has no window"))
    assert warned()[1] == f"the executor, {NOON.isoformat()}: ValueError"
    Health(tmp_path / "state").opened()
    assert warned() == []
