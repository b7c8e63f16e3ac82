"""DICOM comes in: find, parse once, group by series, encode and seal, commit, report.

One batch at a time: an audit entry of intent names the packs to come; each series of the batch
becomes one pack; then, under the catalog's lease, it is decided whose images these are, manifests
are sealed under the study keys, and keys and catalog are committed; an outcome entry follows.
Kill it anywhere and run it again: what was acknowledged is there, what wasn't is done anew.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from voxelvault import config
from voxelvault.audit.events import Kind
from voxelvault.dicom.geometry import FrameAttributes, frame_attributes
from voxelvault.dicom.read import number_of_frames
from voxelvault.dicom.sources import Refusal, Source, find_files
from voxelvault.errors import (
    DecoderCrashed,
    DicomError,
    IntegrityError,
    StorageError,
    VoxelVaultError,
)
from voxelvault.intake.candidates import Candidate, examine, has_changed
from voxelvault.intake.commit import Draft, Member, commit_batch, discard, log_intent
from voxelvault.intake.directory import known_instances
from voxelvault.intake.identity import Person
from voxelvault.intake.interrupt import interruptible
from voxelvault.intake.quarantine import Quarantined, Reason, Refused, known_aside
from voxelvault.model import new_id
from voxelvault.policy.access import Request, require
from voxelvault.readonly import require_writable
from voxelvault.resources import Resources
from voxelvault.storage.codecs import codec_named
from voxelvault.storage.pack_writer import PackWriter
from voxelvault.storage.prepare import Prepared, prepare

BATCH_BYTES = 256 << 20
"""Bytes of source files held at once; a batch is one commit."""

BATCH_FILES = 4096

TIDY_EVERY = 50
"""Commits after which the catalog is maintained."""

AHEAD = 32
"""Files prepared ahead of the one being stored."""


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
    bytes : int
        Size of the stored files.
    quarantined : list of Quarantined
        Files kept aside, each with its reason.
    refused : list of str
        Archives and files that could not be read, with the reason. May name paths: shown to the
        caller, never logged.
    interrupted : bool
        Ctrl-C ended it; run it again to resume.
    """

    found: int = 0
    stored: int = 0
    duplicates: int = 0
    versions: int = 0
    not_dicom: int = 0
    bytes: int = 0
    series: int = 0
    dry_run: bool = False
    interrupted: bool = False
    # Not in the repr, which notebooks keep: these hold paths.
    quarantined: list[Quarantined] = field(default_factory=list, repr=False)
    refused: list[str] = field(default_factory=list, repr=False)

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
            (self.not_dicom, "not DICOM"),
            (len(self.quarantined), "quarantined"),
            (len(self.refused), "refused"),
        ):
            parts += [f"{count} {word}"] if count else []
        parts += ["interrupted: run it again to go on"] if self.interrupted else []
        return ", ".join(parts)


def ingest(
    resources: Resources,
    paths: Sequence[str | os.PathLike[str]],
    options: IngestOptions,
    advance: Callable[[int, int], object] = lambda files, size: None,
) -> IngestReport:
    """Take files into the vault.

    Parameters
    ----------
    resources : Resources
        The open vault.
    paths : sequence of path
        Folders, files, zip or tar archives, DICOMDIRs.
    options : IngestOptions
        Issuer, move, dry run.
    advance : callable
        Progress: called with files done and their bytes.

    Returns
    -------
    IngestReport
        What became of every file.

    Raises
    ------
    PolicyDenied, AuditError, StorageError
        Nothing of the batch at hand was stored.
    """
    require(resources.policy, Request(Kind.INGEST, (), resources.purpose, resources.who))
    require_writable(resources)
    codec_named(options.codec or resources.settings.codec)
    report = IngestReport(dry_run=options.dry_run)
    threads = resources.options.threads or os.cpu_count() or 1
    before = resources.catalog.head().snapshot
    with ThreadPoolExecutor(threads) as executor, interruptible() as stop:
        for batch in _batches([Path(path).expanduser() for path in paths], report):
            if stop.is_set() or not _ingest_batch(resources, batch, options, report, executor, stop, advance):
                report.interrupted = True
                break
    _keep_tidy(resources, before)
    return report


def _keep_tidy(resources: Resources, before: int) -> None:
    """Now and then, join the catalog's small files: every commit leaves a few."""
    if resources.catalog.head().snapshot // TIDY_EVERY > before // TIDY_EVERY:
        resources.catalog.maintain()


def _batches(paths: Sequence[Path], report: IngestReport) -> Iterator[list[Source]]:
    batch: list[Source] = []
    size = 0
    for found in find_files(paths):
        if isinstance(found, Refusal):
            report.refused.append(f"{found.path}: {found.reason}")
            continue
        if batch and (size + found.size > BATCH_BYTES or len(batch) >= BATCH_FILES):
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
    executor: ThreadPoolExecutor,
    stop: threading.Event,
    advance: Callable[[int, int], object],
) -> bool:
    """Take one batch in; return False if Ctrl-C left some of it for another time."""
    candidates: list[Candidate] = []
    aside: list[Refused] = []
    found = 0
    for outcome in executor.map(lambda source: examine(source, issuer_of(source, options)), batch):
        found += 1
        if outcome is None:
            report.not_dicom += 1
        elif isinstance(outcome, Candidate):
            candidates.append(outcome)
        else:
            aside.append(outcome)
        if stop.is_set():
            break
    report.found += found
    aside = _not_yet_aside(resources, aside, report)
    fresh = without_duplicates(resources, candidates, report)
    groups: dict[tuple[Person, str, str], list[Candidate]] = {}
    for candidate in fresh:
        groups.setdefault(candidate.group, []).append(candidate)
    if options.dry_run:
        report.stored += len(fresh)
        report.series += len(groups)
        report.bytes += sum(len(candidate.data) for candidate in fresh)
        report.quarantined += [refused.described() for refused in aside]
        return found == len(batch)
    if not groups and not aside:
        report.refused += _remove_stored(resources, candidates) if options.move else []
        return found == len(batch)
    late: list[Refused] = []

    def stored(group: Sequence[Candidate]) -> bool:
        advance(len(group), sum(len(candidate.data) for candidate in group))
        return not stop.is_set()

    action = new_id()
    drafts = write_packs(resources, action, list(groups.values()), options, executor, late, stored)
    aside += _not_yet_aside(resources, late, report)
    done = commit_batch(resources, action, drafts, aside)
    report.stored += done.stored
    report.versions += done.versions
    report.duplicates += done.duplicates
    report.bytes += done.bytes
    report.series += done.series
    report.quarantined += done.quarantined
    if options.move:
        report.refused += _remove_stored(resources, candidates)
    return found == len(batch) and len(drafts) == len(groups)


def without_duplicates(
    resources: Resources, candidates: Sequence[Candidate], report: IngestReport
) -> list[Candidate]:
    """Leave out files whose very bytes are in the vault, or came earlier in this batch."""
    known = known_instances(resources.catalog.query, [candidate.sop_uid for candidate in candidates])
    seen = {(row.sop_uid, row.sha256, row.issuer, row.patient_id) for row in known}
    fresh: list[Candidate] = []
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


def write_packs(
    resources: Resources,
    action: str,
    groups: Sequence[Sequence[Candidate]],
    options: IngestOptions,
    executor: ThreadPoolExecutor,
    aside: list[Refused],
    go_on: Callable[[Sequence[Candidate]], bool] = lambda group: True,
) -> list[Draft]:
    """Enter the intent and write a pack for each group, until `go_on` says no after one."""
    pack_ids = [new_id() for _ in groups]
    log_intent(resources, action, "pack", pack_ids)
    drafts: list[Draft] = []
    try:
        for pack_id, group in zip(pack_ids, groups, strict=True):
            drafts.append(write_pack(resources, pack_id, group, options, executor, aside))
            if not go_on(group):
                break
    except BaseException:
        # A full disk is no fuller for what will never be committed.
        for draft in drafts:
            discard(resources, draft.writer)
        raise
    return drafts


Work = tuple[Prepared, Sequence[FrameAttributes]]


def write_pack(
    resources: Resources,
    pack_id: str,
    group: Sequence[Candidate],
    options: IngestOptions,
    executor: ThreadPoolExecutor,
    aside: list[Refused],
) -> Draft:
    """Encode, verify and seal one series' files; what can't be stored joins those kept aside."""
    dek = secrets.token_bytes(32)
    codec = options.codec or resources.settings.codec
    writer = PackWriter(resources.sealed, pack_id, dek)
    draft = Draft(pack_id, dek, writer, group[0].person, group[0].study_uid, group[0].series_uid, codec)
    empty = replace(draft, members=[])
    kept: list[Candidate] = []
    expected = sum(number_of_frames(candidate.header) for candidate in group if candidate.part10.pixels)

    def work(candidate: Candidate) -> Work:
        prepared = prepare(
            candidate.data,
            candidate.part10,
            candidate.header,
            instance_id=new_id(),
            sha256=candidate.sha256,
            codec=codec,
            pool=resources.pool,
        )
        # Here and not under the catalog's lease, where others would wait, and fail with it.
        frames = [] if prepared.key is None else frame_attributes(candidate.header, len(prepared.chunks))
        candidate.header.json()
        return prepared, frames

    try:
        for candidate, job in _ahead(executor, work, group):
            try:
                prepared, frames = job.result()
            except Exception as error:
                if type(error) is VoxelVaultError or isinstance(error, StorageError):
                    raise  # not the file's fault: the decoders do not start, say
                aside.append(_refused(candidate, error))
                continue
            kept.append(candidate)
            record = writer.add(prepared, expected)
            syntax = candidate.part10.transfer_syntax
            member = Member(record, candidate.header, frames, syntax, prepared.pixels, candidate.source)
            draft.members.append(member)
        draft.finish()
        changed = [candidate for candidate in kept if has_changed(candidate)]
    except BaseException:
        discard(resources, writer)
        raise
    if changed:
        discard(resources, writer)
        aside += [Refused(candidate.source, Reason.CHANGED, None) for candidate in changed]
        rest = [candidate for candidate in kept if candidate not in changed]
        return write_pack(resources, pack_id, rest, options, executor, aside) if rest else empty
    return draft


def _refused(candidate: Candidate, error: Exception) -> Refused:
    """Set a file aside that failed on its way in; whatever failed, one that was written to says so."""
    if has_changed(candidate):
        return Refused(candidate.source, Reason.CHANGED, None)
    return Refused(candidate.source, _reason(error), candidate.data)


def _reason(error: Exception) -> Reason:
    """Return why a file that failed on its way in is kept aside; one bad file never stops a batch."""
    if isinstance(error, DecoderCrashed):
        return Reason.DECODER_CRASHED
    if isinstance(error, IntegrityError):
        return Reason.CODEC_MISMATCH
    return Reason.MALFORMED if isinstance(error, DicomError) else Reason.UNFORESEEN


def _ahead(
    executor: ThreadPoolExecutor, work: Callable[[Candidate], Work], group: Sequence[Candidate]
) -> Iterator[tuple[Candidate, Future[Work]]]:
    """Run a few files ahead of the one at hand: enough for every thread, little enough for memory."""
    waiting: deque[tuple[Candidate, Future[Work]]] = deque()
    for candidate in group:
        waiting.append((candidate, executor.submit(work, candidate)))
        if len(waiting) > AHEAD:
            yield waiting.popleft()
    yield from waiting


def _remove_stored(resources: Resources, candidates: Iterable[Candidate]) -> list[str]:
    """Delete the sources whose bytes the catalog commits, now or from before; return what could not be.

    A file is read once more: whatever its sender wrote since is not in the vault.
    """
    found = list(candidates)
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
