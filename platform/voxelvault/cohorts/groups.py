"""Which subjects may be one person: these always stand in one part of a split together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from voxelvault.resources import Resources


def grouped(subjects: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return for each subject the name of its group: one of the subjects that pairs tie together.

    Parameters
    ----------
    subjects : iterable of str
        Opaque ids.
    pairs : iterable of (str, str)
        Subjects that may be one person; they need not be among `subjects`.
    """
    parent: dict[str, str] = {}

    def root(one: str) -> str:
        while (above := parent.setdefault(one, one)) != one:
            parent[one] = one = parent.setdefault(above, above)
        return one

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return {subject: root(subject) for subject in subjects}


@dataclass(frozen=True)
class Arrival:
    """One group of subjects, as a split sees it.

    Parameters
    ----------
    anchor : str
        The subject of the group that came first; stays when others join.
    came : tuple
        When its first series of this selection was stored, and that series: groups go in this order.
    """

    anchor: str
    came: tuple[str, str]


@dataclass(frozen=True)
class Groups:
    """The groups of some series.

    Parameters
    ----------
    of_series : mapping of str to str
        Opaque series id to its group's anchor.
    subject_of : mapping of str to str
        Opaque series id to its subject.
    arrivals : tuple of Arrival
        In order of arrival.
    """

    of_series: Mapping[str, str]
    subject_of: Mapping[str, str]
    arrivals: tuple[Arrival, ...]


def groups_of(resources: Resources, series_ids: Sequence[str]) -> Groups:
    """Return who the series belong to, with all who may be the same person."""
    rows = resources.catalog.query(
        "select series_id, any_value(subject_id) as subject_id, min(created)::VARCHAR as came from packs"
        " where series_id in (select unnest($ids)) group by series_id",
        {"ids": list(series_ids)},
    ).to_pylist()
    anchors = _anchors(resources, {row["subject_id"] for row in rows})
    of_series = {row["series_id"]: anchors[row["subject_id"]] for row in rows}
    first: dict[str, tuple[str, str]] = {}
    for row in rows:
        anchor, came = anchors[row["subject_id"]], (row["came"], row["series_id"])
        first[anchor] = min(first.get(anchor, came), came)
    arrivals = tuple(
        Arrival(anchor, came) for anchor, came in sorted(first.items(), key=lambda item: item[1])
    )
    return Groups(of_series, {row["series_id"]: row["subject_id"] for row in rows}, arrivals)


def _anchors(resources: Resources, subjects: set[str]) -> dict[str, str]:
    """Return for each subject the first that came of all who may be the same person."""
    pairs = tied(resources)
    group = grouped({*subjects, *(one for pair in pairs for one in pair)}, pairs)
    if len(set(group.values())) == len(group):
        return {subject: subject for subject in subjects}
    wanted = {group[subject] for subject in subjects}
    several = sorted(subject for subject, name in group.items() if name in wanted)
    came = {
        row["subject_id"]: row["came"]
        for row in resources.catalog.query(
            "select subject_id, min(created)::VARCHAR as came from packs"
            " where subject_id in (select unnest($ids)) group by subject_id",
            {"ids": several},
        ).to_pylist()
    }
    # A subject that was merged away has no packs of its own any more: it comes last.
    anchor: dict[str, str] = {}
    for subject in sorted(several, key=lambda one: (one not in came, came.get(one, ""), one)):
        anchor.setdefault(group[subject], subject)
    return {subject: anchor[group[subject]] for subject in subjects}


def tied(resources: Resources) -> list[tuple[str, str]]:
    """Return the pairs of subjects that may be one person.

    Those that were merged; those whose contradiction nobody has resolved, provisional subjects among
    them; and those that have a study of the same UID, which belongs to one person.
    """
    rows = resources.catalog.query(
        "select subject_id as one, merged_into as other from patients where merged_into is not null"
        " union all select subject_id, other_subject_id from conflicts"
        " where kind = 'subject' and not resolved and other_subject_id is not null"
        " union all select min(subject_id), max(subject_id) from studies where StudyInstanceUID != ''"
        " group by StudyInstanceUID having min(subject_id) != max(subject_id)"
        " union all select s.subject_id, least_of.subject_id from studies s join (select StudyInstanceUID as"
        " uid, min(subject_id) as subject_id, count(distinct subject_id) as n from studies"
        " where StudyInstanceUID != '' group by 1) least_of on s.StudyInstanceUID = least_of.uid"
        " where least_of.n > 2"
    ).to_pylist()
    return [(row["one"], row["other"]) for row in rows]


__all__ = ["Arrival", "Groups", "grouped", "groups_of", "tied"]
