"""Where released files go: whole studies, nothing of one that was dropped, one time for all."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

import voxelvault as vv
from voxelvault.errors import UsageError
from voxelvault.releasing import targets
from voxelvault.releasing.targets import FolderTarget, Released, VaultTarget, one_time, require_empty
from voxelvault.testing import synthetic


def released(study: int, count: int = 3) -> list[Released]:
    found = []
    for data in synthetic.ct_series(count, 16, 16, seed=study):
        header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
        uids = header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID
        found.append(Released(*uids, data))
    return found


@pytest.fixture(params=["folder", "vault", "vault in parts"])
def target(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FolderTarget | VaultTarget]:
    if request.param == "folder":
        yield FolderTarget(tmp_path / "out", tmp_path / "staging")
        return
    if request.param == "vault in parts":
        monkeypatch.setattr(targets, "HELD", 1000)
    with vv.create(tmp_path / "vault") as vault:
        yield VaultTarget(vault.resources)


def test_a_study_is_given_back_as_it_lies_there(target: FolderTarget | VaultTarget) -> None:
    wanted = {target.place(file): file.data for file in released(1)}
    for file in released(1):
        target.add(file)
    assert dict(target.keep()) == wanted


def test_nothing_is_left_of_a_study_that_is_dropped(
    target: FolderTarget | VaultTarget, tmp_path: Path
) -> None:
    kept, dropped = released(1), released(2)
    for file in kept:
        target.add(file)
    list(target.keep())
    for file in dropped:
        target.add(file)
    target.drop()
    assert dict(target.keep()) == {}
    if isinstance(target, FolderTarget):
        assert len(list((tmp_path / "out").rglob("DICOM/*/*/*"))) == 3
        assert not list((tmp_path / "out").glob(".*"))
    else:
        rows = target._resources.catalog.query("select count(*) n from instances").to_pylist()
        assert rows == [{"n": 3}]


def test_every_file_and_folder_has_the_one_time(tmp_path: Path) -> None:
    target = FolderTarget(tmp_path / "out", tmp_path / "staging")
    for file in released(1):
        target.add(file)
    list(target.keep())
    one_time(tmp_path / "out")
    found = [tmp_path / "out", *(tmp_path / "out").rglob("*")]
    assert {path.stat().st_mtime for path in found} == {targets.TIME}


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    first, second = (FolderTarget(tmp_path / "out", tmp_path / name) for name in "ab")
    for target in (first, second):
        target.add(released(1, 1)[0])
    wanted = {first.place(file): file.data for file in released(1, 1)}
    assert dict(first.keep()) == dict(second.keep()) == wanted


def test_names_are_file_ids_and_no_two_uids_share_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = FolderTarget(tmp_path / "out", tmp_path / "staging")
    first, second = released(1, 2)
    assert all(re.fullmatch("[A-Z0-9_]{1,8}", part) for part in target.place(first).split("/"))
    monkeypatch.setattr(targets, "short_name", lambda uid, turn=0: f"SAME{turn}")
    assert target.place(second) != target.place(first) == target.place(first)
    again = FolderTarget(tmp_path / "out", tmp_path / "staging")
    assert again.place(second).endswith("SAME0")


def test_a_release_wants_a_place_of_its_own(tmp_path: Path) -> None:
    require_empty(tmp_path / "new")
    require_empty(tmp_path)
    (tmp_path / "something").touch()
    with pytest.raises(UsageError, match="choose another"):
        require_empty(tmp_path)


@pytest.mark.parametrize("sign", [".release", "receipts.jsonl"])
def test_a_release_lies_in_no_other_one(tmp_path: Path, sign: str) -> None:
    (tmp_path / "whole" / "sub").mkdir(parents=True)
    (tmp_path / "whole" / sign).touch()
    with pytest.raises(UsageError, match="inside another release"):
        require_empty(tmp_path / "whole" / "sub" / "deeper")
