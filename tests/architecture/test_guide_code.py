"""The code of guide and reference runs, in the order in which it is read."""

from __future__ import annotations

import doctest
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import voxelvault as vv
from voxelvault.testing.practice import practice_studies

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    practice_studies(tmp_path / "dicom")
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


def test_the_reference_says_what_happens(folder: Path) -> None:
    page = ROOT / "docs/reference/python.md"
    assert page.read_text().count("```pycon") >= 5
    found = doctest.testfile(
        str(page),
        module_relative=False,
        globs={"folder": folder},
        optionflags=doctest.IGNORE_EXCEPTION_DETAIL,
    )
    assert found.attempted > 20
    assert not found.failed


def test_the_training_guide_runs(folder: Path) -> None:
    names = run(
        ROOT / "docs/guide/training.md", {'"/data/dicom"': '"dicom"', '"labels.csv"': '"dicom/labels.csv"'}
    )
    assert names["batch"]["image"].shape == (1, 1, 32, 32, 32) or len(names["batch"]["image"]) == 4
    names["loader"].close()
    names["vault"].close()


def test_the_page_on_cohorts_runs(folder: Path) -> None:
    with vv.create(folder / "vault") as vault:
        vault.ingest(folder / "dicom", progress=False)
        names = run(ROOT / "docs/guide/reproducing.md", {}, vault=vault)
        assert names["record"]["series"] == 12
        assert not names["cohort"].changed


def test_the_second_block_of_readme_runs(folder: Path) -> None:
    with vv.create(folder / "vault") as vault:
        vault.ingest(folder / "dicom", progress=False)
    names = run(ROOT / "README.md", {'"labels.csv"': '"dicom/labels.csv"'}, 1, vv=vv)
    assert names["cohort"].provenance()["series"] == 12
    names["loader"].close()
    names["vault"].close()


def run(page: Path, changes: dict[str, str], first: int = 0, **names: object) -> dict[str, Any]:
    """Run the Python of a page, from its first block or a later one."""
    code = "\n".join(re.findall(r"```python\n(.+?)```", page.read_text(), re.DOTALL)[first:])
    assert code
    for old, new in changes.items():
        assert old in code
        code = code.replace(old, new)
    with warnings.catch_warnings():
        # PyTorch and MONAI warn of their own future.
        warnings.filterwarnings("ignore", module=r"torch|monai")
        exec(compile(code, page.name, "exec"), names)
    return names
