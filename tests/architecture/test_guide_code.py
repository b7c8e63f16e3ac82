"""The code of guide and reference runs, in the order in which it is read."""

from __future__ import annotations

import csv
import doctest
import os
import re
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import voxelvault as vv
from voxelvault.interfaces.cli import main
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
    # The last batch holds what is left, and the split is by chance of this vault's subjects.
    assert 1 <= len(names["batch"]["image"]) <= 4
    assert names["batch"]["image"].shape[1:] == (1, 32, 32, 32)
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


def test_the_page_on_projects_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = ROOT / "docs/guide/deidentification-projects.md"
    lines = re.findall(r"^voxelvault .+$", page.read_text(), re.MULTILINE)
    assert len(lines) >= 15
    first = [
        "init vault",
        "--vault vault ingest dicom/patient-000",
        "deidentify custodian public --custodian n.key > night.pub",
    ]
    request = ""
    for line in [*(f"voxelvault {one}" for one in first), *lines]:
        printed = type_in(line.replace("REQUEST", request), capsys)
        found = re.search(r"^request (\w{32})$", printed, re.MULTILINE)
        request = found[1] if found else request
    names = run(page, {})
    with (folder / "maps/patients.csv").open(newline="") as file:
        assert {row["id_old"]: row["id_new"] for row in csv.DictReader(file)} == dict(
            names["maps"]["patients"]
        )
    names["vault"].close()


def type_in(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a line of a page, as a shell does."""
    line, _, place = line.partition(" > ")
    capsys.readouterr()
    code = main(shlex.split(line)[1:])
    out, err = capsys.readouterr()
    assert code == 0, (line, err)
    if place:
        Path(place).write_text(out)
    return out


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
