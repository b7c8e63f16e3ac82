"""What headers told of series, studies and people, told again by the instances that stay.

A row of these tables was filled from the headers of its instances. When some of them leave, what
nobody who stays tells must leave too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from voxelvault.catalog.catalog import Change
from voxelvault.dicom.columns import Tags, columns
from voxelvault.dicom.read import Header
from voxelvault.intake.reindex import IDENTITY, PARENTS, WINDOW
from voxelvault.rows import changes
from voxelvault.upkeep.leaving import Leaving, Query

Missing = dict[str, dict[str, set[str]]]
"""By table and id, the columns that hold something and for which nobody has vouched yet."""


def retold(query: Query, tags: Tags, leaving: Leaving) -> list[Change]:
    """Return the changes by which series, studies and people say what those who stay say of them.

    For each column the first value counts, in the order in which the instances came. What was empty
    stays so: that is for `reindex`.

    Parameters
    ----------
    query : callable
        Asks the catalog as it is before the instances leave.
    tags : mapping
        Table to keyword to SQL type.
    leaving : Leaving
        Who leaves.
    """
    scope = {
        "series": leaving.series_ids - leaving.empty["series"],
        "studies": leaving.named["study"] - leaving.empty["studies"],
        "patients": leaving.named["subject"] - leaving.empty["patients"],
    }
    missing = {table: _told(query, tags, table, ids) for table, ids in scope.items() if ids}
    rows: dict[str, dict[str, dict[str, Any]]] = {
        table: {one: {PARENTS[table]: one, **dict.fromkeys(sorted(names))} for one, names in of_table.items()}
        for table, of_table in missing.items()
    }
    for row in _staying(query, missing, leaving.instance_ids):
        _vouch(row, tags, missing, rows)
        if not any(names for of_table in missing.values() for names in of_table.values()):
            break
    return [change for table, found in rows.items() for change in changes(table, [*found.values()], "merge")]


def _told(query: Query, tags: Tags, table: str, ids: Collection[str]) -> dict[str, set[str]]:
    """Return the columns of some rows that headers filled."""
    key, names = PARENTS[table], set(tags[table]) - IDENTITY
    found = query(f"select * from {table} where {key} in (select unnest($ids))", {"ids": sorted(ids)})  # noqa: S608
    return {
        row[key]: {name for name, value in row.items() if name in names and value is not None}
        for row in found.to_pylist()
    }


def _staying(query: Query, missing: Missing, leaving: Collection[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the headers of those who stay, in the order in which they came."""
    scope = {key: sorted(missing.get(table, ())) for table, key in PARENTS.items()}
    where = " or ".join(f"i.{key} in (select unnest(${key}))" for key in scope)
    ids = query(
        "select i.instance_id from instances i join packs p using (pack_id) left join"  # noqa: S608
        " (select instance_id, min(stack) as stack, min(frame) as frame from frames group by instance_id) f"
        f" using (instance_id) where ({where}) and i.instance_id not in (select unnest($leaving))"
        " order by coalesce(i.received, p.created), f.stack, f.frame, i.instance_id",
        {**scope, "leaving": sorted(leaving)},
    )["instance_id"].to_pylist()
    for at in range(0, len(ids), WINDOW):
        window = ids[at : at + WINDOW]
        rows = query(
            "select instance_id, series_id, study_id, subject_id, header from instances"
            " where instance_id in (select unnest($ids))",
            {"ids": window},
        ).to_pylist()
        by_id = {row["instance_id"]: row for row in rows}
        yield from (by_id[one] for one in window)


def _vouch(
    row: Mapping[str, Any], tags: Tags, missing: Missing, rows: dict[str, dict[str, dict[str, Any]]]
) -> None:
    """Take what one header tells of what is still missing."""
    wanted = [(table, names) for table in missing if (names := missing[table].get(row[PARENTS[table]]))]
    if not wanted:
        return
    header = Header.from_json(row["header"])
    for table, names in wanted:
        told = {
            name: value
            for name, value in columns(header, table, tags).items()
            if name in names and value is not None
        }
        rows[table][row[PARENTS[table]]] |= told
        names.difference_update(told)


__all__ = ["retold"]
