"""Frozen dataclasses from plain data and back: unknown keys, wrong types and missing values are refused."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from datetime import UTC, datetime
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from voxelvault_fl.errors import JobRefused

T = TypeVar("T")
_KINDS = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list",
    Mapping: "a table",
}  # fmt: skip


def canonical(value: Any) -> bytes:
    """Return plain data as JSON with sorted keys and no blanks, UTF-8; the same data, the same bytes.

    Raises
    ------
    JobRefused
        A number isn't finite.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise JobRefused("malformed", "a number isn't finite; write a finite one") from None
    return text.encode()


def plain(value: Any) -> Any:
    """Return a dataclass as plain data; times are ISO 8601 in UTC."""
    return _flat(asdict(value))


def _flat(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {str(key): _flat(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_flat(one) for one in value]
    return value


def made(kind: type[T], data: Any, where: str) -> T:
    """Return a dataclass from plain data.

    Parameters
    ----------
    kind : type
        A dataclass of str, int, float, bool, datetime, tuples of them, mappings, other dataclasses.
    data : mapping
        As JSON or TOML gives it.
    where : str
        What to call it in an error.

    Raises
    ------
    JobRefused
        A key is unknown or missing, or a value has the wrong type.
    """
    if not isinstance(data, Mapping):
        raise _malformed(f"{where} must be a table")
    hints, known = get_type_hints(kind), {one.name: one for one in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(data) - set(known)):
        raise _malformed(f"{where} has no key {unknown[0]!r}; it knows {', '.join(known)}")
    values = {}
    for name, one in known.items():
        if name in data:
            values[name] = _value(hints[name], data[name], f"{where}.{name}")
        elif one.default is MISSING and one.default_factory is MISSING:
            raise _malformed(f"{where} lacks the key {name!r}")
    return kind(**values)


def toml_of(text: str, rule: str, where: str) -> dict[str, Any]:
    """Return what a TOML file says.

    Raises
    ------
    JobRefused
        It is no TOML: the error names the place, and nothing of the text.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"at (line \d+, column \d+|end of document)", str(error))
        raise JobRefused(
            rule,
            f"{where} is no TOML{' ' + place[0] if place else ''}; see docs/reference/federated-jobs.md",
        ) from None


def _value(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, UnionType):
        return None if value is None else _value(get_args(hint)[0], value, where)
    if is_dataclass(hint):
        return made(hint, value, where)  # type: ignore[arg-type]
    if get_origin(hint) is tuple:
        return tuple(_value(get_args(hint)[0], one, where) for one in _typed(list, value, where))
    if hint is datetime:
        return _time(value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    return _typed(get_origin(hint) or hint, value, where)


def _typed(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    kinds: Any = {Mapping: dict, list: (list, tuple)}.get(kind, kind)
    if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
        raise _malformed(f"{where} has the wrong type; {_KINDS.get(kind, 'another')} is needed")
    if isinstance(value, float) and not math.isfinite(value):
        raise _malformed(f"{where} isn't finite")
    return value


def _time(value: Any, where: str) -> datetime:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(found, datetime) or found.tzinfo is None:
            raise ValueError
    except ValueError:
        raise _malformed(f"{where} must be a time with its zone, such as 2027-01-31T00:00:00Z") from None
    return found.astimezone(UTC).replace(microsecond=0)


def _malformed(message: str) -> JobRefused:
    return JobRefused("malformed", message)


__all__ = ["canonical", "made", "plain", "toml_of"]
