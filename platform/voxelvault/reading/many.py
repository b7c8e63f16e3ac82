"""Many series under one handle: one policy decision, one audit entry, a query a table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from voxelvault.audit.events import Event, Kind
from voxelvault.errors import AmbiguousUID, UnknownUID
from voxelvault.model import new_id
from voxelvault.policy.access import Request, require
from voxelvault.reading.frame_table import FRAME_COLUMNS, PLACE_COLUMNS, frame_table
from voxelvault.reading.handles import Handle
from voxelvault.reading.headers import CatalogHeaders
from voxelvault.reading.lent import SeriesLender
from voxelvault.reading.packs import PackCache
from voxelvault.reading.processes import opened
from voxelvault.reading.sources import SeriesSource

if TYPE_CHECKING:
    from voxelvault.reading.volumes import VolumeReader
    from voxelvault.resources import Resources

NAMED = 400
"""Series that one audit entry names; it holds 64 KiB at most."""

_KEPT_PACKS = 512

_TRIES = 5
"""Readings of a series' places before one is taken as it is."""

Query = Callable[[str], pa.Table]

_LAYOUT_COLUMNS = "pack_id, stack, rows, columns, samples, dtype, PhotometricInterpretation, series_id"
_PACK_COLUMNS = (
    "pack_id, series_id, key_id, manifest_object_id, manifest_kind, manifest_length, manifest_sha256"
)


class OpenedMany:
    """Series open for reading under one handle. Made by `open_many`.

    Attributes
    ----------
    handle : Handle
        `close` enters in the log what was read.
    packs : PackCache
        Opens the packs of all of them.
    series_ids : tuple of str
        In the order they were asked for.
    """

    def __init__(
        self, resources: Resources, handle: Handle, rows: Mapping[str, Mapping[str, Any]], tables: _Tables
    ) -> None:
        self._resources = resources
        self._rows, self._tables = rows, tables
        self._sources: dict[str, SeriesSource] = {}
        self.handle = handle
        self.series_ids = tuple(rows)
        self.packs = PackCache(resources, rows=tables.pack_rows(), keep=_KEPT_PACKS)

    def __len__(self) -> int:
        """Return the number of series."""
        return len(self.series_ids)

    def __repr__(self) -> str:
        return f"<OpenedMany: {len(self)} series>"

    def series(self, series_id: str) -> SeriesSource:
        """Return what reading one of them needs; its frames are arranged when they are looked at."""
        found = self._sources.get(series_id)
        if found is None:
            found = self._sources[series_id] = self._tables.source(self._rows[series_id])
        return found

    def pack_rows(self) -> list[dict[str, Any]]:
        """Return rows of the catalog's `packs` for all of them, as `lend` takes them."""
        return self._tables.pack_rows()

    def reader(self, series_id: str, threads: int | None = None, guard: Handle | None = None) -> VolumeReader:
        """Return a reader of one of them, with headers from the catalog; `guard` stands for the handle."""
        source, headers = self.series(series_id), CatalogHeaders(self._resources, series_id)
        lender = SeriesLender(self._resources, self.handle, source)
        return source.reader(self.packs, guard or self.handle, headers, threads, lender)

    def close(self) -> None:
        """Close the handle."""
        self.handle.close()


def open_many(
    resources: Resources, series_ids: Sequence[str], *, kind_code: str, cohort_id: str | None = None
) -> OpenedMany:
    """Ask the policy once, enter one opening in the log, and read what the handle needs.

    Without a cohort the entry names the series; more than `NAMED` take several entries, written
    together and joined by one action.

    Parameters
    ----------
    resources : Resources
        The open vault.
    series_ids : sequence of str
        Opaque ids; one that comes twice counts once.
    kind_code : str
        What is opened, for the log: ``cohort``, ``loader``, ``cache`` and so on.
    cohort_id : str, optional
        The frozen cohort they belong to, which the entry names instead of them.

    Raises
    ------
    UnknownUID
        Some are not in this vault.
    PolicyDenied, AuditError
        Then nothing was read.
    """
    wanted = list(dict.fromkeys(series_ids))
    found = resources.catalog.query(f"select * from series where {_among(wanted)}").to_pylist()  # noqa: S608
    by_id = {row["series_id"]: row for row in found}
    missing = len(wanted) - len(by_id)
    if missing:
        raise UnknownUID(f"{missing} of {len(wanted)} series are not in this vault any more; select again")
    return _open(resources, [by_id[series_id] for series_id in wanted], kind_code, cohort_id)


def find_series(
    resources: Resources,
    uid: str,
    study: str | None = None,
    subject: str | None = None,
    kind_code: str = "series",
) -> OpenedMany:
    """Find a series by its UID, ask the policy, enter it in the log, and read what its handle needs.

    `kind_code` is what the log calls it.

    Raises
    ------
    UnknownUID
        There is no such series.
    AmbiguousUID
        Several studies or subjects have one; `study` and `subject` tell them apart.
    PolicyDenied, AuditError
        Then nothing was read.
    """
    rows = resources.catalog.query(
        "select * from series where SeriesInstanceUID = $uid"
        " and ($study is null or StudyInstanceUID = $study)"
        " and ($subject is null or subject_id = $subject)",
        {"uid": uid, "study": study, "subject": subject},
    ).to_pylist()
    if not rows:
        raise UnknownUID("no such series in this vault; a query on the table `series` lists them")
    subjects = sorted({row["subject_id"] for row in rows})
    if len(subjects) > 1:
        raise AmbiguousUID(
            f"this UID belongs to several subjects; pass subject= one of {', '.join(subjects[:4])}, or, where"
            " `conflicts` shows that they are one person, merge them"
        )
    if len(rows) > 1:
        raise AmbiguousUID("several studies have a series of this UID; pass study=")
    return _open(resources, rows, kind_code, None)


def _open(
    resources: Resources, rows: Sequence[Mapping[str, Any]], kind_code: str, cohort_id: str | None
) -> OpenedMany:
    ids = tuple(row["series_id"] for row in rows)
    require(resources.policy, Request(Kind.HANDLE_OPENED, ids, resources.purpose, resources.who))
    among, query = _among(ids), resources.catalog.query
    instances = _instances(query, among)
    action, scopes = new_id(), _scopes(rows, cohort_id)
    members = hashlib.sha256("".join(sorted(instances["sha256"].to_pylist())).encode()).hexdigest()
    resources.audit.append(
        [
            Event(
                kind=Kind.HANDLE_OPENED,
                who=resources.who,
                purpose=resources.purpose,
                action=action,
                ids=scope,
                counts={"members": instances.num_rows},
                digests={"members": members},
                codes={"type": (kind_code,)},
            )
            for scope in scopes
        ]
    )
    opened()
    for _ in range(_TRIES):
        frames, layouts, packs = _places(query, among)
        frames = frames.filter(pc.is_in(frames["instance_id"], value_set=instances["instance_id"]))
        if _fit(packs, instances, frames, layouts):
            break
        # A compaction was committed between two of the queries.
        now = _instances(query, among)
        instances = now.filter(pc.is_in(now["instance_id"], value_set=instances["instance_id"]))
    handle = Handle(resources, action, scopes[0] if len(scopes) == 1 else {}, kind_code)
    tables = _Tables(_Parts(instances), _Parts(frames), _Parts(layouts), _Parts(packs))
    return OpenedMany(resources, handle, {row["series_id"]: row for row in rows}, tables)


def _instances(query: Query, among: str) -> pa.Table:
    return query(
        f"select instance_id, sha256, pixels, pack_id, series_id from instances where {among}"  # noqa: S608
        " and not superseded order by InstanceNumber, instance_id"
    )


def _places(query: Query, among: str) -> tuple[pa.Table, pa.Table, pa.Table]:
    columns = ", ".join((*PLACE_COLUMNS, *FRAME_COLUMNS, "series_id"))
    return (
        query(f"select {columns} from frames where {among}"),  # noqa: S608
        query(f"select {_LAYOUT_COLUMNS} from stacks where {among}"),  # noqa: S608
        query(f"select {_PACK_COLUMNS} from packs where {among}"),  # noqa: S608
    )


def _fit(packs: pa.Table, *tables: pa.Table) -> bool:
    """Tell whether every row that names a pack names one of these."""
    known = pc.unique(packs["pack_id"])
    return all(pc.all(pc.is_in(table["pack_id"], value_set=known)).as_py() is not False for table in tables)


def _among(series_ids: Sequence[str]) -> str:
    """Return the condition on ids that the catalog gave; one by itself lets it skip files."""
    texts = ", ".join(f"'{series_id}'" for series_id in series_ids if series_id.isalnum())
    return f"series_id = {texts}" if len(series_ids) == 1 and texts else f"series_id in ({texts or 'null'})"


def _scopes(rows: Sequence[Mapping[str, Any]], cohort_id: str | None) -> list[dict[str, tuple[str, ...]]]:
    """Return what each entry names."""
    if cohort_id is not None:
        return [{"cohort": (cohort_id,)}]
    parts = [rows[first : first + NAMED] for first in range(0, len(rows), NAMED)] or [[]]
    return [
        {
            "series": tuple(row["series_id"] for row in part),
            **({"study": (part[0]["study_id"],)} if len(rows) == 1 else {}),
            "subject": tuple(sorted({row["subject_id"] for row in part})),
        }
        for part in parts
    ]


class _Parts:
    """A table's rows by series, cut when they are asked for."""

    def __init__(self, table: pa.Table) -> None:
        codes = table["series_id"].combine_chunks().dictionary_encode()
        # By buffers: NumPy arrays given to or taken from pyarrow make it import pandas, half a second.
        indices = np.frombuffer(codes.indices.buffers()[1] or b"", np.int32, len(codes))
        # Stable: rows of a series stay in the query's order.
        order = np.argsort(indices, kind="stable")
        places = pa.Array.from_buffers(pa.int64(), len(order), [None, pa.py_buffer(order)])
        self.table = table.drop_columns(["series_id"]).take(places).combine_chunks()
        stops = np.cumsum(np.bincount(indices, minlength=len(codes.dictionary))).tolist()
        starts = [0, *stops]
        self._places = dict(zip(codes.dictionary.to_pylist(), zip(starts, stops, strict=False), strict=True))

    def of(self, series_id: str) -> pa.Table:
        start, stop = self._places.get(series_id, (0, 0))
        return self.table.slice(start, stop - start)


class _Tables:
    """Instances, frames, stacks and packs of all the series."""

    def __init__(self, instances: _Parts, frames: _Parts, layouts: _Parts, packs: _Parts) -> None:
        self._instances, self._frames, self._layouts, self._packs = instances, frames, layouts, packs

    def pack_rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._packs.table.to_pylist()
        return rows

    def source(self, row: Mapping[str, Any]) -> SeriesSource:
        series_id = row["series_id"]
        return SeriesSource(
            row,
            self._instances.of(series_id).to_pylist(),
            self._packs.of(series_id).to_pylist(),
            frame_table(self._frames.of(series_id)),
            self._layouts.of(series_id).to_pylist(),
        )


__all__ = ["OpenedMany", "find_series", "open_many"]
