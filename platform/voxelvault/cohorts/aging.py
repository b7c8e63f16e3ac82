"""What became of a frozen cohort: what an erasure took, what was sent again, what grew."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from voxelvault.cohorts.freezing import Frozen
from voxelvault.errors import UsageError
from voxelvault.resources import Resources


@dataclass(frozen=True)
class Erased:
    """What is no longer in the cohort: instances, and subjects of whom nothing is left in the vault."""

    members: int
    subjects: int

    def __bool__(self) -> bool:
        return bool(self.members)


@dataclass(frozen=True)
class Changed:
    """Series of a cohort that are not what they were when it was frozen.

    Parameters
    ----------
    superseded, missing, altered : tuple of str
        Opaque ids of members that a newer version replaced, that the catalog lacks, and whose bytes
        are others.
    grown : tuple of str
        Opaque ids of series with instances that were not frozen.
    series : tuple of str
        Opaque ids of all series that any of this is about.
    """

    superseded: tuple[str, ...] = field(default=(), repr=False)
    missing: tuple[str, ...] = field(default=(), repr=False)
    altered: tuple[str, ...] = field(default=(), repr=False)
    grown: tuple[str, ...] = field(default=(), repr=False)
    series: tuple[str, ...] = field(default=(), repr=False)

    def __bool__(self) -> bool:
        return bool(self.series)

    def __str__(self) -> str:
        if not self:
            return "as it was frozen"
        told = [f"{len(self.series)} series changed since:"]
        told += [f"{len(self.grown)} grew" if self.grown else ""]
        told += [f"{len(self.superseded)} instances were replaced" if self.superseded else ""]
        told += [f"{len(self.missing)} are missing" if self.missing else ""]
        told += [f"{len(self.altered)} have other bytes" if self.altered else ""]
        return " ".join(told[:1]) + " " + ", ".join(part for part in told[1:] if part)

    __repr__ = __str__


def erased(resources: Resources, frozen: Frozen) -> Erased:
    """Return what an erasure took from a cohort."""
    left = resources.catalog.query(
        "select count(*)::BIGINT as n from cohort_members where cohort_id = $id", {"id": frozen.cohort_id}
    )["n"].to_pylist()[0]
    # Merging and moving change whose a member is; who was erased is no patient any more.
    there = resources.catalog.query(
        "select count(*)::BIGINT as n from patients where subject_id in (select unnest($ids))",
        {"ids": list(frozen.selection["subjects"])},
    )["n"].to_pylist()[0]
    return Erased(frozen.members - left, len(frozen.selection["subjects"]) - there)


def changed(resources: Resources, frozen: Frozen) -> Changed:
    """Return how a cohort's series differ from when it was frozen."""
    members = "select * from cohort_members where cohort_id = $id"
    rows = resources.catalog.query(
        f"with m as ({members})"  # noqa: S608 - ours
        " select m.series_id, m.instance_id, case when i.instance_id is null then 'missing'"
        " when i.sha256 != m.sha256 then 'altered' else 'superseded' end as how"
        " from m left join instances i using (instance_id)"
        " where i.instance_id is null or i.superseded or i.sha256 != m.sha256"
        " union all select distinct i.series_id, i.series_id, 'grown' from instances i"
        " where not i.superseded and i.series_id in (select series_id from m)"
        " and i.instance_id not in (select instance_id from m)",
        {"id": frozen.cohort_id},
    ).to_pylist()
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["how"], []).append(row["instance_id"])
    series = tuple(sorted({row["series_id"] for row in rows}))
    return Changed(**{how: tuple(sorted(ids)) for how, ids in found.items()}, series=series)


def require_unchanged(resources: Resources, frozen: Frozen, series_ids: Collection[str]) -> None:
    """Refuse to read series that are no longer what was frozen.

    Raises
    ------
    UsageError
        Some grew, or were sent again.
    """
    different = set(changed(resources, frozen).series) & set(series_ids)
    if different:
        raise UsageError(
            f"{len(different)} series of this cohort are no longer what was frozen (see `cohort.changed`):"
            " freeze it anew under another name with cohort.freeze, or open it with"
            " vault.cohort(name, allow_changed=True) to read what is there now"
        )


__all__ = ["Changed", "Erased", "changed", "erased", "require_unchanged"]
