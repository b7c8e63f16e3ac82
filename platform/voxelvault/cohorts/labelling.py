"""Joining a table of labels to series by a key: each row once, and nothing lost in silence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa

from voxelvault.access import log_query, names_identity
from voxelvault.cohorts.found_labels import found_labels
from voxelvault.cohorts.key_names import SPELLINGS, canonical, named_key
from voxelvault.cohorts.label_report import LabelReport, by_column
from voxelvault.cohorts.labels import Labels, joined, of_series, reduced_value
from voxelvault.cohorts.selecting import Chosen
from voxelvault.cohorts.tables import to_table
from voxelvault.errors import AmbiguousUID, UsageError
from voxelvault.resources import Resources

# Each subject and, by way of merges, the one that stands for it now.
_ENDED = (
    "with recursive ended as (select subject_id as first, subject_id as last, 0 as steps"
    " from patients union all select e.first, p.merged_into, e.steps + 1 from ended e join patients p"
    " on p.subject_id = e.last where p.merged_into is not null and e.steps < 100)"
)

KEYS: Mapping[str, str] = {
    "SeriesInstanceUID": "select SeriesInstanceUID as key, series_id as thing, series_id from series",
    "StudyInstanceUID": "select StudyInstanceUID as key, study_id as thing, series_id from series",
    "series_id": "select series_id as key, series_id as thing, series_id from series",
    "study_id": "select study_id as key, study_id as thing, series_id from series",
    "AccessionNumber": "select st.AccessionNumber as key, s.subject_id as thing, s.series_id"
    " from series s join studies st using (study_id)",
    "PatientID": f"{_ENDED} select p.PatientID as key, s.subject_id as thing, s.series_id from ended e"  # noqa: S608 - ours
    " join patients p on p.subject_id = e.first join series s on s.subject_id = e.last",
    "subject_id": f"{_ENDED} select e.first as key, s.subject_id as thing, s.series_id from ended e"  # noqa: S608 - ours
    " join series s on s.subject_id = e.last",
}
"""Query by which a key of each kind finds series; `thing` is what it must mean one of."""

BY_INSTANCE = "SOPInstanceUID"

MISSING = ("report", "drop", "raise")


def label(
    chosen: Chosen,
    series_ids: Sequence[str],
    source: Any,
    on: str | None,
    columns: Sequence[str] | None,
    missing: str,
    reduce: str,
    from_: str | None = None,
) -> tuple[Chosen, LabelReport]:
    """Return a selection with a table's labels beside those that it has; see `Selection.with_labels`.

    Raises
    ------
    UsageError
        As for `join`; or series have no label and must.
    """
    if missing not in MISSING:
        raise UsageError(f"missing= is one of {', '.join(MISSING)}")
    if (source is None) == (from_ is None):
        raise UsageError(
            "labels come from a table, or with from_= from what the vault holds: pass one of them"
        )
    if from_ is not None:
        found = _of_vault(chosen.resources, series_ids, from_, columns)
    else:
        found = join(chosen.resources, series_ids, source, on, columns, reduce)
    report = found.report
    if missing == "raise":
        _refuse_gaps(report)
    kept = tuple(sorted(set(series_ids) - set(report.unlabelled))) if missing == "drop" else tuple(series_ids)
    text = f"({chosen.text}) labelled" + (", those with labels" if missing == "drop" else "")
    labels = joined([chosen.labels, found.labels])
    # A cohort's own labels are frozen with it: with others it is a selection of its series.
    return replace(chosen, text=text, find=lambda: kept, labels=labels), report


@dataclass(frozen=True)
class Joined:
    """What joining gave: labels, and how they fitted."""

    labels: Labels
    report: LabelReport


def join(
    resources: Resources,
    series_ids: Sequence[str],
    source: Any,
    on: str | None = None,
    columns: Sequence[str] | None = None,
    reduce: str = "same",
) -> Joined:
    """Join a table's label columns to series.

    Parameters
    ----------
    resources : Resources
        The open vault.
    series_ids : sequence of str
        Opaque ids.
    source : table or path
        As for `tables.to_table`.
    on : str, optional
        What the key column holds: one of `KEYS` or SOPInstanceUID, in any spelling; by default what the
        table itself says, or SeriesInstanceUID.
    columns : sequence of str, optional
        Label columns, of which a series needs each to count as labelled; by default all that are no
        keys, nor called as attributes that identify, such as PatientName, and any of them is enough.
    reduce : {"same", "max", "min", "mean"}
        How labels by instance become one of the series.

    Raises
    ------
    UsageError
        There is no such key or column, two rows have one key, no row fits, or a value is no plain value.
    AmbiguousUID
        A key means several studies or subjects.
    """
    own = getattr(source, "on", None)
    read, key = named_key(to_table(source, SPELLINGS), on, own if isinstance(own, str) else None)
    reduced_value(reduce, [])
    table = _keyed(read, key, columns)
    log_query(resources, f"select series_id, {key} from series")  # noqa: S608 - a name of ours
    if key == BY_INSTANCE:
        found = _by_instance(resources, series_ids, table, reduce)
    else:
        found = _by_series(resources, series_ids, key, table)
    _refuse_misfit(table, key, found.report)
    return found


@dataclass(frozen=True)
class _Keyed:
    """A table of labels by its key; rows whose key is empty are only counted.

    `keys` are the columns that it could be joined on, `needed` those that a series must have a label of.
    """

    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Any]]
    without_key: int
    left_out: tuple[str, ...]
    keys: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()


def _of_vault(
    resources: Resources, series_ids: Sequence[str], source: str, columns: Sequence[str] | None
) -> Joined:
    labels = found_labels(resources, series_ids, source)
    if columns is not None:
        labels = labels.with_columns(columns)
    unlabelled = tuple(one for one in series_ids if _lacks(labels.of(one), columns or ()))
    size = len(series_ids)
    report = LabelReport(
        size,
        size - len(unlabelled),
        rows=0,
        unlabelled=unlabelled,
        by_column=by_column(labels.columns, [labels.of(one) for one in series_ids]),
    )
    return Joined(labels, report)


def _by_series(resources: Resources, series_ids: Sequence[str], key: str, table: _Keyed) -> Joined:
    rows = table.rows
    found = resources.catalog.query(KEYS[key]).to_pylist()
    things: dict[str, set[str]] = {}
    for row in found:
        if row["key"] in rows:
            things.setdefault(row["key"], set()).add(row["thing"])
    _refuse_ambiguous(things, key)
    chosen = set(series_ids)
    matches: dict[str, dict[str, Any]] = {}
    matched = set()
    for row in found:
        if row["key"] in rows and row["series_id"] in chosen:
            matched.add(row["key"])
            _add(matches, row["series_id"], rows[row["key"]])
    matches = {series_id: row for series_id, row in matches.items() if row}
    labels = Labels(table.columns, matches)
    return Joined(labels, _report(series_ids, table, matched, matches, things))


def _by_instance(resources: Resources, series_ids: Sequence[str], table: _Keyed, reduce: str) -> Joined:
    rows, names = table.rows, table.columns
    found = resources.catalog.query(
        "select SOPInstanceUID as key, instance_id as thing, series_id from instances where not superseded"
        " and series_id in (select unnest($ids))",
        {"ids": list(series_ids)},
    ).to_pylist()
    fitting = [row for row in found if row["key"] in rows]
    things: dict[str, set[str]] = {}
    by_series: dict[str, dict[str, Any]] = {}
    for row in fitting:
        things.setdefault(row["key"], set()).add(row["thing"])
        by_series.setdefault(row["series_id"], {})[row["thing"]] = rows[row["key"]]
    _refuse_ambiguous(things, BY_INSTANCE)
    reduced = dict.fromkeys(names, reduce)
    matches = {series_id: of_series(instances, reduced) for series_id, instances in by_series.items()}
    instances = {row["thing"]: rows[row["key"]] for row in fitting}
    labels = Labels(names, {key: row for key, row in matches.items() if row}, instances, reduced)
    differing = sum(
        any(any(name in row for row in by_series[key].values()) for name in names if name not in own)
        for key, own in matches.items()
    )
    known = _instances_elsewhere(resources, table.rows.keys() - things)
    return Joined(labels, _report(series_ids, table, things, matches, known, differing))


def _instances_elsewhere(resources: Resources, keys: Set[str]) -> dict[str, None]:
    """Return those of the keys that are instances of this vault."""
    found = resources.catalog.query(
        "select distinct SOPInstanceUID as key from instances where not superseded"
        " and SOPInstanceUID in (select unnest($keys))",
        {"keys": sorted(keys)},
    )
    return dict.fromkeys(found["key"].to_pylist())


def _keyed(table: pa.Table, key: str, columns: Sequence[str] | None) -> _Keyed:
    """Return the label columns by key."""
    names = list(table.column_names)
    others = [name for name in names if name not in SPELLINGS]
    unfit = (name for name in others if names_identity(name) or canonical(name))
    left_out = () if columns is not None else tuple(unfit)
    wanted = list(columns) if columns is not None else [name for name in others if name not in left_out]
    lacking = [name for name in wanted if name not in names]
    if not wanted and columns is None:
        raise UsageError(
            "the table has no column of labels beside keys and columns that are called as identifying ones"
            " are; columns= takes those, too"
        )
    if lacking:
        raise UsageError(f"the table has no column {lacking[0]!r}; spell it as the table's head does")
    if not wanted or len(set(wanted)) < len(wanted) or names.count(key) > 1:
        raise UsageError("name each column of labels once, and at least one")
    keys = _as_text(table[key])
    values = [[_plain(value, name) for value in table[name].to_pylist()] for name in wanted]
    rows: dict[str, Any] = {}
    twice = 0
    for at, one in enumerate(keys):
        if one:
            twice += one in rows
            found = {name: column[at] for name, column in zip(wanted, values, strict=True)}
            rows[one] = {name: value for name, value in found.items() if value is not None}
    if twice:
        raise UsageError(
            f"{twice} rows repeat a {key} of another row; keep one row each, or join on a finer key"
        )
    possible = tuple(key_name for name in names if (key_name := canonical(name)))
    return _Keyed(tuple(wanted), rows, sum(not one for one in keys), left_out, possible, tuple(columns or ()))


def _as_text(column: pa.ChunkedArray) -> list[str]:
    """Return keys as the catalog writes them; numbers (a PatientID read as one) without a fraction."""
    values = column.to_pylist()
    if any(isinstance(value, float) and value == value and value != int(value) for value in values):
        raise UsageError("the key column holds fractions; read it as text")
    whole = (int(v) if isinstance(v, float) and v == v else v for v in values)
    return ["" if v is None or v != v else str(v).strip(" \0") for v in whole]


def _plain(value: Any, name: str) -> Any:
    """Return a label as bool, int, float or str; None for what is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    raise UsageError(f"label column {name!r} holds more than numbers, texts and truth values; leave it out")


def _add(matches: dict[str, dict[str, Any]], series_id: str, row: Mapping[str, Any]) -> None:
    """Give a series a row; a second one (of a subject merged since) must not contradict."""
    known = matches.setdefault(series_id, {})
    if any(name in known and known[name] != value for name, value in row.items()):
        raise UsageError(
            "rows of two keys that mean one subject since a merge contradict each other; keep one of them"
        )
    known.update(row)


def _refuse_gaps(report: LabelReport) -> None:
    """Refuse series without a label, and rows without a series; rows of the vault's other series fit."""
    lost = report.unmatched_rows - report.elsewhere + report.without_key
    told = []
    if report.unlabelled:
        told.append(
            f"{report.without_label} of {report.series} series have no label: pass missing='drop' to leave"
            " them out"
        )
    if lost:
        told.append(
            f"{lost} of {report.rows} rows fit no series of this vault: see label_report.unmatched after"
            " missing='report'"
        )
    if told:
        raise UsageError("; ".join(told))


def _refuse_misfit(table: _Keyed, key: str, report: LabelReport) -> None:
    """Refuse a table of which nothing fits: most likely it is keyed by something else."""
    fitting = len(table.rows) - report.unmatched_rows
    if fitting or not report.rows or not report.series:
        return
    others = [name for name in table.keys if name != key]
    told = [f"{report.elsewhere} fit series outside of the selection"] if report.elsewhere else []
    told += [f"{report.without_key} have no key"] if report.without_key else []
    hint = f"the table has {', '.join(others)}, too" if others else "or what the column holds"
    raise UsageError(
        f"none of {report.rows} rows fits any of {report.series} series by {key}"
        + (f" ({', '.join(told)})" if told else "")
        + f": see whether on= is the column meant ({hint}), and whether this is the table of these images"
    )


def _refuse_ambiguous(things: Mapping[str, set[str]], key: str) -> None:
    several = sum(len(found) > 1 for found in things.values())
    if several:
        what = {"PatientID": "subjects", "AccessionNumber": "subjects"}.get(key, "studies or subjects")
        raise AmbiguousUID(
            f"{several} values of {key} mean several {what} of this vault; join on subject_id or series_id,"
            " or, where `conflicts` shows that they are one person, merge them"
        )


def _report(
    series_ids: Sequence[str],
    table: _Keyed,
    matched: Iterable[str],
    labelled: Mapping[str, Any],
    known: Mapping[str, Any],
    differing: int = 0,
) -> LabelReport:
    unmatched = tuple(sorted(table.rows.keys() - set(matched)))
    unlabelled = tuple(one for one in series_ids if _lacks(labelled.get(one, {}), table.needed))
    return LabelReport(
        series=len(series_ids),
        labelled=len(series_ids) - len(unlabelled),
        rows=len(table.rows) + table.without_key,
        unmatched_rows=len(unmatched),
        elsewhere=sum(key in known for key in unmatched),
        without_key=table.without_key,
        differing=differing,
        unmatched=unmatched,
        unlabelled=unlabelled,
        left_out=table.left_out,
        by_column=by_column(table.columns, [labelled.get(one, {}) for one in series_ids]),
    )


def _lacks(row: Mapping[str, Any], needed: Sequence[str]) -> bool:
    """Tell whether a series is without a label: it has none, or not each of those that were asked for."""
    return not row or any(name not in row for name in needed)


__all__ = ["KEYS", "Joined", "join"]
