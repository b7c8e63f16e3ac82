"""The guide to releases says what the code says, and all that it tells one to type works."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

import voxelvault as vv
from voxelvault.deid.model import REASONS, Option
from voxelvault.interfaces.cli.app import main
from voxelvault.testing.practice import practice_studies

PAGE = (Path(__file__).resolve().parents[2] / "docs/guide/deidentification.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.+?)```", PAGE, re.DOTALL)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    practice_studies(tmp_path / "data" / "dicom", 2, 4, 16)
    with vv.create(tmp_path / "vault") as vault:
        vault.ingest(tmp_path / "data" / "dicom", progress=False)
    (tmp_path / "data" / "site.toml").write_text(blocks("toml")[0])
    return tmp_path


def test_every_command_does_what_it_should(home: Path) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) > 7
    for line in lines:
        words = shlex.split(line.replace("/data/", f"{home}/data/"))
        assert words[0] == "voxelvault"
        assert main([os.path.expanduser(word) for word in words[1:]]) == 0, line


def test_the_python_runs(home: Path) -> None:
    names: dict[str, object] = {}
    exec(compile("\n".join(blocks("python")), "deidentification.md", "exec"), names)
    assert names["made"].complete  # type: ignore[attr-defined]


def test_every_reason_and_option_is_told() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|$", PAGE, re.MULTILINE))
    assert {reason: rows[reason] for reason in REASONS} == REASONS
    told = re.findall(r"^\| `(\w+)` \| (\d{6}) \|", PAGE, re.MULTILINE)
    assert told == [(option.value, option.code) for option in Option]
