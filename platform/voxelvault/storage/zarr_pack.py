"""The keys of one pack as a zarr store: documents made from its manifest, and its shards.

References
----------
Zarr v3 core specification; codec sharding_indexed 1.0.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Any

import numpy as np

from voxelvault.errors import IntegrityError, UsageError
from voxelvault.storage.codecs import CODECS, DICOM_FRAME, blosc_settings, stored_codec
from voxelvault.storage.pack import Manifest, StackKey, StackRecord
from voxelvault.storage.sealed_objects import SealedObjects, SealedReader
from voxelvault.storage.shards import OpenShard
from voxelvault.storage.zarr_codecs import AddedCodec, DicomFrameCodec, Htj2kCodec
from voxelvault.storage.zarr_store import Entry


class ZarrEntries(Mapping[str, Entry]):
    """Every key of one pack as a zarr store: documents at hand, shards opened at their first use.

    Parameters
    ----------
    manifest : Manifest
        What the pack holds.
    sealed : SealedObjects
        Where its objects are.
    dek : bytes
        The pack's key.
    """

    def __init__(self, manifest: Manifest, sealed: SealedObjects, dek: bytes) -> None:
        self._sealed = sealed
        self._dek = dek
        self._documents = _documents(manifest)
        self._shards = {
            f"stacks/{number}/c/{shard}/" + "/".join("0" for _ in stack.key.shape): (stack, shard)
            for number, stack in enumerate(manifest.stacks)
            for shard in range(len(stack.shards))
        }
        self._open: dict[str, ProvenShard | SealedReader] = {}

    def __getitem__(self, key: str) -> Entry:
        document = self._documents.get(key)
        if document is not None:
            return document
        stack, shard = self._shards[key]
        found = self._open.get(key)
        if found is None:
            # Two threads may both open it; either reader is good.
            found = self._open.setdefault(key, self._opened(stack, shard))
        return found

    def __contains__(self, key: object) -> bool:
        return key in self._documents or key in self._shards

    def __iter__(self) -> Iterator[str]:
        yield from self._documents
        yield from self._shards

    def __len__(self) -> int:
        return len(self._documents) + len(self._shards)

    def _opened(self, stack: StackRecord, shard: int) -> ProvenShard | SealedReader:
        reader = self._sealed.reader(stack.shards[shard], self._dek)
        codec = stack.key.codec
        if codec != DICOM_FRAME and not stored_codec(codec).prove_first:
            return reader
        first = shard * stack.frames_per_shard
        digests = stack.digests[first : first + stack.frames_per_shard]
        return ProvenShard(reader, stack.frames_per_shard, digests)


class ProvenShard:
    """A shard whose chunks are compared with the manifest's digests before zarr's codec sees them.

    Parameters
    ----------
    reader : SealedReader
        The shard.
    slots : int
        Chunks of a whole shard.
    digests : sequence of str
        SHA-256 of each chunk that is there.
    """

    def __init__(self, reader: SealedReader, slots: int, digests: Sequence[str]) -> None:
        self._reader = reader
        index = OpenShard(reader, slots, len(digests)).index[: len(digests)].tolist()
        self._chunks = [
            (start, start + length, digest) for (start, length), digest in zip(index, digests, strict=True)
        ]
        self._starts = [start for start, _, _ in self._chunks]

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._reader.size

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to `stop`.

        Raises
        ------
        IntegrityError
            A tag does not hold, or a chunk that lies within them is not what was stored.
        UsageError
            They cut a chunk in two, so that it can't be proven.
        """
        data = bytes(self._reader.read(start, stop))
        at = max(0, bisect_left(self._starts, start) - 1)
        for begin, end, digest in self._chunks[at:]:
            if begin >= stop:
                break
            if end <= start:
                continue
            if begin < start or end > stop:
                raise UsageError("read whole chunks: part of a codestream can't be proven")
            if sha256(memoryview(data)[begin - start : end - start]).hexdigest() != digest:
                raise IntegrityError("a frame is not what was stored; run `voxelvault verify`")
        return data


def zarr_entries(manifest: Manifest, sealed: SealedObjects, dek: bytes) -> ZarrEntries:
    """Return the keys of a pack's zarr hierarchy, for `zarr_store.PackStore`.

    Parameters
    ----------
    manifest : Manifest
        What the pack holds.
    sealed : SealedObjects
        Where its objects are.
    dek : bytes
        The pack's key.

    Returns
    -------
    ZarrEntries
        A group with one array a stack, ``stacks/<number>``: (frame, row, column[, sample]) stored
        values, as `PackReader.read` returns them.
    """
    return ZarrEntries(manifest, sealed, dek)


def _documents(manifest: Manifest) -> dict[str, bytes]:
    group = _json({"zarr_format": 3, "node_type": "group", "attributes": {}})
    arrays = {
        f"stacks/{number}/zarr.json": _json(_array(stack)) for number, stack in enumerate(manifest.stacks)
    }
    return {"zarr.json": group, "stacks/zarr.json": group, **arrays}


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _array(stack: StackRecord) -> dict[str, Any]:
    key = stack.key
    sharding = {
        "chunk_shape": (1, *key.shape),
        "codecs": _codecs(key),
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        "index_location": "start",
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": (stack.frames, *key.shape),
        "data_type": np.dtype(key.dtype).name,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": (stack.frames_per_shard, *key.shape)},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "dimension_names": ("frame", "row", "column", "sample")[: 1 + len(key.shape)],
        "attributes": {"transfer_syntax": key.transfer_syntax, "frame": asdict(key.spec)},
    }


def _codecs(key: StackKey) -> list[dict[str, Any]]:
    """Return the inner codecs of a stack's shards."""
    if key.codec == "htj2k":
        return [Htj2kCodec().to_dict()]
    if key.codec == DICOM_FRAME:
        return [DicomFrameCodec(key.transfer_syntax, key.spec).to_dict()]
    if key.codec not in CODECS:
        return [AddedCodec(key.codec).to_dict()]
    itemsize = np.dtype(key.dtype).itemsize
    endian = {"configuration": {"endian": "little"}} if itemsize > 1 else {}
    plain: list[dict[str, Any]] = [{"name": "bytes", **endian}]
    if key.codec == "fast":
        plain.append({"name": "blosc", "configuration": blosc_settings(itemsize)})
    return plain


__all__ = ["ProvenShard", "ZarrEntries", "zarr_entries"]
