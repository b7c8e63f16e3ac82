"""A series that came image by image becomes one pack: nothing changes for whoever reads or asks."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flow_support import counts, exported, open_again, person_file, python, rows, settled, write

import voxelvault as vv
from voxelvault.testing.synthetic import CODESTREAMS, compressed, ct_series, hostile, structured_report
from voxelvault.upkeep.compaction import compact
from voxelvault.upkeep.rewriting import rewrite
from voxelvault.upkeep.verify import VerifyOptions, verify
from voxelvault.vault import Vault

SLICES = 4


@pytest.fixture(scope="module")
def piecemeal(pattern: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault whose series came image by image, with a version, codestreams, an SR and a bad file."""
    home = tmp_path_factory.mktemp("piecemeal")
    parts = [[data] for data in ct_series(SLICES, 16, 16, series=1, seed=0)]
    parts += [[person_file(study=7, instance=n, pixel=n)] for n in (1, 2)]
    parts += [[person_file(study=7, instance=2, pixel=9)], [hostile()["nested 10,000 deep"]]]
    parts += [[compressed(next(iter(CODESTREAMS))), structured_report()]]
    with pytest.MonkeyPatch.context() as patch:
        with vv.open(settled(pattern, home, patch)) as vault:
            for number, files in enumerate(parts):
                vault.ingest(write(home / f"{number}", files), progress=False)
    return home


@pytest.fixture
def path(piecemeal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return settled(piecemeal, tmp_path, monkeypatch)


@pytest.fixture
def many(path: Path) -> Iterator[Vault]:
    with vv.open(path) as vault:
        yield vault


def ct(vault: Vault) -> str:
    found = rows(
        vault,
        "select SeriesInstanceUID as u from series join packs using (series_id)"
        f" group by 1 having count(*) = {SLICES}",
    )
    return str(found[0]["u"])


def repaired(vault: Vault, readers: float = 0.0) -> Any:
    return verify(vault.resources, VerifyOptions(quick=True, repair=True, grace=0, readers=readers))


_KEPT = (
    "select instance_id, series_id, study_id, subject_id, SOPInstanceUID, version, superseded, sha256,"
    " stored, pixels, header, received from instances order by instance_id",
    "select instance_id, FrameNumber, ImagePositionPatient, RescaleSlope, WindowCenter from frames"
    " order by instance_id, FrameNumber",
    "select * from patients order by subject_id",
    "select * from conflicts order by conflict_id",
    "select * from quarantine order by quarantine_id",
)


def known(vault: Vault) -> list[list[dict[str, Any]]]:
    return [rows(vault, query) for query in _KEPT]


def test_one_pack_a_series_and_the_same_answers(many: Vault, tmp_path: Path) -> None:
    uid, before, files = ct(many), known(many), exported(many, tmp_path / "before")
    pixels = many.series(uid).load()
    planned = many.compact(dry_run=True, progress=False)
    assert counts(many, "packs") == (SLICES + 3 + 2,)
    report = many.compact(progress=False)
    assert (report.series, report.packs, report.into) == (2, SLICES + 3, 2)
    assert (planned.packs, planned.into, planned.bytes) == (report.packs, report.into, report.bytes)
    assert counts(many, "packs") == (4,)
    assert known(many) == before
    np.testing.assert_array_equal(many.series(uid).load(), pixels)
    assert exported(many, tmp_path / "after") == files
    found = many.verify(progress=False)
    assert found.ok, found.failures
    assert (found.orphans, found.retired > 0) == (0, True)
    assert many.compact(progress=False).packs == 0
    # What came before is still known.
    again = many.ingest(tmp_path / "before", progress=False)
    assert (again.stored, again.duplicates) == (0, len(files))


def test_the_former_objects_wait_for_readers(many: Vault, path: Path, tmp_path: Path) -> None:
    uid = ct(many)
    series = many.series(uid)
    before = {file.name for file in (path / "objects").rglob("*") if file.is_file()}
    many.compact(progress=False)
    report = repaired(many, readers=3600.0)
    assert (report.ok, report.swept) == (True, 0)
    assert series.load().shape[0] == SLICES
    report = repaired(many)
    assert report.ok
    assert report.swept > 0
    assert (report.retired, report.orphans) == (0, 0)
    now = {file.name for file in (path / "objects").rglob("*") if file.is_file()}
    assert len(now) < len(before)
    assert many.verify(progress=False).ok
    assert many.series(uid).load().shape[0] == SLICES


def test_an_open_handle_reads_on_while_packs_are_joined(many: Vault, path: Path, tmp_path: Path) -> None:
    """Not a chunk was read when the packs went; an export that began before ends as it would have."""
    uid = ct(many)
    series = many.series(uid)
    pending = many.resources.catalog.query("select count(*) from packs")
    with vv.open(path) as other:
        other.compact(progress=False)
    assert pending.num_rows == 1
    np.testing.assert_array_equal(series.load(), many.series(uid).load())
    assert len(exported(many, tmp_path / "out")) == SLICES + 3 + 2


def test_an_export_at_work_finds_what_moved(
    many: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voxelvault import export

    listed = export.instance_rows

    def then_compact(*arguments: Any) -> Any:
        found = listed(*arguments)
        compact(many.resources)
        return found

    files = exported(many, tmp_path / "before")
    monkeypatch.setattr(export, "instance_rows", then_compact)
    assert exported(many, tmp_path / "out") == files


def test_a_changed_pack_is_left_as_it_is(many: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two compactions at once: one of them joins the packs, the other gives up and says so."""
    from voxelvault.upkeep import compaction

    raced: list[object] = []

    def rewrite_then_race(*arguments: Any) -> Any:
        done = rewrite(*arguments)
        monkeypatch.setattr(compaction, "rewrite", rewrite)
        raced.append(compact(many.resources))
        return done

    monkeypatch.setattr(compaction, "rewrite", rewrite_then_race)
    report = compact(many.resources)
    assert raced
    assert report.skipped > 0
    assert not report.complete
    assert repaired(many).ok
    assert many.verify(progress=False).ok
    assert counts(many, "packs") == (4,)


DIES = """
import sys, voxelvault as vv
from dying import dies_before
from voxelvault.catalog.lease import DuckLakeLease
from voxelvault.audit.log import AuditLog
from voxelvault.storage.objects import LocalObjects
with vv.open(sys.argv[1]) as vault:
    dies_before(int(sys.argv[2]), (LocalObjects, "put"), (DuckLakeLease, "commit"), (AuditLog, "append"))
    vault.compact(progress=False)
"""


OFTEN = [pytest.param(left, marks=pytest.mark.long) for left in (0, 1, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15, 16)]


@pytest.mark.parametrize("left", [2, 9, 11, 13, *OFTEN])
def test_kill_9_anywhere_changes_nothing_or_all(path: Path, tmp_path: Path, left: int) -> None:
    with open_again(path) as vault:
        before, files = known(vault), exported(vault, tmp_path / "before")
    child = python(DIES, path, left)
    child.communicate(timeout=60)
    with open_again(path) as vault:
        found = vault.verify(progress=False, quick=True)
        assert found.ok, found.failures
        assert known(vault) == before
        report = repaired(vault)
        assert report.ok, report.failures
        assert (report.orphans, report.retired, report.unfinished) == (0, 0, 0)
        assert child.returncode in (0, -signal.SIGKILL)
        vault.compact(progress=False)
        assert counts(vault, "packs") == (4,)
        assert known(vault) == before
        assert exported(vault, tmp_path / "after") == files
        assert repaired(vault).ok
        assert vault.verify(progress=False).ok


def test_a_damaged_pack_stays_and_says_so(many: Vault, path: Path) -> None:
    (row,) = rows(
        many,
        "select min(pack_id) as id from packs join series using (series_id)"
        f" where SeriesInstanceUID = '{ct(many)}'",
    )
    sealed = many.resources.sealed
    shard = next(
        info.name
        for info in many.resources.objects.list("objects/")
        if sealed.preamble(info.name[-32:]).key_id == row["id"] and sealed.preamble(info.name[-32:]).kind == 2
    )
    file = path / shard
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.chmod(0o600)
    file.write_bytes(data)
    with pytest.raises(vv.errors.IntegrityError):
        many.compact(progress=False)
    assert counts(many, "packs") == (SLICES + 3 + 2,)
    assert not many.verify(progress=False).ok
