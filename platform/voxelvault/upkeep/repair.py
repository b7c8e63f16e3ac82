"""What a killed ingest leaves behind, and what the log says must happen to it.

The log is the truth: an object is swept only where an intent without outcome names its pack, and
neither log nor catalog ever committed that pack; a commit whose outcome was not entered gets its
outcome. Where the catalog lacks what the log commits, it is an older one, and nothing is swept.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.audit.leaf import Entry
from voxelvault.crypto.streaming_aead import Kind as SealedKind
from voxelvault.errors import IntegrityError, VoxelVaultError
from voxelvault.model import ObjectInfo
from voxelvault.reading.packs import manifest_ref, open_manifest
from voxelvault.resources import Resources
from voxelvault.storage.layout import OBJECTS, object_id_of
from voxelvault.storage.objects import LocalObjects

GRACE = 3600.0
"""Seconds that an unfinished ingest may still be at work."""


@dataclass(slots=True)
class Ledger:
    """What the log says of packs.

    Attributes
    ----------
    manifests : dict
        Pack id to the digest of its manifest, as last committed.
    intents : dict
        Pack or quarantine id to the action that intended it.
    finished : set
        Actions with an outcome.
    gone : set
        Packs that an erasure or a removal took away.
    """

    manifests: dict[str, str] = field(default_factory=dict)
    intents: dict[str, str] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)

    def unfinished(self, pack_id: str) -> bool:
        """Tell whether a pack was intended by an ingest whose outcome was never entered."""
        action = self.intents.get(pack_id, "")
        return action != "" and action not in self.finished

    def left_behind(self, owner: str) -> bool:
        """Tell whether what was written for a pack or a quarantined file was never committed."""
        return self.unfinished(owner) and owner not in self.manifests

    def lost(self, pack_ids: Collection[str]) -> set[str]:
        """Return the packs that were committed, never taken away, and aren't among these."""
        return set(self.manifests) - self.gone - set(pack_ids)


@dataclass(frozen=True, slots=True)
class RepairReport:
    """Objects swept and outcomes entered."""

    swept: int
    recovered: int


def read_ledger(entries: Iterable[Entry]) -> Ledger:
    """Read what the log says of packs."""
    ledger = Ledger()
    for entry in entries:
        if entry.kind == Kind.INGEST and entry.outcome == Outcome.INTENT:
            for role in ("pack", "quarantine"):
                ledger.intents.update(dict.fromkeys(entry.ids.get(role, ()), entry.action))
        elif entry.kind == Kind.INGEST:
            ledger.finished.add(entry.action)
        if entry.kind in (Kind.STUDY_KEY_DESTROYED, Kind.INSTANCE_REMOVED) and entry.outcome == Outcome.OK:
            ledger.gone.update(entry.ids.get("pack", ()))
        ledger.manifests.update(entry.manifests)
    return ledger


def orphans(resources: Resources, referenced: set[str]) -> Iterator[ObjectInfo]:
    """Yield objects that neither a manifest nor the quarantine refers to."""
    for info in resources.objects.list(f"{OBJECTS}/"):
        if object_id_of(info.name) not in referenced:
            yield info


def repair(resources: Resources, ledger: Ledger, grace: float = GRACE) -> RepairReport:
    """Sweep the objects of unfinished ingests, and enter the outcomes that are missing.

    Parameters
    ----------
    resources : Resources
        The open vault, whose log was verified.
    ledger : Ledger
        What its log says.
    grace : float
        Seconds that an object must be old: another ingest may be at work.

    Raises
    ------
    IntegrityError
        The catalog is older than the log; nothing was swept.
    """
    with resources.catalog.lease() as lease:
        packs = {row["pack_id"]: row for row in lease.query("select * from packs").to_pylist()}
        # By an older catalog, what later ingests stored looks as if it were left behind.
        if lost := ledger.lost(packs):
            raise IntegrityError(
                f"nothing was repaired: the catalog lacks {len(lost)} packs that the log commits; "
                "restore the newest catalog/, then run again"
            )
        kept = {
            row["object_id"]
            for row in lease.query("select object_id from quarantine where object_id is not null").to_pylist()
        }
        referenced = kept | _referenced(resources, packs)
        swept = _sweep(resources, ledger, packs, referenced, grace)
    if isinstance(resources.objects, LocalObjects):
        swept += resources.objects.sweep_temporary(time.time() - grace)
    swept += resources.log.sweep_texts(time.time() - grace)
    missing = {
        pack_id: row["manifest_sha256"]
        for pack_id, row in packs.items()
        if pack_id not in ledger.manifests and pack_id in ledger.intents
    }
    _log(resources, swept, missing)
    return RepairReport(swept, len(missing))


def _referenced(resources: Resources, packs: Mapping[str, dict[str, object]]) -> set[str]:
    """Return the objects of all packs; one manifest that can't be read stops the repair."""
    found: set[str] = set()
    for row in packs.values():
        ref = manifest_ref(row)
        found.add(ref.object_id)
        found.update(object_ref.object_id for object_ref in open_manifest(resources, ref).objects())
    return found


def _sweep(
    resources: Resources,
    ledger: Ledger,
    packs: Mapping[str, object],
    referenced: set[str],
    grace: float,
) -> int:
    swept = 0
    young = time.time() - grace
    for info in list(orphans(resources, referenced)):
        object_id = object_id_of(info.name)
        if object_id is None or info.modified > young:
            continue
        owner = _owner(resources, object_id)
        if ledger.left_behind(owner) and owner not in packs:
            resources.objects.delete(info.name)
            swept += 1
    return swept


def _owner(resources: Resources, object_id: str) -> str:
    """Return the pack or quarantine id that an object was written for.

    Manifests and quarantined files carry it as their own id, everything else as its key's.
    """
    try:
        ref = resources.sealed.describe(object_id)
    except VoxelVaultError:
        return ""
    own = ref.kind in (SealedKind.MANIFEST, SealedKind.QUARANTINE)
    return object_id if own else ref.key_id


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
