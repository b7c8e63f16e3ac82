"""What may be asked for: a condition, UIDs, or a table; several at once must all hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from voxelvault.cohorts.combining import intersection
from voxelvault.cohorts.selecting import (
    Ask,
    Chosen,
    Closable,
    Parameters,
    by_condition,
    columns_of,
    everything,
)
from voxelvault.cohorts.tables import is_table
from voxelvault.cohorts.uids import by_table, by_uids
from voxelvault.errors import UsageError
from voxelvault.model import UID
from voxelvault.resources import Resources


def select(
    resources: Resources,
    ask: Ask,
    where: Any,
    uids: Any,
    parameters: Parameters,
    keep: Callable[[Closable], None],
) -> Chosen:
    """Return what `vault.select` was asked for; see there.

    Raises
    ------
    UsageError
        Something is neither condition nor UIDs nor a table, or parameters have no condition.
    """
    if parameters is not None and not isinstance(where, str):
        raise UsageError("parameters belong to a SQL condition; pass one as where=")
    asked = [_one(resources, ask, what, parameters) for what in (where, uids) if what is not None]
    if not asked:
        asked = [everything(resources, ask)]
    return replace(asked[0] if len(asked) == 1 else intersection(*asked), keep=keep)


def _one(resources: Resources, ask: Ask, what: Any, parameters: Parameters) -> Chosen:
    if isinstance(what, str):
        bare = what.strip()
        if UID.fullmatch(bare) and bare.casefold() not in columns_of(ask):
            return by_uids(resources, ask, [bare])
        return by_condition(resources, ask, what, parameters)
    if _is_column(what):
        return by_uids(resources, ask, list(what.to_list() if hasattr(what, "to_list") else what.to_pylist()))
    if is_table(what):
        return by_table(resources, ask, what)
    if isinstance(what, Iterable):
        return by_uids(resources, ask, what)
    raise UsageError("select by a SQL condition, a list of UIDs, or a data frame with a column of UIDs")


def _is_column(what: Any) -> bool:
    """Tell whether this is one column of a table: of pandas, polars or pyarrow."""
    listed = hasattr(what, "to_list") or hasattr(what, "to_pylist")
    return listed and not hasattr(what, "columns")


__all__ = ["select"]
