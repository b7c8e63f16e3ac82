"""Headers of real files against pydicom's JSON model; the documented differences are evened out."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest

from voxelvault.dicom.json_model import INLINE_LIMIT, NUMBERS_LIMIT
from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header
from voxelvault.errors import DicomError

REFUSED = {"no_meta.dcm": "NotDicom", "rtplan_truncated.dcm": "MalformedDicom"}
"""One has lost its first byte, the other ends within an element."""

SERIES_STEP = 25
"""Of long series every n-th file is compared; `make test-long` compares all."""


def files_of(shared_dicom: Path, step: int) -> list[Path]:
    with (shared_dicom / "MANIFEST.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    seen: dict[str, int] = {}
    chosen = []
    for row in rows:
        count = seen[row["series_instance_uid"]] = seen.get(row["series_instance_uid"], -1) + 1
        if count % step == 0 or not row["series_instance_uid"]:
            chosen.append(shared_dicom / row["path"])
    return chosen


def theirs(data: bytes) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(BytesIO(data), force=True)
        model: dict[str, Any] = dataset.to_json_dict(
            bulk_data_threshold=4 * INLINE_LIMIT // 3,
            bulk_data_element_handler=lambda element: "",
            suppress_invalid_tags=True,
        )
    return model


def compare(ours: dict[str, Any], other: dict[str, Any], where: str = "", big: bool = False) -> Iterator[str]:
    for tag in sorted(set(ours) | set(other)):
        if tag.endswith("0000") or tag == "00083002":
            continue
        if tag not in ours:
            yield f"{where}{tag}: missing"
        elif big and ours[tag]["vr"] == "UN":
            continue  # numbers in UN are little endian even here (PS3.5 6.2.2); pydicom swaps them
        elif tag in other:  # pydicom leaves out what it finds invalid, we don't
            yield from compare_element(f"{where}{tag}", ours[tag], other[tag])


def compare_element(where: str, ours: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    if "BulkDataURI" in ours:
        return
    if ours["vr"] == "SQ":
        if other["vr"] == "UN":  # UN of known length that holds items
            return
        mine, yours = ours.get("Value", []), other.get("Value", [])
        if len(mine) != len(yours):
            yield f"{where}: {len(mine)} items, not {len(yours)}"
        for index, (a, b) in enumerate(zip(mine, yours, strict=False)):
            yield from compare(a, b, f"{where}[{index}].")
        return
    if ours["vr"] != other["vr"]:
        yield f"{where}: {ours['vr']}, not {other['vr']}"
    elif "InlineBinary" in ours or "InlineBinary" in other:
        if ours.get("InlineBinary") != other.get("InlineBinary"):
            yield f"{where}: other bytes"
    elif evened(ours) != evened(other):
        yield f"{where}: {ours['vr']} {evened(ours)!r}, not {evened(other)!r}"


def evened(element: dict[str, Any]) -> list[Any]:
    values = [evened_value(value) for value in element.get("Value", [])]
    return [] if values == [None] else values


def evened_value(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip(" \0") or None
    if isinstance(value, dict):
        return {key: part.strip() for key, part in value.items() if part} or None
    return float(value) if isinstance(value, int | float) else value


def differences(path: Path) -> list[str]:
    data = path.read_bytes()
    try:
        part10 = parse(data)
        header = Header.from_part10(part10)
    except DicomError as error:
        return (
            [] if REFUSED.get(path.name) == type(error).__name__ else [f"{path.name}: {type(error).__name__}"]
        )
    assert Header.from_json(header.json()) == header
    model = {tag: dict(header[tag]) for tag in header}
    return [
        f"{path.name}: {difference}" for difference in compare(model, theirs(data), "", part10.big_endian)
    ]


def test_headers_agree_with_pydicom(shared_dicom: Path) -> None:
    files = files_of(shared_dicom, SERIES_STEP)
    assert len(files) > 200
    assert [line for path in files for line in differences(path)] == []


@pytest.mark.long
def test_every_header_agrees_with_pydicom(shared_dicom: Path) -> None:
    files = files_of(shared_dicom, 1)
    assert len(files) == 966
    assert [line for path in files for line in differences(path)] == []


def test_headers_of_the_wheel_agree(wheel_dicom: Path) -> None:
    files = sorted(wheel_dicom.glob("*.dcm"))
    assert len(files) > 50
    assert [line for path in files for line in differences(path)] == []


def test_bulk_data_names_its_place(wheel_dicom: Path) -> None:
    data = (wheel_dicom / "CT_small.dcm").read_bytes()
    part10 = parse(data)
    header = Header.from_part10(part10)
    assert part10.pixels is not None
    place = f"?offset={part10.pixels.start}&length=32768"
    assert header["PixelData"] == {"vr": "OW", "BulkDataURI": place}
    assert NUMBERS_LIMIT > INLINE_LIMIT
