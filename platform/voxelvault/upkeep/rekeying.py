"""What stays of a study whose key is rolled comes under the new one: manifests, keys below, copies."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from voxelvault.catalog.catalog import Change, Lease
from voxelvault.intake.commit import seal_manifest
from voxelvault.model import SealedRef
from voxelvault.reading.packs import manifest_ref, open_manifest
from voxelvault.resources import Resources
from voxelvault.rows import changes
from voxelvault.upkeep.rewriting import Row


def resealed(resources: Resources, row: Row, key_id: str, object_id: str) -> tuple[list[Change], SealedRef]:
    """Seal a pack's manifest under another key, as an object of its own; its other objects stay."""
    manifest = open_manifest(resources, manifest_ref(row))
    wrapped = resources.keys.rewrap_dek(row["pack_id"], manifest.wrapped_dek, row["key_id"], key_id)
    manifest = replace(manifest, study_key_id=key_id, wrapped_dek=wrapped)
    ref = seal_manifest(resources, manifest, object_id)
    values = {
        "pack_id": row["pack_id"],
        "key_id": key_id,
        "manifest_object_id": ref.object_id,
        "manifest_length": ref.length,
        "manifest_sha256": ref.sha256,
        "manifest_kind": ref.kind,
    }
    return changes("packs", [values], "merge"), ref


def hang_below(
    resources: Resources, lease: Lease, study_ids: Collection[str], new_keys: Mapping[str, str]
) -> None:
    """Hang the keys of studies that were joined to one of these below its new key.

    A key between the two may seal nothing any more: it still holds up what hangs below it.
    """
    rows = lease.query(
        "select distinct key_id from packs where study_id in (select unnest($ids))",
        {"ids": sorted(study_ids)},
    )
    for lowest in {*rows["key_id"].to_pylist(), *new_keys.values()}:
        key_id: str | None = lowest
        while key_id is not None:
            parent = resources.keys.parent_of(key_id)
            if parent is not None and parent in new_keys:
                resources.keys.reparent(key_id, new_keys[parent])
            key_id = parent


def studies_under(lease: Lease, new_keys: Mapping[str, str]) -> list[Change]:
    """Return the rows of studies that name their new keys."""
    rows = lease.query(
        "select study_id, key_id from studies where key_id in (select unnest($keys))",
        {"keys": list(new_keys)},
    ).to_pylist()
    named = [{"study_id": row["study_id"], "key_id": new_keys[row["key_id"]]} for row in rows]
    return changes("studies", named, "merge")


def rewrapped_copies(
    resources: Resources, lease: Lease, gone: Collection[str], new_keys: Mapping[str, str]
) -> list[Change]:
    """Return the rows of derived copies that stay, their keys wrapped under the new study key.

    Parameters
    ----------
    resources : Resources
    lease : Lease
    gone : collection of str
        Series whose copies go.
    new_keys : mapping of str to str
        Rolled study keys and their successors.
    """
    rows = lease.query(
        "select derived_id, key_id, wrapped_dek from derived where key_id in (select unnest($keys))"
        " and series_id not in (select unnest($series)) and object_id is not null",
        {"keys": list(new_keys), "series": sorted(gone)},
    ).to_pylist()
    kept = [_rewrapped(resources, row, new_keys[row["key_id"]]) for row in rows]
    return changes("derived", kept, "merge")


def _rewrapped(resources: Resources, row: Row, key_id: str) -> Row:
    wrapped = resources.keys.rewrap_dek(row["derived_id"], row["wrapped_dek"], row["key_id"], key_id)
    return {"derived_id": row["derived_id"], "key_id": key_id, "wrapped_dek": wrapped}


__all__ = ["hang_below", "resealed", "rewrapped_copies", "studies_under"]
