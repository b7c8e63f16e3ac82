"""Rewriting makes no IOD error that wasn't there: judged by dciodvfy, before and after."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from deid_support import context
from voxelvault.deid.apply import rewrite
from voxelvault.deid.conformance import mark
from voxelvault.deid.normal import as_bytes, stored
from voxelvault.deid.waveforms import put_samples
from voxelvault.deid.writing import file_bytes

UNREADABLE = ("truncated", "too_short", "_dfl", "deflate", "GH1376", "missing_tsyntax")
"""Sources that dciodvfy reads no pixels of, or not to the end, so that it sees less before than after."""


@pytest.fixture
def dciodvfy() -> str:
    tool = shutil.which("dciodvfy")
    if tool is None:
        message = "install dciodvfy (Debian: dicom3tools) to judge conformance"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return tool


def errors(tool: str, path: Path) -> set[str]:
    """Return the kinds of errors, without values, which differ anyway."""
    run = subprocess.run([tool, str(path)], capture_output=True, check=False, timeout=60)
    lines = (run.stderr + run.stdout).decode("latin-1").splitlines()
    values = re.compile(r"<[^>]*>|\[[^\]]*\]|\d+ of|[\d.]{3,}")
    return {values.sub("", line) for line in lines if line.startswith("Error")}


def with_pixels(out: Dataset, source: Dataset) -> None:
    """Put in what other rooms would, untouched."""
    for tag, element in source.items():
        number = int(tag)
        if number >> 16 != 0x7FE0 and number >> 16 & 0xFFE1 != 0x6000 and number != 0x00420011:
            continue
        found = stored(element)
        vr = found.vr or "OW"
        value = as_bytes(found, vr)
        out[tag] = RawDataElement(tag, vr, len(value or b""), value, 0, False, True)


def sample(folder: Path) -> Iterator[tuple[Path, Dataset]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size < 1 << 20)
    for path in files[::27]:
        try:
            source = pydicom.dcmread(path)
        except InvalidDicomError:
            continue
        if "SOPClassUID" in source and not any(part in path.name for part in UNREADABLE):
            yield path, source


@pytest.mark.shared
@pytest.mark.parametrize("preset", ["basic", "research"])
def test_no_new_iod_error(shared_dicom: Path, tmp_path: Path, dciodvfy: str, preset: str) -> None:
    rules = context(preset=preset)
    judged = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path, source in sample(shared_dicom):
            result = rewrite(source, rules)
            with_pixels(result.dataset, source)
            mark(result, result.applied)
            written = tmp_path / "out.dcm"
            written.write_bytes(file_bytes(result))
            assert errors(dciodvfy, written) - errors(dciodvfy, path) == set()
            judged += 1
    assert judged > 20


@pytest.mark.shared
def test_an_ecg_without_its_measurements_is_valid(shared_dicom: Path, tmp_path: Path, dciodvfy: str) -> None:
    path = next(iter(sorted(shared_dicom.rglob("waveform_ecg.dcm"))))
    source = pydicom.dcmread(path)
    result = rewrite(source, context())
    put_samples(source, result.dataset)
    mark(result, result.applied)
    written = tmp_path / "out.dcm"
    written.write_bytes(file_bytes(result))
    assert "WaveformAnnotationSequence" in source
    assert "WaveformAnnotationSequence" not in result.dataset
    assert errors(dciodvfy, written) - errors(dciodvfy, path) == set()
