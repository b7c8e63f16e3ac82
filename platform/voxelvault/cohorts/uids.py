"""From UIDs and opaque ids to series."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache

import pyarrow as pa

from voxelvault.access import log_query
from voxelvault.cohorts.selecting import Ask, Chosen, present
from voxelvault.cohorts.tables import to_table
from voxelvault.errors import AmbiguousUID, UnknownUID, UsageError
from voxelvault.resources import Resources

BY_LEVEL = ("series_id", "SeriesInstanceUID", "SOPInstanceUID", "study_id", "StudyInstanceUID", "subject_id")
"""Columns that say which series a row of a table means; the first that is there counts."""

_AT_ONCE = 20_000


def by_uids(resources: Resources, ask: Ask, uids: Iterable[str]) -> Chosen:
    """Select by Study, Series or SOP Instance UIDs, or by opaque ids of series, studies, subjects.

    A SOP Instance UID means the series that the instance is in.

    Raises
    ------
    UsageError
        Something in the list is no text.
    UnknownUID, AmbiguousUID
        At the selection's first use.
    """
    wanted = list(uids)
    if not all(isinstance(uid, str) for uid in wanted):
        raise UsageError("UIDs are text; pass a list of str, or a data frame with a column of UIDs")
    wanted = sorted({uid.strip(" \0") for uid in wanted})
    digest = hashlib.sha256("\n".join(wanted).encode()).hexdigest()

    @cache
    def find() -> Sequence[str]:
        log_query(resources, f"select series by {len(wanted)} UIDs, whose list has the SHA-256 {digest}")
        return _found(resources, wanted)

    return Chosen(resources, ask, f"uids {digest}", find)


def by_table(resources: Resources, ask: Ask, table: object) -> Chosen:
    """Select by a data frame's column of UIDs or opaque ids: the finest that it has.

    Raises
    ------
    UsageError
        No column is named as one of `BY_LEVEL`.
    """
    rows = to_table(table)
    column = next((name for name in BY_LEVEL if name in rows.column_names), None)
    if column is None:
        raise UsageError(f"the table has no column named {', '.join(BY_LEVEL[:-1])} or {BY_LEVEL[-1]}")
    uids = rows[column].cast(pa.string()).to_pylist()
    if column == "SeriesInstanceUID" and "StudyInstanceUID" in rows.column_names:
        studies = rows["StudyInstanceUID"].cast(pa.string()).to_pylist()
        return _by_pairs(resources, ask, {(s, u) for s, u in zip(studies, uids, strict=True) if s and u})
    return by_uids(resources, ask, [uid for uid in uids if uid])


def _by_pairs(resources: Resources, ask: Ask, pairs: set[tuple[str, str]]) -> Chosen:
    """Select series by study and series UID together: some senders use a series UID twice."""
    uids = sorted({uid for _, uid in pairs})
    digest = hashlib.sha256("\n".join(sorted(map(repr, pairs))).encode()).hexdigest()

    @cache
    def find() -> Sequence[str]:
        log_query(resources, f"select series by {len(pairs)} UIDs, whose list has the SHA-256 {digest}")
        rows = [
            ((row["study"], row["uid"]), row["series_id"])
            for part in _parts(uids)
            for row in resources.catalog.query(
                "select StudyInstanceUID as study, SeriesInstanceUID as uid, series_id from series"
                " where SeriesInstanceUID in (select unnest($uids))",
                {"uids": part},
            ).to_pylist()
            if (row["study"], row["uid"]) in pairs
        ]
        _check(len(pairs), rows)
        return present(resources, [series_id for _, series_id in rows])

    return Chosen(resources, ask, f"uids {digest}", find)


def _found(resources: Resources, wanted: Sequence[str]) -> Sequence[str]:
    """Return the series that the UIDs mean; each must mean something, and one thing."""
    rows = [row for part in _parts(wanted) for row in _of_studies_and_series(resources, part)]
    left = sorted(set(wanted) - {uid for uid, _, _ in rows})
    rows += [row for part in _parts(left) for row in _of_instances(resources, part)]
    # One study of one subject may be many series; the same UID at two subjects is two things.
    _check(len(wanted), {(uid, thing) for uid, thing, _ in rows})
    return present(resources, [series_id for _, _, series_id in rows])


def _check(wanted: int, found: Iterable[tuple[object, str]]) -> None:
    """Refuse UIDs that mean nothing or several things; the message counts, it names none."""
    found = list(found)
    known = {uid for uid, _ in found}
    if len(known) < wanted:
        raise UnknownUID(
            f"{wanted - len(known)} of {wanted} UIDs are not in this vault; leave them out of the list"
            " (a query on `series` shows what is there)"
        )
    if len(set(found)) > len(known):
        raise AmbiguousUID(
            f"{len(set(found)) - len(known)} of the UIDs mean several studies or subjects; select by"
            " series_id, or, where `conflicts` shows that they are one person, merge them"
        )


def _of_studies_and_series(resources: Resources, uids: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return UID or id, what it means (opaque), series, for each that is a subject's, study's, series'."""
    given = "(select unnest($uids))"
    rows = resources.catalog.query(
        f"select series_id as uid, series_id as thing, series_id from series where series_id in {given}"  # noqa: S608
        f" union all select study_id, study_id, series_id from series where study_id in {given}"
        f" union all select subject_id, subject_id, series_id from series where subject_id in {given}"
        f" union all select SeriesInstanceUID, series_id, series_id from series"
        f" where SeriesInstanceUID in {given}"
        f" union all select StudyInstanceUID, study_id, series_id from series"
        f" where StudyInstanceUID in {given}",
        {"uids": list(uids)},
    )
    return [(row["uid"], row["thing"], row["series_id"]) for row in rows.to_pylist()]


def _of_instances(resources: Resources, uids: Sequence[str]) -> list[tuple[str, str, str]]:
    rows = resources.catalog.query(
        "select distinct SOPInstanceUID as uid, series_id from instances"
        " where SOPInstanceUID in (select unnest($uids)) and not superseded",
        {"uids": list(uids)},
    )
    return [(row["uid"], row["series_id"], row["series_id"]) for row in rows.to_pylist()]


def _parts(uids: Sequence[str]) -> list[Sequence[str]]:
    return [uids[at : at + _AT_ONCE] for at in range(0, len(uids), _AT_ONCE)]


__all__ = ["BY_LEVEL", "by_table", "by_uids"]
