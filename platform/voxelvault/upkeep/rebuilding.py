"""The catalog written anew from packs' sealed manifests, with the log as truth.

Only what the log commits and has not taken away comes in: packs that were compacted, removed or
erased stay gone, merged subjects merged, moved studies moved. The new catalog is filled beside the
present one, under a key of its own, and takes its place at once: killed before that, nothing has
changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import cast

from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.audit.leaf import Entry
from voxelvault.catalog.catalog import CommitInfo, Renewable
from voxelvault.errors import UNSEEN, UsageError, VoxelVaultError
from voxelvault.intake.reindex import reindex
from voxelvault.model import SealedRef, new_id
from voxelvault.policy.access import Request, require
from voxelvault.reading.packs import open_manifest
from voxelvault.readonly import require_writable
from voxelvault.resources import Resources
from voxelvault.rows import changes
from voxelvault.tasks import orphaned, replayed
from voxelvault.upkeep.carrying import Carried, carry, former
from voxelvault.upkeep.ledger import Ledger, Turn, read_ledger
from voxelvault.upkeep.replaying import Living, replay
from voxelvault.upkeep.turning import log_turns, made_by_keys


@dataclass(slots=True)
class RebuildReport:
    """What the new catalog has, and what it lacks.

    Attributes
    ----------
    packs, instances : int
        Brought in.
    lost : dict of str to str
        Packs that the log commits and that can't be read, and why: restore their objects or keys.
    unfinished : int
        Packs that were written and whose commit the log does not know: ingest those files again.
    carried : Carried or None
        What came along from the former catalog: frozen cohorts, quarantine, derived copies.
    dry_run : bool
        Only looked.
    """

    packs: int = 0
    instances: int = 0
    lost: dict[str, str] = field(default_factory=dict)
    unfinished: int = 0
    carried: Carried | None = None
    dry_run: bool = False

    @property
    def complete(self) -> bool:
        """True when nothing that the log knows of is lost."""
        lost = self.carried.lost_cohorts + self.carried.lost_quarantined if self.carried else []
        return not (self.lost or lost)

    def __str__(self) -> str:
        would = "would come in" if self.dry_run else f"came in with {self.instances} instances"
        told = [f"{self.packs} packs {would}"]
        told += [f"{len(self.lost)} packs LOST: restore objects/ and keys/"] if self.lost else []
        told += [f"{self.unfinished} packs that no outcome commits left out"] if self.unfinished else []
        if self.carried:
            one = self.carried
            told.append(f"{one.cohorts} cohorts, {one.quarantined} quarantined files, {one.copies} copies")
            told += [f"{len(one.lost_cohorts)} cohorts LOST"] if one.lost_cohorts else []
            lost = len(one.lost_quarantined)
            told += [f"{lost} quarantine entries LOST"] if lost else []
        return "; ".join(told)


def rebuild_catalog(
    resources: Resources, *, dry_run: bool = False, advance: Callable[[int], object] = lambda packs: None
) -> RebuildReport:
    """Write the catalog anew.

    Parameters
    ----------
    resources : Resources
        The vault; its catalog may be damaged, older, or missing (`opening.open_vault`, `anew=True`).
    dry_run : bool
        Only say what would come in.
    advance : callable
        Progress: called with the number of packs done.

    Returns
    -------
    RebuildReport
        What came in, and what is lost.

    Raises
    ------
    UsageError
        Nothing older speaks for the log.
    IntegrityError
        The log is damaged, or a pack is not what was stored; the present catalog stays.
    Unanswered, NoPermission
        What is stored can't be seen; the present catalog stays.
    """
    require(resources.policy, Request(Kind.CATALOG_REBUILT, (), resources.purpose, resources.who))
    catalog = cast(Renewable, resources.catalog)
    if not resources.vouched:
        # Yesterday's log would bring back what was erased since.
        raise UsageError(
            "a vault never seen before is not rebuilt: open it with a kept checkpoint "
            "(--checkpoint FILE) or with its fingerprint"
        )
    if not dry_run:
        require_writable(resources)
    resources.log.verify()
    report, action = RebuildReport(dry_run=dry_run), new_id()
    if dry_run:
        _survey(resources, report)
        return report
    _log(resources, action, Outcome.INTENT, report)
    with catalog.anew() as lease:
        # Read under the lease: whatever was committed before it is in, and nothing is meanwhile.
        entries, ledger, packs = _survey(resources, report)
        late = _made_without_outcome(resources, ledger, packs)
        old = former(resources)
        # First of all, so that merges find the rows of studies that joined others.
        work = replayed(entries, resources.log.text_of)
        lease.commit([change for table, rows in work.items() for change in changes(table, rows, "insert")])
        report.instances = replay(resources, lease, packs, [*ledger.turns, *late], advance)
        lease.commit(orphaned(lease.query))
        report.carried = carry(resources, lease, old, entries)
    log_turns(resources, ledger, {turn.action: True for turn in late})
    _log(resources, action, Outcome.OK if report.complete else Outcome.PARTIAL, report, catalog.head())
    if _was_reindexed(entries):
        reindex(resources)
    return report


def _survey(resources: Resources, report: RebuildReport) -> tuple[list[Entry], Ledger, list[Living]]:
    """Return what the log says, and the packs that come in."""
    entries = list(resources.log.entries())
    ledger = read_ledger(entries)
    packs = _living(resources, ledger, report)
    report.packs = len(packs)
    report.unfinished = _unfinished(resources, ledger)
    return entries, ledger, packs


def _living(resources: Resources, ledger: Ledger, report: RebuildReport) -> list[Living]:
    """Return the packs that the log commits and has not taken away, as far as they can be read."""
    anew = _written_anew(resources, ledger.replaced)
    found = []
    for pack_id in sorted(ledger.living()):
        try:
            ref = anew.get(ledger.manifests[pack_id]) or resources.sealed.describe(pack_id)
            if ref.sha256 != ledger.manifests[pack_id]:
                report.lost[pack_id] = "its manifest is not the one that the log commits"
                continue
            found.append(Living(ledger.place(pack_id), open_manifest(resources, ref), ref))
        except UNSEEN:
            raise
        except VoxelVaultError as error:
            report.lost[pack_id] = str(error)
    return found


def _written_anew(resources: Resources, object_ids: Iterable[str]) -> dict[str, SealedRef]:
    """Return the manifests, by digest, that removals wrote for packs that stayed."""
    found = {}
    for object_id in object_ids:
        try:
            ref = resources.sealed.describe(object_id)
        except UNSEEN:
            raise
        except VoxelVaultError:
            continue
        found[ref.sha256] = ref
    return found


def _made_without_outcome(resources: Resources, ledger: Ledger, packs: Sequence[Living]) -> list[Turn]:
    """Return the merges and moves that died before their outcome was entered: they come last."""
    if not ledger.begun:
        return []
    merged: dict[str, str] = {}
    with suppress(VoxelVaultError):
        found = resources.catalog.query("select subject_id, merged_into from patients").to_pylist()
        merged = {row["subject_id"]: row["merged_into"] for row in found}
    manifests = [living.manifest for living in packs]
    return [
        replace(turn, place=resources.log.size)
        for turn in ledger.begun.values()
        if made_by_keys(resources.keys, turn, manifests, merged)
    ]


def _unfinished(resources: Resources, ledger: Ledger) -> int:
    """Count packs whose manifest is there and whose outcome is missing."""
    count = 0
    for owner in ledger.intents:
        if ledger.unfinished(owner) and owner not in ledger.manifests:
            try:
                resources.objects.size(resources.sealed.name(owner))
            except VoxelVaultError:
                continue
            count += 1
    return count


def _was_reindexed(entries: Sequence[Entry]) -> bool:
    return any(
        entry.kind == Kind.CATALOG_CHANGED and "reindex" in entry.codes.get("mode", ()) for entry in entries
    )


def _log(
    resources: Resources,
    action: str,
    outcome: Outcome,
    report: RebuildReport,
    info: CommitInfo | None = None,
) -> None:
    counts = {"packs": report.packs, "instances": report.instances, "lost": len(report.lost)}
    digests: dict[str, str] = {}
    if info is not None:
        counts |= {"snapshot": info.snapshot, "record_number": resources.keys.number}
        digests = {"catalog": info.digest, "record": resources.keys.record_digest}
    event = Event(
        kind=Kind.CATALOG_REBUILT,
        who=resources.who,
        purpose=resources.purpose,
        action=action,
        outcome=outcome,
        counts=counts,
        digests=digests,
    )
    resources.audit.append([event])


__all__ = ["RebuildReport", "rebuild_catalog"]
