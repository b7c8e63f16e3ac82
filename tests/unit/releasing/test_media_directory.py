"""A DICOMDIR that other programs read, for whatever was released."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.fileset import FileSet

from voxelvault.dicom.part10 import parse
from voxelvault.releasing.directory_records import record_type
from voxelvault.releasing.media_directory import MediaDirectory
from voxelvault.testing import synthetic


def media_directory(files: Iterable[tuple[str, bytes]]) -> bytes:
    made = MediaDirectory()
    for path, data in files:
        made.add(path, parse(data))
    return b"".join(made.parts())


def lay(folder: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    (folder / "DICOMDIR").write_bytes(media_directory(sorted(files.items())))
    return folder / "DICOMDIR"


def ct(patient: int, slices: int, **values: object) -> dict[str, bytes]:
    files = {}
    for index, data in enumerate(synthetic.ct_series(slices, 16, 16, seed=patient)):
        header = pydicom.dcmread(io.BytesIO(data))
        header.PatientID = f"P{patient}"
        for name, value in values.items():
            setattr(header, name, value)
        out = io.BytesIO()
        header.save_as(out)
        files[f"DICOM/ST{patient}/SE{patient}/IM{index}"] = out.getvalue()
    return files


@contextmanager
def opened(place: Path) -> Iterator[FileSet]:
    found = FileSet(place)
    try:
        yield found
    finally:
        found._stage["t"].cleanup()


def seen(files: dict[str, bytes]) -> set[str]:
    return {str(pydicom.dcmread(io.BytesIO(data)).SOPInstanceUID) for data in files.values()}


@pytest.mark.parametrize(
    "values", [{}, {"StudyDate": "", "StudyTime": "", "StudyID": "", "SeriesNumber": None}]
)
def test_every_file_is_found_through_it(tmp_path: Path, values: dict[str, object]) -> None:
    files = {**ct(1, 3, **values), **ct(2, 2, **values)}
    with opened(lay(tmp_path, files)) as found:
        assert {str(one.SOPInstanceUID) for one in found} == seen(files)
        assert set(found.find_values("PatientID")) == {"P1", "P2"}
        for one in found:
            assert Path(one.path).read_bytes() in files.values()


def test_without_files_it_is_empty(tmp_path: Path) -> None:
    with opened(lay(tmp_path, {})) as found:
        assert not list(found)


def test_the_same_files_make_the_same_directory() -> None:
    files = sorted(ct(1, 3).items())
    assert media_directory(files) == media_directory(files)


@pytest.mark.skipif(shutil.which("dcmdump") is None, reason="needs dcmtk")
def test_another_reader_walks_its_records(tmp_path: Path) -> None:
    place = lay(tmp_path, {**ct(1, 3), **ct(2, 2)})
    told = subprocess.run(["dcmdump", "-q", str(place)], capture_output=True, text=True, check=True).stdout
    kinds = [line.split("[")[1].split("]")[0] for line in told.splitlines() if "(0004,1430)" in line]
    assert kinds == [
        "PATIENT",
        "STUDY",
        "SERIES",
        *["IMAGE"] * 3,
        "PATIENT",
        "STUDY",
        "SERIES",
        *["IMAGE"] * 2,
    ]
    assert not subprocess.run(["dcmftest", str(place)], capture_output=True, check=False).returncode


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore")
def test_every_class_of_real_files_has_its_record(shared_dicom: Path, tmp_path: Path) -> None:
    rows = csv.DictReader((shared_dicom / "MANIFEST.csv").read_text("utf-8").splitlines())
    files: dict[str, bytes] = {}
    kinds: dict[str, str] = {}
    for row in rows:
        if row["sop_class"] in kinds or int(row["bytes"]) > 1_000_000:
            continue
        data = (shared_dicom / row["path"]).read_bytes()
        header = pydicom.dcmread(io.BytesIO(data), force=True, stop_before_pixels=True)
        if "SOPInstanceUID" not in header or "StudyInstanceUID" not in header or data[128:132] != b"DICM":
            continue
        kinds[row["sop_class"]] = record_type(str(header.SOPClassUID))
        files[f"DICOM/F{len(files)}"] = data
    with opened(lay(tmp_path, files)) as found:
        assert {str(one.SOPInstanceUID) for one in found} == seen(files)
    assert {"IMAGE", "SR DOCUMENT", "RT PLAN"} <= set(kinds.values())
