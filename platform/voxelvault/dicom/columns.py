"""Catalog columns out of headers, by the list in `tags.toml`.

A header is a stranger's claim: a value that is not of its column's type becomes None, never an
error, and stays readable in the header's JSON.

References
----------
DICOM PS3.5 6.2 (DA, TM, DT, IS, DS), PS3.3 C.7.6.16 (shared functional groups).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from voxelvault.dicom.vr import tags_by_keyword
from voxelvault.errors import UsageError

if TYPE_CHECKING:
    from voxelvault.dicom.read import Header

Tags: TypeAlias = Mapping[str, Mapping[str, str]]
"""Table name to keyword to SQL type."""

TABLES = ("patients", "studies", "series", "instances")

_DATE = re.compile(r"(\d{4})[.\-]?(\d{2})[.\-]?(\d{2})$")
_TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(?:\.(\d{1,6}))?)?)?$")
_DATETIME = re.compile(r"(\d{4})(\d{2})?(\d{2})?(\d{2})?(\d{2})?(\d{2})?(?:\.(\d{1,6}))?(?:[+-]\d{4})?$")
_LARGEST = 2**31


@cache
def load_tags(path: Path | None = None) -> Tags:
    """Return the extracted attributes, a site's own added to the shipped ones.

    Parameters
    ----------
    path : Path, optional
        A TOML file in the form of `tags.toml`.

    Returns
    -------
    mapping
        Table to keyword to SQL type.

    Raises
    ------
    UsageError
        The file is no such TOML, or names an unknown table, keyword or type.
    """
    shipped = tomllib.loads(files(__package__).joinpath("tags.toml").read_text("utf-8"))
    return _checked(shipped if path is None else _merged(shipped, _site(path)))


def _site(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        raise UsageError(
            "the tag list can't be read as TOML; compare it with the shipped tags.toml"
        ) from None


def _merged(shipped: Tags, site: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    if set(site) - set(TABLES) or not all(isinstance(table, dict) for table in site.values()):
        raise UsageError(f"the tag list has other tables than {', '.join(TABLES)}; name one of these")
    return {table: {**shipped[table], **site.get(table, {})} for table in TABLES}


def _checked(tags: Tags) -> Tags:
    known = {*tags_by_keyword(), "TransferSyntaxUID"}
    for table in tags.values():
        for keyword, sql_type in table.items():
            if keyword not in known or sql_type not in _CONVERTERS:
                raise UsageError(
                    "the tag list names an attribute or a type that isn't known; "
                    f"write a keyword of PS3.6 and one of {', '.join(_CONVERTERS)}"
                )
    return tags


def columns(header: Header, table: str, tags: Tags | None = None) -> dict[str, Any]:
    """Return one header's values for the columns of one table.

    Parameters
    ----------
    header : Header
        Of one instance.
    table : str
        One of `TABLES`.
    tags : mapping, optional
        From `load_tags`; the shipped list when left out.

    Returns
    -------
    dict
        Every keyword of the table's list; None where the header has no value of that type.
    """
    shared = _shared(header)
    return {
        keyword: _CONVERTERS[sql_type](_find(header, shared, keyword))
        for keyword, sql_type in (tags or load_tags())[table].items()
    }


def _shared(header: Header) -> list[Header]:
    """Return the macros of the shared functional groups, each in its sequence's only item."""
    groups = header.items_of("SharedFunctionalGroupsSequence")
    return [item for group in groups[:1] for macro in group for item in group.items_of(macro)[:1]]


def _find(header: Header, shared: list[Header], keyword: str) -> list[Any]:
    values = header.values(keyword)
    if values or not shared:
        return values
    return next((found for item in shared if (found := item.values(keyword))), [])


def _text(values: list[Any]) -> str | None:
    texts = [_as_text(value) or "" for value in values]
    return "\\".join(texts) or None if texts else None


def _as_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) else None


def _texts(values: list[Any]) -> list[str | None] | None:
    return [_as_text(value) for value in values] or None


def _double(values: list[Any]) -> float | None:
    value = values[0] if values else None
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None


def _doubles(values: list[Any]) -> list[float] | None:
    numbers = [_double([value]) for value in values]
    return None if None in numbers or not numbers else [number for number in numbers if number is not None]


def _integer(values: list[Any]) -> int | None:
    value = values[0] if values else None
    return value if isinstance(value, int) and -_LARGEST <= value < _LARGEST else None


def _first_text(values: list[Any]) -> str:
    return values[0].strip() if values and isinstance(values[0], str) else ""


def _date(values: list[Any]) -> date | None:
    match = _DATE.match(_first_text(values))
    return _built(date, match.groups()) if match else None


def _time(values: list[Any]) -> time | None:
    match = _TIME.match(_first_text(values))
    return _built(time, _with_microseconds(match.groups())) if match else None


def _timestamp(values: list[Any]) -> datetime | None:
    """Read a DT; an offset from UTC is left out, as the file's other times have none."""
    match = _DATETIME.match(_first_text(values))
    if match is None:
        return None
    year, month, day, *clock = match.groups()
    built: datetime | None = _built(
        datetime, (year, month or "1", day or "1", *_with_microseconds(tuple(clock)))
    )
    return built


def _with_microseconds(clock: tuple[str | None, ...]) -> tuple[str, ...]:
    *parts, fraction = clock
    return (*(part or "0" for part in parts), (fraction or "0").ljust(6, "0"))


def _built(kind: Callable[..., Any], parts: tuple[str | None, ...]) -> Any:
    try:
        return kind(*(int(part or 0) for part in parts))
    except ValueError:
        return None


_CONVERTERS: dict[str, Callable[[list[Any]], Any]] = {
    "VARCHAR": _text,
    "VARCHAR[]": _texts,
    "INTEGER": _integer,
    "DOUBLE": _double,
    "DOUBLE[]": _doubles,
    "DATE": _date,
    "TIME": _time,
    "TIMESTAMP": _timestamp,
}

__all__ = ["TABLES", "Tags", "columns", "load_tags"]
