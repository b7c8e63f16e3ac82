"""What a killed run leaves behind, and what the log says must happen to it.

The log is the truth: an object is swept only where an intent without outcome names its pack, and
neither log nor catalog ever committed that pack, or where the log says that its pack was compacted,
removed or erased; a commit whose outcome was not entered gets its outcome. Where the catalog lacks
what the log commits, or has what the log took away, it is an older one, and nothing is swept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.catalog.catalog import Lease
from voxelvault.crypto.streaming_aead import Kind as SealedKind
from voxelvault.errors import IntegrityError, VoxelVaultError
from voxelvault.model import ObjectInfo, SealedRef
from voxelvault.reading.packs import manifest_ref, open_manifest
from voxelvault.resources import Resources
from voxelvault.storage.layout import DERIVED, OBJECTS, object_id_of
from voxelvault.storage.objects import LocalObjects
from voxelvault.storage.sealed_objects import SealedObjects
from voxelvault.upkeep.ledger import READERS, Ledger, Replacement
from voxelvault.upkeep.removal import finish
from voxelvault.upkeep.rewriting import entries
from voxelvault.upkeep.turning import log_turns, settle_turns

GRACE = 3600.0
"""Seconds that an unfinished run may still be at work."""
COPIES = 86_400.0
"""Seconds before a derived copy without a row counts as left behind: a builder may be at work."""


@dataclass(frozen=True, slots=True)
class RepairReport:
    """Objects swept and outcomes entered."""

    swept: int
    recovered: int


def orphans(resources: Resources, referenced: set[str]) -> Iterator[ObjectInfo]:
    """Yield objects that neither a manifest nor the quarantine refers to."""
    for info in resources.objects.list(f"{OBJECTS}/"):
        if object_id_of(info.name) not in referenced:
            yield info


def repair(
    resources: Resources, ledger: Ledger, grace: float = GRACE, readers: float = READERS
) -> RepairReport:
    """Sweep what nobody needs any more, and enter the outcomes that are missing.

    Parameters
    ----------
    resources : Resources
        The open vault, whose log was verified.
    ledger : Ledger
        What its log says.
    grace : float
        Seconds that an object must be old: another ingest may be at work.
    readers : float
        Seconds that the objects of a compacted pack stay for readers at work.

    Raises
    ------
    IntegrityError
        The catalog is older than the log; nothing was swept.
    """
    # Read before the packs are: what is committed while this process sleeps stays young.
    began = time.time()
    finished = _finish(resources, ledger, grace, began)
    seen = _seen(resources)
    with resources.catalog.lease() as lease:
        packs = {row["pack_id"]: row for row in lease.query("select * from packs").to_pylist()}
        # By an older catalog, what later ingests stored looks as if it were left behind.
        if lost := ledger.lost(packs):
            raise IntegrityError(
                f"nothing was repaired: the catalog lacks {len(lost)} packs that the log commits; "
                "restore the newest catalog/, or run `voxelvault verify --rebuild-catalog`"
            )
        if risen := sorted(ledger.gone.keys() & packs.keys()):
            raise IntegrityError(
                f"nothing was repaired: the catalog has {len(risen)} packs that the log took away; "
                "restore the newest catalog/, or run `voxelvault verify --rebuild-catalog`"
            )
        kept = {
            row["object_id"]
            for row in lease.query("select object_id from quarantine where object_id is not null").to_pylist()
        }
        referenced = kept | _referenced(resources, packs, seen)
        swept = _sweep(resources, ledger, packs, referenced, began - grace, began - readers)
        swept += _sweep_derived(resources, lease, began - max(grace, COPIES if grace else 0.0))
        turned = settle_turns(resources, lease.query, ledger, began - grace)
    log_turns(resources, ledger, turned)
    if isinstance(resources.objects, LocalObjects):
        swept += resources.objects.sweep_temporary(began - grace)
    swept += resources.log.sweep_texts(began - grace)
    swept += resources.log.sweep_attempts(began - grace)
    missing = {
        pack_id: row["manifest_sha256"]
        for pack_id, row in packs.items()
        if pack_id not in ledger.manifests and pack_id in ledger.intents
    }
    _log(resources, swept, missing)
    return RepairReport(swept, len(missing) + finished + len(turned))


def _finish(resources: Resources, ledger: Ledger, grace: float, now: float) -> int:
    """Enter the outcome of each replacement that was committed and then killed; a removal's keys go.

    One that may still be at work is left to it, for as long as an ingest is.
    """
    waiting = [found for found in ledger.open_replacements() if found.since <= now - grace]
    if not waiting:
        return 0
    rows = resources.catalog.query("select * from packs").to_pylist()
    packs = {row["pack_id"]: row for row in rows}
    done = [found for found in waiting if ledger.committed(found, packs)]
    for found in done:
        if found.kind == Kind.COMPACTED:
            _finish_compaction(resources, found, packs)
        else:
            finish(resources, found, packs)
        ledger.finished.add(found.action)
        ledger.gone.update(dict.fromkeys(found.old, 0.0 if found.kind != Kind.COMPACTED else now))
        ledger.manifests.update(
            {pack_id: packs[pack_id]["manifest_sha256"] for pack_id in found.new & packs.keys()}
        )
    actions = {found.action: found for found in waiting if found.action not in ledger.finished}
    for found in actions.values():
        # It changed nothing; what it wrote is swept.
        failed = entries(resources, Kind(found.kind), found.action, Outcome.FAILED, {}, {})
        resources.audit.append(failed)
        ledger.finished.add(found.action)
    return len(done)


def _finish_compaction(
    resources: Resources, found: Replacement, packs: Mapping[str, Mapping[str, str]]
) -> None:
    manifests = {pack_id: packs[pack_id]["manifest_sha256"] for pack_id in found.new & packs.keys()}
    ids = {"pack": sorted(found.old), "into": sorted(found.new)}
    info = resources.catalog.head()
    resources.audit.append(
        entries(resources, Kind.COMPACTED, found.action, Outcome.OK, ids, {}, info, manifests)
    )


def _seen(resources: Resources) -> dict[str, set[str]]:
    """Return the objects of each manifest, by its digest: read before others have to wait for the lease.

    One that can't be read is read again under it.
    """
    found: dict[str, set[str]] = {}
    for row in resources.catalog.query("select * from packs").to_pylist():
        with suppress(VoxelVaultError):
            found[row["manifest_sha256"]] = _objects(resources, manifest_ref(row))
    return found


def _referenced(
    resources: Resources, packs: Mapping[str, dict[str, object]], seen: Mapping[str, set[str]]
) -> set[str]:
    """Return the objects of all packs; one manifest that can't be read stops the repair."""
    found: set[str] = set()
    for ref in map(manifest_ref, packs.values()):
        found.add(ref.object_id)
        found |= seen.get(ref.sha256) or _objects(resources, ref)
    return found


def _objects(resources: Resources, ref: SealedRef) -> set[str]:
    return {object_ref.object_id for object_ref in open_manifest(resources, ref).objects()}


def _sweep(
    resources: Resources,
    ledger: Ledger,
    packs: Mapping[str, object],
    referenced: set[str],
    young: float,
    retired: float,
) -> int:
    swept = 0
    for info in list(orphans(resources, referenced)):
        object_id = object_id_of(info.name)
        if object_id is None:
            continue
        owner = owner_of(resources, object_id)
        left_behind = info.modified <= young and ledger.left_behind(owner)
        if (left_behind and owner not in packs) or ledger.retired(object_id, owner, retired):
            resources.objects.delete(info.name)
            swept += 1
    return swept


def _sweep_derived(resources: Resources, lease: Lease, young: float) -> int:
    """Remove derived copies without a row: a builder or a removal that was killed left them."""
    sealed = SealedObjects(resources.objects, resources.settings.vault_id, DERIVED)
    old = [info.name for info in resources.objects.list(f"{DERIVED}/") if info.modified <= young]
    known = set(lease.query("select object_id from derived")["object_id"].to_pylist()) if old else set()
    left = [found for found in map(object_id_of, old) if found and found not in known]
    for object_id in left:
        sealed.delete(object_id)
    return len(left)


def owner_of(resources: Resources, object_id: str) -> str:
    """Return the pack or quarantine id that an object was written for.

    Manifests and quarantined files carry it as their own id, everything else as its key's.
    """
    try:
        head = resources.sealed.preamble(object_id)
    except VoxelVaultError:
        return ""
    own = head.kind in (SealedKind.MANIFEST, SealedKind.QUARANTINE)
    return object_id if own else head.key_id


def _log(resources: Resources, swept: int, manifests: Mapping[str, str]) -> None:
    items = sorted(manifests.items())
    parts = [dict(items[at : at + 256]) for at in range(0, len(items), 256)] or [{}]
    resources.audit.append(
        [
            Event(
                kind=Kind.REPAIR,
                who=resources.who,
                purpose=resources.purpose,
                counts={"objects": swept if number == 0 else 0, "packs": len(part)},
                manifests=part,
            )
            for number, part in enumerate(parts)
        ]
    )
