"""Every attribute of Table E.1-1, root and nested, as the table says: read from the table itself."""

from __future__ import annotations

import csv
import struct
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from deid_support import CT, image, rewritten
from voxelvault.deid.model import Option
from voxelvault.deid.writing import file_bytes

TABLES = Path(__file__).resolve().parents[4] / "shared" / "tables"
COLUMNS = {
    Option.RETAIN_UIDS: "retain_uids",
    Option.RETAIN_DEVICE: "retain_device_ident",
    Option.RETAIN_INSTITUTION: "retain_institution_ident",
    Option.RETAIN_PATIENT_CHARACTERISTICS: "retain_patient_chars",
    Option.RETAIN_FULL_DATES: "retain_long_full_dates",
    Option.RETAIN_MODIFIED_DATES: "retain_long_modified_dates",
    Option.CLEAN_DESCRIPTORS: "clean_desc",
    Option.CLEAN_STRUCTURED: "clean_struct_cont",
    Option.CLEAN_GRAPHICS: "clean_graph",
}
VALUES = {
    "AE": "NODE7", "AS": "061Y", "CS": "SECRET_TERM", "DA": "20190714", "DS": "71.5", "DT": "20190714101530",
    "IS": "17", "LO": "Hidden 7", "LT": "Hidden 7", "PN": "Hidden^Name", "SH": "Hidden 7", "ST": "Hidden 7",
    "TM": "101530", "UC": "Hidden 7", "UI": "1.2.3.77", "UR": "http://hidden.example", "UT": "Hidden 7",
}  # fmt: skip
TIMEZONE = 0x00080201
UNKNOWN_TO_PYDICOM = {"SQ": ("Sequence",), "DT": ("DateTime",)}
SETS = [
    ("basic", ()),
    ("research", ()),
    *[("basic", (option,)) for option in COLUMNS],
    ("basic", tuple(option for option in COLUMNS if option is not Option.RETAIN_FULL_DATES)),
]


def rows() -> list[dict[str, str]]:
    with (TABLES / "ps315_e1-1.csv").open() as file:
        return [row for row in csv.DictReader(file) if len(row["tag"]) == 8 and "x" not in row["tag"]]


def plantable() -> Iterator[tuple[int, str, dict[str, str]]]:
    for row in rows():
        tag = row["tag"]
        if tag == "private" or tag.startswith(("0000", "0002", "0004")) or tag == "00420011":
            continue
        vr = row["vr"] or next(
            (vr for vr, ends in UNKNOWN_TO_PYDICOM.items() if row["keyword"].endswith(ends)), "LO"
        )
        yield int(tag, 16), vr.split(" or ")[0], row


def planted(vr: str, depth: int = 0) -> bytes | Sequence:
    if vr == "SQ":
        item = Dataset()
        item.add_new(0x00080070, "LO", "Hidden 7")
        item.add_new(0x00081155, "UI", "1.2.3.77")
        return Sequence([item])
    if vr in VALUES:
        return VALUES[vr].encode()
    return struct.pack("<I", 0xC0FFEE01) * 2


def full(depth: int) -> Dataset:
    """Give a data set with every attribute of the table, in an item `depth` sequences down."""
    item = Dataset()
    for tag, vr, _ in plantable():
        value = planted(vr)
        key = Tag(tag)
        if isinstance(value, bytes):
            item[key] = RawDataElement(key, vr, len(value), value, 0, False, True)
        else:
            item[key] = DataElement(key, "SQ", value)
    for _ in range(depth):
        outer = Dataset()
        outer.add_new(0x00409096, "SQ", Sequence([item]))  # Real World Value Mapping: in no list
        item = outer
    root = image()
    root.update(item)
    root.SOPClassUID = CT
    return root


def found(dataset: Dataset, depth: int) -> Dataset:
    for _ in range(depth):
        dataset = dataset[0x00409096].value[0]
    return dataset


def expected(row: dict[str, str], options: frozenset[Option]) -> set[str]:
    """Return the letters that the table allows."""
    letters = {row[column] for option, column in COLUMNS.items() if option in options and row[column]}
    return letters or set(row["basic_profile"].split("/"))


def agrees(letters: set[str], vr: str, tag: int, out: Dataset) -> bool:
    there = Tag(tag) in out
    value = out.get_item(tag).value if there else None
    source = planted(vr)
    if vr == "SQ":
        changed = not there or ("Hidden 7" not in str(out[tag]) and "1.2.3.77" not in str(out[tag]))
        items = len(out[tag].value) if there else 0
        rebuilt = bool(items) and changed
        checks = {"X": not there, "Z": there and not items, "K": bool(items)}
        return any(checks.get(letter, rebuilt) for letter in letters)
    changed = value is None or value.strip() != source.strip()
    checks = {
        "X": not there,
        "Z": there and changed,
        "D": there and bool(value) and changed,
        "U": there and bool(value) and changed and value.startswith(b"2.25."),
        "C": (there and changed) or vr in ("TM", "OB", "UN") or tag == TIMEZONE,
        "K": (there and not changed) or tag == TIMEZONE,  # which was planted as none
    }
    return any(checks[letter] for letter in letters)


@pytest.mark.shared
@pytest.mark.parametrize(("preset", "options"), SETS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("depth", [0, 4])
def test_each_attribute_of_the_table(
    shared_dicom: Path, preset: str, options: tuple[Option, ...], depth: int
) -> None:
    result = rewritten(full(depth), preset=preset, options=options)
    data = file_bytes(result)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = found(pydicom.dcmread(BytesIO(data)), depth)
        chosen = frozenset(options) | (
            {Option.CLEAN_DESCRIPTORS, Option.RETAIN_MODIFIED_DATES} if preset == "research" else set()
        )
        wrong = [
            (row["tag"], row["keyword"], sorted(letters))
            for tag, vr, row in plantable()
            if not agrees(letters := expected(row, chosen), vr, tag, out)
        ]
    assert wrong == []


@pytest.mark.shared
def test_rows_are_all_tried(shared_dicom: Path) -> None:
    assert len(list(plantable())) > 620
