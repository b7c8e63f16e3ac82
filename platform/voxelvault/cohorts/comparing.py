"""What two cohorts have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from voxelvault.cohorts.labels import Labels
from voxelvault.cohorts.selecting import Chosen
from voxelvault.errors import UsageError


@dataclass(frozen=True)
class Difference:
    """From one cohort to another.

    Parameters
    ----------
    same : int
        Series with the same instances and labels in both.
    added, removed : tuple of str
        Opaque ids of series that only the other, and only this one has.
    changed, relabelled : tuple of str
        Opaque ids of series of both whose instances or whose labels are others.
    subjects_added, subjects_removed : int
        Subjects that only one of them has.
    """

    same: int
    added: tuple[str, ...] = field(repr=False)
    removed: tuple[str, ...] = field(repr=False)
    changed: tuple[str, ...] = field(repr=False)
    relabelled: tuple[str, ...] = field(repr=False)
    subjects_added: int = 0
    subjects_removed: int = 0

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.relabelled)

    def __str__(self) -> str:
        return (
            f"{self.same} series the same, {len(self.added)} added ({self.subjects_added} new subjects),"
            f" {len(self.removed)} removed ({self.subjects_removed} subjects gone),"
            f" {len(self.changed)} with other instances, {len(self.relabelled)} relabelled"
        )

    def __repr__(self) -> str:
        return f"<Difference: {self}>"


def difference(
    one: Chosen, other: Chosen, ids: tuple[tuple[str, ...], tuple[str, ...]], labels: tuple[Labels, Labels]
) -> Difference:
    """Compare two cohorts or selections.

    Raises
    ------
    UsageError
        They are of two vaults.
    """
    if one.resources.settings.vault_id != other.resources.settings.vault_id:
        raise UsageError("these are of two vaults, whose ids have nothing in common")
    mine, theirs = (
        _instances(chosen, series_ids) for chosen, series_ids in zip((one, other), ids, strict=True)
    )
    both = sorted(mine.keys() & theirs.keys())
    changed = tuple(key for key in both if mine[key][1] != theirs[key][1])
    relabelled = tuple(key for key in both if labels[0].of(key) != labels[1].of(key))
    people = [{subject for subject, _ in found.values()} for found in (mine, theirs)]
    return Difference(
        same=len(both) - len({*changed, *relabelled}),
        added=tuple(sorted(theirs.keys() - mine.keys())),
        removed=tuple(sorted(mine.keys() - theirs.keys())),
        changed=changed,
        relabelled=relabelled,
        subjects_added=len(people[1] - people[0]),
        subjects_removed=len(people[0] - people[1]),
    )


def _instances(chosen: Chosen, series_ids: tuple[str, ...]) -> Mapping[str, tuple[str, str]]:
    """Return for each series its subject, and its instances' digests as one text."""
    frozen = chosen.frozen
    source = "cohort_members where cohort_id = $cohort" if frozen else "instances where not superseded"
    rows = chosen.resources.catalog.query(
        "select series_id, any_value(subject_id) as subject_id, string_agg(sha256, '' order by sha256) as"  # noqa: S608 - ours
        f" members from {source} and series_id in (select unnest($ids)) group by series_id",
        {"ids": list(series_ids), "cohort": frozen.cohort_id if frozen else None},
    ).to_pylist()
    return {row["series_id"]: (row["subject_id"], row["members"]) for row in rows}


__all__ = ["Difference", "difference"]
