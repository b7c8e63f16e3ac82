"""Real files with planted values, and a judge of what a de-identifier made of them.

It reads PS3.15 Table E.1-1 itself and shares nothing with the rules of `voxelvault.deid`.
"""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.datadict import dictionary_has_tag
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag

from voxelvault.testing.planting import Planted, Planter, Row, left, plant, written

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
LARGEST = 1 << 20


@dataclass
class Case:
    """One file of the corpus."""

    name: str
    source: Dataset
    planted: list[Planted]
    refers_to: str = ""
    """SOP Instance UID of the next file, which this one refers to."""


@dataclass
class Score:
    """What became of a corpus."""

    planted: int = 0
    left: int = 0
    places: set[str] = field(default_factory=set)
    actions: int = 0
    right: int = 0
    references: int = 0
    whole: int = 0
    unlisted: int = 0
    kept: int = 0
    files: int = 0
    failed: int = 0


def table() -> list[Row]:
    """Return the rows of PS3.15 Table E.1-1."""
    with (SHARED / "tables" / "ps315_e1-1.csv").open() as file:
        return list(csv.DictReader(file))


def make(folder: Path, every: int) -> list[Case]:
    """Write the corpus, `0.dcm`, `1.dcm` and so on, each referring to the next."""
    rows, cases = table(), []
    folder.mkdir(parents=True)
    sources = list(_sources(every))
    for number, source in enumerate(sources):
        following = str(sources[(number + 1) % len(sources)].SOPInstanceUID)
        made, planted = plant(source, rows, number)
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = made.SOPClassUID, following
        made.ReferencedImageSequence = Items([reference])
        more = Planter(10_000 + number)
        try:
            data = written(made, more.word)
        except Exception:  # a real file that can't be written again is no case
            continue
        planted = [*planted, *more.planted]
        there = {one.value for one in left(data, planted)}
        case = Case(f"{number}.dcm", _read(data), [one for one in planted if one.value in there], following)
        (folder / case.name).write_bytes(data)
        cases.append(case)
    return cases


def _sources(every: int) -> Iterator[Dataset]:
    files = sorted(path for path in (SHARED / "data" / "dicom").rglob("*") if path.is_file())
    seen: set[str] = set()
    for path in [path for path in files if path.stat().st_size < LARGEST][::every]:
        try:
            source = pydicom.dcmread(path)
            uid, syntax = str(source.SOPInstanceUID), source.file_meta.TransferSyntaxUID
            if uid not in seen and syntax.is_little_endian and "PixelData" in source:
                seen.add(uid)
                yield source
        except Exception:  # whatever is wrong with it
            continue


def _read(data: bytes) -> Dataset:
    return pydicom.dcmread(BytesIO(data))


def judge(cases: Sequence[Case], out: Path, moved: int, options: Sequence[str] = ()) -> Score:
    """Compare what a tool wrote with what it got.

    Parameters
    ----------
    cases : sequence of Case
        From `make`.
    out : Path
        Folder with files of the same names; one that is missing was refused.
    moved : int
        Days by which dates were moved.
    options : sequence of str
        Columns of the table in force.
    """
    score, rows = Score(), [row for row in table() if re.fullmatch("[0-9A-F]{8}", row["tag"])]
    results = {case.name: _result(out / case.name) for case in cases}
    uids = {str(case.source.SOPInstanceUID): results[case.name] for case in cases}
    for case in cases:
        result = results[case.name]
        if result is None:
            score.failed += 1
            continue
        score.files += 1
        data = (out / case.name).read_bytes()
        survivors = left(data, case.planted, moved=moved)
        score.planted += len(case.planted)
        score.left += len(survivors)
        score.places |= {one.place for one in survivors}
        _actions(case.source, result, rows, score, options)
        _unlisted(case.source, result, {int(row["tag"], 16) for row in rows}, score)
        _reference(case, result, uids, score)
    return score


def _result(path: Path) -> Dataset | None:
    try:
        return _read(path.read_bytes())
    except Exception:  # not there, or no DICOM
        return None


def _actions(
    source: Dataset, result: Dataset, rows: Sequence[Row], score: Score, options: Sequence[str]
) -> None:
    """Count listed attributes of the root that were treated as the table says."""
    for row in rows:
        tag = Tag(int(row["tag"], 16))
        if tag not in source or row["tag"].startswith(("0002", "0004")):
            continue
        score.actions += 1
        actions = next((row[option] for option in options if row[option]), row["basic_profile"])
        score.right += _is_right(actions, _value(source, tag), _value(result, tag))


def _value(dataset: Dataset, tag: Any) -> str | None:
    if tag not in dataset:
        return None
    try:
        return str(dataset[tag].value if dataset[tag].value is not None else "")
    except Exception:  # a value that its VR doesn't hold
        return repr(dataset.get_item(tag).value)


def _is_right(actions: str, before: str | None, after: str | None) -> bool:
    gone, changed = after is None, after != before
    checks = {
        "X": gone,
        "Z": not gone and (changed or not before),
        "D": not gone and after not in ("", "[]") and changed,
        "U": not gone and changed,
        "U*": not gone and changed,
        "C": not gone,
    }
    return any(checks[action] for action in actions.split("/"))


def _unlisted(source: Dataset, result: Dataset, listed: set[int], score: Score) -> None:
    for tag in source.keys():
        number = int(tag)
        group = number >> 16
        special = group & 1 or group in (2, 4, 0x7FE0) or group & 0xFFE1 in (0x6000, 0x5000)
        if special or number in listed or not number & 0xFFFF or not dictionary_has_tag(number):
            continue
        score.unlisted += 1
        score.kept += tag in result


def _reference(case: Case, result: Dataset, uids: dict[str, Dataset | None], score: Score) -> None:
    target = uids.get(case.refers_to)
    if target is None:
        return
    score.references += 1
    items = result.get("ReferencedImageSequence") or []
    score.whole += any(item.get("ReferencedSOPInstanceUID") == target.get("SOPInstanceUID") for item in items)


def quietly() -> None:
    """Keep still what pydicom warns of in files as damaged as these."""
    warnings.simplefilter("ignore")
