"""Files that change under the reader, files that can't be read, and choices that are mistyped."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

import voxelvault as vv
from voxelvault.access import identifies
from voxelvault.dicom import sources
from voxelvault.errors import IntegrityError, NoPermission, UsageError
from voxelvault.intake import packing
from voxelvault.intake.quarantine import Reason
from voxelvault.storage.prepare import Prepared, prepare
from voxelvault.testing import synthetic


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> vv.Vault:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    return vv.create(tmp_path / "vault")


def inbox(tmp_path: Path, count: int) -> list[Path]:
    paths = [tmp_path / f"{number}.dcm" for number in range(count)]
    for path, data in zip(paths, synthetic.ct_series(count, 16, 16), strict=True):
        path.write_bytes(data)
    return paths


def test_a_mapped_file_that_is_written_to_does_not_count_as_stored(
    vault: vv.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = inbox(tmp_path, 3)
    monkeypatch.setattr(sources, "WHOLE_LIMIT", 16)

    def meddle(data: object, *rest: object, **options: object) -> Prepared:
        done = prepare(data, *rest, **options)  # type: ignore[arg-type]
        with paths[1].open("r+b") as file:
            file.seek(-4, 2)
            file.write(b"\x01\x02\x03\x04")
        return done

    monkeypatch.setattr(packing, "prepare", meddle)
    report = vault.ingest(*paths, progress=False)
    assert report.stored == 2
    assert [item.reason for item in report.quarantined] == [Reason.CHANGED]
    assert vault.verify(progress=False).ok
    monkeypatch.setattr(packing, "prepare", prepare)
    assert vault.ingest(*paths, progress=False).stored == 1
    assert vault.verify(progress=False).ok
    assert vault.export(tmp_path / "out", progress=False).files == 3


def test_a_file_that_fails_since_it_was_written_to_is_set_aside_once(
    vault: vv.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = inbox(tmp_path, 3)
    monkeypatch.setattr(sources, "WHOLE_LIMIT", 16)

    whole = hashlib.sha256(paths[1].read_bytes()).hexdigest()

    def meddle(data: object, *rest: object, **options: object) -> Prepared:
        if options["sha256"] == whole:
            with paths[1].open("r+b") as file:
                file.seek(-4, 2)
                file.write(b"\x01\x02\x03\x04")
            raise IntegrityError("the frame did not come back as it went in")
        return prepare(data, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(packing, "prepare", meddle)
    report = vault.ingest(*paths, progress=False)
    assert report.stored == 2
    assert [item.reason for item in report.quarantined] == [Reason.CHANGED]


def test_each_unreadable_file_is_noted_once(
    vault: vv.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise NoPermission("no")

    monkeypatch.setattr(sources, "_mapped", refuse)
    paths = inbox(tmp_path, 2)
    first = vault.ingest(*paths, progress=False)
    again = vault.ingest(*paths, progress=False)
    assert len({item.quarantine_id for item in first.quarantined}) == 2
    assert {item.quarantine_id for item in again.quarantined} == {
        item.quarantine_id for item in first.quarantined
    }
    assert len(vault.quarantine()) == 2


def test_a_mistyped_codec_stores_and_keeps_nothing(vault: vv.Vault, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no codec"):
        vault.ingest(*inbox(tmp_path, 1), codec="fsat", progress=False)
    assert vault.quarantine() == []


@pytest.mark.parametrize(
    "query",
    [
        "select $$'$$, header, $$'$$ from instances",
        "select Modality --'\n, header --'\n from instances",
        "select Modality /*'*/, header /*'*/ from instances",
        r"select e'\'', header, '' from instances",
    ],
)
def test_a_query_cannot_hide_what_it_reads(query: str) -> None:
    assert identifies(query)


def test_a_header_that_would_fill_the_memory_is_set_aside(
    vault: vv.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = inbox(tmp_path, 2)
    monkeypatch.setattr("voxelvault.dicom.json_model.MAX_CELLS", 300)
    comments = {"PatientComments": "Doe " * 2_500}
    paths[0].write_bytes(synthetic.image(np.zeros((4, 4), np.uint8), "OT", attributes=comments))
    report = vault.ingest(*paths, progress=False)
    assert [item.reason for item in report.quarantined] == [Reason.HEADER_TOO_LARGE]
    assert report.stored == 1
    assert vault.verify(progress=False).ok


def test_a_batch_ends_where_headers_fill_the_memory(
    vault: vv.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = inbox(tmp_path, 9)
    monkeypatch.setattr("voxelvault.intake.ingest.BATCH_CELLS", 200)
    report = vault.ingest(*paths, progress=False)
    assert (report.found, report.stored, report.interrupted) == (9, 9, False)
    assert 2 < vault.sql("select count(*) from packs").fetchall()[0][0] < 9
    assert vault.verify(progress=False).ok
