"""What only the former catalog knows, carried over as far as the log vouches for it.

Frozen cohorts, what is kept aside, and derived copies have no manifest. Their rows come along from
the catalog that is replaced, where it still opens: a cohort with the digest of its members in the
log, a quarantined file that the log's intents name, a copy whose object is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from voxelvault.audit.events import Kind, Outcome
from voxelvault.audit.leaf import Entry
from voxelvault.catalog.catalog import Change, Lease
from voxelvault.errors import UNSEEN, VoxelVaultError
from voxelvault.resources import Resources
from voxelvault.rows import changes
from voxelvault.storage.layout import DERIVED
from voxelvault.storage.sealed_objects import SealedObjects
from voxelvault.upkeep.ledger import REPLACING

TABLES = ("cohorts", "cohort_members", "quarantine", "derived", "releases")

Row = Mapping[str, Any]


@dataclass(slots=True)
class Carried:
    """What came along, and what the log knows of and is lost: opaque ids."""

    cohorts: int = 0
    quarantined: int = 0
    copies: int = 0
    lost_cohorts: list[str] = field(default_factory=list)
    lost_quarantined: list[str] = field(default_factory=list)


def former(resources: Resources) -> dict[str, pa.Table]:
    """Return the rows of the catalog that is to be replaced; none of a table that is damaged or gone."""
    found = {}
    for table in TABLES:
        try:
            found[table] = resources.catalog.query(f"select * from {table}")  # noqa: S608 - names of ours
        except UNSEEN:
            raise
        except VoxelVaultError:
            continue
    return found


def carry(
    resources: Resources, lease: Lease, old: Mapping[str, pa.Table], entries: Sequence[Entry]
) -> Carried:
    """Bring what the log vouches for into the new catalog."""
    done = Carried()
    rows = {table: found.to_pylist() for table, found in old.items() if table != "cohort_members"}
    lease.commit(_cohorts(lease, rows.get("cohorts", ()), old.get("cohort_members"), entries, done))
    lease.commit(_quarantined(resources, rows.get("quarantine", ()), entries, done))
    kept = [row for row in rows.get("derived", ()) if _copied(resources, row)]
    there = set(lease.query("select series_id from series")["series_id"].to_pylist())
    kept = [row for row in kept if row["series_id"] in there]
    done.copies = len(kept)
    lease.commit(
        [*changes("derived", kept, "insert"), *changes("releases", rows.get("releases", ()), "insert")]
    )
    return done


def _cohorts(
    lease: Lease, rows: Sequence[Row], members: pa.Table | None, entries: Sequence[Entry], done: Carried
) -> list[Change]:
    frozen = {
        entry.ids["cohort"][0]: entry.digests["members"]
        for entry in entries
        if entry.kind == Kind.COHORT_FROZEN and entry.outcome == Outcome.OK
    }
    instances = lease.query("select instance_id, sha256, series_id, study_id, subject_id from instances")
    there = {row["instance_id"]: row for row in instances.to_pylist()}
    by_cohort: dict[str, list[Row]] = {}
    for row in members.to_pylist() if members is not None else ():
        now = there.get(row["instance_id"])
        if now is not None and now["sha256"] == row["sha256"]:
            by_cohort.setdefault(row["cohort_id"], []).append({**row, **now})
    found: list[Change] = []
    for row in rows:
        own, digest = by_cohort.get(row["cohort_id"], []), frozen.pop(row["cohort_id"], "")
        whole = len(own) == row["members"]
        if digest != row["members_sha256"] or (whole and _digest(own) != digest):
            done.lost_cohorts.append(row["cohort_id"])
            continue
        done.cohorts += 1
        found += [*changes("cohorts", [row], "insert"), *changes("cohort_members", own, "insert")]
    done.lost_cohorts += sorted(frozen)
    return found


def _digest(members: Sequence[Row]) -> str:
    return hashlib.sha256("".join(sorted(row["sha256"] for row in members)).encode()).hexdigest()


def _quarantined(
    resources: Resources, rows: Sequence[Row], entries: Sequence[Entry], done: Carried
) -> list[Change]:
    finished = {entry.action for entry in entries if entry.outcome != Outcome.INTENT}
    named = {
        one
        for entry in entries
        if entry.kind == Kind.INGEST and entry.outcome == Outcome.INTENT and entry.action in finished
        for one in entry.ids.get("quarantine", ())
    }
    named -= {
        one
        for entry in entries
        if entry.kind in REPLACING and entry.outcome == Outcome.OK
        for one in entry.ids.get("quarantine", ())
    }
    kept = [row for row in rows if row["quarantine_id"] in named]
    done.quarantined = len(kept)
    done.lost_quarantined = sorted(named - {row["quarantine_id"] for row in kept})
    return changes("quarantine", kept, "insert")


def _copied(resources: Resources, row: Row) -> bool:
    sealed = SealedObjects(resources.objects, resources.settings.vault_id, DERIVED)
    try:
        size: int = resources.objects.size(sealed.name(str(row["object_id"])))
        resources.keys.parent_of(row["key_id"])
    except UNSEEN:
        raise
    except VoxelVaultError:
        return False
    return bool(size == row["object_length"])


__all__ = ["Carried", "carry", "former"]
