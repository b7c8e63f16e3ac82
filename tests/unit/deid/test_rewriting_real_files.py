"""Rewriting of real files: nothing fails, nothing unlisted is lost without need, references stay whole."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.datadict import dictionary_has_tag
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from deid_support import context
from voxelvault.deid import tables
from voxelvault.deid.apply import rewrite
from voxelvault.deid.writing import file_bytes
from voxelvault.dicom import part10


def sources(folder: Path, every: int) -> Iterator[Dataset]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files[::every]:
        try:
            yield pydicom.dcmread(path)
        except InvalidDicomError:
            continue


def unlisted(source: Dataset, out: Dataset, tally: Counter[str]) -> None:
    """Count public elements outside the table, kept and lost, at every depth."""
    for element in source:
        tag = int(element.tag)
        group = tag >> 16
        if group & 1 or group in (4, 0x7FE0) or group & 0xFFE1 == 0x6000 or not tag & 0xFFFF:
            continue
        if tables.listed(tag) or not dictionary_has_tag(tag):
            continue
        tally["kept" if element.tag in out else "lost"] += 1
        if element.VR == "SQ" and element.tag in out:
            for before, after in zip(element.value, out[element.tag].value, strict=True):
                unlisted(before, after, tally)


@pytest.mark.shared
@pytest.mark.parametrize("preset", ["research", "basic"])
def test_real_files_are_rewritten(shared_dicom: Path, preset: str) -> None:
    rules = context(preset=preset)
    tally: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for source in sources(shared_dicom, 7):
            data = file_bytes(rewrite(source, rules))
            parsed = part10.parse(data)
            assert parsed.end == len(data)
            assert parsed.value(0x00020003) == parsed.value(0x00080018)
            unlisted(source, pydicom.dcmread(BytesIO(data)), tally)
    assert tally["kept"] > 5000
    assert tally["lost"] < 0.02 * tally["kept"]


@pytest.mark.shared
def test_the_same_twice_is_the_same_bytes(shared_dicom: Path) -> None:
    rules = context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for source in sources(shared_dicom, 60):
            assert file_bytes(rewrite(source, rules)) == file_bytes(rewrite(source, rules))


@pytest.mark.shared
def test_the_source_is_left_as_it_is(shared_dicom: Path) -> None:
    rules = context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for source in sources(shared_dicom, 60):
            before = source.to_json_dict(suppress_invalid_tags=True)
            rewrite(source, rules)
            assert source.to_json_dict(suppress_invalid_tags=True) == before
