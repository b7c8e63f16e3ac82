"""What a pack holds, read to the last byte: objects, frames, files. Runs in any process that may read it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from voxelvault.crew import Bench, Crew, Unit
from voxelvault.errors import IntegrityError, Unanswered, VoxelVaultError
from voxelvault.reading.packs import manifest_ref, open_manifest, open_reader
from voxelvault.resources import Resources
from voxelvault.storage.pack import InstanceRecord, Manifest
from voxelvault.storage.pack_reader import PackReader
from voxelvault.storage.sealed_objects import SealedObjects

Row = Mapping[str, Any]

NOT_CHECKED = "it could not be checked: each worker that read it was killed; verify without a cluster"


@dataclass(slots=True)
class Contents:
    """What reading a pack showed.

    Attributes
    ----------
    frames, instances : int
        Read; instances, as files that are what came in.
    lost : list of str
        What is wrong with its objects.
    wrong : list of str
        What is wrong with its frames and files.
    """

    frames: int = 0
    instances: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def problem_of(error: VoxelVaultError) -> str:
    """Return what an error says is wrong with what is stored.

    Raises
    ------
    Unanswered
        It says nothing of that: the network or a server failed.
    """
    if isinstance(error, Unanswered):
        raise error
    return str(error)


def read_contents(sealed: SealedObjects, manifest: Manifest, reader: Callable[[], PackReader]) -> Contents:
    """Read every object, decode every frame to rebuild every file, and compare digests.

    Parameters
    ----------
    sealed : SealedObjects
        Where the pack's objects are.
    manifest : Manifest
        Of the pack, checked.
    reader : callable
        Opens the pack.
    """
    found = Contents()
    for ref in manifest.objects():
        try:
            sealed.verify(ref)
        except VoxelVaultError as error:
            found.lost.append(f"object {ref.object_id}: {problem_of(error)}")
    try:
        found.wrong += _read(reader(), found)
    except VoxelVaultError as error:
        found.wrong.append(problem_of(error))
    return found


def _read(reader: PackReader, found: Contents) -> Iterator[str]:
    for number in range(len(reader.manifest.stacks)):
        try:
            yield from _read_frames(reader, number, found)
        except VoxelVaultError as error:
            yield f"stack {number}: {problem_of(error)}"
    for record in reader.manifest.instances:
        try:
            if _digest(reader, record) != record.sha256:
                yield f"instance {record.instance_id} is not the file that came in"
            found.instances += 1
        except VoxelVaultError as error:
            yield f"instance {record.instance_id}: {problem_of(error)}"


def _read_frames(reader: PackReader, number: int, found: Contents) -> Iterator[str]:
    """Read every chunk of a stack; the reader compares each with its digest."""
    for frame in range(reader.manifest.stacks[number].frames):
        found.frames += 1
        try:
            reader.chunks(number, [frame])
        except IntegrityError:
            yield f"frame {frame} of stack {number} is not what was stored"


def _digest(reader: PackReader, record: InstanceRecord) -> str:
    digest = hashlib.sha256()
    for part in reader.instance_bytes(record):
        digest.update(part)
    return digest.hexdigest()


def contents(bench: Bench, pack_id: str) -> Contents:
    """Read a pack that was lent, in a worker."""
    reader = bench.reader(pack_id)
    return read_contents(bench.sealed(), reader.manifest, lambda: reader)


def contents_of(
    resources: Resources, crew: Crew, rows: Sequence[Row], advance: Callable[[int], object]
) -> dict[str, Contents]:
    """Have packs read by workers; one that can't be lent, being damaged, is left out.

    Parameters
    ----------
    resources : Resources
        The open vault.
    crew : Crew
        Who reads.
    rows : sequence of mapping
        Rows of the catalog's `packs`.
    advance : callable
        Progress: called with the number of packs done.
    """
    lent = [row for row in rows if _opens(resources, row)]
    units = [partial(Unit, "verify-pack", contents, row["pack_id"], packs=(row,)) for row in lent]
    found: dict[str, Contents] = {}
    for done in crew.run(units):
        found[lent[done.number]["pack_id"]] = Contents(wrong=[NOT_CHECKED]) if done.lost else done.result
        advance(1)
    return found


def _opens(resources: Resources, row: Row) -> bool:
    try:
        open_reader(resources, open_manifest(resources, manifest_ref(row)))
    except Unanswered:
        raise
    except VoxelVaultError:
        return False
    return True


__all__ = ["Contents", "contents", "contents_of", "problem_of", "read_contents"]
