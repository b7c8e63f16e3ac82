"""DICOM comes in: find, parse once, group by series, encode and seal, commit, report.

One batch at a time: an audit entry of intent names the packs to come; each series of the batch
becomes one pack; then, under the catalog's lease, it is decided whose images these are, manifests
are sealed under the study keys, and keys and catalog are committed; an outcome entry follows.
Kill it anywhere and run it again: what was acknowledged is there, what wasn't is done anew.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from voxelvault import config
from voxelvault.audit.events import Kind
from voxelvault.crew import Crew
from voxelvault.dicom.added_sources import find_everything
from voxelvault.dicom.json_model import MAX_CELLS
from voxelvault.dicom.sources import Found, Refusal, Source
from voxelvault.errors import LockTimeout, StorageError
from voxelvault.intake.candidates import Arrival
from voxelvault.intake.commit import commit_batch
from voxelvault.intake.directory import known_instances
from voxelvault.intake.elsewhere import There
from voxelvault.intake.here import Hands, Here
from voxelvault.intake.identity import Person
from voxelvault.intake.interrupt import interruptible
from voxelvault.intake.quarantine import Quarantined, Reason, Refused, known_aside
from voxelvault.model import new_id
from voxelvault.policy.access import Request, require
from voxelvault.readonly import require_writable
from voxelvault.resources import Resources
from voxelvault.storage.codecs import codec_named

Advance = Callable[[int, int], object]
PathLike = str | os.PathLike[str]
A = TypeVar("A", bound=Arrival)

BATCH_BYTES = 256 << 20
"""Bytes of source files held at once; a batch is one commit."""

BATCH_FILES = 512
"""Files held at once: of small ones, headers and rows are what takes memory, some 30 KB each."""

BATCH_CELLS = 2 * MAX_CELLS
"""What the headers held at once take in memory, in cells of about 512 bytes: a batch ends there, too."""

TIDY_EVERY = 50
"""Commits after which the catalog is maintained."""


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How to ingest.

    Parameters
    ----------
    issuer : str, optional
        Stands in where a header has no IssuerOfPatientID; by default the source's name in the
        configuration.
    move : bool
        Delete each source file once it is committed (files only, never archive members).
    dry_run : bool
        Read and report; write nothing.
    codec : str, optional
        Instead of the vault's default codec.
    settings : Settings
        The user's configuration.
    """

    issuer: str | None = None
    move: bool = False
    dry_run: bool = False
    codec: str | None = None
    settings: config.Settings = field(default_factory=config.load_settings)


@dataclass(slots=True)
class IngestReport:
    """What became of every file; `complete` when nothing was refused or left undone.

    Attributes
    ----------
    found, stored, duplicates, versions, not_dicom : int
        Files seen; instances stored anew; already there with the same bytes; stored as a new
        version of a SOP instance that has other bytes; not DICOM.
    undecodable : int
        Of those stored, how many have pixels that can't be decoded: kept byte for byte, without an image.
    bytes : int
        Size of the stored files.
    quarantined : list of Quarantined
        Files kept aside, each with its reason.
    refused : list of str
        Archives and files that could not be read, with the reason. May name paths: shown to the
        caller, never logged.
    interrupted : bool
        Ctrl-C ended it; run it again to resume.
    snapshots : list of int
        The catalog's after each commit.
    """

    found: int = 0
    stored: int = 0
    duplicates: int = 0
    versions: int = 0
    not_dicom: int = 0
    undecodable: int = 0
    bytes: int = 0
    series: int = 0
    dry_run: bool = False
    interrupted: bool = False
    # Not in the repr, which notebooks keep: these hold paths.
    quarantined: list[Quarantined] = field(default_factory=list, repr=False)
    refused: list[str] = field(default_factory=list, repr=False)
    snapshots: list[int] = field(default_factory=list, repr=False)

    @property
    def complete(self) -> bool:
        """True when every file that is DICOM is in the vault as an instance."""
        aside = any(item.reason is not Reason.MEDIA_DIRECTORY for item in self.quarantined)
        return not (aside or self.refused or self.interrupted)

    def __str__(self) -> str:
        what = "would be stored" if self.dry_run else "stored"
        parts = [f"{self.found} files", f"{self.stored} {what} in {self.series} series"]
        for count, word in (
            (self.duplicates, "already there"),
            (self.versions, "new versions"),
            (self.undecodable, "with pixels that can't be decoded"),
            (self.not_dicom, "not DICOM"),
            (len(self.quarantined), "quarantined"),
            (len(self.refused), "refused"),
        ):
            parts += [f"{count} {word}"] if count else []
        parts += ["interrupted: run it again to go on"] if self.interrupted else []
        return ", ".join(parts)


def ingest(
    resources: Resources,
    paths: Sequence[PathLike | Sequence[PathLike]],
    options: IngestOptions,
    advance: Advance = lambda files, size: None,
    crew: Crew | None = None,
) -> IngestReport:
    """Take files into the vault.

    Parameters
    ----------
    resources : Resources
        The open vault.
    paths : sequence of path
        Folders, files, zip or tar archives, DICOMDIRs; ``name:where`` of a source that a package adds.
    options : IngestOptions
        Issuer, move, dry run.
    advance : callable
        Progress: called with files done and their bytes.
    crew : Crew, optional
        Workers of a cluster that read and write; by default threads do.

    Returns
    -------
    IngestReport
        What became of every file.

    Raises
    ------
    PolicyDenied, AuditError, StorageError, WorkerDied
        Nothing of the batch at hand was stored.
    """
    flat: list[PathLike] = []
    for given in paths:
        flat += [given] if isinstance(given, str | os.PathLike) else given
    return take_in(resources, _found(flat, crew), options, advance, crew)


def _found(paths: Sequence[PathLike], crew: Crew | None) -> Iterator[Found]:
    """Look only once it is sure that anything may come in."""
    # A worker's own folder is another one.
    yield from find_everything(paths, absolute=crew is not None)


def take_in(
    resources: Resources,
    everything: Iterable[Found],
    options: IngestOptions,
    advance: Advance = lambda files, size: None,
    crew: Crew | None = None,
) -> IngestReport:
    """Take in what was found already; the rest as for `ingest`.

    Parameters
    ----------
    everything : iterable of Source or Refusal
        Files, and what could not be offered as one.
    """
    require(resources.policy, Request(Kind.INGEST, (), resources.purpose, resources.who))
    require_writable(resources)
    codec_named(options.codec or resources.settings.codec)
    report = IngestReport(dry_run=options.dry_run)
    with _hands(resources, options, crew) as hands, interruptible() as stop:
        for batch in _batches(everything, report, hands.batches):
            while batch and not report.interrupted:
                if stop.is_set():
                    report.interrupted = True
                    break
                found, whole = _ingest_batch(resources, batch, options, report, hands, stop, advance)
                report.interrupted = not whole
                batch = batch[found:]
            if report.interrupted:
                break
    _keep_tidy(resources, report.snapshots)
    return report


@contextmanager
def _hands(resources: Resources, options: IngestOptions, crew: Crew | None) -> Iterator[Hands]:
    """Hold what examines files and writes packs: threads, or a crew."""
    if crew is not None:
        yield There(resources, options.codec or resources.settings.codec, crew)
        return
    threads = resources.options.threads or os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as executor:
        yield Here(resources, options.codec or resources.settings.codec, executor, 2 * threads)


def _keep_tidy(resources: Resources, snapshots: Sequence[int]) -> None:
    """Now and then, join the catalog's small files: every commit leaves a few."""
    if snapshots and snapshots[-1] // TIDY_EVERY > (snapshots[0] - 1) // TIDY_EVERY:
        # Who is at work holds it back, and tidies up in turn.
        with suppress(LockTimeout):
            resources.catalog.maintain()


def _batches(everything: Iterable[Found], report: IngestReport, times: int = 1) -> Iterator[list[Source]]:
    batch: list[Source] = []
    size = 0
    for found in everything:
        if isinstance(found, Refusal):
            report.refused.append(f"{found.path}: {found.reason}")
            continue
        if batch and (size + found.size > times * BATCH_BYTES or len(batch) >= times * BATCH_FILES):
            yield batch
            batch, size = [], 0
        batch.append(found)
        size += found.size
    if batch:
        yield batch


def issuer_of(source: Source, options: IngestOptions) -> str:
    """Return the issuer for headers without one: as given, or the source's name in the configuration."""
    if options.issuer is not None:
        return options.issuer
    return options.settings.issuer_of(source.path) or ""


def _ingest_batch(
    resources: Resources,
    batch: Sequence[Source],
    options: IngestOptions,
    report: IngestReport,
    hands: Hands,
    stop: threading.Event,
    advance: Advance,
) -> tuple[int, bool]:
    """Take one batch in; return how many files, fewer where headers fill the memory, and whether all.

    The latter is False if Ctrl-C left some for another time.
    """
    arrivals: list[Any] = []
    aside: list[Refused] = []
    found = cells = 0
    for outcome in hands.examine([(source, issuer_of(source, options)) for source in batch], stop):
        found += 1
        if outcome is None:
            report.not_dicom += 1
        elif isinstance(outcome, Refused):
            aside.append(outcome)
        else:
            arrivals.append(outcome)
            cells += outcome.cells
        if cells > BATCH_CELLS:
            break
    whole = found == len(batch) or cells > BATCH_CELLS
    report.found += found
    aside = _not_yet_aside(resources, aside, report)
    fresh = without_duplicates(resources, arrivals, report)
    groups: dict[tuple[Person, str, str], list[Any]] = {}
    for arrival in fresh:
        groups.setdefault(arrival.group, []).append(arrival)
    size = sum(arrival.size for arrival in fresh)
    # From here on the groups alone hold the files' bytes, and give them up one by one.
    came = [_Came(one.source, one.sop_uid, one.sha256) for one in arrivals] if options.move else []
    del arrivals, fresh
    if options.dry_run:
        report.stored += sum(map(len, groups.values()))
        report.series += len(groups)
        report.bytes += size
        report.quarantined += [refused.described() for refused in aside]
        return found, whole
    if not groups and not aside:
        report.refused += _remove_stored(resources, came)
        return found, whole
    late: list[Refused] = []

    def stored(group: Sequence[Arrival]) -> bool:
        advance(len(group), sum(arrival.size for arrival in group))
        return not stop.is_set()

    action = new_id()
    drafts, written = hands.write(action, list(groups.values()), late, stored, report.refused)
    aside += _not_yet_aside(resources, late, report)
    done = commit_batch(resources, action, drafts, aside)
    report.stored += done.stored
    report.versions += done.versions
    report.undecodable += done.undecodable
    report.duplicates += done.duplicates
    report.bytes += done.bytes
    report.series += done.series
    report.quarantined += done.quarantined
    report.snapshots += [done.info.snapshot] if done.info else []
    report.refused += _remove_stored(resources, came)
    return found, whole and written


def without_duplicates(resources: Resources, candidates: Sequence[A], report: IngestReport) -> list[A]:
    """Leave out files whose very bytes are in the vault, or came earlier in this batch."""
    known = known_instances(resources.catalog.query, [candidate.sop_uid for candidate in candidates])
    seen = {(row.sop_uid, row.sha256, row.issuer, row.patient_id) for row in known}
    fresh: list[A] = []
    for candidate in candidates:
        person = candidate.person
        key = (candidate.sop_uid, candidate.sha256, person.issuer, person.patient_id)
        if key in seen:
            report.duplicates += 1
        else:
            seen.add(key)
            fresh.append(candidate)
    return fresh


def _not_yet_aside(resources: Resources, aside: Sequence[Refused], report: IngestReport) -> list[Refused]:
    """Leave out files that are in quarantine already; the report names them all the same."""
    described = [refused.described() for refused in aside]
    known = known_aside(resources.catalog.query, described)
    fresh: list[Refused] = []
    for refused, item in zip(aside, described, strict=True):
        if item.likeness in known:
            report.quarantined.append(replace(item, quarantine_id=known[item.likeness]))
        else:
            known[item.likeness] = item.quarantine_id
            fresh.append(refused)
    return fresh


@dataclass(frozen=True, slots=True)
class _Came:
    """What tells of a file whether it is stored, when its bytes are no longer held."""

    source: Source
    sop_uid: str
    sha256: str


def _remove_stored(resources: Resources, found: Sequence[_Came]) -> list[str]:
    """Delete the sources whose bytes the catalog commits, now or from before; return what could not be.

    A file is read once more: whatever its sender wrote since is not in the vault.
    """
    if not found:
        return []
    known = known_instances(resources.catalog.query, [candidate.sop_uid for candidate in found])
    stored = {(row.sop_uid, row.sha256) for row in known}
    left: list[str] = []
    for candidate in found:
        source = candidate.source
        if source.member is not None or (candidate.sop_uid, candidate.sha256) not in stored:
            continue
        try:
            if hashlib.sha256(source.read()).hexdigest() == candidate.sha256:
                source.remove()
        except StorageError:
            left.append(f"{source.display}: stored, but it could not be deleted; delete it yourself")
    return left
