"""What the catalog says of packs, compared with what their manifests say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from voxelvault.resources import Resources
from voxelvault.storage.pack import Manifest

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CatalogRows:
    """What the catalog says of the packs of one window: instances, stacks and frames by pack."""

    instances: dict[str, dict[str, tuple[str, int]]]
    stacks: dict[str, set[tuple[int, int]]]
    frames: dict[str, set[tuple[int, int]]]


def rows_of(resources: Resources, pack_ids: Sequence[str]) -> CatalogRows:
    """Return what the catalog says of some packs."""
    found = CatalogRows({}, {}, {})
    scope = {"packs": list(pack_ids)}

    def rows(table: str, columns: str) -> list[Row]:
        query = f"select pack_id, {columns} from {table} where pack_id in (select unnest($packs))"  # noqa: S608 - names of ours
        listed: list[Row] = resources.catalog.query(query, scope).to_pylist()
        return listed

    for row in rows("instances", "instance_id, sha256, length"):
        found.instances.setdefault(row["pack_id"], {})[row["instance_id"]] = (row["sha256"], row["length"])
    for row in rows("stacks", "stack, frames"):
        found.stacks.setdefault(row["pack_id"], set()).add((row["stack"], row["frames"]))
    for row in rows("frames", "stack, frame"):
        found.frames.setdefault(row["pack_id"], set()).add((row["stack"], row["frame"]))
    return found


def check_rows(rows: CatalogRows, manifest: Manifest) -> Iterator[str]:
    """Compare the rows that the catalog has of a pack with its manifest."""
    stored = rows.instances.get(manifest.pack_id, {})
    known = {record.instance_id: (record.sha256, record.length) for record in manifest.instances}
    for instance_id, values in stored.items():
        if known.get(instance_id) != values:
            yield f"the catalog's row of instance {instance_id} disagrees with the manifest"
    stacks = {(number, stack.frames) for number, stack in enumerate(manifest.stacks)}
    if rows.stacks.get(manifest.pack_id, set()) != stacks:
        yield "the catalog's stacks disagree with the manifest"
    wanted = {
        (record.stack, frame)
        for record in manifest.instances
        if record.stack >= 0 and record.instance_id in stored
        for frame in range(record.first, record.first + record.count)
    }
    if rows.frames.get(manifest.pack_id, set()) != wanted:
        yield "the catalog's frames disagree with the manifest"


def check_missing(resources: Resources, rows: CatalogRows, manifest: Manifest) -> Iterator[str]:
    """Account for each instance of a manifest without a row: the commit leaves out duplicates alone.

    What made it a duplicate was a file of the same bytes; the subject has that one still.
    """
    stored = rows.instances.get(manifest.pack_id, {})
    missing = [record for record in manifest.instances if record.instance_id not in stored]
    if not missing:
        return
    found = resources.catalog.query(
        "select coalesce(SOPInstanceUID, '') as uid, sha256 from instances"
        " where subject_id = (select subject_id from packs where pack_id = $pack)"
        " and sha256 in (select unnest($digests))",
        {"pack": manifest.pack_id, "digests": sorted({record.sha256 for record in missing})},
    ).to_pylist()
    twins = {(row["uid"], row["sha256"]) for row in found}
    for record in missing:
        if (record.sop_instance_uid, record.sha256) not in twins:
            yield f"the catalog lacks the row of instance {record.instance_id}; restore the newest catalog/"


__all__ = ["CatalogRows", "check_missing", "check_rows", "rows_of"]
