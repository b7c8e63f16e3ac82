"""The guide to triage says what the code says, and what it tells one to type works."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

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
