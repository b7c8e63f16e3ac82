"""The tour that `make demo` runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from voxelvault.interfaces.cli import demo


def test_the_tour_on_the_wheels_files(run: Any, tmp_path: Path, configuration: Path) -> None:
    found = run("demo", "--out", tmp_path / "out")
    assert found.code == 0, found.err
    for words in ("Hounsfield", "files have the SHA-256", "own checkpoint signs", "lab"):
        assert words in found.out
    with Image.open(tmp_path / "out" / "tour-1" / "contact-sheet.png") as picture:
        assert picture.width > 100
    # Nothing of the tour reaches the user's own configuration.
    assert not configuration.exists()
    assert os.environ["VOXELVAULT_CONFIG_HOME"] == str(configuration)


def test_again_with_data_of_ones_own(
    run: Any, tmp_path: Path, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "wheel_folders", list)
    first = run("demo", "--out", tmp_path / "out", "--data", incoming, "--json")
    second = run("demo", "--out", tmp_path / "out", "--data", incoming, "--json")
    assert (first.code, second.code) == (0, 0)
    assert first.json["folder"] != second.json["folder"]
    assert second.json["series"]["shape"] == [6, 48, 40]
    assert second.json["series"]["unit"] == "HU"
    assert second.json["export"] == {**second.json["export"], "files": 6, "same": 6}
    assert json.loads(second.out)["log"]["entries"] > 5


def test_where_to_go_next_opens_the_tours_vault(
    run: Any, tmp_path: Path, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "wheel_folders", list)
    monkeypatch.chdir(tmp_path)
    command = run("demo", "--out", "out", "--data", incoming, "--json").json["next"]
    for assignment in command.split()[:2]:
        monkeypatch.setenv(*assignment.split("=", 1))
    assert run("info").code == 0


def test_without_a_loadable_series_it_says_so(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "wheel_folders", list)
    (tmp_path / "empty").mkdir()
    found = run("demo", "--out", tmp_path / "out", "--data", tmp_path / "empty")
    assert found.code == 2
    assert "--data" in found.err
