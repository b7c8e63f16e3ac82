"""The price of encryption: sealed chunks read by the one reader, and the same chunks in plain objects."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np

import voxelvault as vv
from benchmarks.heads import uid_of
from benchmarks.measure import Measured, Place, compare, rate
from benchmarks.vaults import reader_of, vault_of
from voxelvault.dicom.values import to_modality
from voxelvault.model import SealedRef
from voxelvault.reading.packs import manifest_ref, open_manifest
from voxelvault.storage.objects import LocalObjects
from voxelvault.storage.pack_reader import PackReader
from voxelvault.storage.sealed_objects import SealedObjects

GOAL = 0.9


class PlainReader:
    """Ranges of a plain object, through the calls that a sealed one answers."""

    def __init__(self, objects: LocalObjects, name: str) -> None:
        self._objects, self._name = objects, name
        self.size = objects.size(name)

    def read(self, start: int = 0, stop: int | None = None) -> bytearray:
        """Return bytes from `start` to `stop`."""
        out = bytearray((self.size if stop is None else stop) - start)
        self.read_into(start, memoryview(out))
        return out

    def read_into(self, start: int, out: memoryview) -> None:
        """Fill `out` from `start` on."""
        self._objects.read_into(self._name, start, out)


class PlainObjects:
    """Stands where `SealedObjects` does, over the plaintext of the same objects."""

    def __init__(self, folder: Path) -> None:
        self._objects = LocalObjects(folder, durable=False)

    def put(self, ref: SealedRef, data: bytearray) -> None:
        """Keep the plaintext of an object."""
        self._objects.put(f"plain/{ref.object_id}", [data])

    def reader(self, ref: SealedRef, dek: bytes) -> PlainReader:
        """Return a reader; there is no key to use."""
        return PlainReader(self._objects, f"plain/{ref.object_id}")


def measure(place: Place) -> list[Measured]:
    """`raw`, where nothing hides the price, and `fast`; as bare copies, and as `load` is used."""
    files = place.heads.series[0]
    found = []
    for codec in ("raw", "fast"):
        with (
            vault_of(place.folder, files[0].parent, codec, place.cores) as vault,
            TemporaryDirectory(dir=place.folder) as plain,
        ):
            found += _measure(place, vault, codec, uid_of(files), Path(plain))
    return found


def _measure(place: Place, vault: vv.Vault, codec: str, uid: str, folder: Path) -> list[Measured]:
    resources = vault.resources
    sealed = reader_of(vault, uid)
    pack_id = sealed.manifest.pack_id
    row = resources.catalog.query("select * from packs where pack_id = $id", {"id": pack_id}).to_pylist()[0]
    manifest = open_manifest(resources, manifest_ref(row))
    dek = resources.keys.unwrap_dek(row["key_id"], pack_id, manifest.wrapped_dek)
    plain = PlainObjects(folder)
    stack = manifest.stacks[0]
    for ref in stack.shards:
        plain.put(ref, resources.sealed.read(ref, dek))
    unsealed = PackReader(manifest, dek, cast(SealedObjects, plain), threads=place.cores)
    shape = (stack.frames, *stack.key.shape)
    out: Any = np.empty(shape, stack.key.dtype)
    again = out.copy()

    def stored(reader: PackReader, into: Any) -> None:
        reader.read(0, range(stack.frames), into)

    def values(reader: PackReader) -> Any:
        return reader.read(0, range(stack.frames), np.empty(shape, np.float32), _rescale)

    pairs = {
        "stored values, array reused": compare(
            lambda: stored(sealed, out), {"plain": lambda: stored(unsealed, again)}, place.repeats
        ),
        "float32 HU, fresh array": compare(
            lambda: values(sealed), {"plain": lambda: values(unsealed)}, place.repeats
        ),
    }
    if not (np.array_equal(out, again) and np.array_equal(values(sealed), values(unsealed))):
        raise RuntimeError("sealed and plain chunks give different frames")
    return [
        Measured(
            f"sealed read, {codec}, {what} / the same chunks in plain",
            pair.ratio,
            GOAL,
            rate(out.nbytes, pair.ours),
            rate(out.nbytes, pair.theirs),
        )
        for what, pair in pairs.items()
    ]


def _rescale(_position: int, stored: Any, slot: Any) -> None:
    to_modality(stored, 1.0, -1024.0, out=slot)
