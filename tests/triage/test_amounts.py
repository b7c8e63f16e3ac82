"""Numbers that are none are refused in one line, at every verb that takes one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import pytest

from voxelvault_triage.amounts import MOST, Amount


@pytest.mark.parametrize("text", ["nan", "-nan", "inf", "-inf", "1e300", "-1", "", "one"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Amount(0).convert(text, None, None)


def test_what_is_one() -> None:
    assert Amount(0).convert("0", None, None) == 0
    assert Amount(0).convert("1e7", None, None) == MOST
    with pytest.raises(click.BadParameter):
        Amount(0, min_open=True).convert("0", None, None)
    assert Amount(0)._describe_range() == "x>=0"
    assert Amount(0, min_open=True)._describe_range() == "x>0"
    assert Amount(0, 1)._describe_range() == "0<=x<=1"


@pytest.mark.parametrize(
    "words",
    [
        ("watch", "--quiet", "nan"),
        ("watch", "--gap", "inf"),
        ("watch", "--every", "nan"),
        ("run", "--new", "--timeout", "nan"),
        ("worklist", "--ageing", "nan"),
        ("report", "--days", "nan"),
        ("report", "--days", "0"),
        ("report", "--days", "1e9"),
        ("report", "--limit", "p95_seconds=nan"),
        ("simulate", "--per-hour", "6", "--ageing", "nan"),
        ("simulate", "--per-hour", "6", "--heeded", "nan"),
    ],
)
def test_every_verb_refuses_them(words: tuple[str, ...], run: Callable[..., Any]) -> None:
    found = run("triage", *words)
    assert found.code == 2
    assert len(found.err.strip().splitlines()) == 1
