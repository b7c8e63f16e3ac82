"""The guide to triage says what the code says, and what it tells one to type works."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from voxelvault.testing.practice import practice_studies
from voxelvault_triage.monitoring.alerts import Limits

PAGE = (Path(__file__).resolve().parents[2] / "docs/guide/triage.md").read_text("utf-8")


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}.*?(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[0]


def commands(text: str) -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.+?)```", text, re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def test_simulations_run(run: Callable[..., Any], tmp_path: Path) -> None:
    days = [f"2026-03-{day:02d}T{hour:02d}:15" for day in range(1, 9) for hour in range(24)]
    (tmp_path / "arrivals.csv").write_text("\n".join(["arrived", *days]))
    told = commands(section("Is it worth it?"))
    assert len(told) == 4
    for words in told:
        # The same, but quickly: the first --repeats is overridden by the last.
        here = [str(tmp_path / word) if word.endswith((".csv", ".svg")) else word for word in words[1:]]
        found = run(*here, "--repeats", "2")
        assert found.code == 0, found.err


def test_limits_are_those_of_the_code() -> None:
    told = dict(re.findall(r"`(\w+)=([\d.]+)`", section("Is it still doing what it did?")))
    assert {name: float(value) for name, value in told.items() if name != "p95_seconds"} == {
        one.name: one.default for one in fields(Limits) if one.name != "p95_seconds"
    }
    assert Limits().p95_seconds == float(told["p95_seconds"])


@pytest.mark.long
def test_from_a_vault_to_the_report(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that is typed behind `--vault ~/vault`, on studies of nobody."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    table = practice_studies(tmp_path / "dicom", 2, 16, 64)
    (tmp_path / "outcomes.csv").write_text(table.read_text())
    assert run("init", tmp_path / "vault").code == 0
    assert run("--vault", tmp_path / "vault", "ingest", tmp_path / "dicom").code in (0, 3)
    uid = table.read_text().splitlines()[1].split(",")[0]
    titles = ("Run it, or let it watch", "The list", "What a result is", "Is it still doing what it did?")
    told = [words for title in titles for words in commands(section(title))]
    assert len(told) == 11
    for words in told:
        here = [re.sub(r"^~", str(tmp_path), word).replace("1.2.840.113619.2.1", uid) for word in words[1:]]
        found = run(*here)
        # 4: `report` has something to tell.
        assert found.code == 0 or ("report" in here and found.code == 4), (here, found.err)
    assert (tmp_path / "report.html").is_file()
    assert list((tmp_path / "out").iterdir())
