"""Typed columns out of headers: right values, and None for what is none."""

from __future__ import annotations

from datetime import date, datetime, time
from pathlib import Path

import pytest

from voxelvault.dicom.columns import TABLES, columns, load_tags
from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header
from voxelvault.errors import UsageError


def one(vr: str, value: list[object], keyword: str = "StudyDate", table: str = "studies") -> object:
    from voxelvault.dicom.vr import tags_by_keyword

    header = Header({f"{tags_by_keyword()[keyword]:08X}": {"vr": vr, "Value": value}})
    return columns(header, table)[keyword]


def test_a_real_header(wheel_dicom: Path) -> None:
    header = Header.from_part10(parse((wheel_dicom / "CT_small.dcm").read_bytes()))
    rows = {table: columns(header, table) for table in TABLES}
    assert rows["patients"]["PatientID"] == "1CT1"
    assert rows["patients"]["PatientName"] == "CompressedSamples^CT1"
    assert rows["studies"]["StudyDate"] == date(2004, 1, 19)
    assert rows["studies"]["StudyTime"] == time(7, 27, 30)
    assert rows["series"]["KVP"] == 120.0
    assert rows["instances"]["ImagePositionPatient"] == [-158.135803, -179.035797, -75.699997]
    assert rows["instances"]["TransferSyntaxUID"] == "1.2.840.10008.1.2.1"
    assert {table: list(row) for table, row in rows.items()} == {t: list(load_tags()[t]) for t in TABLES}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20240229", date(2024, 2, 29)),
        ("2024.02.29", date(2024, 2, 29)),
        ("20230229", None),
        ("", None),
        ("x", None),
    ],
)
def test_dates(text: str, expected: date | None) -> None:
    assert one("DA", [text]) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("07", time(7)),
        ("0727", time(7, 27)),
        ("072730.5", time(7, 27, 30, 500_000)),
        ("07:27:30", time(7, 27, 30)),
        ("240000", None),
        ("noon", None),
    ],
)
def test_times(text: str, expected: time | None) -> None:
    assert one("TM", [text], "StudyTime") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20240229131415.123456+0100", datetime(2024, 2, 29, 13, 14, 15, 123456)),
        ("2024", datetime(2024, 1, 1)),
        ("99999999", None),
    ],
)
def test_timestamps(text: str, expected: datetime | None) -> None:
    assert one("DT", [text], "AcquisitionDateTime", "instances") == expected


def test_bad_values_are_none() -> None:
    assert one("IS", ["1A"], "SeriesNumber", "series") is None
    assert one("IS", [2**40], "SeriesNumber", "series") is None
    assert one("DS", ["fast"], "KVP", "series") is None
    assert one("IS", [10**400], "KVP", "series") is None
    assert one("DS", [1.0, "x", 2.0], "PixelSpacing", "instances") is None
    assert one("DS", [1.0, None], "PixelSpacing", "instances") is None
    assert one("LO", ["a", None, "b"], "StudyDescription", "studies") == "a\\\\b"
    assert one("CS", ["ORIGINAL", None], "ImageType", "instances") == ["ORIGINAL", None]


def test_shared_functional_groups_answer_for_the_root() -> None:
    spacing = {"vr": "DS", "Value": [0.5, 0.5]}
    measures = {"vr": "SQ", "Value": [{"00280030": spacing, "00180050": {"vr": "DS", "Value": [3.0]}}]}
    header = Header({"52009229": {"vr": "SQ", "Value": [{"00289110": measures}]}})
    assert columns(header, "instances")["PixelSpacing"] == [0.5, 0.5]
    assert columns(header, "series")["SliceThickness"] == 3.0


def test_a_site_adds_its_own(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text('[series]\nAcquisitionMatrix = "VARCHAR[]"\nSequenceName = "VARCHAR[]"\n')
    tags = load_tags(site)
    assert tags["series"]["AcquisitionMatrix"] == tags["series"]["SequenceName"] == "VARCHAR[]"
    assert tags["instances"] == load_tags()["instances"]
    assert "AcquisitionMatrix" in columns(Header({}), "series", tags)


@pytest.mark.parametrize(
    "text", ['[nobody]\nRows="INTEGER"', '[series]\nRwos="INTEGER"', '[series]\nRows="BLOB"', "["]
)
def test_a_wrong_list_is_refused(tmp_path: Path, text: str) -> None:
    site = tmp_path / "site.toml"
    site.write_text(text)
    with pytest.raises(UsageError):
        load_tags(site)


def test_shipped_list_is_of_the_planned_size() -> None:
    assert 60 <= sum(map(len, load_tags().values())) <= 120
