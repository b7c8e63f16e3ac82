"""Folders, archives and DICOMDIRs: everything is found, nothing is followed that shouldn't be."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from voxelvault.dicom import sources
from voxelvault.dicom.archives import Limits
from voxelvault.dicom.part10 import parse
from voxelvault.dicom.sources import Refusal, Source, find_files
from voxelvault.errors import (
    ArchiveRefused,
    DicomError,
    StorageError,
    UsageError,
)
from voxelvault.testing.hostile import hostile_archives

CONTENT = {"a/1.dcm": b"one" * 1000, "a/2.dcm": b"two" * 2000, "b/3": os.urandom(100_000), "empty": b""}


def sources_of(*paths: Path, limits: Limits | None = None) -> list[Source]:
    return [found for found in find_files(paths, limits) if isinstance(found, Source)]


def refusals_of(*paths: Path, limits: Limits | None = None) -> list[Refusal]:
    return [found for found in find_files(paths, limits) if isinstance(found, Refusal)]


def read(source: Source) -> bytes:
    with source.open() as data:
        return bytes(data)


def contents(found: list[Source], root: Path) -> dict[str, bytes]:
    return {source.display.removeprefix(f"{root}").lstrip("/!"): read(source) for source in found}


def make_zip(path: Path, content: dict[str, bytes] = CONTENT) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, content: dict[str, bytes] = CONTENT, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def make_tar_gz(path: Path, content: dict[str, bytes] = CONTENT) -> Path:
    return make_tar(path, content, "w:gz")


MAKERS = [
    pytest.param(make_zip, id="zip"),
    pytest.param(make_tar, id="tar"),
    pytest.param(make_tar_gz, id="tar.gz"),
]


class TestFolders:
    def test_walks_in_order_and_hides_nothing(self, tmp_path: Path) -> None:
        for name, data in {**CONTENT, ".hidden": b"h"}.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(data)
        found = sources_of(tmp_path)
        assert contents(found, tmp_path) == {**CONTENT, ".hidden": b"h"}
        assert {source.size for source in found} == {len(data) for data in CONTENT.values()} | {1}
        assert [source.path.name for source in found] == [".hidden", "empty", "1.dcm", "2.dcm", "3"]

    def test_link_loops_end(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "loop").symlink_to(tmp_path)
        (tmp_path / "in" / "file").write_bytes(b"x")
        (tmp_path / "self").symlink_to(tmp_path / "self")
        assert [source.path.name for source in sources_of(tmp_path, tmp_path / "in")] == ["file"]
        assert [Path(refusal.path).name for refusal in refusals_of(tmp_path)] == ["self"]

    def test_pipes_and_unreadable_files_are_reported(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
        assert not sources_of(tmp_path)
        found = refusals_of(tmp_path)
        assert [Path(refusal.path).name for refusal in found] == ["gone", "pipe"]
        assert not any(str(tmp_path) in refusal.reason or str(tmp_path) in repr(refusal) for refusal in found)

    def test_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(path: object) -> list[str]:
            raise PermissionError

        monkeypatch.setattr(os, "listdir", refuse)
        (refusal,) = refusals_of(tmp_path)
        assert "may not be read" in refusal.reason

    def test_file_that_went_away(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"x")
        (source,) = sources_of(tmp_path)
        source.remove()
        assert not (tmp_path / "x").exists()
        source.remove()
        with pytest.raises(StorageError) as error:
            read(source)
        assert str(tmp_path) not in str(error.value)

    def test_missing_path_is_refused_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError):
            find_files([tmp_path, tmp_path / "nowhere"])

    def test_deep_folders(self, tmp_path: Path) -> None:
        deep = tmp_path
        for _ in range(300):
            deep = deep / "d"
        deep.mkdir(parents=True)
        (deep / "x").write_bytes(b"x")
        assert [read(source) for source in sources_of(tmp_path)] == [b"x"]

    def test_large_files_are_mapped(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources, "WHOLE_LIMIT", 10)
        (tmp_path / "x").write_bytes(b"0123456789abc")
        (source,) = sources_of(tmp_path / "x")
        with source.open() as data:
            assert isinstance(data, memoryview)
        assert bytes(data[3:5]) == b"34"  # ingest holds on to it

    def test_says_nothing_in_its_repr(self, tmp_path: Path) -> None:
        (tmp_path / "DOE^JANE").write_bytes(b"x")
        (source,) = sources_of(tmp_path)
        assert "DOE" not in repr(source)
        assert "DOE" in source.display


class TestArchives:
    @pytest.mark.parametrize("make", MAKERS)
    def test_members_in_any_order_and_after_pickling(self, tmp_path: Path, make: Callable[..., Path]) -> None:
        path = make(tmp_path / "archive")
        found = sources_of(path)
        assert {source.kind for source in found} == {"member"}
        for order in (found, found[::-1], pickle.loads(pickle.dumps(found))):
            assert contents(order, path) == CONTENT

    @pytest.mark.parametrize(
        ("make", "ending"), [(make_zip, ".ZIP"), (make_tar, ".tar"), (make_tar_gz, ".tar.gz")]
    )
    def test_in_folders_by_their_ending(self, tmp_path: Path, make: Callable[..., Path], ending: str) -> None:
        make(tmp_path / f"archive{ending}")
        assert len(list(find_files([tmp_path]))) == len(CONTENT)
        (tmp_path / f"archive{ending}").rename(tmp_path / "archive.docx")
        assert [source.kind for source in sources_of(tmp_path)] == ["file"]

    def test_one_gzipped_file(self, tmp_path: Path, wheel_dicom: Path) -> None:
        data = (wheel_dicom / "CT_small.dcm").read_bytes()
        (tmp_path / "ct.dcm.gz").write_bytes(gzip.compress(data))
        assert [read(source) for source in sources_of(tmp_path)] == [data]

    @pytest.mark.parametrize("make", MAKERS)
    @pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..\\x"])
    def test_names_that_climb_out(self, tmp_path: Path, make: Callable[..., Path], name: str) -> None:
        path = make(tmp_path / "archive", {name: b"bad", "good": b"good"})
        bad, good = find_files([path])
        assert isinstance(good, Source)
        assert read(good) == b"good"
        assert isinstance(bad, Refusal)
        assert bad.kind == "archive"

    def test_links_devices_and_encrypted_members(self, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "x.tar", "w") as archive:
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
                info = tarfile.TarInfo("member")
                info.type, info.linkname = kind, "/etc/passwd"
                archive.addfile(info)
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            link = zipfile.ZipInfo("link")
            link.external_attr = 0o120777 << 16
            archive.writestr(link, "/etc/passwd")
        assert not sources_of(tmp_path)
        assert [refusal.kind for refusal in refusals_of(tmp_path)] == ["archive"] * 5

    @pytest.mark.parametrize("make", MAKERS)
    @pytest.mark.parametrize("limits", [Limits(members=3), Limits(total=50_000)])
    def test_too_many_or_too_large(self, tmp_path: Path, make: Callable[..., Path], limits: Limits) -> None:
        (refusal,) = find_files([make(tmp_path / "archive")], limits)
        assert isinstance(refusal, Refusal)
        assert "larger inside" in refusal.reason

    @pytest.mark.parametrize("make", [make_zip, make_tar_gz])
    def test_bombs_cost_nothing(self, tmp_path: Path, make: Callable[..., Path]) -> None:
        path = make(tmp_path / "bomb", {f"{index}": bytes(4 << 20) for index in range(10)})
        assert path.stat().st_size < 200_000
        tracemalloc.start()
        (refusal,) = find_files([path])
        assert isinstance(refusal, Refusal)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 << 20

    def test_member_that_gives_more_than_announced(self, tmp_path: Path) -> None:
        path = make_zip(tmp_path / "x.zip", {"member": bytes(5_000_000)})
        data = bytearray(path.read_bytes())
        place = data.rindex(b"PK\1\2") + 24
        data[place : place + 4] = (100).to_bytes(4, "little")
        path.write_bytes(data)
        (source,) = sources_of(path)
        with pytest.raises(ArchiveRefused):
            read(source)

    def test_pax_header_that_claims_gigabytes(self, tmp_path: Path) -> None:
        info = tarfile.TarInfo("pax")
        info.type, info.size = tarfile.XHDTYPE, 7 << 30
        (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + bytes(2048))
        assert [refusal.kind for refusal in refusals_of(tmp_path)] == ["archive"]
        assert not sources_of(tmp_path)

    @pytest.mark.parametrize("make", MAKERS)
    def test_damage_anywhere_is_an_error_of_ours(self, tmp_path: Path, make: Callable[..., Path]) -> None:
        whole = make(tmp_path / "whole").read_bytes()
        path = tmp_path / "damaged"
        for place in range(0, len(whole), max(1, len(whole) // 60)):
            for data in (whole[:place], whole[:place] + b"\xff\0\xff" + whole[place + 3 :]):
                path.write_bytes(data)
                for source in sources_of(path):
                    try:
                        read(source)
                    except DicomError:
                        continue

    def test_the_hostile_collection(self, tmp_path: Path) -> None:
        for name, data in hostile_archives().items():
            (tmp_path / name).write_bytes(data)
        for source in sources_of(tmp_path):
            try:
                assert len(read(source)) < 64 << 20
            except ArchiveRefused:
                continue
        refused = {Path(refusal.path.split("!")[0]).name for refusal in refusals_of(tmp_path)}
        assert {"bomb.zip", "bomb.tar.gz", "escape.zip", "symlink.tar", "device.tar", "cut.zip"} <= refused


class TestDicomdir:
    def test_stands_for_the_files_it_names(self, shared_dicom: Path) -> None:
        path = next(shared_dicom.rglob("DICOMDIR"))
        found = sources_of(path)
        assert len(found) > 10
        for source in found:
            assert parse(read(source)).dataset
            assert source.path.resolve().is_relative_to(path.parent.resolve())
        assert found[0].path == path
        assert refusals_of(path) == []

    def test_in_a_folder_is_found_like_any_file(self, shared_dicom: Path) -> None:
        assert refusals_of(shared_dicom) == []

    def test_leads_nowhere_else(self, tmp_path: Path) -> None:
        (tmp_path / "medium").mkdir()
        (tmp_path / "secret").write_bytes(b"x")
        (tmp_path / "medium" / "LINK").symlink_to(tmp_path / "secret")
        (tmp_path / "medium" / "ok").write_bytes(b"y")
        records = b"".join(
            item(name) for name in (b"..\\SECRET ", b"LINK", b"/etc/passwd ", b"OK", b"MISSING ")
        )
        data = b"\x04\x00\x20\x12SQ\0\0" + len(records).to_bytes(4, "little") + records
        uid = b"\x08\x00\x16\x00UI\x02\x001\x00"
        path = tmp_path / "medium" / "DICOMDIR"
        path.write_bytes(bytes(128) + b"DICM" + data + uid)
        assert [source.path.name for source in sources_of(path)] == ["DICOMDIR", "ok"]
        assert [refusal.kind for refusal in refusals_of(path)] == ["missing"] * 4


def item(name: bytes) -> bytes:
    name += b" " * (len(name) % 2)
    element = b"\x04\x00\x00\x15CS" + len(name).to_bytes(2, "little") + name
    return b"\xfe\xff\x00\xe0" + len(element).to_bytes(4, "little") + element
