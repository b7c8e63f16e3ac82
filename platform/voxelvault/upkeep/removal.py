"""Taking away instances, studies and subjects, so that what is left behind opens with no present key.

An instance's pack is written anew without it, and its study's key is rolled: the other packs keep
their objects and get new manifests. A study's key is destroyed. The same bytes in quarantine go with
their key, and what only the headers of those who leave told of a series, a study or a person goes
from its row. Then the catalog is written anew
under new keys, since its files span subjects, and all old keys go in one new generation of pages.

The catalog is committed first: a run that is killed after it is finished by `verify --repair`, from
what its intent in the log says; one that is killed before it has changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from voxelvault import tasks
from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.catalog.catalog import Change, CommitInfo, Lease
from voxelvault.crypto.keyring import DestroyReport
from voxelvault.crypto.vault_record import NewSlot
from voxelvault.errors import IntegrityError, UsageError, VoxelVaultError
from voxelvault.intake.commit import check_written, discard
from voxelvault.model import new_id
from voxelvault.policy.access import Request, require
from voxelvault.reading.packs import manifest_ref, open_manifest
from voxelvault.readonly import require_writable
from voxelvault.resources import Resources
from voxelvault.rows import changes
from voxelvault.storage.layout import DERIVED
from voxelvault.storage.sealed_objects import SealedObjects
from voxelvault.upkeep.leaving import Leaving, leaving_instances, leaving_studies
from voxelvault.upkeep.ledger import Replacement
from voxelvault.upkeep.rekeying import hang_below, resealed, rewrapped_copies, studies_under
from voxelvault.upkeep.residue import destroy
from voxelvault.upkeep.retelling import retold
from voxelvault.upkeep.rewriting import (
    Rewritten,
    Row,
    entries,
    gone,
    rewrite,
    seal,
    sources_of,
    swap,
    unchanged,
)
from voxelvault.upkeep.turning import hang_keys

_NO_ROLL: Mapping[str, NewSlot] = {}


@dataclass(frozen=True, slots=True)
class RemovalReport:
    """What was taken away, and what an old copy of keys/ still opens.

    Parameters
    ----------
    instances, packs, objects : int
        Taken away; packs of which something remains were written anew.
    cohorts : dict of str to int
        Opaque ids of frozen cohorts, each with the members it lost.
    keys : DestroyReport
        The new generation, the keys that are gone, and slots: whoever holds the secret of one that
        was not rolled, and an old copy of keys/ and objects/, opens what that copy holds.
    """

    instances: int
    packs: int
    objects: int
    cohorts: Mapping[str, int]
    keys: DestroyReport

    def __str__(self) -> str:
        told = [f"{self.instances} instances taken away", f"{self.objects} objects deleted"]
        told += [f"{len(self.cohorts)} frozen cohorts lost members"] if self.cohorts else []
        told += [f"{len(self.keys.not_rolled)} slots not rolled: their secrets open old copies of keys/"]
        return "; ".join(told)


@dataclass(slots=True)
class _Plan:
    """One removal: what the log's intent names, and what the commit writes."""

    kind: Kind
    leaving: Leaving
    packs: Sequence[Row]
    rolling: Sequence[str] = ()
    action: str = field(default_factory=new_id)
    stay: Sequence[Row] = ()
    aside: Sequence[Row] = ()
    """Rows of the quarantine: the same bytes, kept aside before they came in."""
    rewritten: list[Rewritten] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)
    """Pack id to the object of its new manifest."""
    manifests: dict[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """Keys that are destroyed in the end."""
        sealing = (*self.packs, *self.aside)
        return sorted({*self.leaving.key_ids, *(row["key_id"] for row in sealing if row.get("key_id"))})

    def ids(self) -> dict[str, list[str]]:
        """Return what is entered in the log."""
        into = [*(new.pack_id for new in self.rewritten), *self.written]
        return {
            **{role: sorted(ids) for role, ids in self.leaving.named.items()},
            "pack": [row["pack_id"] for row in self.packs],
            "into": into,
            "key": self.keys,
            "object": [row["manifest_object_id"] for row in self.stay],
            "quarantine": [row["quarantine_id"] for row in self.aside],
        }


def delete_instances(
    resources: Resources,
    instance_ids: Sequence[str],
    *,
    reason: str | None = None,
    roll: Mapping[str, NewSlot] = _NO_ROLL,
) -> RemovalReport:
    """Take instances away: their packs are written anew without them, their studies' keys rolled.

    Of several versions of one SOP instance, the newest that is left counts again. Derived copies of
    the series go; building them again brings them back.

    Parameters
    ----------
    resources : Resources
        The open vault.
    instance_ids : sequence of str
        Opaque ids.
    reason : str, optional
        Free text for the log; kept sealed.
    roll : mapping of str to NewSlot
        New secrets for slots, by slot id: the old ones then open nothing of the new generation.

    Raises
    ------
    UnknownUID
        Some are not in this vault.
    PolicyDenied, AuditError, NoPermission, UsageError
        Then nothing was done.
    IntegrityError
        Somebody changed the study meanwhile, and nothing was done; or what leaves is out of the catalog
        and not all of its keys are gone: the message says how that is finished.
    """
    asked = tuple(instance_ids)
    require(resources.policy, Request(Kind.INSTANCE_REMOVED, asked, resources.purpose, resources.who))
    require_writable(resources)
    _check_roll(resources, roll)
    leaving = leaving_instances(resources.catalog.query, asked)
    leaving.pack_ids |= _with_twins(resources, leaving)
    packs = _rows(resources, "pack_id", leaving.pack_ids)
    keys = sorted({row["key_id"] for row in packs})
    all_of_them = _rows(resources, "key_id", keys)
    stay = [row for row in all_of_them if row["pack_id"] not in leaving.pack_ids]
    aside = leaving.aside(resources.catalog.query)
    plan = _Plan(Kind.INSTANCE_REMOVED, leaving, packs, keys, stay=stay, aside=aside)
    sources = sources_of(resources, packs, asked)
    new_ids = {source.row["pack_id"]: new_id() for source in sources}
    plan.written = {row["pack_id"]: new_id() for row in stay}
    intent = plan.ids()
    intent["into"] += new_ids.values()
    intent["written"] = list(plan.written.values())
    resources.audit.append(_entries(resources, plan, Outcome.INTENT, intent, reason))
    try:
        for source in sources:
            plan.rewritten.append(rewrite(resources, new_ids[source.row["pack_id"]], [source]))
        return _commit(resources, plan, _shrunk, roll)
    except BaseException:
        for new in plan.rewritten:
            if new.pack_id not in plan.manifests:
                discard(resources, new.writer)
        raise


def _with_twins(resources: Resources, leaving: Leaving) -> set[str]:
    """Return packs of the same series with the same bytes: a duplicate of two ingests at once has no row."""
    rows = resources.catalog.query(
        "select sha256 from instances where instance_id in (select unnest($ids))",
        {"ids": sorted(leaving.instance_ids)},
    )
    digests = set(rows["sha256"].to_pylist())
    found = set()
    for row in _rows(resources, "series_id", leaving.series_ids):
        manifest = open_manifest(resources, manifest_ref(row))
        if any(record.sha256 in digests for record in manifest.instances):
            found.add(row["pack_id"])
    return found


def delete_study(
    resources: Resources,
    study_id: str,
    *,
    reason: str | None = None,
    roll: Mapping[str, NewSlot] = _NO_ROLL,
) -> RemovalReport:
    """Take a study away and destroy its key; a subject of whom nothing is left goes with it.

    Parameters and exceptions are those of `delete_instances`.
    """
    return _delete_studies(resources, "study_id", study_id, reason, roll)


def erase_subject(
    resources: Resources,
    subject_id: str,
    *,
    reason: str | None = None,
    roll: Mapping[str, NewSlot] = _NO_ROLL,
) -> RemovalReport:
    """Take all studies of a subject away and destroy its key, and those of subjects merged into it.

    Files in quarantine are nobody's yet, but for those with the very bytes of one that leaves: look
    through `quarantine list` for more of this person.

    Parameters and exceptions are those of `delete_instances`.
    """
    return _delete_studies(resources, "subject_id", subject_id, reason, roll)


def _delete_studies(
    resources: Resources, column: str, wanted: str, reason: str | None, roll: Mapping[str, NewSlot]
) -> RemovalReport:
    require(resources.policy, Request(Kind.STUDY_KEY_DESTROYED, (wanted,), resources.purpose, resources.who))
    require_writable(resources)
    _check_roll(resources, roll)
    leaving = leaving_studies(resources.catalog.query, column, wanted)
    packs = _rows(resources, "study_id", leaving.named["study"])
    plan = _Plan(Kind.STUDY_KEY_DESTROYED, leaving, packs, aside=leaving.aside(resources.catalog.query))
    resources.audit.append(_entries(resources, plan, Outcome.INTENT, plan.ids(), reason))
    return _commit(resources, plan, lambda *_: [], roll)


def _rows(resources: Resources, column: str, ids: Sequence[str] | set[str]) -> list[Row]:
    found: list[Row] = resources.catalog.query(
        f"select * from packs where {column} in (select unnest($ids)) order by created, pack_id",  # noqa: S608
        {"ids": sorted(ids)},
    ).to_pylist()
    return found


def _check_roll(resources: Resources, roll: Mapping[str, NewSlot]) -> None:
    """Refuse a new secret for a slot that is not there, before anything is done."""
    if unknown := roll.keys() - {slot.slot_id for slot in resources.keys.slots()}:
        raise UsageError(f"the vault has no slot {min(unknown)}: look at its slots again")


def _commit(
    resources: Resources,
    plan: _Plan,
    more: Callable[[Resources, Lease, _Plan], list[Change]],
    roll: Mapping[str, NewSlot],
) -> RemovalReport:
    objects = _objects(resources, plan)
    with resources.catalog.lease() as lease:
        _check_unchanged(lease, plan)
        # A merge that died may have left a study that stays below a key that goes.
        hang_keys(lease.query, resources.keys, plan.keys)
        copies, cohorts = plan.leaving.copies(lease.query), plan.leaving.cohorts(lease.query)
        found = [*gone([row["pack_id"] for row in plan.packs]), *more(resources, lease, plan)]
        found += retold(lease.query, resources.tags, plan.leaving)
        aside = [{"quarantine_id": row["quarantine_id"]} for row in plan.aside]
        found += [*changes("quarantine", aside, "delete"), *plan.leaving.changes(lease.query)]
        info = lease.commit(found, resources.keys.commit)
    try:
        done = destroy(resources, plan.keys, roll)
        _delete(resources, objects, copies)
        if any(change.table == tasks.TASKS for change in found):
            tasks.forget(resources)
    except VoxelVaultError as error:
        raise IntegrityError(
            "it is out of the catalog, but not all of its keys and objects are gone yet: put right what "
            f"follows, then run `voxelvault verify --repair` an hour from now: {error}"
        ) from None
    _outcome(resources, plan, len(objects) + len(copies), done, info)
    _log_cohorts(resources, cohorts, info)
    return RemovalReport(
        len(plan.leaving.instance_ids), len(plan.packs), len(objects) + len(copies), cohorts, done
    )


def _delete(resources: Resources, objects: Iterable[str], copies: Iterable[str] = ()) -> None:
    for object_id in objects:
        resources.sealed.delete(object_id)
    derived = SealedObjects(resources.objects, resources.settings.vault_id, DERIVED)
    for object_id in copies:
        derived.delete(object_id)


def _check_unchanged(lease: Lease, plan: _Plan) -> None:
    """Make sure that the packs under these keys are those that were looked at."""
    rows = lease.query(
        "select pack_id, manifest_sha256 from packs where key_id in (select unnest($keys))"
        " or study_id in (select unnest($studies))",
        {
            "keys": plan.keys,
            "studies": sorted(plan.leaving.named.get("study", ())) if plan.leaving.whole else [],
        },
    ).to_pylist()
    known = {row["pack_id"]: row["manifest_sha256"] for row in (*plan.packs, *plan.stay)}
    same = {row["pack_id"]: row["manifest_sha256"] for row in rows} == known
    if not same or plan.leaving.arrived(lease.query) or plan.leaving.aside(lease.query) != plan.aside:
        raise IntegrityError("somebody added to this study or changed it meanwhile; run it again")


def _objects(resources: Resources, plan: _Plan) -> list[str]:
    """Return the ids of the objects that go: those of packs and quarantine, and replaced manifests."""
    found = [row["manifest_object_id"] for row in (*plan.packs, *plan.stay)]
    for row in plan.packs:
        found += [ref.object_id for ref in open_manifest(resources, manifest_ref(row)).objects()]
    return found + [row["object_id"] for row in plan.aside if row["object_id"]]


def _shrunk(resources: Resources, lease: Lease, plan: _Plan) -> list[Change]:
    """Return the changes that put rewritten packs in place, all under rolled keys."""
    new_keys = {key_id: resources.keys.roll(key_id) for key_id in plan.rolling}
    found: list[Change] = []
    for new in plan.rewritten:
        check_written(resources, new.writer)
        manifest, ref = seal(resources, new, new_keys[new.manifest.study_key_id])
        plan.manifests[new.pack_id] = ref.sha256
        swapped = swap(lease, new, manifest, ref, unchanged(lease, new))
        found += [change for change in swapped if change.mode != "delete"]
    for row in plan.stay:
        changed, ref = resealed(resources, row, new_keys[row["key_id"]], plan.written[row["pack_id"]])
        plan.manifests[row["pack_id"]] = ref.sha256
        found += changed
    hang_below(resources, lease, plan.leaving.named["study"], new_keys)
    found += studies_under(lease, new_keys)
    return [*found, *rewrapped_copies(resources, lease, plan.leaving.series_ids, new_keys)]


def finish(resources: Resources, found: Replacement, packs: Mapping[str, Row]) -> None:
    """Finish a removal that was killed after its commit: keys and the log's outcome.

    The packs' objects are left to the sweep that follows: no key opens them any more.
    """
    done = destroy(resources, sorted(found.ids.get("key", ())), _NO_ROLL)
    # A quarantined file's object has the file's id.
    aside = sorted(found.ids.get("quarantine", ()))
    _delete(resources, [*found.ids.get("object", ()), *aside])
    tasks.forget(resources)
    leaving = Leaving({role: set(found.ids.get(role, ())) for role in ("study", "subject", "instance")})
    leaving.key_ids = set(found.ids.get("key", ()))
    leaving.instance_ids = leaving.named["instance"]
    plan = _Plan(Kind(found.kind), leaving, [{"pack_id": pack_id} for pack_id in sorted(found.old)])
    plan.action = found.action
    plan.aside = [{"quarantine_id": one} for one in aside]
    plan.manifests = {pack_id: packs[pack_id]["manifest_sha256"] for pack_id in found.new & packs.keys()}
    _outcome(resources, plan, 0, done, resources.catalog.head())


def _outcome(resources: Resources, plan: _Plan, objects: int, done: DestroyReport, info: CommitInfo) -> None:
    ids = plan.ids() | {"slot": list(done.not_rolled), "into": sorted(plan.manifests), "object": []}
    counts = {"objects": objects, "instances": len(plan.leaving.instance_ids), "generation": done.generation}
    resources.audit.append(_entries(resources, plan, Outcome.OK, ids, None, counts, info))


def _entries(
    resources: Resources,
    plan: _Plan,
    outcome: Outcome,
    ids: Mapping[str, Sequence[str]],
    text: str | None,
    counts: Mapping[str, int] | None = None,
    info: CommitInfo | None = None,
) -> list[Event]:
    return entries(
        resources,
        plan.kind,
        plan.action,
        outcome,
        _known(plan.kind, ids),
        counts or {},
        info,
        plan.manifests,
        text,
    )


def _known(kind: Kind, ids: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Leave out what a destroyed study has none of."""
    roles = {"instance", "into", "written"} if kind is Kind.STUDY_KEY_DESTROYED else set[str]()
    return {role: some for role, some in ids.items() if role not in roles}


def _log_cohorts(resources: Resources, cohorts: Mapping[str, int], info: CommitInfo) -> None:
    resources.audit.append(
        [
            Event(
                kind=Kind.COHORT_ERASED,
                who=resources.who,
                purpose=resources.purpose,
                ids={"cohort": (cohort_id,)},
                counts={"members": members, "snapshot": info.snapshot},
                digests={"catalog": info.digest},
            )
            for cohort_id, members in sorted(cohorts.items())
        ]
    )


__all__ = ["RemovalReport", "delete_instances", "delete_study", "erase_subject", "finish"]
