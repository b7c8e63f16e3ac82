"""Instances that this vault's own pipelines make come in from memory: no byte of them touches a disk.

They keep what ingest promises: parsed, encoded, verified and sealed alike, byte for byte, with an
intent and an outcome in the log. What ingest would keep aside is an error here, since whoever made it
is there to be told; and all of them come in, in one commit, or none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxelvault.audit.events import Kind
from voxelvault.dicom.sources import Source
from voxelvault.errors import IntegrityError, MalformedDicom, UsageError
from voxelvault.intake.candidates import Candidate, examine
from voxelvault.intake.commit import Draft, commit_batch, discard
from voxelvault.intake.directory import known_instances
from voxelvault.intake.here import write_packs
from voxelvault.intake.ingest import BATCH_BYTES, IngestReport, without_duplicates
from voxelvault.intake.quarantine import Reason, Refused
from voxelvault.model import Buffer, new_id
from voxelvault.policy.access import Request, require
from voxelvault.readonly import require_writable
from voxelvault.resources import Resources

_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class HeldSource(Source):
    """Bytes in memory, as `ingest` takes a file; never removed."""

    data: bytes = b""
    origin: str = ""

    @property
    def display(self) -> str:
        """Where it came from."""
        return str(self.path)

    @contextmanager
    def open(self) -> Iterator[Buffer]:
        """Give the bytes."""
        yield self.data

    def read(self) -> Buffer:
        """Return the bytes."""
        return self.data

    def remove(self) -> None:
        """Leave it: there is no file."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What came in from memory.

    Parameters
    ----------
    instance_ids : tuple of str
        Opaque ids, in the order of the files; of one that was there before, its own.
    new : int
        How many were not there before.
    """

    instance_ids: tuple[str, ...]
    new: int


def store(
    resources: Resources, files: Sequence[bytes], study_id: str, origin: str, issuer: str = ""
) -> Stored:
    """Take instances of a study in from memory, all in one commit.

    Parameters
    ----------
    resources : Resources
        The open vault.
    files : sequence of bytes
        DICOM Part 10 files, 256 MiB together at most.
    study_id : str
        Opaque id of the study that they belong to, by what their headers say.
    origin : str
        Which pipeline made them: letters, digits and ``._-``, a letter first. Stands in the column
        `origin` of `instances`, in the pack's sealed manifest and in the log; what is sent in has none.
    issuer : str
        Issuer of the study's patient id, where the headers name none.

    Returns
    -------
    Stored
        The instances; files that are in the vault already are not stored again.

    Raises
    ------
    MalformedDicom, IntegrityError
        A file is no DICOM, contradicts itself, or does not come back from its codec as it went in.
    UsageError
        The files belong to another study, or `origin` is no such word.
    PolicyDenied, AuditError, StorageError
        As for `ingest`. Whatever is raised, nothing was stored.
    """
    (examined,), (new,) = _brought_in(resources, [Parcel(tuple(files), study_id, issuer)], origin)
    ids = _ids(resources, examined)
    return Stored(tuple(ids[one.sop_uid, one.sha256] for one in examined), new)


@dataclass(frozen=True, slots=True)
class Parcel:
    """Files of one study, as `store` takes them."""

    files: tuple[bytes, ...]
    study_id: str
    issuer: str = ""


def store_each(resources: Resources, parcels: Sequence[Parcel], origin: str) -> list[int]:
    """Take instances of several studies in, all in one commit or none; raises as `store`.

    Returns
    -------
    list of int
        How many of each parcel are new. Ids would take a query, which after a commit is slow.
    """
    return _brought_in(resources, parcels, origin)[1]


def _brought_in(
    resources: Resources, parcels: Sequence[Parcel], origin: str
) -> tuple[list[list[Candidate]], list[int]]:
    """Return what the files are, by parcel, and how many of each are new."""
    for parcel in parcels:
        asked = Request(Kind.INGEST, (parcel.study_id,), resources.purpose, resources.who)
        require(resources.policy, asked)
    require_writable(resources)
    if not _ORIGIN.fullmatch(origin):
        raise UsageError("origin= is the pipeline's name: letters, digits and ._-, a letter first")
    if sum(len(data) for parcel in parcels for data in parcel.files) > BATCH_BYTES:
        raise UsageError("more than 256 MiB at once; store fewer or smaller instances")
    examined = [[_candidate(data, origin, parcel.issuer) for data in parcel.files] for parcel in parcels]
    every = [candidate for some in examined for candidate in some]
    fresh = {id(one) for one in without_duplicates(resources, every, IngestReport())}
    groups, studies = list[list[Candidate]](), list[str]()
    for parcel, some in zip(parcels, examined, strict=True):
        groups += (own := _groups([one for one in some if id(one) in fresh]))
        studies += [parcel.study_id] * len(own)
    sizes = [sum(id(one) in fresh for one in some) for some in examined]
    if groups:
        _commit(resources, groups, studies, origin)
    return examined, sizes


def _candidate(data: bytes, origin: str, issuer: str) -> Candidate:
    outcome = examine(HeldSource(Path(origin), len(data), None, data, origin), issuer)
    if isinstance(outcome, Candidate):
        return outcome
    raise _refusal(outcome.reason if outcome else Reason.UNRECOGNISED)


def _refusal(reason: Reason) -> MalformedDicom | IntegrityError:
    kind = IntegrityError if reason is Reason.CODEC_MISMATCH else MalformedDicom
    return kind(f"a file that a pipeline made can't come in: {reason.sentence}; nothing was stored")


def _groups(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    groups: dict[Any, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.group, []).append(candidate)
    return list(groups.values())


def _commit(
    resources: Resources, groups: Sequence[list[Candidate]], study_ids: Sequence[str], origin: str
) -> None:
    """Write and commit a pack for each series."""
    action, late = new_id(), list[Refused]()
    with ThreadPoolExecutor(resources.options.threads or os.cpu_count() or 1) as executor:
        codec = resources.settings.codec
        drafts = write_packs(resources, action, groups, codec, executor, late)
    if late:
        _discard(resources, drafts)
        raise _refusal(late[0].reason)
    for draft, study_id in zip(drafts, study_ids, strict=True):
        draft.study_id = study_id
    try:
        commit_batch(resources, action, drafts, [], origin)
    except UsageError:  # of another study: decided before anything was committed
        _discard(resources, drafts)
        raise


def _discard(resources: Resources, drafts: Sequence[Draft]) -> None:
    for draft in drafts:
        discard(resources, draft.writer)


def _ids(resources: Resources, candidates: Sequence[Candidate]) -> dict[tuple[str, str], str]:
    """Return the opaque ids of files' instances, by SOP Instance UID and digest."""
    known = known_instances(resources.catalog.query, [one.sop_uid for one in candidates])
    return {(row.sop_uid, row.sha256): row.instance_id for row in known}


__all__ = ["HeldSource", "Parcel", "Stored", "store", "store_each"]
