"""Ctrl-C, kill -9, a full disk, a log that can't grow: nothing is lost, nothing is there twice."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flow_support import (
    copy_vault,
    counts,
    digest,
    exported,
    open_again,
    person_file,
    python,
    rows,
    snapshot,
    write,
)

from voxelvault.audit.events import Kind
from voxelvault.errors import AuditError, IntegrityError, NoSpace, StorageError, VoxelVaultError
from voxelvault.rows import changes
from voxelvault.storage.objects import LocalObjects
from voxelvault.testing.synthetic import ct_series, hostile
from voxelvault.upkeep.verify import VerifyOptions, verify
from voxelvault.vault import Vault

SERIES, SLICES = 6, 4

SLOW = """
import sys, time, voxelvault as vv
from voxelvault.intake import ingest
from voxelvault.storage import pack_writer
once = pack_writer.PackWriter.add
def add(self, *arguments):
    time.sleep(float(sys.argv[3]))
    return once(self, *arguments)
pack_writer.PackWriter.add = add
ingest.BATCH_FILES = 5
with vv.open(sys.argv[1]) as vault:
    print("ready", flush=True)
    print(vault.ingest(sys.argv[2], progress=False), flush=True)
"""


def material(folder: Path) -> tuple[Path, list[str]]:
    """Write a few series and one file for the quarantine; return the digests of the good ones."""
    files = [
        data for number in range(SERIES) for data in ct_series(SLICES, 16, 16, series=number + 1, seed=number)
    ]
    write(folder, files)
    (folder / "bad.dcm").write_bytes(hostile()["nested 10,000 deep"])
    return folder, sorted(map(digest, files))


def ready(child: subprocess.Popen[str]) -> None:
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"


def repaired(vault: Vault) -> Any:
    return verify(vault.resources, VerifyOptions(quick=True, repair=True, grace=0))


def whole(vault: Vault, files: list[str], out: Path) -> None:
    """Everything is there, once, and comes out as it went in; nothing else is."""
    assert counts(vault, "instances", "series", "studies", "patients", "quarantine") == (
        len(files),
        SERIES,
        SERIES,
        1,
        1,
    )
    report = vault.verify(progress=False)
    assert report.ok, report.failures
    assert (report.orphans, report.unfinished) == (0, 0)
    assert exported(vault, out) == files


def test_ctrl_c_finishes_the_series_at_hand_and_resumes(vault_path: Path, tmp_path: Path) -> None:
    folder, files = material(tmp_path / "in")
    child = python(SLOW, vault_path, folder, 0.15)
    ready(child)
    time.sleep(1.0)
    # As a terminal does: the whole group, decoders included.
    os.killpg(child.pid, signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert "interrupted: run it again to go on" in out
    with open_again(vault_path) as vault:
        (stored,) = counts(vault, "instances")
        assert 0 < stored < len(files)
        assert f"{stored} stored" in out
        assert vault.verify(progress=False).ok
        report = vault.ingest(folder, progress=False)
        assert (report.stored, report.duplicates) == (len(files) - stored, stored)
        assert repaired(vault).ok
        whole(vault, files, tmp_path / "out")


def killed_at(vault_path: Path, folder: Path, delay: float) -> None:
    child = python(SLOW, vault_path, folder, 0.005)
    ready(child)
    time.sleep(delay)
    child.kill()
    child.communicate()


def survives(vault_path: Path, folder: Path, out: Path, files: list[str], delays: list[float]) -> None:
    stored = 0
    for delay in delays:
        killed_at(vault_path, folder, delay)
        with open_again(vault_path) as vault:
            (now,) = counts(vault, "instances")
            assert now >= stored
            stored = now
            before = vault.verify(progress=False, quick=True)
            assert before.ok, before.failures
            after = repaired(vault)
            assert after.ok, after.failures
            assert (after.orphans, after.unfinished) == (0, 0)
            assert after.recovered == before.unfinished
    with open_again(vault_path) as vault:
        vault.ingest(folder, progress=False)
        whole(vault, files, out)


def test_kill_9_anywhere(vault_path: Path, tmp_path: Path) -> None:
    folder, files = material(tmp_path / "in")
    dice = random.Random(7)
    survives(vault_path, folder, tmp_path / "out", files, [dice.uniform(0, 1.2) for _ in range(6)])


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(12))
def test_kill_9_anywhere_often(vault_path: Path, tmp_path: Path, seed: int) -> None:
    folder, files = material(tmp_path / "in")
    dice = random.Random(seed)
    survives(vault_path, folder, tmp_path / "out", files, [dice.uniform(0, 1.5) for _ in range(10)])


DIES = """
import sys, voxelvault as vv
from dying import dies_before
from voxelvault.storage.objects import LocalObjects
from voxelvault.catalog.lease import DuckLakeLease
with vv.open(sys.argv[1]) as vault:
    writes = (LocalObjects, "put"), (LocalObjects, "replace"), (DuckLakeLease, "commit")
    left = dies_before(int(sys.argv[3]), *writes)
    vault.ingest(sys.argv[2], progress=False)
print("done", left())
"""


def test_kill_9_before_each_write(vault_path: Path, tmp_path: Path) -> None:
    """One small ingest, killed before its first write, its second, …: always whole afterwards."""
    files = [person_file(instance=n, pixel=n) for n in (1, 2)]
    folder = write(tmp_path / "in", [*files, hostile()["nested 10,000 deep"]])
    for left in (0, 3, 6, 9, 11):
        child = python(DIES, vault_path, folder, left)
        child.communicate(timeout=60)
        assert child.returncode == -signal.SIGKILL
        with open_again(vault_path) as vault:
            assert vault.verify(progress=False, quick=True).ok
            report = repaired(vault)
            assert report.ok, report.failures
            assert (report.orphans, report.unfinished) == (0, 0)
            if counts(vault, "instances") != (0,):
                break
    with open_again(vault_path) as vault:
        vault.ingest(folder, progress=False)
        assert exported(vault, tmp_path / "out") == sorted(map(digest, files))
        assert counts(vault, "instances", "quarantine", "series") == (2, 1, 1)
        assert vault.verify(progress=False).ok


def test_a_repair_never_sweeps_what_an_ingest_at_work_needs(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ingest that slept longer than the grace period notices, and stores nothing half."""
    from voxelvault.intake import ingest as room

    files = [person_file(instance=n) for n in (1, 2)]
    commit = room.commit_batch

    def overtaken(*arguments: Any) -> Any:
        assert repaired(vault).swept > 0
        return commit(*arguments)

    monkeypatch.setattr(room, "commit_batch", overtaken)
    with pytest.raises(StorageError, match="run it again"):
        vault.ingest(write(tmp_path / "in", files), progress=False)
    monkeypatch.undo()
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
    assert counts(vault, "instances") == (0,)
    assert vault.ingest(tmp_path / "in", progress=False).stored == 2
    assert vault.verify(progress=False).ok


def test_a_repair_never_sweeps_what_is_about_to_be_kept_aside(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voxelvault.intake import commit as room

    seal = room.seal_aside

    def overtaken(*arguments: Any) -> Any:
        sealed = seal(*arguments)
        assert repaired(vault).swept > 0
        return sealed

    folder = write(tmp_path / "in", [hostile()["nested 10,000 deep"]])
    with monkeypatch.context() as patch:
        patch.setattr(room, "seal_aside", overtaken)
        with pytest.raises(StorageError, match="run it again"):
            vault.ingest(folder, progress=False)
    assert len(vault.ingest(folder, progress=False).quarantined) == 1
    assert vault.verify(progress=False).ok


def test_a_repair_that_slept_sweeps_nothing_written_meanwhile(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease in object storage is another's by then, who may have committed what looks old now."""
    from voxelvault.intake import ingest as room
    from voxelvault.upkeep import repair as mending

    class Asleep(Exception):
        pass

    def falls_asleep(*_: Any) -> Any:
        raise Asleep

    with monkeypatch.context() as patch:
        patch.setattr(room, "commit_batch", falls_asleep)
        with pytest.raises(Asleep):
            vault.ingest(write(tmp_path / "in", [person_file()]), progress=False)
    listed, clock = mending._referenced, time.time

    def slept(*given: Any) -> Any:
        monkeypatch.setattr(mending.time, "time", lambda: clock() + 2 * mending.GRACE)
        return listed(*given)

    monkeypatch.setattr(mending, "_referenced", slept)
    assert vault.verify(progress=False, repair=True).swept == 0
    monkeypatch.setattr(mending.time, "time", clock)
    assert vault.verify(progress=False).orphans > 0


class Refusing:
    """Lets so many writes pass, then refuses them with an errno of the operating system."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, after: int) -> None:
        self.left, self.number = after, number
        monkeypatch.setattr("voxelvault.storage.objects._write", self.write)

    def write(self, fd: int, view: memoryview) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(self.number, os.strerror(self.number))
        while view:
            view = view[os.write(fd, view) :]


def one_line(error: BaseException, *planted: str) -> None:
    """The message says what to do, in one line, and nothing behind it tells where."""
    assert "\n" not in str(error)
    assert len(str(error)) > 20
    chained: BaseException | None = error
    while chained is not None:
        assert isinstance(chained, VoxelVaultError), repr(chained)
        assert not any(word in str(chained) for word in planted), str(chained)
        chained = chained.__cause__ or (None if chained.__suppress_context__ else chained.__context__)


def refusal(vault: Vault, folder: Path) -> VoxelVaultError | None:
    try:
        vault.ingest(folder, progress=False)
    except (StorageError, AuditError) as error:
        return error
    return None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_the_disk_refuses_in_the_middle_of_an_ingest(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    files = [person_file(instance=n, pixel=n, series=n) for n in (1, 2)]
    folder = write(tmp_path / "in", files)
    for after in range(0, 24, 3):
        with monkeypatch.context() as patch:
            refusing = Refusing(patch, number, after)
            error = refusal(vault, folder)
            if refusing.left >= 0:
                break
        assert error is not None
        one_line(error, str(tmp_path), "in/0")
        assert number != errno.ENOSPC or "full" in str(error) or "verify --repair" in str(error)
        assert vault.verify(progress=False, quick=True).ok
    report = repaired(vault)
    assert report.ok, report.failures
    assert vault.ingest(folder, progress=False).duplicates <= 2
    assert exported(vault, tmp_path / "out") == sorted(map(digest, files))
    assert vault.verify(progress=False).ok


def test_a_failed_ingest_leaves_no_objects_behind(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "in", [person_file(series=n) for n in range(4)])
    before = snapshot(vault.path, "objects")
    with monkeypatch.context() as patch:
        Refusing(patch, errno.ENOSPC, 8)
        with pytest.raises(NoSpace):
            vault.ingest(folder, progress=False)
    assert snapshot(vault.path, "objects") == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    place = tmp_path / "small"
    place.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("mounting needs root; the same is tested with an injected errno")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


def test_a_disk_that_is_really_full(vault: Vault, tmp_path: Path, small_disk: Path) -> None:
    files = ct_series(24, 256, 256)
    vault.ingest(write(tmp_path / "in", files), progress=False)
    with pytest.raises(NoSpace) as caught:
        vault.export(small_disk / "out", progress=False)
    one_line(caught.value, str(tmp_path))
    assert not list((small_disk / "out").rglob("*.part"))
    written = {digest(path.read_bytes()) for path in (small_disk / "out").rglob("*.dcm")}
    assert written < set(map(digest, files))
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    vault.export(small_disk / "out", progress=False)
    assert sorted(digest(p.read_bytes()) for p in (small_disk / "out").rglob("*.dcm")) == sorted(
        map(digest, files)
    )


def test_a_killed_export_goes_on(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [person_file(instance=n, pixel=n) for n in range(1, 4)]
    vault.ingest(write(tmp_path / "in", files), progress=False)
    synced: list[int] = []

    def full(fd: int) -> None:
        synced.append(fd)
        if len(synced) == 2:
            raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr("voxelvault.files.os", SimpleNamespace(**{**vars(os), "fsync": full}))
        with pytest.raises(NoSpace, match="free some space"):
            vault.export(tmp_path / "out", progress=False)
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 1
    outcomes = [entry.outcome for entry in vault.audit.log() if entry.kind == Kind.EXPORT]
    assert outcomes == ["intent", "failed"]
    assert exported(vault, tmp_path / "out") == sorted(map(digest, files))
    # Somebody else's file is in the way: it is left alone.
    one = next((tmp_path / "out").rglob("*.dcm"))
    one.write_bytes(b"mine")
    with pytest.raises(VoxelVaultError, match="choose an empty folder"):
        vault.export(tmp_path / "out", progress=False)
    assert one.read_bytes() == b"mine"


def test_a_manifest_that_is_not_ours_is_left_alone(vault: Vault, tmp_path: Path) -> None:
    vault.ingest(write(tmp_path / "in", [person_file(study=1), person_file(study=2)]), progress=False)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "MANIFEST.csv").write_text("mine,own\n1,2\n")
    with pytest.raises(VoxelVaultError, match="left alone"):
        vault.export(tmp_path / "out", progress=False)
    assert (tmp_path / "out" / "MANIFEST.csv").read_text() == "mine,own\n1,2\n"
    # Two exports into one folder: the manifest names the files of both.
    one, other = (row["study_id"] for row in rows(vault, "select study_id from studies"))
    vault.export(tmp_path / "two", study=one, progress=False)
    vault.export(tmp_path / "two", study=other, progress=False)
    lines = (tmp_path / "two" / "MANIFEST.csv").read_text().splitlines()
    assert len(lines) == 3
    assert len(set(lines)) == 3


def _refused(write: Callable[..., None]) -> Callable[..., None]:
    def refuses(self: LocalObjects, name: str, data: Any) -> None:
        if name.startswith("audit/"):
            raise NoSpace("the vault's disk is full: free some space, then run again")
        write(self, name, data)

    return refuses


def test_no_entry_no_access(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log can't be written: nothing is read, nothing is stored, nothing is exported."""
    from flow_support import series_uid

    vault.ingest(write(tmp_path / "in", [person_file()]), progress=False)
    (subject,) = rows(vault, "select subject_id from patients")
    before = snapshot(vault.path, "objects")
    for method in ("put", "replace"):
        monkeypatch.setattr(LocalObjects, method, _refused(getattr(LocalObjects, method)))
    attempts: list[Callable[[], object]] = [
        lambda: vault.ingest(write(tmp_path / "more", [person_file(instance=2)]), progress=False),
        lambda: vault.sql("select 1"),
        lambda: vault.series(series_uid()),
        lambda: vault.export(tmp_path / "out", progress=False),
        vault.quarantine,
        lambda: vault.merge_subjects(subject["subject_id"], "0" * 32),
        lambda: setattr(vault.options, "identifying", True),
        lambda: open_again(vault.path),
    ]
    for attempt in attempts:
        with pytest.raises((AuditError, VoxelVaultError)) as caught:
            attempt()
        one_line(caught.value, str(tmp_path))
    monkeypatch.undo()
    assert snapshot(vault.path, "objects") == before
    assert not vault.options.identifying
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
    assert not (tmp_path / "out").exists()
    assert counts(vault, "instances") == (1,)


def test_an_outcome_that_was_never_entered(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Committed, and then the log is full: the message says so, and repair enters what is missing."""
    from voxelvault.intake import commit as intake

    def full(*_: Any) -> None:
        raise AuditError("no audit entry could be written, so nothing was done: the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(intake, "_log_outcome", full)
        with pytest.raises(AuditError, match=r"were stored.*verify --repair"):
            vault.ingest(write(tmp_path / "in", [person_file()]), progress=False)
    report = vault.verify(progress=False)
    assert (report.ok, report.unfinished) == (True, 1)
    assert repaired(vault).recovered == 1
    again = vault.verify(progress=False)
    assert (again.ok, again.unfinished, again.orphans) == (True, 0, 0)


def test_orphans_of_the_quarantine_are_swept(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voxelvault.catalog.lease import DuckLakeLease

    def dies(*_: Any) -> None:
        raise NoSpace("full")

    folder = write(tmp_path / "in", [hostile()["nested 10,000 deep"]])
    with monkeypatch.context() as patch:
        patch.setattr(DuckLakeLease, "commit", dies)
        with pytest.raises(NoSpace):
            vault.ingest(folder, progress=False)
    assert vault.verify(progress=False).orphans == 1
    assert repaired(vault).swept == 1
    assert vault.verify(progress=False).orphans == 0


@pytest.mark.parametrize("later", [{"good": person_file(instance=2)}, {}])
def test_a_repair_by_an_older_catalog_sweeps_nothing(
    vault_path: Path, tmp_path: Path, later: dict[str, bytes]
) -> None:
    """Yesterday's catalog/, accepted: packs and quarantined files of today are no orphans."""
    with open_again(vault_path) as vault:
        vault.ingest(write(tmp_path / "a", [person_file()]), progress=False)
    old = copy_vault(vault_path, tmp_path / "old")
    newest = tmp_path / "newest"
    with open_again(vault_path) as vault:
        bad = {"bad": hostile()["nested 10,000 deep"]}
        vault.ingest(write(tmp_path / "b", {**later, **bad}), progress=False)
    (vault_path / "catalog").rename(newest)
    shutil.copytree(old / "catalog", vault_path / "catalog")
    before = snapshot(vault_path, "objects")
    with open_again(vault_path, accept_restore=True) as vault:
        if later:
            with pytest.raises(IntegrityError, match="restore the newest catalog/") as caught:
                repaired(vault)
            one_line(caught.value, str(tmp_path))
        else:
            assert repaired(vault).swept == 0
    assert snapshot(vault_path, "objects").items() >= before.items()
    shutil.rmtree(vault_path / "catalog")
    newest.rename(vault_path / "catalog")
    with open_again(vault_path, accept_restore=True) as vault:
        assert counts(vault, "instances", "quarantine") == (1 + len(later), 1)
        report = repaired(vault)
        assert report.ok, report.failures


def test_repair_sweeps_texts_of_no_entry(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.ingest(write(tmp_path / "in", [person_file(), person_file("B", study=2)]), progress=False)
    one, other = (row["subject_id"] for row in rows(vault, "select subject_id from patients"))
    replace = LocalObjects.replace

    def full(self: LocalObjects, name: str, data: Any) -> None:
        if name.startswith("audit/"):
            raise NoSpace("full")
        replace(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(LocalObjects, "replace", full)
        with pytest.raises(VoxelVaultError):
            vault.merge_subjects(one, other, reason="a text of no entry")
    assert len(snapshot(vault.path, "audit/text")) == 1
    verify(vault.resources, VerifyOptions(quick=True, repair=True))
    assert len(snapshot(vault.path, "audit/text")) == 1
    # The text, and what the append had written when its checkpoint failed.
    assert repaired(vault).swept == 2
    assert not snapshot(vault.path, "audit/text")
    assert len(snapshot(vault.path, "audit/edge")) == 1


def test_an_instance_without_rows_is_noticed(vault: Vault, tmp_path: Path) -> None:
    files = [person_file(instance=n, pixel=n) for n in (1, 2)]
    vault.ingest(write(tmp_path / "in", files), progress=False)
    (gone,) = rows(vault, f"select instance_id from instances where sha256 = '{digest(files[0])}'")
    frames = rows(
        vault, f"select pack_id, stack, frame from frames where instance_id = '{gone['instance_id']}'"
    )
    vault.resources.catalog.commit(
        [*changes("instances", [gone], "delete"), *changes("frames", frames, "delete")]
    )
    report = vault.verify(progress=False, quick=True)
    assert any(f"lacks the row of instance {gone['instance_id']}" in str(item) for item in report.failures)


def test_a_duplicate_dropped_at_commit_is_no_loss(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ingests at once bring the same file: the later pack's manifest has it, and no row."""
    from voxelvault.intake import ingest as room

    files = [person_file(instance=n, pixel=n) for n in (1, 2)]
    vault.ingest(write(tmp_path / "a", files[:1]), progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(room, "without_duplicates", lambda _, candidates, __: list(candidates))
        assert vault.ingest(write(tmp_path / "b", files), progress=False).duplicates == 1
    assert counts(vault, "instances") == (2,)
    report = vault.verify(progress=False)
    assert report.ok, report.failures


def test_move_deletes_what_is_stored_and_nothing_else(vault: Vault, tmp_path: Path) -> None:
    stored, fresh = person_file(instance=1), person_file(instance=2)
    vault.ingest(write(tmp_path / "in", [stored]), progress=False)
    folder = write(
        tmp_path / "move",
        {
            "stored.dcm": stored,
            "fresh.dcm": fresh,
            "twice.dcm": fresh,
            "bad.dcm": hostile()["nested 10,000 deep"],
            "notes.txt": b"not DICOM",
        },
    )
    report = vault.ingest(folder, move=True, progress=False)
    assert (report.stored, report.duplicates, len(report.quarantined)) == (1, 2, 1)
    assert sorted(path.name for path in folder.iterdir()) == ["bad.dcm", "notes.txt"]


def test_move_spares_what_changed_meanwhile(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voxelvault.intake import ingest as room

    folder, commit = write(tmp_path / "move", [person_file()]), room.commit_batch

    def slowly(*arguments: Any) -> Any:
        (folder / "0000.dcm").write_bytes(person_file(pixel=9))
        return commit(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(room, "commit_batch", slowly)
        vault.ingest(folder, move=True, progress=False)
    assert (folder / "0000.dcm").read_bytes() == person_file(pixel=9)


def test_a_dry_run_writes_nothing(vault: Vault, tmp_path: Path) -> None:
    folder, files = material(tmp_path / "in")
    before = {area: snapshot(vault.path, area) for area in ("objects", "catalog", "audit", "keys")}
    report = vault.ingest(folder, dry_run=True, progress=False)
    assert (report.stored, report.series, len(report.quarantined)) == (len(files), SERIES, 1)
    assert {area: snapshot(vault.path, area) for area in before} == before
