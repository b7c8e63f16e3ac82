"""Tasks and reading items follow from the log: alone, after a kill, and without a catalog."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import voxelvault as vv
from voxelvault import tasks
from voxelvault.audit.events import ALLOWED, Kind
from voxelvault.catalog.lease import DuckLakeLease
from voxelvault.catalog.schema import TABLES
from voxelvault.errors import CatalogError, UsageError
from voxelvault.model import new_id
from voxelvault.opening import Ways, close_vault, open_vault
from voxelvault.tasks import FIXED, Step, record
from voxelvault.testing import synthetic
from voxelvault.upkeep.rebuilding import rebuild_catalog
from voxelvault.upkeep.removal import delete_study

AT = tasks.now()
MODEL, CONTENT = "ab" * 32, "cd" * 32


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pattern")
    inbox = place / "inbox"
    inbox.mkdir()
    for number, data in enumerate(synthetic.ct_series(3, 16, 16)):
        (inbox / f"{number}.dcm").write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(place / "configuration"))
        with vv.create(place / "vault", codec="fast") as made:
            made.ingest(inbox, progress=False)
    return place


@pytest.fixture
def vault(pattern: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[vv.Vault]:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    for name in ("configuration", "vault"):
        shutil.copytree(pattern / name, tmp_path / name)
    with vv.open(tmp_path / "vault") as opened:
        yield opened


def study_of(vault: vv.Vault) -> str:
    return str(rows(vault, "select study_id from studies")[0]["study_id"])


def rows(vault: vv.Vault, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = vault.resources.catalog.query(query).to_pylist()
    return found


def both(vault: vv.Vault) -> list[list[dict[str, Any]]]:
    return [rows(vault, f"select * from {table} order by 1") for table in (tasks.TASKS, tasks.ITEMS)]


def lived(vault: vv.Vault) -> tuple[str, str]:
    """Do everything once; return the ids of the task and of the item."""
    task, item, study = new_id(), new_id(), study_of(vault)
    scheduled = {"task_id": task, "study_id": study, "former_id": new_id(), "attempt": 1, "arrived": AT}
    scheduled |= {"content": CONTENT, "model": MODEL, "pipeline": "mean-hu", "version": "1.0.2"}
    scheduled |= {"priority": "MEDIUM", "scheduled": AT + timedelta(seconds=61)}
    listed = {"item_id": item, "study_id": study, "task_id": task, "arrived": AT, "listed": AT}
    done = {"task_id": task, "series_id": new_id(), "ended": AT, "verdict": "positive", "score": 0.875}
    done |= {"threshold": 0.5, "volume_ml": 12.25, "reasons": ["thickness", "kernel"], "reason": "Two words."}
    steps = [
        Step(Kind.TASK_SCHEDULED, scheduled),
        Step(Kind.READING_LISTED, {**listed, "priority": "MEDIUM"}),
        Step(Kind.TASK_STARTED, {"task_id": task, "transaction_uid": "2.25.77", "started": AT}),
        Step(Kind.TASK_COMPLETED, done),
        Step(Kind.READING_RANKED, {"item_id": item, "task_id": task, "priority": "HIGH", "ranked": AT}),
        Step(Kind.READING_CLAIMED, {"item_id": item, "claimed": AT}),
        Step(Kind.READING_RELEASED, {"item_id": item}),
        Step(Kind.READING_CLAIMED, {"item_id": item, "claimed": AT}),
        Step(Kind.READING_OVERRIDDEN, {"item_id": item, "priority": "LOW", "reason": "seen before"}),
        Step(Kind.READING_COMPLETED, {"item_id": item, "completed": AT}),
        Step(Kind.READING_SUPERSEDED, {"item_id": item}),
        Step(Kind.TASK_SUPERSEDED, {"task_id": task}),
    ]
    record(vault.resources, lambda _query: steps)
    return task, item


def test_every_kind_sets_columns_and_is_of_the_log() -> None:
    kinds = {kind for kind in Kind if kind.startswith(("task.", "reading."))}
    assert kinds == set(FIXED) <= set(ALLOWED)
    for kind, values in FIXED.items():
        table = tasks.TASKS if kind.startswith("task.") else tasks.ITEMS
        assert values.keys() <= TABLES[table].columns.keys()


def test_rows_are_what_the_log_says(vault: vv.Vault) -> None:
    task, item = lived(vault)
    (one,), (other,) = both(vault)
    assert (one["task_id"], other["item_id"]) == (task, item)
    assert {name: one[name] for name in ("state", "version", "transaction_uid", "superseded")} == {
        "state": "COMPLETED",
        "version": "1.0.2",
        "transaction_uid": "2.25.77",
        "superseded": True,
    }
    assert (one["score"], one["volume_ml"], one["reasons"]) == (0.875, 12.25, ["thickness", "kernel"])
    assert (one["scheduled"] - one["arrived"]).total_seconds() == 61
    assert other["claimed_by"] == vault.resources.who
    assert (other["priority"], other["overridden"], other["reason"]) == ("LOW", True, "seen before")
    assert all(value is not None for value in [*one.values(), *other.values()])
    kinds = [entry.kind for entry in vault.audit.log()]
    assert set(FIXED) - {Kind.TASK_CANCELED} <= set(kinds)


def test_a_refused_step_changes_nothing(vault: vv.Vault) -> None:
    size = vault.resources.log.size
    with pytest.raises(UsageError, match="sets no"):
        record(
            vault.resources, lambda _query: [Step(Kind.TASK_SUPERSEDED, {"task_id": new_id(), "score": 1})]
        )
    with pytest.raises(UsageError):
        record(vault.resources, lambda _query: [Step(Kind.TASK_SUPERSEDED, {"task_id": "1.2.3"})])
    assert vault.resources.log.size == size


def test_what_was_entered_and_not_made_is_made_by_the_next(
    vault: vv.Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise CatalogError("the disk is full: make room")

    task, item, study = new_id(), new_id(), study_of(vault)
    listed = {"item_id": item, "study_id": study, "task_id": task, "arrived": AT, "listed": AT}
    with monkeypatch.context() as patch:
        patch.setattr(DuckLakeLease, "commit", fails)
        with pytest.raises(CatalogError):
            record(vault.resources, lambda _q: [Step(Kind.READING_LISTED, {**listed, "priority": "HIGH"})])
    assert both(vault) == [[], []]
    record(vault.resources, lambda _q: [Step(Kind.READING_CLAIMED, {"item_id": item, "claimed": AT})])
    _, (found,) = both(vault)
    assert (found["state"], found["priority"]) == ("claimed", "HIGH")
    assert record(vault.resources, lambda _q: []) == []


def test_a_rebuild_gives_the_same_rows(vault: vv.Vault, tmp_path: Path) -> None:
    lived(vault)
    before = both(vault)
    vault.close()
    shutil.rmtree(tmp_path / "vault" / "catalog")
    resources = open_vault(tmp_path / "vault", Ways(), anew=True)
    rebuild_catalog(resources)
    close_vault(resources)
    with vv.open(tmp_path / "vault") as again:
        assert both(again) == before


def test_rows_leave_with_their_study(vault: vv.Vault, tmp_path: Path) -> None:
    task, _ = lived(vault)
    log = vault.resources.log
    told = [entry for entry in log.entries() if entry.kind in FIXED and entry.text]
    assert len([log.text_of(entry) for entry in told]) == 2
    delete_study(vault.resources, study_of(vault))
    assert both(vault) == [[], []]
    assert [log.text_of(entry) for entry in told] == [None, None]
    vault.audit.verify()
    record(vault.resources, lambda _q: [Step(Kind.TASK_SUPERSEDED, {"task_id": task})])
    assert both(vault) == [[], []]
    vault.close()
    resources = open_vault(tmp_path / "vault", Ways(), anew=True)
    rebuild_catalog(resources)
    close_vault(resources)
    with vv.open(tmp_path / "vault") as again:
        assert both(again) == [[], []]


def test_rows_go_with_a_study_that_joins_another(vault: vv.Vault) -> None:
    lived(vault)
    changes = tasks.renamed(vault.resources.catalog.query, study_of(vault), "00" * 16)
    vault.resources.catalog.commit(changes)
    assert {row["study_id"] for table in both(vault) for row in table} == {"00" * 16}
