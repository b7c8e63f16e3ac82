"""The manifest: what one pack holds, and what every byte of it must be.

A pack is immutable and belongs to one series and one ingest batch. Its manifest is sealed under
the study key, its digest stands in the audit log, and catalog rows can be made again from it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, overload

import imagecodecs
import numpy as np

from voxelvault.errors import IntegrityError, NewerFormat
from voxelvault.model import FORMAT, Buffer, FrameSpec, SealedRef

SHARD_BYTES = 64 << 20
"""Uncompressed frames that one shard holds, about."""

MANIFEST_LABEL = "manifest"
"""HKDF label of the study key's sub-key that seals manifests."""


@dataclass(frozen=True, slots=True)
class StackKey:
    """What the frames of one stack have in common; frames that differ in any of it never share one.

    Parameters
    ----------
    spec : FrameSpec
        Rows, columns, samples, bits, sign and photometric interpretation, as sent.
    transfer_syntax : str
        Exact Transfer Syntax UID the pixels came in.
    dtype : str
        NumPy dtype of the stored values, little endian, e.g. ``<i2``.
    shape : tuple of int
        Shape of one frame, (row, column) or (row, column, sample).
    codec : str
        A name of `voxelvault.storage.codecs.CODECS`, or ``dicom_frame``.
    big_endian, word_swapped : bool
        How native pixel bytes lay in the file.
    high_bits : bool
        Bits above BitsStored hold something else (old overlays); a reader clears them.
    """

    spec: FrameSpec
    transfer_syntax: str
    dtype: str
    shape: tuple[int, ...]
    codec: str
    big_endian: bool = False
    word_swapped: bool = False
    high_bits: bool = False


def frame_bytes(key: StackKey) -> int:
    """Return the length of one decoded frame in bytes."""
    return int(np.prod(key.shape, dtype=np.int64)) * np.dtype(key.dtype).itemsize


def frames_a_batch(key: StackKey, limit: int) -> int:
    """Return how many native frames to take at a time: about `limit` bytes of them.

    Batches begin at a whole byte, and at a whole word where words are swapped, so that they can be
    packed one by one: frames of single bits share bytes (PS3.5 8.1.1).
    """
    whole = 16 if key.spec.bits_allocated == 1 else 2 if key.word_swapped else 1
    return max(1, limit // (whole * max(1, frame_bytes(key)))) * whole


@dataclass(frozen=True, slots=True)
class StackRecord:
    """One stack as stored: its shards in order, and the SHA-256 of each frame's chunk.

    A chunk is a frame as the stack's codec encoded it; where the codec is ``dicom_frame``, the
    sender's codestream. So a chunk is proven before a decoder sees it.
    """

    key: StackKey
    frames: int
    frames_per_shard: int
    shards: tuple[SealedRef, ...]
    digests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """How one SOP instance is put together again.

    Parameters
    ----------
    pieces : tuple of int
        Lengths in bytes of literal, pixels, literal, …, literal: literals come one after another
        from the header stream at `literal_offset`, pixels from the frames.
    origin : str
        Which pipeline made it here; empty for what was sent in.
    stack, first, count : int
        Frames `first` to `first + count` of that stack; `stack` is -1 where there are none.
    fragments : tuple of int
        Fragments of each frame, for encapsulated pixel data.
    original : SealedRef or None
        The whole file, where it could not be put together again byte for byte.
    """

    instance_id: str
    sop_instance_uid: str
    sop_class_uid: str
    sha256: str
    length: int
    pieces: tuple[int, ...] = ()
    literal_offset: int = 0
    stack: int = -1
    first: int = 0
    count: int = 0
    fragments: tuple[int, ...] = ()
    original: SealedRef | None = None
    origin: str = ""


@dataclass(frozen=True, slots=True)
class SeriesIdentity:
    """Whose series a pack belongs to, at the time of writing."""

    subject_id: str
    study_id: str
    series_id: str
    issuer: str
    patient_id: str
    study_uid: str
    series_uid: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything about one pack; `manifest_to_bytes` gives its form at rest.

    `codec` is the one that was preferred, `versions` the version of each instance when it was
    committed (0: a duplicate, left out), `received` when each came in, ISO 8601, where that was not
    with this pack: what the catalog can't be made again without.
    """

    vault_id: str
    pack_id: str
    study_key_id: str
    wrapped_dek: str
    created: str
    identity: SeriesIdentity
    stacks: tuple[StackRecord, ...]
    instances: Sequence[InstanceRecord]
    headers: SealedRef | None = None
    header_chunks: tuple[tuple[int, int], ...] = ()
    codec: str = ""
    versions: tuple[int, ...] = ()
    received: tuple[str, ...] = ()
    format: int = field(default=FORMAT)

    def objects(self) -> list[SealedRef]:
        """Return every sealed object of the pack but the manifest itself."""
        refs = [ref for stack in self.stacks for ref in stack.shards]
        refs += [self.headers] if self.headers else []
        return refs + [record.original for record in self.instances if record.original]

    def instance(self, instance_id: str) -> InstanceRecord:
        """Return the record of one instance; `IntegrityError` if the pack has none of it."""
        for record in self.instances:
            if record.instance_id == instance_id:
                return record
        raise IntegrityError(
            f"pack {self.pack_id} lacks instance {instance_id} of the catalog; run `voxelvault verify`"
        )


def manifest_to_bytes(manifest: Manifest) -> bytes:
    """Return the manifest as Zstd-compressed canonical JSON."""
    whole = asdict(replace(manifest, instances=()))
    # Column by column: read in a third of the time, which is most of what a first frame waits for.
    records = tuple(manifest.instances)
    columns = {name: [getattr(record, name) for record in records] for name in _FIELDS}
    columns["original"] = [asdict(ref) if ref else None for ref in columns["original"]]
    if not any(columns["origin"]):
        del columns["origin"]
    whole["instances"] = columns
    document = json.dumps(whole, sort_keys=True, separators=(",", ":"))
    return bytes(imagecodecs.zstd_encode(document.encode(), level=3))


def manifest_from_bytes(data: Buffer) -> Manifest:
    """Return the manifest that `manifest_to_bytes` wrote.

    Raises
    ------
    NewerFormat
        A newer version wrote it.
    IntegrityError
        It does not parse.
    """
    try:
        document = json.loads(bytes(imagecodecs.zstd_decode(bytes(data))))
        if document["format"] > FORMAT:
            raise NewerFormat("this pack was written by a newer version; update voxelvault")
        return _manifest(document)
    except _NO_MANIFEST as error:  # a RuntimeError is what a broken frame of Zstandard gives
        raise IntegrityError(_DAMAGED) from error


_NO_MANIFEST = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError)
_DAMAGED = "a pack's manifest does not parse; run `voxelvault verify`"


def _ref(value: dict[str, Any] | None) -> SealedRef | None:
    return SealedRef(**value) if value else None


def _refs(values: list[dict[str, Any]]) -> tuple[SealedRef, ...]:
    return tuple(SealedRef(**value) for value in values)


def _stack(value: dict[str, Any]) -> StackRecord:
    key = value["key"]
    key = StackKey(**{**key, "spec": FrameSpec(**key["spec"]), "shape": tuple(key["shape"])})
    return StackRecord(
        key, value["frames"], value["frames_per_shard"], _refs(value["shards"]), tuple(value["digests"])
    )


def _instance(value: dict[str, Any]) -> InstanceRecord:
    changed = {
        "pieces": tuple(value["pieces"]),
        "fragments": tuple(value["fragments"]),
        "original": _ref(value["original"]),
    }
    return InstanceRecord(**(value | changed))


_FIELDS = tuple(InstanceRecord.__dataclass_fields__)


class _Instances(Sequence[InstanceRecord]):
    """Records made when they are asked for: reading a frame needs none of them."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        if not isinstance(columns, dict) or set(columns) | {"origin"} != set(_FIELDS):
            raise ValueError("the instances' columns are not those of a record")
        lengths = {len(column) if isinstance(column, list) else -1 for column in columns.values()}
        if len(lengths) != 1 or -1 in lengths:
            raise ValueError("the instances' columns are not of one length")
        self._columns = columns
        (self._length,) = lengths

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> InstanceRecord: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[InstanceRecord, ...]: ...

    def __getitem__(self, index: int | slice) -> InstanceRecord | tuple[InstanceRecord, ...]:
        if isinstance(index, slice):
            return tuple(self[number] for number in range(*index.indices(self._length)))
        row = {name: column[index] for name, column in self._columns.items()}
        try:
            return _instance(row)
        except (KeyError, TypeError) as error:
            raise IntegrityError(_DAMAGED) from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))


def _manifest(document: dict[str, Any]) -> Manifest:
    changed = {
        "identity": SeriesIdentity(**document["identity"]),
        "stacks": tuple(_stack(value) for value in document["stacks"]),
        "instances": _Instances(document["instances"]),
        "headers": _ref(document["headers"]),
        "header_chunks": tuple((raw, packed) for raw, packed in document["header_chunks"]),
        "versions": tuple(document.get("versions", ())),
        "received": tuple(document.get("received", ())),
    }
    return Manifest(**{**document, **changed})


__all__ = [
    "MANIFEST_LABEL",
    "SHARD_BYTES",
    "InstanceRecord",
    "Manifest",
    "SeriesIdentity",
    "StackKey",
    "StackRecord",
    "frame_bytes",
    "frames_a_batch",
    "manifest_from_bytes",
    "manifest_to_bytes",
]
