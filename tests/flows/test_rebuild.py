"""The catalog written anew gives the same answers; what the log took away stays away."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flow_support import copy_vault, digest, exported, open_again, person_file, python, rows, settled, write

import voxelvault as vv
from voxelvault import tasks
from voxelvault.audit.events import Kind
from voxelvault.catalog.ducklake import DuckLakeCatalog
from voxelvault.catalog.schema import TABLES
from voxelvault.errors import UsageError
from voxelvault.model import new_id
from voxelvault.opening import Ways, close_vault, open_vault
from voxelvault.storage.sealed_objects import SealedObjects
from voxelvault.testing.synthetic import CODESTREAMS, compressed, ct_series, hostile, structured_report, uid
from voxelvault.upkeep.lifecycle import move_study
from voxelvault.upkeep.rebuilding import RebuildReport, rebuild_catalog
from voxelvault.upkeep.removal import delete_instances, delete_study
from voxelvault.vault import Vault

SOP = uid(77)


def fill(vault: Vault, folder: Path) -> None:
    """Give a vault one of everything that a catalog has to know."""
    number = iter(range(1000))

    def take(*files: bytes) -> None:
        vault.ingest(write(folder / f"{next(number)}", list(files)), progress=False)

    def subject(file: bytes) -> str:
        return str(of(vault, file)["subject_id"])

    doe, married = person_file(), person_file(study=2, PatientName="Married^Jo")
    take(doe, person_file(instance=2, pixel=2), doe)
    take(person_file(pixel=9), married)  # a version, and a conflict of subjects
    take(*ct_series(4, 160, 160, series=9), structured_report(), compressed(next(iter(CODESTREAMS))))
    take(hostile()["nested 10,000 deep"])
    for instance in (3, 4, 5):
        take(person_file(instance=instance, pixel=instance, PatientName="Doe^Jo^Ann"))
    vault.merge_subjects(subject(married), subject(doe))
    take(person_file(study=2, instance=2, PatientName="Married^Jo"))
    ours = [person_file(study=2, series=8, instance=n, pixel=n, PatientName="Married^Jo") for n in (1, 2)]
    for file in ours:  # two packs, to be joined
        vault.store([file], of(vault, married)["study_id"], origin="demo")
    one, other = (person_file("A", study=n, pixel=n, SOPInstanceUID=SOP) for n in (11, 12))
    take(one)
    take(other, person_file("B", study=13))
    move_study(vault.resources, of(vault, other)["study_id"], subject(person_file("B", study=13)))
    vault.compact(progress=False)
    gone, kept = person_file("C", study=21, pixel=1), person_file("C", study=21, instance=2, pixel=2)
    take(gone, kept, person_file("C", study=22), person_file("D", study=23))
    take(person_file("C", study=21, instance=3, pixel=3))
    vault.select("Modality = 'CT'").freeze("cts")
    vault.select().cache(chunks=8, progress=False)
    delete_instances(vault.resources, [of(vault, gone)["instance_id"]])
    listed(vault, of(vault, other)["study_id"], of(vault, person_file("D", study=23))["study_id"])
    delete_study(vault.resources, of(vault, person_file("D", study=23))["study_id"])


def listed(vault: Vault, *study_ids: str) -> None:
    """Put studies on the worklist."""
    now = tasks.now()
    for study_id in study_ids:
        task = {"task_id": new_id(), "study_id": study_id, "scheduled": now, "attempt": 1}
        item = {"item_id": new_id(), "study_id": study_id, "task_id": task["task_id"], "listed": now}
        steps = [tasks.Step(Kind.TASK_SCHEDULED, task), tasks.Step(Kind.READING_LISTED, item)]
        tasks.record(vault.resources, lambda _query, steps=steps: steps)  # type: ignore[misc]


def of(vault: Vault, file: bytes) -> dict[str, Any]:
    return rows(vault, f"select * from instances where sha256 = '{digest(file)}'")[0]


@pytest.fixture(scope="module")
def lived(pattern: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault to which everything happened."""
    home = tmp_path_factory.mktemp("lived")
    with pytest.MonkeyPatch.context() as patch:
        with vv.open(settled(pattern, home, patch)) as vault:
            fill(vault, home)
            report = vault.verify(progress=False)
            assert report.ok, report.failures
    return home


@pytest.fixture(scope="module")
def brief(pattern: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault to which little happened: two people, a file in quarantine, a cohort."""
    home = tmp_path_factory.mktemp("brief")
    with pytest.MonkeyPatch.context() as patch:
        with vv.open(settled(pattern, home, patch)) as vault:
            files = [person_file(), person_file(instance=2, pixel=2), person_file("C", study=22)]
            vault.ingest(write(home / "in", [*files, hostile()["nested 10,000 deep"]]), progress=False)
            vault.select("Modality = 'CT'").freeze("cts")
    return home


@pytest.fixture
def path(lived: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return settled(lived, tmp_path, monkeypatch)


@pytest.fixture
def short(brief: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return settled(brief, tmp_path, monkeypatch)


def tables(vault: Vault) -> dict[str, list[str]]:
    """Return every row of every table, in no order."""
    found = {}
    for name in TABLES:
        listed = rows(vault, f"select * from {name}")
        found[name] = sorted(repr(sorted(row.items())) for row in listed)
    return found


def rebuilt(path: Path, **options: Any) -> RebuildReport:
    resources = open_vault(path, Ways(), anew=True)
    try:
        return rebuild_catalog(resources, **options)
    finally:
        close_vault(resources)


def test_every_table_comes_out_the_same(path: Path, tmp_path: Path) -> None:
    with open_again(path) as vault:
        before, files = tables(vault), exported(vault, tmp_path / "before")
    assert sum("('origin', 'demo')" in row for row in before["instances"]) == 2
    assert {name for name in TABLES if not before[name]} == {"releases"}
    planned = rebuilt(path, dry_run=True)
    report = rebuilt(path)
    assert (planned.packs, report.lost, report.unfinished) == (report.packs, {}, 0)
    assert report.complete
    with open_again(path) as vault:
        after = tables(vault)
        for name in TABLES:
            assert after[name] == before[name], name
        found = vault.verify(progress=False)
        assert found.ok, found.failures
        assert exported(vault, tmp_path / "after") == files
        again = vault.ingest(tmp_path / "before", progress=False)
        assert (again.stored, again.duplicates) == (0, len(files))
        assert vault.cohort("cts").erased.members > 0


@pytest.mark.parametrize(("how", "of_whom"), [("missing", "path"), ("cut", "short"), ("damaged", "short")])
def test_without_a_catalog_what_no_manifest_tells_is_named(
    request: pytest.FixtureRequest, tmp_path: Path, how: str, of_whom: str
) -> None:
    path: Path = request.getfixturevalue(of_whom)
    with open_again(path) as vault:
        before, files = tables(vault), exported(vault, tmp_path / "before")
    if how == "missing":
        shutil.rmtree(path / "catalog")
    else:
        file = path / "catalog" / "lake.duckdb"
        # The first pages are all that tells whether a key is right.
        whole = file.read_bytes()
        file.write_bytes(b"" if how == "cut" else whole[:12288] + bytes(len(whole) - 12288))
    with pytest.raises(vv.errors.VoxelVaultError, match="--rebuild-catalog"):
        open_again(path)
    report = rebuilt(path)
    assert not report.complete
    assert report.carried is not None
    assert len(report.carried.lost_cohorts) == 1
    assert len(report.carried.lost_quarantined) == 1
    with open_again(path) as vault:
        after = tables(vault)
        for name in set(TABLES) - {"cohorts", "cohort_members", "quarantine", "derived"}:
            assert after[name] == before[name], name
        assert exported(vault, tmp_path / "after") == files
        assert vault.verify(progress=False).ok


def test_it_wants_something_older_to_vouch_for_the_log(short: Path) -> None:
    path = short
    resources = open_vault(path, Ways(), anew=True)
    note = resources.log.checkpoint()
    close_vault(resources)
    pins = path.parent / "config" / "pins"
    for pin in [one for one in (path.parent / "config").rglob("*") if "pin" in str(one) and one.is_file()]:
        pin.unlink()
    assert not any(pins.glob("*.json")) if pins.exists() else True
    resources = open_vault(path, Ways(), anew=True)
    with pytest.raises(UsageError, match="checkpoint"):
        rebuild_catalog(resources)
    close_vault(resources)
    resources = open_vault(path, Ways(), anew=True, checkpoint=note)
    assert rebuild_catalog(resources).complete
    close_vault(resources)


@contextmanager
def unanswered(patch: pytest.MonkeyPatch, works: int) -> Iterator[None]:
    """Let an object store answer so often when packs are looked at, and never again."""
    left, describe = [works], SealedObjects.describe

    def asked(sealed: SealedObjects, object_id: str) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise vv.errors.Unanswered("object storage did not answer within 1 s: check the network")
        return describe(sealed, object_id)

    with patch.context() as inner:
        inner.setattr(SealedObjects, "describe", asked)
        yield


def test_a_network_that_fails_loses_nothing(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not seen is not called lost: the present catalog stays."""
    with open_again(short) as vault:
        before = tables(vault)
    with unanswered(monkeypatch, 1), pytest.raises(vv.errors.Unanswered):
        rebuilt(short)
    with open_again(short) as vault:
        assert tables(vault) == before


def test_what_comes_in_before_the_lease_is_in(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anew, late = DuckLakeCatalog.anew, person_file("LATE", study=99)

    def overtaken(catalog: DuckLakeCatalog) -> Any:
        with open_again(short) as other:
            other.ingest(write(tmp_path / "late", [late]), progress=False)
        return anew(catalog)

    monkeypatch.setattr(DuckLakeCatalog, "anew", overtaken)
    assert rebuilt(short).complete
    with open_again(short) as vault:
        assert of(vault, late)["sha256"] == digest(late)
        assert vault.verify(progress=False, quick=True).ok


DIES = """
import sys
from dying import dies_before
from voxelvault.opening import Ways, open_vault
from voxelvault.upkeep.rebuilding import rebuild_catalog
from voxelvault.catalog.lease import DuckLakeLease
from voxelvault.catalog.catalog_file import CatalogFile
resources = open_vault(sys.argv[1], Ways(), anew=True)
dies_before(int(sys.argv[2]), (DuckLakeLease, "commit"), (CatalogFile, "install"))
rebuild_catalog(resources)
"""


@pytest.mark.parametrize("left", [3])
def test_kill_9_leaves_the_present_catalog(short: Path, left: int) -> None:
    path = short
    with open_again(path) as vault:
        before = tables(vault)
    child = python(DIES, path, left)
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    with open_again(path) as vault:
        assert tables(vault) == before
        assert vault.verify(progress=False, quick=True).ok
    assert rebuilt(path).complete
    with open_again(path) as vault:
        assert tables(vault) == before


def test_yesterday_s_catalog_resurrects_nothing(short: Path, tmp_path: Path) -> None:
    """Neither repair nor rebuild brings back what was erased since, though the catalog has its rows."""
    path = short
    old = copy_vault(path, tmp_path / "old")
    with open_again(path) as vault:
        (row,) = rows(vault, "select study_id from studies where StudyInstanceUID = " + f"'{uid(22)}'")
        delete_study(vault.resources, row["study_id"])
        before, files = tables(vault), exported(vault, tmp_path / "before")
    shutil.rmtree(path / "catalog")
    shutil.copytree(old / "catalog", path / "catalog")
    with pytest.raises(vv.errors.VoxelVaultError):
        open_again(path)
    # All of its keys are gone, so that nothing comes along from it, not even what stayed.
    report = rebuilt(path)
    assert report.lost == {}
    with open_again(path) as vault:
        after = tables(vault)
        for name in set(TABLES) - {"cohorts", "cohort_members", "quarantine", "derived"}:
            assert after[name] == before[name], name
        assert exported(vault, tmp_path / "after") == files
        assert vault.verify(progress=False).ok
