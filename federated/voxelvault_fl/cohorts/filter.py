"""The declarative filter of a job: columns, operators, literals; no SQL comes over the wire.

::

    {"column": "Modality", "op": "=", "value": "CT"}
    {"all": [filter, ...]}    {"any": [filter, ...]}    {"not": filter}

Operators: ``=  !=  <  <=  >  >=  in``; `in` takes a list. A row without a value fits no comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voxelvault_fl.cohorts.view import COLUMNS
from voxelvault_fl.errors import JobRefused

OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "in")
DEPTH, TERMS, LISTED = 8, 64, 100
"""Nothing is nested deeper, has more comparisons, or lists more values."""

Literal = str | int | float


@dataclass(frozen=True, slots=True)
class Compare:
    """A comparison of one column."""

    column: str
    op: str
    value: Literal | tuple[Literal, ...]


@dataclass(frozen=True, slots=True)
class Joined:
    """``all`` or ``any`` of some filters; or ``not`` of one."""

    how: str
    terms: tuple[Filter, ...]


Filter = Compare | Joined


def parsed(said: Any) -> Filter:
    """Return a filter from plain data.

    Raises
    ------
    JobRefused
        The rule is ``filter``: something in it isn't of the grammar; or ``filter-column``: it names a
        column that isn't in the view.
    """
    found = _parsed(said, DEPTH)
    if len(_comparisons(found)) > TERMS:
        raise _refused(f"a filter has at most {TERMS} comparisons")
    return found


def _parsed(said: Any, depth: int) -> Filter:
    if not isinstance(said, Mapping) or not depth:
        raise _refused("a filter is a table of comparisons, nested at most eight deep")
    if len(said) == 1 and (how := next(iter(said))) in ("all", "any", "not"):
        inner = [said[how]] if how == "not" else said[how]
        if not isinstance(inner, Sequence) or isinstance(inner, str) or not inner:
            raise _refused("all and any take a list of filters")
        return Joined(how, tuple(_parsed(one, depth - 1) for one in inner))
    if set(said) != {"column", "op", "value"}:
        raise _refused("a comparison has column, op and value")
    return _compared(said["column"], said["op"], said["value"])


def _compared(column: Any, op: Any, value: Any) -> Compare:
    if not isinstance(column, str) or column not in COLUMNS:
        raise JobRefused("filter-column", f"filters know the columns {', '.join(COLUMNS)}")
    if not isinstance(op, str) or op not in OPERATORS:
        raise _refused(f"operators are {' '.join(OPERATORS)}")
    kind = COLUMNS[column].kind
    if op != "in":
        return Compare(column, op, _literal(value, kind))
    if not isinstance(value, Sequence) or isinstance(value, str) or not 1 <= len(value) <= LISTED:
        raise _refused(f"`in` takes a list of 1 to {LISTED} values")
    return Compare(column, op, tuple(_literal(one, kind) for one in value))


def _literal(value: Any, kind: type) -> Literal:
    good: Any = (int, float) if kind is float else kind
    if isinstance(value, bool) or not isinstance(value, good):
        raise _refused(f"a value of this column is a {'number' if kind is float else 'text'}")
    if isinstance(value, str) and len(value) > 100:
        raise _refused("a text has at most 100 letters")
    found: Literal = value
    return found


def _comparisons(found: Filter) -> list[Compare]:
    if isinstance(found, Compare):
        return [found]
    return [one for term in found.terms for one in _comparisons(term)]


def columns_in(found: Filter) -> set[str]:
    """Return the columns that a filter looks at."""
    return {one.column for one in _comparisons(found)}


def compiled(found: Filter) -> tuple[str, list[Literal]]:
    """Return a SQL condition over the view, and its parameters: no word of the job stands in the SQL."""
    if isinstance(found, Compare):
        return _condition(found)
    parts = [compiled(one) for one in found.terms]
    values = [value for _, more in parts for value in more]
    if found.how == "not":
        return f"NOT ({parts[0][0]})", values
    return f" {'AND' if found.how == 'all' else 'OR'} ".join(f"({text})" for text, _ in parts), values


def _condition(one: Compare) -> tuple[str, list[Literal]]:
    # The column is a key of COLUMNS and the operator one of OPERATORS: both were checked.
    if isinstance(one.value, tuple):
        marks = ", ".join("?" for _ in one.value)
        return f'coalesce("{one.column}" IN ({marks}), false)', list(one.value)
    return f'coalesce("{one.column}" {one.op} ?, false)', [one.value]


def _refused(message: str) -> JobRefused:
    return JobRefused("filter", message)


__all__ = ["OPERATORS", "Compare", "Filter", "Joined", "columns_in", "compiled", "parsed"]
