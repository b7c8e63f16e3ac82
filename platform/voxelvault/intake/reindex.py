"""Typed columns extracted anew from stored headers: for a new tag list, or a better reading of values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from voxelvault.audit.events import Event, Kind
from voxelvault.dicom.columns import Tags, columns
from voxelvault.dicom.read import Header
from voxelvault.model import new_id
from voxelvault.policy.access import Request, require
from voxelvault.readonly import require_writable
from voxelvault.resources import Resources
from voxelvault.rows import changes

WINDOW = 2000
"""Instances whose headers are held at once; a window is one commit."""

_PARENTS = {"patients": "subject_id", "studies": "study_id", "series": "series_id"}
_IDENTITY = {"IssuerOfPatientID", "PatientID", "StudyInstanceUID", "SeriesInstanceUID"}
"""Columns by which subjects, studies and series are found: the ingest decides them, not the header alone."""


def reindex(resources: Resources) -> int:
    """Extract the typed columns of every instance, series, study and patient again.

    Parameters
    ----------
    resources : Resources
        The open vault; its tag list says which columns.

    Returns
    -------
    int
        Number of instances.
    """
    require(resources.policy, Request(Kind.CATALOG_CHANGED, (), resources.purpose, resources.who))
    require_writable(resources)
    tags = resources.tags
    action = new_id()
    resources.audit.append([_event(resources, action, 0)])
    parents: dict[str, dict[str, dict[str, Any]]] = {table: {} for table in _PARENTS}
    count = 0
    for window in _windows(resources):
        rows = []
        for row in window:
            header = Header.from_json(row["header"])
            # The transfer syntax in force is the file's, not the header's word.
            values = _without(columns(header, "instances", tags), {"TransferSyntaxUID"})
            rows.append({**values, "instance_id": row["instance_id"]})
            _gather(parents, row, header, tags)
        resources.catalog.commit(changes("instances", rows, "merge"))
        count += len(rows)
    for table, found in parents.items():
        resources.catalog.commit(changes(table, list(found.values()), "merge"))
    resources.audit.append([_event(resources, action, count)])
    return count


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


def _gather(
    parents: dict[str, dict[str, dict[str, Any]]], row: Mapping[str, Any], header: Header, tags: Tags
) -> None:
    """Keep the first value that an instance has for each column of its patient, study and series."""
    for table, key in _PARENTS.items():
        known = parents[table].setdefault(row[key], {key: row[key]})
        for column, value in _without(columns(header, table, tags), _IDENTITY).items():
            if known.get(column) is None:
                known[column] = value


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
