"""Phantoms as DICOM: valid, the same again, and taken by the gate for what they are."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

import voxelvault as vv
from voxelvault_triage.hemorrhage.choosing import choose
from voxelvault_triage.model import Study
from voxelvault_triage.phantom.studies import COLUMNS, practice_heads


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heads")
    practice_heads(folder, 2, seed=3)
    return folder


def test_every_second_study_bleeds(heads: Path) -> None:
    with (heads / "truth.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert tuple(rows[0]) == COLUMNS
    assert [row["hemorrhage"] for row in rows] == ["0", "1"]
    assert float(rows[1]["volume_ml"]) > 0.3
    for row, folder in zip(rows, sorted(heads.glob("study-*")), strict=True):
        found = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
        assert {one.StudyInstanceUID for one in found} == {row["StudyInstanceUID"]}
        values = np.stack([one.pixel_array * 1.0 + float(one.RescaleIntercept) for one in found])
        assert values.min() < -900
        assert 15 < np.median(values[(values > 0) & (values < 80)]) < 50


def test_the_files_are_valid(heads: Path) -> None:
    validator = shutil.which("dciodvfy")
    if validator is None:
        if os.environ.get("CI"):
            pytest.fail("dciodvfy is missing; .ci/run installs dicom3tools")
        pytest.skip("dciodvfy is missing; it is in dicom3tools")
    for folder in heads.glob("study-*"):
        path = sorted(folder.iterdir())[3]
        done = subprocess.run([validator, path], capture_output=True, text=True)
        assert "Error" not in done.stdout + done.stderr


def test_the_gate_takes_them(heads: Path, tmp_path: Path, configuration: Path) -> None:
    with vv.create(tmp_path / "vault", codec="fast") as vault:
        vault.ingest(heads, progress=False)
        for ids in vault.sql("select study_id, subject_id, StudyInstanceUID from studies").fetchall():
            assert choose(vault, Study(*ids, content="")).fit
