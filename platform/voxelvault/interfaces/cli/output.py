"""What verbs print: JSON or text on stdout, everything said along the way on stderr."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import click

from voxelvault.errors import UsageError

_WIDEST = 80


def emit(document: Any, text: str | Iterable[str], as_json: bool) -> None:
    """Print a verb's result: one JSON document, or lines of text."""
    if as_json:
        click.echo(json.dumps(plain(document), ensure_ascii=False, indent=2))
        return
    for line in [text] if isinstance(text, str) else text:
        click.echo(line)


def say(text: str) -> None:
    """Print something that is no result."""
    click.echo(text, err=True)


def agreed(plan: Sequence[str], yes: bool, dry_run: bool) -> bool:
    """Print the plan of a destructive verb and tell whether to go on.

    Raises
    ------
    UsageError
        Neither `--yes` nor `--dry-run` was given.
    """
    for line in plan:
        say(f"plan: {line}")
    if dry_run:
        return False
    if not yes:
        raise UsageError("nothing was changed; repeat with --yes to carry out the plan above")
    return True


def plain(value: Any) -> Any:
    """Return a value as JSON has it: times in ISO 8601, bytes in hexadecimal, no number that isn't one."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Enum):
        return plain(getattr(value, "code", value.value))
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Path):
        return str(value)
    return str(value)


def shown(value: Any) -> str:
    """Return a value as one harmless line: strangers write headers, terminals obey control codes."""
    text = "" if value is None else str(value)
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], widest: int | None = _WIDEST) -> list[str]:
    """Lay rows out in columns; values longer than `widest` end in an ellipsis."""
    cells = [[_cut(shown(value), widest) for value in row] for row in [columns, *rows]]
    numeric = [_is_numeric(column) for column in zip(*cells[1:], strict=True)] or [False] * len(columns)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = ["-" * width for width in widths]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in [cells[0], rule, *cells[1:]]
    ]


def _cut(text: str, widest: int | None) -> str:
    return text if widest is None or len(text) <= widest else f"{text[: widest - 1]}…"


def _is_numeric(cells: Sequence[str]) -> bool:
    return all(not cell or cell.replace(".", "", 1).lstrip("-").isdigit() for cell in cells)


def facts(values: Mapping[str, object]) -> list[str]:
    """Return one line a fact, names aligned."""
    width = max((len(name) for name in values), default=0)
    return [f"{name:<{width}}  {shown(value)}" for name, value in values.items()]


def size(count: int) -> str:
    """Return a number of bytes for people."""
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} bytes"
