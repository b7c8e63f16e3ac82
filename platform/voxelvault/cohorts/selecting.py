"""Which series a condition, a list of UIDs or a table of them means.

A user's SQL runs in the user's own session; what it returns is looked up again in the catalog, so a
selection never holds more than opaque ids of series that are there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import duckdb

from voxelvault.access import log_query
from voxelvault.catalog.engine import quoted
from voxelvault.catalog.user_sql import Result
from voxelvault.cohorts.labels import NO_LABELS, Labels
from voxelvault.errors import QueryError
from voxelvault.resources import Resources

if TYPE_CHECKING:
    from voxelvault.cohorts.freezing import Frozen

Parameters = Sequence[Any] | Mapping[str, Any] | None

OPAQUE = re.compile(r"[0-9a-f]{32}")
"""An id of ours."""

_TABLES = {"series": "s", "studies": "st", "patients": "p"}
_INTERNAL = frozenset({"key_id", "merged_into", "only_study"})


class Closable(Protocol):
    """Something that is open."""

    def close(self) -> None:
        """Close it."""


class Ask(Protocol):
    """Runs SQL in the user's session; the caller has logged it."""

    def __call__(self, query: str, parameters: Parameters = None) -> Result:
        """Return the rows."""


@dataclass(frozen=True)
class Chosen:
    """What a selection stands on.

    Parameters
    ----------
    resources : Resources
        The open vault.
    ask : callable
        Runs SQL in the user's session.
    text : str
        What was asked for, in words that stay the same from run to run; it may name people.
    find : callable
        Returns the opaque ids of the series; asks once, so that a selection stays what it was.
    labels : Labels
        Of these series, perhaps of more.
    frozen : Frozen, optional
        The cohort that all of these series are of.
    part : str, optional
        Which part of its split they are.
    allow_changed : bool
        Whether series that changed since the freezing are read as they are now.
    salt : str
        Sets a split of a part apart from the split that made the part.
    keep : callable
        Takes what stays open until the vault is closed.
    """

    resources: Resources
    ask: Ask
    text: str
    find: Callable[[], Collection[str]] = field(repr=False)
    labels: Labels = NO_LABELS
    frozen: Frozen | None = None
    part: str | None = None
    allow_changed: bool = False
    salt: str = ""
    keep: Callable[[Closable], None] = field(default=lambda _: None, repr=False)


def everything(resources: Resources, ask: Ask) -> Chosen:
    """Select all series of the vault."""
    return Chosen(resources, ask, "all", cache(lambda: present(resources)))


def by_condition(resources: Resources, ask: Ask, condition: str, parameters: Parameters = None) -> Chosen:
    """Select by a SQL condition over series, their studies and patients.

    Raises
    ------
    QueryError
        The text is not one condition; what the engine refuses is raised when it runs.
    """
    check_condition(condition)
    text = f"where {condition}" + (f" with {_canonical(parameters)}" if parameters else "")

    @cache
    def find() -> Collection[str]:
        log_query(resources, f"select from series where {condition}")
        view = one_view(ask, condition)
        try:
            rows = ask(f"SELECT series_id FROM {view} AS series WHERE (\n{condition}\n)", parameters)  # noqa: S608
        except QueryError as error:
            columns = ask(f"SELECT * FROM {view} AS series LIMIT 0").arrow().column_names  # noqa: S608
            raise QueryError(f"{error}{hint(str(error), columns)}") from None
        return present(resources, [str(series_id) for (series_id,) in rows.fetchall()])

    return Chosen(resources, ask, text, find)


def hint(message: str, columns: Sequence[str]) -> str:
    """Return what may help where the engine knows no such column; empty for any other message."""
    found = re.search(r'Referenced column "([^"]+)" not found', message)
    if found is None:
        return ""
    lower = {column.lower(): column for column in columns}
    near = [lower[name] for name in get_close_matches(found[1].lower(), lower, n=3)]
    meant = f"perhaps {' or '.join(near)} is meant; " if near else ""
    return f" {meant}text goes in single quotes, and select().df().columns lists the columns"


def check_condition(condition: str) -> None:
    """Refuse what is no single condition, such as one that closes our bracket.

    Raises
    ------
    QueryError
        It is empty, several statements, or its brackets don't match.
    """
    # A condition stands in brackets of ours: whatever leaves them is no condition. The scan reads
    # the text as the engine does, so brackets in strings and comments don't count.
    depth, text = 0, condition.encode()
    for start, kind in duckdb.tokenize(condition):
        if kind == duckdb.token_type.operator:
            token = text[start : start + 1]
            depth += (token == b"(") - (token == b")")
            if depth < 0 or token == b";":
                depth = -1
                break
    if depth == 0 and duckdb.tokenize(condition):
        return
    raise QueryError("this is not one SQL condition; write what would follow WHERE, such as Modality = 'CT'")


def one_view(ask: Ask, condition: str = "") -> str:
    """Return SQL for one row a series with the columns of its study and patient, each name once.

    Where the condition speaks of `frame_count` or `instance_count`, these are there too.
    """
    columns: dict[str, str] = {}
    for table, alias in _TABLES.items():
        for name in _columns(ask, table):
            if name not in _INTERNAL:
                columns.setdefault(name, f"{alias}.{quoted(name)}")
    joins = (
        "series s LEFT JOIN studies st USING (study_id) LEFT JOIN patients p ON p.subject_id = s.subject_id"
    )
    if "frame_count" in condition.lower():
        columns["frame_count"] = "coalesce(f.n, 0)"
        joins += (
            " LEFT JOIN (SELECT series_id, count(*) AS n FROM frames SEMI JOIN (FROM instances WHERE"
            " NOT superseded) USING (instance_id) GROUP BY ALL) f USING (series_id)"
        )
    if "instance_count" in condition.lower():
        columns["instance_count"] = "coalesce(i.n, 0)"
        joins += (
            " LEFT JOIN (SELECT series_id, count(*) AS n FROM instances WHERE NOT superseded GROUP BY ALL) i"
            " USING (series_id)"
        )
    listed = ", ".join(f"{value} AS {quoted(name)}" for name, value in columns.items())
    return f"(SELECT {listed} FROM {joins})"  # noqa: S608 - names are quoted


def columns_of(ask: Ask) -> frozenset[str]:
    """Return the names that a condition may use for columns, in lower case."""
    return frozenset(name.casefold() for table in _TABLES for name in _columns(ask, table))


def _columns(ask: Ask, table: str) -> list[str]:
    return ask(f"SELECT * FROM {table} LIMIT 0").columns  # noqa: S608 - a name of ours


def present(resources: Resources, series_ids: Iterable[str] | None = None) -> tuple[str, ...]:
    """Return the opaque ids, in order, of those series that the vault has.

    A series whose every instance was superseded (sent again in another series) is left out.

    Parameters
    ----------
    resources : Resources
        The open vault.
    series_ids : iterable of str, optional
        Which; all without.
    """
    ids = None if series_ids is None else sorted({i for i in series_ids if OPAQUE.fullmatch(i)})
    among = "" if ids is None else " and series_id in (select unnest($ids))"
    rows = resources.catalog.query(
        "select distinct series_id from instances where not superseded"  # noqa: S608 - ours
        f" and series_id in (select series_id from series){among} order by series_id",
        {"ids": ids},
    )
    return tuple(rows["series_id"].to_pylist())


def _canonical(parameters: Parameters) -> str:
    if isinstance(parameters, Mapping):
        return repr(sorted((str(name), repr(value)) for name, value in parameters.items()))
    return repr([repr(value) for value in parameters or ()])


__all__ = [
    "OPAQUE",
    "Ask",
    "Chosen",
    "by_condition",
    "check_condition",
    "columns_of",
    "everything",
    "one_view",
    "present",
]
