"""One series' files become a pack: encoded, verified, sealed. Runs in any process that has the key."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

from voxelvault.dicom.columns import Tags
from voxelvault.dicom.decode import DecoderPool
from voxelvault.dicom.geometry import FrameAttributes, frame_attributes
from voxelvault.dicom.read import Header, number_of_frames
from voxelvault.errors import DecoderCrashed, DicomError, IntegrityError, StorageError, VoxelVaultError
from voxelvault.intake.candidates import Arrival, Candidate, has_changed
from voxelvault.intake.commit import Draft, Member, discard_objects
from voxelvault.intake.quarantine import Reason, Refused
from voxelvault.model import SealedRef, new_id
from voxelvault.rows import Row, header_values
from voxelvault.storage.pack import StackRecord
from voxelvault.storage.pack_writer import PackWriter
from voxelvault.storage.prepare import Prepared, prepare
from voxelvault.storage.sealed_objects import SealedObjects

AHEAD = 32
"""Files prepared ahead of the one being stored."""

Job = tuple[Prepared, Sequence[FrameAttributes], Row]


@dataclass(frozen=True, slots=True)
class Press:
    """What packs are made with.

    Parameters
    ----------
    sealed : SealedObjects
        Where their objects go.
    pool : DecoderPool
        Proves that the senders' codestreams decode.
    codec : str
        Preferred codec for native pixels.
    executor : Executor
        Prepares files.
    tags : mapping
        Which columns the catalog has.
    """

    sealed: SealedObjects
    pool: DecoderPool
    codec: str
    executor: Executor
    tags: Tags

    def prepared(self, candidate: Candidate) -> Job:
        """Encode one file; what the commit will need of it is worked out here.

        Under the catalog's lease others would wait, and fail with it.
        """
        prepared = prepare(
            candidate.data,
            candidate.part10,
            candidate.header,
            instance_id=new_id(),
            sha256=candidate.sha256,
            codec=self.codec,
            pool=self.pool,
            origin=candidate.source.origin,
        )
        frames = [] if prepared.key is None else frame_attributes(candidate.header, len(prepared.chunks))
        return prepared, frames, header_values(candidate.header, self.tags)


@dataclass(slots=True)
class Pressed:
    """The objects of one pack, and what a manifest and catalog rows are made of.

    Attributes
    ----------
    members : list of Member
        In the order they came; empty when no file could be stored.
    header : Header, optional
        Of the first member.
    written : list of SealedRef
        Every object that was written.
    aside : list of Refused
        Files that can't be stored, each with the reason.
    """

    members: list[Member] = field(default_factory=list)
    header: Header | None = None
    stacks: tuple[StackRecord, ...] = ()
    headers: SealedRef | None = None
    header_chunks: tuple[tuple[int, int], ...] = ()
    written: list[SealedRef] = field(default_factory=list, repr=False)
    aside: list[Refused] = field(default_factory=list)


def press(tools: Press, pack_id: str, dek: bytes, group: Sequence[Candidate]) -> Pressed:
    """Encode, verify and seal one series' files; what can't be stored is set aside.

    Raises
    ------
    StorageError, VoxelVaultError
        Nothing is left of the pack, as far as the disk lets.
    """
    writer = PackWriter(tools.sealed, pack_id, dek)
    found = Pressed(written=writer.written)
    kept: list[Candidate] = []
    expected = sum(number_of_frames(candidate.header) for candidate in group if candidate.part10.pixels)
    try:
        for candidate, job in _ahead(tools, group):
            try:
                prepared, frames, values = job.result()
            except Exception as error:
                if type(error) is VoxelVaultError or isinstance(error, StorageError):
                    raise  # not the file's fault: the decoders do not start, say
                found.aside.append(_refused(candidate, error))
                continue
            kept.append(candidate)
            record = writer.add(prepared, expected)
            syntax = candidate.part10.transfer_syntax
            found.members.append(Member(record, values, frames, syntax, prepared.pixels))
        found.header = kept[0].header if kept else None
        found.stacks, _, found.headers, found.header_chunks = writer.finish()
        changed = [candidate for candidate in kept if has_changed(candidate)]
    except BaseException:
        discard_objects(tools.sealed, writer.written)
        raise
    return _without(tools, pack_id, dek, found, kept, changed) if changed else found


def draft_of(pack_id: str, dek: bytes, first: Arrival, codec: str, pressed: Pressed) -> Draft:
    """Return what a commit takes: a pack's objects, and whose they are by the first of its files."""
    person, study_uid, series_uid = first.group
    return Draft(
        pack_id,
        dek,
        pressed,
        person,
        study_uid,
        series_uid,
        codec,
        pressed.header,
        pressed.members,
        pressed.stacks,
        pressed.headers,
        pressed.header_chunks,
    )


def _without(
    tools: Press,
    pack_id: str,
    dek: bytes,
    found: Pressed,
    kept: Sequence[Candidate],
    changed: Sequence[Candidate],
) -> Pressed:
    """Write a pack again, without the files that were written to while it was made."""
    discard_objects(tools.sealed, found.written)
    aside = [*found.aside, *(Refused(candidate.source, Reason.CHANGED, None) for candidate in changed)]
    rest = [candidate for candidate in kept if candidate not in changed]
    again = press(tools, pack_id, dek, rest) if rest else Pressed()
    again.aside = aside + again.aside
    return again


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


def _ahead(tools: Press, group: Sequence[Candidate]) -> Iterator[tuple[Candidate, Future[Job]]]:
    """Run a few files ahead of the one at hand: enough for every thread, little enough for memory."""
    waiting: deque[tuple[Candidate, Future[Job]]] = deque()
    for candidate in group:
        waiting.append((candidate, tools.executor.submit(tools.prepared, candidate)))
        if len(waiting) > AHEAD:
            yield waiting.popleft()
    yield from waiting


__all__ = ["Press", "Pressed", "draft_of", "press"]
