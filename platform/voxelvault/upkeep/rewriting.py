"""Packs written anew from packs that are there: chunks move as they are, nothing is decoded.

What compaction and removal have in common. Chunks are read under the old pack's key, proven by the
manifest's digests, and sealed under the new one's; the bytes that are no pixels come along.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.catalog.catalog import Change, CommitInfo, Lease
from voxelvault.errors import IntegrityError
from voxelvault.intake.commit import Wrote, seal_manifest
from voxelvault.intake.directory import utc_now
from voxelvault.model import SealedRef
from voxelvault.reading.packs import manifest_ref, open_manifest, open_reader
from voxelvault.resources import Resources
from voxelvault.rows import changes, pack_row, stack_row
from voxelvault.storage.pack import InstanceRecord, Manifest
from voxelvault.upkeep.joining import Carried, carry

Row = Mapping[str, Any]

IDS_AN_ENTRY = 256
"""Ids of one role that one audit entry names; a leaf has 64 KiB at most."""

OF_PACK = ("packs", "stacks", "frames")
"""Tables whose rows go with their pack."""


@dataclass(frozen=True, slots=True)
class Source:
    """A pack to take instances from: its row of the catalog, its manifest, and which to take."""

    row: Row
    manifest: Manifest
    instance_ids: frozenset[str]


@dataclass(slots=True)
class Rewritten:
    """A pack whose objects are written, made of others; `finish` gave it its last parts."""

    pack_id: str
    sources: Sequence[Source]
    dek: bytes
    writer: Wrote
    manifest: Manifest
    places: Mapping[str, tuple[InstanceRecord, InstanceRecord]]
    """Instance id to its former record and its new one."""

    @property
    def old(self) -> list[str]:
        """Ids of the packs that it stands for."""
        return [source.row["pack_id"] for source in self.sources]


def sources_of(resources: Resources, rows: Sequence[Row], leaving: Collection[str] = ()) -> list[Source]:
    """Return packs as sources of the instances that the catalog has of them, but for those leaving.

    A duplicate, which has no row, does not come along, nor does a pack of which nothing would.
    """
    listed = resources.catalog.query(
        "select pack_id, list(instance_id) as ids from instances where pack_id in (select unnest($packs))"
        " group by pack_id",
        {"packs": [row["pack_id"] for row in rows]},
    ).to_pylist()
    there = {row["pack_id"]: frozenset(row["ids"]) - set(leaving) for row in listed}
    return [
        Source(row, open_manifest(resources, manifest_ref(row)), there[row["pack_id"]])
        for row in rows
        if there.get(row["pack_id"])
    ]


def rewrite(
    resources: Resources,
    pack_id: str,
    sources: Sequence[Source],
    advance: Callable[[int], object] = lambda packs: None,
) -> Rewritten:
    """Write the objects of a pack made of others of one series and identity; see `carry`."""
    dek = secrets.token_bytes(32)
    taken = ((open_reader(resources, source.manifest, 1), source.instance_ids) for source in sources)
    carried = carry(resources.sealed, pack_id, dek, taken, expected_frames(sources), advance)
    return made_of(pack_id, dek, sources, carried)


def expected_frames(sources: Sequence[Source]) -> int:
    """Return how many frames are taken from all of them."""
    return sum(
        record.count
        for source in sources
        for record in source.manifest.instances
        if record.instance_id in source.instance_ids
    )


def made_of(pack_id: str, dek: bytes, sources: Sequence[Source], carried: Carried) -> Rewritten:
    """Return a pack whose objects are written; its key is wrapped when it is sealed."""
    last = sources[-1]
    manifest = replace(
        last.manifest,
        pack_id=pack_id,
        wrapped_dek="",
        created=utc_now().isoformat(),
        stacks=carried.stacks,
        instances=carried.instances,
        headers=carried.headers,
        header_chunks=carried.header_chunks,
        codec=last.manifest.codec or last.row["codec"] or "",
        versions=tuple(carried.versions),
        received=tuple(carried.received),
    )
    return Rewritten(pack_id, sources, dek, carried, manifest, carried.places)


def seal(resources: Resources, rewritten: Rewritten, key_id: str) -> tuple[Manifest, SealedRef]:
    """Seal a rewritten pack's manifest under a study key; its objects are durable before."""
    wrapped = resources.keys.wrap_dek(key_id, rewritten.pack_id, rewritten.dek)
    manifest = replace(rewritten.manifest, study_key_id=key_id, wrapped_dek=wrapped)
    return manifest, seal_manifest(resources, manifest, rewritten.pack_id)


def swap(
    lease: Lease, rewritten: Rewritten, manifest: Manifest, ref: SealedRef, belongs: Mapping[str, str]
) -> list[Change]:
    """Return the changes that put a pack in the place of those it was made of: where `unchanged` says."""
    received = _received(lease, rewritten)
    moved = [
        {"instance_id": instance_id, "pack_id": rewritten.pack_id, "received": received[instance_id]}
        for instance_id in rewritten.places
    ]
    stacks = [
        {**stack_row(manifest, number, stack), **belongs} for number, stack in enumerate(manifest.stacks)
    ]
    frames = _frames(lease, rewritten)
    return [
        *gone(rewritten.old),
        *changes("packs", [{**pack_row(manifest, ref), **belongs}], "insert"),
        *changes("stacks", stacks, "insert"),
        *([Change("frames", frames, "insert")] if frames.num_rows else []),
        *changes("instances", moved, "merge"),
    ]


def gone(pack_ids: Sequence[str]) -> list[Change]:
    """Return the changes that take packs out of the catalog, but for their instances' rows."""
    rows = [{"pack_id": pack_id} for pack_id in pack_ids]
    return [change for table in OF_PACK for change in changes(table, rows, "delete")]


def unchanged(lease: Lease, rewritten: Rewritten) -> dict[str, str]:
    """Return the series, study and subject that the packs it was made of belong to now.

    Raises
    ------
    IntegrityError
        Somebody else changed these packs meanwhile, or took them away with their key.
    """
    rows = lease.query(
        "select pack_id, key_id, manifest_sha256, series_id, study_id, subject_id from packs"
        " where pack_id in (select unnest($ids))",
        {"ids": rewritten.old},
    ).to_pylist()
    known = {source.row["pack_id"]: source.row for source in rewritten.sources}
    same = all(row["manifest_sha256"] == known[row["pack_id"]]["manifest_sha256"] for row in rows)
    owners = {(row["series_id"], row["study_id"], row["subject_id"]) for row in rows}
    if len(rows) != len(known) or not same or len(owners) != 1:
        raise IntegrityError("these packs were changed by somebody else meanwhile; run it again")
    return dict(zip(("series_id", "study_id", "subject_id"), next(iter(owners)), strict=True))


def _received(lease: Lease, rewritten: Rewritten) -> dict[str, Any]:
    rows = lease.query(
        "select i.instance_id, coalesce(i.received, p.created) as came from instances i"
        " join packs p using (pack_id) where i.pack_id in (select unnest($ids))",
        {"ids": rewritten.old},
    ).to_pylist()
    return {row["instance_id"]: row["came"] for row in rows}


def _frames(lease: Lease, rewritten: Rewritten) -> pa.Table:
    """Return the rows of all frames at their new places."""
    rows = lease.query(
        "select * from frames where pack_id in (select unnest($packs))"
        " and instance_id in (select unnest($instances))",
        {"packs": rewritten.old, "instances": list(rewritten.places)},
    )
    places = list(rewritten.places.values())
    at = pc.index_in(rows["instance_id"], value_set=pa.array(rewritten.places.keys(), pa.string()))
    shifts = pa.array([new.first - old.first for old, new in places], pa.int64())
    stacks = pa.array([new.stack for _, new in places], pa.int32())
    columns = {
        "pack_id": pa.array([rewritten.pack_id] * rows.num_rows, pa.string()),
        "stack": pc.take(stacks, at),
        "frame": pc.add(rows["frame"], pc.take(shifts, at)),
    }
    for name, values in columns.items():
        rows = rows.set_column(rows.column_names.index(name), name, values)
    return rows


def entries(
    resources: Resources,
    kind: Kind,
    action: str,
    outcome: Outcome,
    ids: Mapping[str, Sequence[str]],
    counts: Mapping[str, int],
    info: CommitInfo | None = None,
    manifests: Mapping[str, str] | None = None,
    text: str | None = None,
) -> list[Event]:
    """Return the entries that name all these ids, as many as it takes; counts stand in the first."""
    heads: dict[str, int] = {}
    digests: dict[str, str] = {}
    if outcome is Outcome.OK:
        heads, digests = {"record_number": resources.keys.number}, {"record": resources.keys.record_digest}
    if info is not None:
        heads, digests = {**heads, "snapshot": info.snapshot}, {**digests, "catalog": info.digest}
    items = sorted((manifests or {}).items())
    longest = max([len(items), *(len(some) for some in ids.values())], default=0)
    found = []
    for at in range(0, max(longest, 1), IDS_AN_ENTRY):
        part = {role: tuple(some[at : at + IDS_AN_ENTRY]) for role, some in ids.items()}
        found.append(
            Event(
                kind=kind,
                who=resources.who,
                purpose=resources.purpose,
                action=action,
                outcome=outcome,
                ids={role: some for role, some in part.items() if some},
                counts={**(counts if at == 0 else {}), **heads},
                digests=digests,
                manifests=dict(items[at : at + IDS_AN_ENTRY]),
                text=text if at == 0 else None,
            )
        )
    return found


__all__ = [
    "IDS_AN_ENTRY",
    "Rewritten",
    "Source",
    "entries",
    "expected_frames",
    "gone",
    "made_of",
    "rewrite",
    "seal",
    "sources_of",
    "swap",
    "unchanged",
]
