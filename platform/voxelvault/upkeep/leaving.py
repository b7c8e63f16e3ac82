"""What a removal takes out of the catalog: the rows that go, and those that count again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from voxelvault import tasks
from voxelvault.catalog.catalog import Change
from voxelvault.errors import UnknownUID
from voxelvault.intake.directory import conflict_id_of
from voxelvault.rows import changes

Query = Callable[..., pa.Table]


@dataclass(slots=True)
class Leaving:
    """Instances that leave, and what leaves with them.

    Attributes
    ----------
    named : dict of str to set of str
        `study`, `subject` and `instance` ids as the log names them.
    whole : bool
        Whole studies leave.
    instance_ids, pack_ids, series_ids : set of str
        Instances that leave, and the packs and series that they are in.
    empty : dict of str to set of str
        Opaque ids by table, `series`, `studies` and `patients`, of which nothing is left.
    key_ids : set of str
        Keys that nothing needs any more.
    """

    named: dict[str, set[str]]
    whole: bool = False
    instance_ids: set[str] = field(default_factory=set)
    pack_ids: set[str] = field(default_factory=set)
    series_ids: set[str] = field(default_factory=set)
    empty: dict[str, set[str]] = field(default_factory=dict)
    key_ids: set[str] = field(default_factory=set)

    def changes(self, query: Query) -> list[Change]:
        """Return the changes that take them out of the catalog."""
        found = [
            *_deleted("instances", "instance_id", self.instance_ids),
            *_deleted("cohort_members", "instance_id", self.instance_ids),
            *_deleted("conflicts", "conflict_id", self._conflicts(query)),
            *_deleted("derived", "series_id", self.series_ids),
            *_deleted("series", "series_id", self.empty["series"]),
            *_deleted("studies", "study_id", self.empty["studies"]),
            *tasks.leaving(query, self.empty["studies"]),
            *_deleted("patients", "subject_id", self.empty["patients"]),
            *_deleted("merges", "subject_id", self.empty["patients"]),
            *self._moves(query),
        ]
        return [*found, *changes("instances", self._current(query), "merge")]

    def aside(self, query: Query) -> list[dict[str, Any]]:
        """Return the rows of the quarantine with the bytes of files that leave, and of none that stays."""
        rows: list[dict[str, Any]] = query(
            "with gone as (select sha256 from instances where instance_id in (select unnest($ids)))"
            " select quarantine_id, object_id, key_id from quarantine where sha256 in"
            " (select sha256 from gone) and sha256 not in (select sha256 from instances where sha256 in"
            " (select sha256 from gone) and instance_id not in (select unnest($ids))) order by quarantine_id",
            {"ids": sorted(self.instance_ids)},
        ).to_pylist()
        return rows

    def arrived(self, query: Query) -> bool:
        """Tell whether something came to a series, a study or a person of which nothing was to be left.

        A key that is destroyed takes along all that hangs below it.
        """
        found = query(
            "select 1 from instances where (series_id in (select unnest($series)) or study_id in"
            " (select unnest($studies)) or subject_id in (select unnest($patients)))"
            " and instance_id not in (select unnest($instances)) limit 1",
            {
                **{table: sorted(ids) for table, ids in self.empty.items()},
                "instances": sorted(self.instance_ids),
            },
        )
        return bool(found.num_rows)

    def copies(self, query: Query) -> list[str]:
        """Return the objects of derived copies that were made of what leaves."""
        rows = query(
            "select object_id from derived where series_id in (select unnest($ids))"
            " and object_id is not null",
            {"ids": sorted(self.series_ids)},
        )
        found: list[str] = rows["object_id"].to_pylist()
        return found

    def cohorts(self, query: Query) -> dict[str, int]:
        """Return which frozen cohorts lose how many members."""
        rows = query(
            "select cohort_id from cohort_members where instance_id in (select unnest($ids))",
            {"ids": sorted(self.instance_ids)},
        )
        return dict(Counter(rows["cohort_id"].to_pylist()))

    def _conflicts(self, query: Query) -> set[str]:
        rows = query(
            "select conflict_id from conflicts where instance_id in (select unnest($instances))"
            " or subject_id in (select unnest($subjects)) or other_subject_id in (select unnest($subjects))",
            {"instances": sorted(self.instance_ids), "subjects": sorted(self.empty["patients"])},
        )
        # A newer version that stays has nothing to be newer than any more.
        pairs = query(
            "select g.instance_id as gone, i.instance_id, i.subject_id from instances g join instances i"
            " on i.subject_id = g.subject_id and i.SOPInstanceUID = g.SOPInstanceUID"
            " where g.instance_id in (select unnest($instances)) and g.SOPInstanceUID != ''",
            {"instances": sorted(self.instance_ids)},
        ).to_pylist()
        answered = {conflict_id_of("version", pair.pop("gone"), **pair) for pair in pairs}
        return {*rows["conflict_id"].to_pylist(), *answered}

    def _moves(self, query: Query) -> list[Change]:
        rows = query(
            "select m.subject_id, m.StudyInstanceUID from moves m"
            " where m.subject_id in (select unnest($subjects)) or (m.into_subject_id, m.StudyInstanceUID) in"
            " (select (subject_id, StudyInstanceUID) from studies"
            " where study_id in (select unnest($studies)))",
            {"subjects": sorted(self.empty["patients"]), "studies": sorted(self.empty["studies"])},
        ).to_pylist()
        return changes("moves", rows, "delete")

    def _current(self, query: Query) -> list[dict[str, Any]]:
        """Return the newest versions that are left of what leaves: they count again."""
        rows: list[dict[str, Any]] = query(
            "with leaving as (select distinct subject_id, SOPInstanceUID as uid from instances"
            " where instance_id in (select unnest($instances)) and not superseded and SOPInstanceUID != '')"
            " select instance_id, false as superseded from instances"
            " where (subject_id, SOPInstanceUID) in (select (subject_id, uid) from leaving)"
            " and instance_id not in (select unnest($instances)) qualify row_number() over"
            " (partition by subject_id, SOPInstanceUID order by version desc) = 1",
            {"instances": sorted(self.instance_ids)},
        ).to_pylist()
        return rows


def leaving_instances(query: Query, instance_ids: Sequence[str]) -> Leaving:
    """Return what leaves with some instances.

    Raises
    ------
    UnknownUID
        Some are not in this vault.
    """
    rows = query(
        "select instance_id, pack_id, series_id, study_id, subject_id from instances"
        " where instance_id in (select unnest($ids))",
        {"ids": sorted(set(instance_ids))},
    ).to_pylist()
    if not rows or len(rows) != len(set(instance_ids)):
        raise UnknownUID("some of these instances are not in this vault; `sql` on `instances` lists them")
    found = _of(rows, {"instance": {row["instance_id"] for row in rows}})
    found.named["study"] = {row["study_id"] for row in rows}
    return _emptied(query, found, rows)


def leaving_studies(query: Query, column: str, wanted: str) -> Leaving:
    """Return what leaves with a study, or with all studies of a subject.

    Raises
    ------
    UnknownUID
        There is none.
    """
    rows = query(
        "select i.instance_id, i.pack_id, i.series_id, s.study_id, s.subject_id, s.key_id from studies s"  # noqa: S608
        f" left join instances i using (study_id) where s.{column} = $id",
        {"id": wanted},
    ).to_pylist()
    if not rows:
        raise UnknownUID("nothing in this vault has that id; `sql` on `studies` lists what there is")
    found = _of(rows, {"study": {row["study_id"] for row in rows}})
    found.whole = True
    found.key_ids = {row["key_id"] for row in rows}
    return _emptied(query, found, rows)


def _of(rows: Iterable[Mapping[str, Any]], named: dict[str, set[str]]) -> Leaving:
    kept = [row for row in rows if row["instance_id"] is not None]
    return Leaving(
        named,
        instance_ids={row["instance_id"] for row in kept},
        pack_ids={row["pack_id"] for row in kept},
        series_ids={row["series_id"] for row in kept},
    )


def _emptied(query: Query, found: Leaving, rows: Sequence[Mapping[str, Any]]) -> Leaving:
    """Note of which series, studies and subjects nothing is left, and which keys go with them."""
    scope = {"instances": sorted(found.instance_ids)}
    for table, column in (("series", "series_id"), ("studies", "study_id"), ("patients", "subject_id")):
        ids = {row[column] for row in rows if row[column] is not None}
        left = query(
            f"select distinct {column} as id from instances where {column} in (select unnest($ids))"  # noqa: S608
            " and instance_id not in (select unnest($instances))",
            {"ids": sorted(ids), **scope},
        )["id"].to_pylist()
        found.empty[table] = ids - set(left)
    found.empty["patients"] = _with_merged(query, found.empty["patients"])
    found.named["subject"] = {row["subject_id"] for row in rows}
    # A subject's key has the subject's id.
    found.key_ids |= found.empty["patients"]
    return found


def _with_merged(query: Query, subject_ids: set[str]) -> set[str]:
    """Return these subjects, but for the vault's own, and those that were merged into them."""
    rows = query("select subject_id, merged_into, patientless from patients").to_pylist()
    found = subject_ids - {row["subject_id"] for row in rows if row["patientless"]}
    while True:
        more = {row["subject_id"] for row in rows if row["merged_into"] in found} - found
        if not more:
            return found
        found |= more


def _deleted(table: str, column: str, ids: Iterable[str]) -> list[Change]:
    return changes(table, [{column: one} for one in sorted(ids)], "delete")


__all__ = ["Leaving", "leaving_instances", "leaving_studies"]
