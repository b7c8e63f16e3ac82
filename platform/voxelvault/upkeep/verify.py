"""Is everything there, and is it what came in? Objects, frames, files, catalog, log."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.audit.proof import VerifyReport as LogReport
from voxelvault.catalog.schema import TABLES
from voxelvault.crew import Crew
from voxelvault.errors import IntegrityError, UsageError, VoxelVaultError
from voxelvault.model import SealedRef
from voxelvault.policy.access import Request, require
from voxelvault.reading.packs import manifest_ref, open_manifest, open_reader
from voxelvault.readonly import require_writable
from voxelvault.resources import Resources
from voxelvault.storage.layout import object_id_of
from voxelvault.storage.pack import Manifest
from voxelvault.upkeep.catalog_rows import CatalogRows, check_missing, check_rows, rows_of
from voxelvault.upkeep.contents import Contents, contents_of, problem_of, read_contents
from voxelvault.upkeep.copies import check_copies
from voxelvault.upkeep.ledger import READERS, Ledger, read_ledger
from voxelvault.upkeep.repair import GRACE, orphans, owner_of, repair

Row = dict[str, Any]

WINDOW = 256
"""Packs whose catalog rows are held at once."""


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What to check.

    Parameters
    ----------
    quick : bool
        Lengths, manifests, references and log; no pixels.
    sample : float, optional
        Share of the packs whose bytes are read, 0 to 1.
    repair : bool
        Sweep what a killed run left behind and what nobody needs any more, enter outcomes that are
        missing, and drop derived copies that are damaged.
    against : str, optional
        A checkpoint kept elsewhere that the log must extend.
    grace : float
        Seconds that an unfinished run may still be at work: repair leaves younger objects alone.
    readers : float
        Seconds that repair leaves the objects of compacted packs to readers at work.
    """

    quick: bool = False
    sample: float | None = None
    repair: bool = False
    against: str | None = None
    grace: float = GRACE
    readers: float = READERS

    def __post_init__(self) -> None:
        if self.sample is not None and not 0 < self.sample <= 1:
            raise UsageError("--sample is a share of the packs: more than 0, at most 1")


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that does not hold: what it is about, by opaque id, and a sentence."""

    object_id: str
    problem: str

    def __str__(self) -> str:
        return f"{self.object_id}: {self.problem}"


@dataclass(slots=True)
class VerifyReport:
    """What was checked, and what failed.

    Attributes
    ----------
    packs, objects, frames, instances : int
        Checked.
    failures : list of Failure
        Empty when all is well.
    orphans : int
        Objects that nothing refers to: left by a killed ingest, swept by repair.
    unfinished : int
        Packs committed by an ingest that was killed, or is at work, before its outcome was entered;
        repair enters it.
    retired : int
        Objects of compacted packs, left to readers at work; repair sweeps them a week later.
    copies : int
        Derived copies that were looked at.
    rebuildable : list of Failure
        Damaged ones: nothing is lost, building them again brings them back; repair drops them.
    swept, recovered : int
        Objects removed and outcomes entered by repair.
    log : VerifyReport
        What the audit log proved, and from which checkpoint.
    read : bool
        Frames and files were read; False for a quick check.
    """

    packs: int = 0
    objects: int = 0
    frames: int = 0
    instances: int = 0
    quarantined: int = 0
    orphans: int = 0
    unfinished: int = 0
    swept: int = 0
    recovered: int = 0
    retired: int = 0
    copies: int = 0
    rebuildable: list[Failure] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    log: LogReport | None = None
    read: bool = True

    @property
    def ok(self) -> bool:
        """True when nothing failed."""
        return not self.failures

    def __str__(self) -> str:
        read = f"{self.frames} frames, {self.instances} files" if self.read else "no pixels read"
        fine = "all as they came in" if self.read else "all there"
        parts = [
            f"{self.packs} packs, {self.objects} objects, {read}",
            fine if self.ok else f"{len(self.failures)} FAILURES",
        ]
        parts += [f"{self.orphans} orphaned objects (sweep them with --repair)"] if self.orphans else []
        parts += [f"{self.unfinished} packs without an outcome (--repair)"] if self.unfinished else []
        damaged = len(self.rebuildable)
        parts += [f"{damaged} damaged copies (drop them with --repair, then cache again)"] if damaged else []
        parts += [f"{self.retired} objects of compacted packs await their sweep"] if self.retired else []
        parts += [f"{self.swept} objects swept"] if self.swept else []
        parts += [f"log: {self.log}"] if self.log else []
        return "; ".join(parts)


def verify(
    resources: Resources,
    options: VerifyOptions,
    advance: Callable[[int], object] = lambda steps: None,
    crew: Crew | None = None,
) -> VerifyReport:
    """Check the vault.

    Parameters
    ----------
    resources : Resources
        The open vault.
    options : VerifyOptions
        How much.
    advance : callable
        Progress: called with the number of packs done.
    crew : Crew, optional
        Workers of a cluster that read the packs; by default this process does.

    Returns
    -------
    VerifyReport
        Failures are listed, not raised; `failures` is empty when all is well.

    Raises
    ------
    IntegrityError, RollbackDetected
        The log is damaged, or does not extend the checkpoint given: nothing it says can be relied on.
    IntegrityError
        A repair was asked for, and the catalog is older than the log.
    Unanswered
        The network failed, which says nothing of what is stored.
    """
    require(resources.policy, Request(Kind.VERIFY, (), resources.purpose, resources.who))
    report = VerifyReport(read=not options.quick)
    report.log = resources.log.verify(options.against, texts=not options.quick)
    if options.repair:
        require_writable(resources)
        if not (resources.vouched or options.against):
            # Yesterday's log would have today's objects swept.
            raise UsageError(
                "a vault never seen before is not repaired: open it with a kept checkpoint "
                "(--checkpoint FILE) or with its fingerprint"
            )
        done = repair(resources, read_ledger(resources.log.entries()), options.grace, options.readers)
        report.swept, report.recovered = done.swept, done.recovered
    packs, ledger, referenced = _check_packs(resources, options, advance, report, crew)
    referenced |= _check_quarantine(resources, report, read=not options.quick)
    report.failures += [*_lost(resources, packs, ledger), *_dangling(resources)]
    if not options.quick:
        report.failures += _unreadable(resources)
    damaged = check_copies(resources, read=not options.quick, drop=options.repair)
    report.copies = damaged.checked
    report.rebuildable += [Failure(object_id, problem) for object_id, problem in damaged.problems]
    for info in orphans(resources, referenced):
        gone = owner_of(resources, object_id_of(info.name) or "") in ledger.gone
        report.retired += gone
        report.orphans += not gone
    _log(resources, report, options)
    return report


def _check_packs(
    resources: Resources,
    options: VerifyOptions,
    advance: Callable[[int], object],
    report: VerifyReport,
    crew: Crew | None,
) -> tuple[list[Row], Ledger, set[str]]:
    """Check all packs; return their rows, the ledger they were compared with, and their objects.

    A compaction at work takes packs away and brings others: what went is no failure, and what came
    is checked too.
    """
    done: dict[str, Row] = {}
    referenced: set[str] = set()
    while True:
        packs: list[Row] = resources.catalog.query(
            "select * from packs order by series_id, pack_id"
        ).to_pylist()
        # After the packs: others may be at work, and an intent precedes each of their commits.
        ledger = read_ledger(resources.log.entries())
        there = {row["pack_id"] for row in packs}
        report.failures = [
            failure
            for failure in report.failures
            if failure.object_id not in done or failure.object_id in there
        ]
        fresh = [row for row in packs if row["pack_id"] not in done]
        if done and done.keys() <= there:
            return packs, ledger, referenced
        read = _chosen(fresh, options)
        for window in (fresh[at : at + WINDOW] for at in range(0, len(fresh), WINDOW)):
            rows = rows_of(resources, [row["pack_id"] for row in window])
            wanted = [row for row in window if row["pack_id"] in read]
            apart = contents_of(resources, crew, wanted, advance) if crew else {}
            for row in window:
                pack_id = row["pack_id"]
                found = _check_pack(resources, rows, row, ledger, pack_id in read, report, apart.get(pack_id))
                for ref, problem in found:
                    if problem:
                        report.failures.append(Failure(pack_id, problem))
                    elif ref:
                        referenced.add(ref.object_id)
                advance(int(pack_id not in apart))
        if not packs:
            return packs, ledger, referenced
        done = {row["pack_id"]: row for row in packs}


def _chosen(packs: Sequence[Row], options: VerifyOptions) -> set[str]:
    ids = [row["pack_id"] for row in packs]
    if options.quick:
        return set()
    if options.sample is None:
        return set(ids)
    return set(random.sample(ids, max(1, round(options.sample * len(ids))))) if ids else set()


def _check_pack(
    resources: Resources,
    rows: CatalogRows,
    row: Row,
    ledger: Ledger,
    read: bool,
    report: VerifyReport,
    found: Contents | None,
) -> Iterator[tuple[SealedRef | None, str]]:
    """Yield the objects that a pack refers to, and what is wrong with it."""
    report.packs += 1
    ref = manifest_ref(row)
    yield ref, ""
    committed = ledger.manifests.get(row["pack_id"])
    if committed is None and ledger.unfinished(row["pack_id"]):
        report.unfinished += 1
    elif committed != ref.sha256:
        yield None, "the log does not vouch for its manifest" if committed else "the log has no entry for it"
    try:
        manifest = open_manifest(resources, ref)
    except VoxelVaultError as error:
        yield None, f"manifest: {problem_of(error)}"
        return
    report.objects += 1
    if read and found is None:
        found = read_contents(resources.sealed, manifest, lambda: open_reader(resources, manifest))
    yield from _check_objects(resources, manifest, found, report)
    yield from ((None, problem) for problem in check_rows(rows, manifest))
    yield from ((None, problem) for problem in check_missing(resources, rows, manifest))
    if found is not None:
        report.frames, report.instances = report.frames + found.frames, report.instances + found.instances
        yield from ((None, problem) for problem in found.wrong)


def _check_objects(
    resources: Resources, manifest: Manifest, found: Contents | None, report: VerifyReport
) -> Iterator[tuple[SealedRef | None, str]]:
    for ref in manifest.objects():
        yield ref, ""
        report.objects += 1
        if found is not None:
            continue
        try:
            if resources.objects.size(resources.sealed.name(ref.object_id)) != ref.length:
                yield None, f"object {ref.object_id} has the wrong length"
        except VoxelVaultError as error:
            yield None, f"object {ref.object_id}: {problem_of(error)}"
    yield from ((None, problem) for problem in (found.lost if found else ()))


def _check_quarantine(resources: Resources, report: VerifyReport, read: bool) -> set[str]:
    rows: list[Row] = resources.catalog.query(
        "select * from quarantine where object_id is not null"
    ).to_pylist()
    for row in rows:
        ref = SealedRef(row["object_id"], row["key_id"], row["kind"], row["length"], row["object_sha256"])
        report.quarantined += 1
        try:
            if read:
                resources.sealed.open_whole(ref, resources.keys.dek(ref.key_id))
            elif resources.objects.size(resources.sealed.name(ref.object_id)) != ref.length:
                raise IntegrityError("it has the wrong length")
        except VoxelVaultError as error:
            report.failures.append(Failure(row["quarantine_id"], f"quarantined file: {problem_of(error)}"))
    return {row["object_id"] for row in rows}


def _lost(resources: Resources, packs: Sequence[Row], ledger: Ledger) -> Iterator[Failure]:
    """Yield packs that the log commits and the catalog lacks, as one does that was put back."""
    lost = ledger.lost({row["pack_id"] for row in packs})
    if not lost:
        return
    since = resources.catalog.query(
        "select pack_id from packs where pack_id in (select unnest($lost))", {"lost": sorted(lost)}
    ).to_pylist()
    for pack_id in sorted(lost - {row["pack_id"] for row in since}):
        yield Failure(pack_id, "the log commits it, and the catalog lacks it; restore the newest catalog/")


def _unreadable(resources: Resources) -> Iterator[Failure]:
    """Read every value of every table, so that each byte of it passes its seal."""
    for table in TABLES:
        try:
            resources.catalog.query(f"select bit_xor(hash(t)) from {table} as t")  # noqa: S608 - names of ours
        except VoxelVaultError as error:
            yield Failure(table, f"the catalog's table cannot be read whole: {problem_of(error)}")


_REFERENCES = (
    ("instances", "pack_id", "packs"),
    ("packs", "series_id", "series"),
    ("series", "study_id", "studies"),
    ("studies", "subject_id", "patients"),
    ("frames", "instance_id", "instances"),
    ("stacks", "pack_id", "packs"),
)


def _dangling(resources: Resources) -> Iterator[Failure]:
    """Yield rows of the catalog that refer to nothing."""
    for table, column, target in _REFERENCES:
        rows = resources.catalog.query(
            f"select distinct {column} as id from {table} "  # noqa: S608 - names of ours
            f"where {column} not in (select {column} from {target})"
        ).to_pylist()
        for row in rows:
            yield Failure(row["id"], f"{table} refers to it, and {target} lacks it")


def _log(resources: Resources, report: VerifyReport, options: VerifyOptions) -> None:
    mode = "quick" if options.quick else "sample" if options.sample else "full"
    resources.audit.append(
        [
            Event(
                kind=Kind.VERIFY,
                who=resources.who,
                purpose=resources.purpose,
                outcome=Outcome.OK if report.ok else Outcome.FAILED,
                counts={
                    "packs": report.packs,
                    "objects": report.objects,
                    "frames": report.frames,
                    "instances": report.instances,
                    "failures": len(report.failures),
                },
                codes={"mode": (mode,)},
            )
        ]
    )
