"""Originals of a vault and of a folder, patient by patient."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pydicom
import pytest

import voxelvault as vv
from voxelvault.releasing.originals import FolderOriginals, Original, Subject, VaultOriginals
from voxelvault.testing import synthetic


def series(count: int, number: int, **values: str) -> list[bytes]:
    """Return a small CT series with some values of its header changed."""
    files = []
    for data in synthetic.ct_series(count, 16, 16, series=number):
        header = pydicom.dcmread(io.BytesIO(data))
        for keyword, value in values.items():
            setattr(header, keyword, value)
        header.save_as(changed := io.BytesIO())
        files.append(changed.getvalue())
    return files


def two_people() -> list[bytes]:
    return [*series(3, 1), *series(2, 2, PatientID="P2", StudyInstanceUID="1.2.3.4")]


def fill(folder: Path, files: list[bytes]) -> Path:
    folder.mkdir()
    for number, data in enumerate(files):
        (folder / f"{number}.dcm").write_bytes(data)
    return folder


def every(subjects: list[Subject]) -> list[Original]:
    return [original for subject in subjects for study in subject.studies for original in study]


def test_a_vault_gives_each_file_as_it_came(tmp_path: Path) -> None:
    files = two_people()
    with vv.create(tmp_path / "vault") as vault:
        vault.ingest(fill(tmp_path / "in", files), progress=False)
        found = VaultOriginals(vault.resources)
        subjects = list(found.subjects())
        assert len(found) == 5
        assert {len(every([subject])) for subject in subjects} == {2, 3}
        assert {original.read() for original in every(subjects)} == set(files)
        assert all(len(subject.subject) == 32 for subject in subjects)


def test_a_folder_gives_each_file_with_where_it_lay(tmp_path: Path) -> None:
    files = two_people()
    folder = fill(tmp_path / "in", files)
    (folder / "readme.txt").write_text("no DICOM")
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.writestr("deep/one.dcm", series(1, 9)[0])
    found = FolderOriginals(folder)
    read = {original.place: original.read() for original in every(list(found.subjects()))}
    assert len(read) == len(found) == 6
    assert [read[f"{number}.dcm"] for number in range(5)] == files
    assert ("readme.txt", "not_dicom") in found.refused


def test_people_who_share_an_id_are_told_apart_in_the_same_way_each_time(tmp_path: Path) -> None:
    born = ("19500101", "19800202", "19500101")
    files = [
        series(1, n, PatientID="123456", PatientBirthDate=b, PatientName=f"N{b}")[0]
        for n, b in enumerate(born)
    ]
    first = list(FolderOriginals(fill(tmp_path / "a", files)).subjects())
    again = list(FolderOriginals(fill(tmp_path / "b", files[::-1])).subjects())
    assert sorted(len(every([subject])) for subject in first) == [1, 2]
    assert {subject.subject for subject in first} == {subject.subject for subject in again}


def test_an_id_in_another_spelling_is_the_same_one(tmp_path: Path) -> None:
    files = [series(1, n, PatientID=patient)[0] for n, patient in enumerate(("ab-12", "AB-12 "))]
    assert len(list(FolderOriginals(fill(tmp_path / "in", files)).subjects())) == 1


def test_nothing_shows_where_a_file_lay(tmp_path: Path) -> None:
    found = FolderOriginals(fill(tmp_path / "Doe^John", two_people()))
    assert "Doe" not in repr(list(found.subjects()))


@pytest.mark.parametrize("content", [b"", b"DICM", bytes(200)])
def test_what_is_no_dicom_is_left_where_it_is(tmp_path: Path, content: bytes) -> None:
    folder = fill(tmp_path / "in", [content])
    found = FolderOriginals(folder)
    assert list(found.subjects()) == []
    assert [place for place, _ in found.refused] == ["0.dcm"]


def test_ids_that_read_as_a_machines_designation_are_known_of_all_patients(tmp_path: Path) -> None:
    ids = ("AB123", "c-77", "48151623", "4711")
    files = [series(1, n, PatientID=one, StudyInstanceUID=f"1.2.{n}")[0] for n, one in enumerate(ids)]
    folder = fill(tmp_path / "in", files)
    assert FolderOriginals(folder).like_designations() == {"AB123", "C77", "4711"}
    with vv.create(tmp_path / "vault") as vault:
        vault.ingest(folder, progress=False)
        one = vault.resources.catalog.query("select series_id from series limit 1")["series_id"].to_pylist()
        assert VaultOriginals(vault.resources, one).like_designations() == {"AB123", "C77", "4711"}
