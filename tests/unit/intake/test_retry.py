"""Files kept aside get another chance."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import voxelvault as vv
import voxelvault.intake.packing
from voxelvault.audit.events import Kind, Outcome
from voxelvault.errors import DecoderCrashed, UsageError
from voxelvault.intake import retry
from voxelvault.intake.quarantine import Reason
from voxelvault.intake.retry import quarantine_retry
from voxelvault.testing.synthetic import ct_series, hostile


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[vv.Vault]:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    with vv.create(tmp_path / "vault") as made:
        yield made


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    """Two slices of a series, and one file that no retry brings in."""
    folder = tmp_path / "incoming"
    folder.mkdir()
    for number, data in enumerate(ct_series(2)):
        (folder / f"{number}.dcm").write_bytes(data)
    (folder / "bad.dcm").write_bytes(hostile()["path in a UID"])
    return folder


def crash(*_: Any, **__: Any) -> Any:
    raise DecoderCrashed("the decoder died")


@pytest.fixture
def aside(vault: vv.Vault, incoming: Path, monkeypatch: pytest.MonkeyPatch) -> vv.Vault:
    """A vault that kept all three aside."""
    with monkeypatch.context() as patch:
        patch.setattr(voxelvault.intake.packing, "prepare", crash)
        assert len(vault.ingest(incoming, progress=False).quarantined) == 3
    return vault


def test_what_can_come_in_does_and_the_rest_stays(aside: vv.Vault, incoming: Path, tmp_path: Path) -> None:
    report = quarantine_retry(aside.resources)
    assert len(report.stored) == 2
    assert [item.reason for item in report.kept] == [Reason.INVALID_UID]
    assert not report.complete
    assert [item.quarantine_id for item in aside.quarantine()] == [report.kept[0].quarantine_id]
    aside.export(tmp_path / "out", progress=False)
    came_out = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "out").rglob("*.dcm")}
    good = {hashlib.sha256((incoming / f"{number}.dcm").read_bytes()).hexdigest() for number in range(2)}
    assert came_out == good
    assert aside.summary()["series"] == 1
    assert aside.verify(progress=False).ok


def test_the_sources_are_not_needed(aside: vv.Vault, incoming: Path) -> None:
    for path in incoming.iterdir():
        path.unlink()
    assert len(quarantine_retry(aside.resources).stored) == 2


def test_only_those_named(aside: vv.Vault) -> None:
    crashed = [item for item in aside.quarantine() if item.reason is Reason.DECODER_CRASHED]
    assert quarantine_retry(aside.resources, [crashed[0].quarantine_id]).stored == [crashed[0].quarantine_id]
    assert len(aside.quarantine()) == 2
    with pytest.raises(UsageError, match="quarantine list"):
        quarantine_retry(aside.resources, [crashed[0].quarantine_id])


def test_what_crashes_again_stays_once(aside: vv.Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voxelvault.intake.packing, "prepare", crash)
    before = {item.quarantine_id for item in aside.quarantine()}
    report = quarantine_retry(aside.resources)
    assert report.stored == []
    assert {item.quarantine_id for item in report.kept} == before
    assert {item.quarantine_id for item in aside.quarantine()} == before


def test_killed_between_storing_and_marking_it_is_marked_the_next_time(
    aside: vv.Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(retry, "changes", stop)
        with pytest.raises(KeyboardInterrupt):
            quarantine_retry(aside.resources)
    assert len(aside.quarantine()) == 3
    assert len(quarantine_retry(aside.resources).stored) == 2
    assert aside.summary()["instances"] == 2


def test_the_log_has_intent_and_outcome_and_names_no_source(aside: vv.Vault) -> None:
    report = quarantine_retry(aside.resources)
    entries = [entry for entry in aside.audit.log() if entry.kind == Kind.QUARANTINE_RETRIED]
    assert [entry.outcome for entry in entries] == [Outcome.INTENT, Outcome.PARTIAL]
    assert entries[0].action == entries[1].action
    assert set(entries[1].ids["quarantine"]) == set(report.stored)
    assert entries[1].counts["items"] == 2
    assert b"incoming" not in b"".join(entry.leaf for entry in entries)


def test_nothing_in_quarantine_is_fine(vault: vv.Vault) -> None:
    report = quarantine_retry(vault.resources)
    assert (report.stored, report.kept, report.complete) == ([], [], True)
    assert str(report).startswith("0 files")
