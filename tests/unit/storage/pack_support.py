"""Files to a pack in memory and back, for the tests of packs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from voxelvault.dicom.decode import DecoderPool
from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header
from voxelvault.errors import DicomError
from voxelvault.model import new_id
from voxelvault.storage.objects import MemoryObjects
from voxelvault.storage.pack import Manifest, SeriesIdentity, manifest_from_bytes, manifest_to_bytes
from voxelvault.storage.pack_reader import PackReader
from voxelvault.storage.pack_writer import PackWriter
from voxelvault.storage.prepare import Prepared, prepare
from voxelvault.storage.sealed_objects import SealedObjects

IDENTITY = SeriesIdentity(new_id(), new_id(), new_id(), "issuer", "id", "1.2.3", "1.2.4")


@dataclass
class Packed:
    """A pack in memory, and what went into it by name."""

    sealed: SealedObjects
    dek: bytes
    manifest: Manifest
    prepared: dict[str, Prepared] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def reader(self, pool: DecoderPool | None = None, **options: Any) -> PackReader:
        return PackReader(self.manifest, self.dek, self.sealed, pool, **options)

    def out_of(self, name: str, reader: PackReader) -> bytes:
        record = self.manifest.instance(self.prepared[name].instance_id)
        return b"".join(reader.instance_bytes(record))

    def frames(self, name: str, reader: PackReader) -> np.ndarray[Any, Any]:
        record = self.manifest.instance(self.prepared[name].instance_id)
        key = self.manifest.stacks[record.stack].key
        out = np.empty((record.count, *key.shape), key.dtype)
        return reader.read(record.stack, range(record.first, record.first + record.count), out)


def prepared_from(data: bytes, pool: DecoderPool, codec: str = "htj2k") -> Prepared:
    part10 = parse(data)
    digest = hashlib.sha256(data).hexdigest()
    header = Header.from_part10(part10)
    return prepare(data, part10, header, instance_id=new_id(), sha256=digest, codec=codec, pool=pool)


def pack(
    files: Mapping[str, bytes], pool: DecoderPool, codec: str = "htj2k", expected_frames: int = 0
) -> Packed:
    """Put files into one pack; its manifest has been to bytes and back."""
    sealed, dek, pack_id = SealedObjects(MemoryObjects(), new_id()), os.urandom(32), new_id()
    writer = PackWriter(sealed, pack_id, dek)
    prepared = {name: prepared_from(data, pool, codec) for name, data in files.items()}
    for one in prepared.values():
        writer.add(one, expected_frames)
    stacks, instances, headers, chunks = writer.finish()
    manifest = Manifest(
        sealed.vault_id, pack_id, new_id(), "00", "2026-01-01", IDENTITY, stacks, instances, headers, chunks
    )
    assert {ref.object_id for ref in manifest.objects()} == {ref.object_id for ref in writer.written}
    again = manifest_from_bytes(manifest_to_bytes(manifest))
    assert again == manifest
    return Packed(sealed, dek, again, prepared, dict(files))


def parseable(root: Path) -> Iterator[dict[str, bytes]]:
    """Yield the DICOM files of each folder below a root, by path."""
    for folder in sorted({path.parent for path in root.rglob("*") if path.is_file()}):
        found = {
            str(path.relative_to(root)): path.read_bytes() for path in folder.iterdir() if path.is_file()
        }
        yield {path: found[path] for path in sorted(found) if is_dicom(found[path])}


def is_dicom(data: bytes) -> bool:
    try:
        parse(data)
    except DicomError:
        return False
    return True
