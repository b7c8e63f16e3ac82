"""Typed columns extracted anew from stored headers: for a new tag list, or a better reading of values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from voxelvault.audit.events import Event, Kind
from voxelvault.crew import Bench, Crew, Unit
from voxelvault.dicom.columns import Tags, columns
from voxelvault.dicom.read import Header
from voxelvault.errors import WorkerDied
from voxelvault.model import new_id
from voxelvault.policy.access import Request, require
from voxelvault.readonly import require_writable
from voxelvault.resources import Resources
from voxelvault.rows import changes

WINDOW = 2000
"""Instances whose headers are held at once; a window is one commit."""

PARENTS = {"patients": "subject_id", "studies": "study_id", "series": "series_id"}
"""Tables whose rows headers describe, each with its key."""

IDENTITY = {"IssuerOfPatientID", "PatientID", "StudyInstanceUID", "SeriesInstanceUID"}
"""Columns by which subjects, studies and series are found: the ingest decides them, not the header alone."""


@dataclass(slots=True)
class Extracted:
    """What some headers say.

    Attributes
    ----------
    rows : list of dict
        Columns of each instance.
    parents : dict
        Table to id to columns, of the patients, studies and series they belong to: for each column
        the first value that an instance has.
    """

    rows: list[dict[str, Any]] = field(default_factory=list, repr=False)
    parents: dict[str, dict[str, dict[str, Any]]] = field(
        default_factory=lambda: {table: {} for table in PARENTS}, repr=False
    )

    def add(self, table: str, parent_id: str, values: Mapping[str, Any]) -> None:
        """Fill in what is not known of a parent yet."""
        known = self.parents[table].setdefault(parent_id, {PARENTS[table]: parent_id})
        for column, value in values.items():
            if known.get(column) is None:
                known[column] = value


def reindex(
    resources: Resources, crew: Crew | None = None, advance: Callable[[int], object] = lambda steps: None
) -> int:
    """Extract the typed columns of every instance, series, study and patient again.

    Parameters
    ----------
    resources : Resources
        The open vault; its tag list says which columns.
    crew : Crew, optional
        Workers of a cluster that read the headers; by default this process does.
    advance : callable
        Progress: called with the number of instances done.

    Returns
    -------
    int
        Number of instances.

    Raises
    ------
    WorkerDied
        Each worker that tried was killed; what was committed before stays.
    """
    require(resources.policy, Request(Kind.CATALOG_CHANGED, (), resources.purpose, resources.who))
    require_writable(resources)
    action = new_id()
    resources.audit.append([_event(resources, action, 0)])
    whole, count = Extracted(), 0
    for found in _extracted(resources, crew):
        resources.catalog.commit(changes("instances", found.rows, "merge"))
        for table, parents in found.parents.items():
            for parent_id, values in parents.items():
                whole.add(table, parent_id, values)
        count += len(found.rows)
        advance(len(found.rows))
    for table, parents in whole.parents.items():
        resources.catalog.commit(changes(table, list(parents.values()), "merge"))
    resources.audit.append([_event(resources, action, count)])
    return count


def _extracted(resources: Resources, crew: Crew | None) -> Iterator[Extracted]:
    """Yield what each window of headers says, in their order."""
    tags = {table: dict(columns) for table, columns in resources.tags.items()}
    if crew is None:
        yield from (extract(window, tags) for window in _windows(resources))
        return
    units = (
        partial(Unit, "reindex-headers", _extract_there, (window, tags)) for window in _windows(resources)
    )
    waiting: dict[int, Extracted] = {}
    turn = 0
    for done in crew.run(units):
        if done.lost:
            raise WorkerDied("each worker that read some headers was killed: re-index without a cluster")
        waiting[done.number] = done.result
        while turn in waiting:
            yield waiting.pop(turn)
            turn += 1


def _extract_there(_bench: Bench, given: tuple[list[dict[str, Any]], Tags]) -> Extracted:
    return extract(*given)


def extract(window: Sequence[Mapping[str, Any]], tags: Tags) -> Extracted:
    """Return what some stored headers say, by a list of tags."""
    found = Extracted()
    for row in window:
        header = Header.from_json(row["header"])
        # The transfer syntax in force is the file's, not the header's word.
        values = _without(columns(header, "instances", tags), {"TransferSyntaxUID"})
        found.rows.append({**values, "instance_id": row["instance_id"]})
        for table, key in PARENTS.items():
            found.add(table, row[key], _without(columns(header, table, tags), IDENTITY))
    return found


def _windows(resources: Resources) -> Iterator[list[dict[str, Any]]]:
    last = ""
    while True:
        rows: list[dict[str, Any]] = resources.catalog.query(
            "select instance_id, series_id, study_id, subject_id, header from instances"
            " where instance_id > $last order by instance_id limit $count",
            {"last": last, "count": WINDOW},
        ).to_pylist()
        if not rows:
            return
        yield rows
        last = rows[-1]["instance_id"]


def _without(values: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _event(resources: Resources, action: str, rows: int) -> Event:
    return Event(
        kind=Kind.CATALOG_CHANGED,
        who=resources.who,
        purpose=resources.purpose,
        action=action,
        counts={"rows": rows},
        codes={"mode": ("reindex",)},
    )
