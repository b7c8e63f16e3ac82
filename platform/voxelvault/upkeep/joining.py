"""Instances carried over into another pack, their chunks as they are. Runs wherever the keys are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from voxelvault.crew import Bench
from voxelvault.intake.commit import discard_objects
from voxelvault.model import SealedRef
from voxelvault.storage.pack import InstanceRecord, StackRecord
from voxelvault.storage.pack_reader import PackReader
from voxelvault.storage.pack_writer import PackWriter
from voxelvault.storage.prepare import Prepared
from voxelvault.storage.sealed_objects import SealedObjects

Taken = tuple[PackReader, frozenset[str]]
"""An open pack, and which instances of it are carried."""


@dataclass(slots=True)
class Carried:
    """The objects of a pack made of others, and what its manifest is made of.

    Attributes
    ----------
    places : dict
        Instance id to its former record and its new one.
    versions, received : list
        Of each instance, as its former manifest has them.
    written : list of SealedRef
        Every object that was written.
    """

    places: dict[str, tuple[InstanceRecord, InstanceRecord]] = field(default_factory=dict)
    versions: list[int] = field(default_factory=list)
    received: list[str] = field(default_factory=list)
    stacks: tuple[StackRecord, ...] = ()
    instances: tuple[InstanceRecord, ...] = ()
    headers: SealedRef | None = None
    header_chunks: tuple[tuple[int, int], ...] = ()
    written: list[SealedRef] = field(default_factory=list)


def carry(
    sealed: SealedObjects,
    pack_id: str,
    dek: bytes,
    taken: Iterable[Taken],
    expected: int,
    advance: Callable[[int], object] = lambda packs: None,
) -> Carried:
    """Write the objects of a pack made of others of one series and identity.

    One instance is in memory at a time, and one shard of the pack.

    Parameters
    ----------
    sealed : SealedObjects
        Where the objects go.
    pack_id, dek : str, bytes
        The new pack's id and key.
    taken : iterable of (PackReader, frozenset of str)
        Open packs, in order, with the ids of the instances to take.
    expected : int
        Frames in all.
    advance : callable
        Progress: called with the number of packs done.

    Raises
    ------
    IntegrityError
        A chunk is not what was stored; nothing is left of the pack, as far as the disk lets.
    """
    writer = PackWriter(sealed, pack_id, dek)
    found = Carried(written=writer.written)
    try:
        for reader, instance_ids in taken:
            _take(reader, instance_ids, writer, expected, found)
            advance(1)
        found.stacks, found.instances, found.headers, found.header_chunks = writer.finish()
    except BaseException:
        discard_objects(sealed, writer.written)
        raise
    return found


def _take(
    reader: PackReader, instance_ids: frozenset[str], writer: PackWriter, expected: int, found: Carried
) -> None:
    manifest = reader.manifest
    for number, record in enumerate(manifest.instances):
        if record.instance_id in instance_ids:
            found.places[record.instance_id] = record, writer.add(_prepared(reader, record), expected)
            found.versions.append(manifest.versions[number] if manifest.versions else 0)
            found.received.append(manifest.received[number] if manifest.received else manifest.created)


def _prepared(reader: PackReader, record: InstanceRecord) -> Prepared:
    """Return an instance as it is stored, ready for another pack."""
    frames = range(record.first, record.first + record.count)
    stack = reader.manifest.stacks[record.stack] if record.stack >= 0 else None
    return Prepared(
        record.instance_id,
        record.sop_instance_uid,
        record.sop_class_uid,
        record.sha256,
        record.length,
        literals=tuple(reader.literals(record)),
        pieces=record.pieces,
        key=stack.key if stack else None,
        chunks=tuple(reader.chunks(record.stack, frames)) if stack else (),
        digests=tuple(stack.digests[frame] for frame in frames) if stack else (),
        fragments=record.fragments,
        original=tuple(reader.original(record)),
        origin=record.origin,
    )


@dataclass(frozen=True, slots=True)
class CarryJob:
    """What a worker is to join: the new pack's id, and of each former pack the instances to take."""

    pack_id: str
    taken: tuple[tuple[str, frozenset[str]], ...]
    expected: int


def carry_there(bench: Bench, job: CarryJob) -> Carried:
    """Write a pack made of others, in a worker."""
    return carry(bench.sealed(), job.pack_id, bench.key(job.pack_id), _opened(bench, job), job.expected)


def _opened(bench: Bench, job: CarryJob) -> Iterator[Taken]:
    return ((bench.reader(pack_id), instance_ids) for pack_id, instance_ids in job.taken)


__all__ = ["Carried", "CarryJob", "carry", "carry_there"]
