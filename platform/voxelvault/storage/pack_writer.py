"""Writing one pack: frames into shards, literals into the header stream, all sealed as it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import imagecodecs

from voxelvault.crypto.streaming_aead import Kind
from voxelvault.errors import IntegrityError
from voxelvault.model import Buffer, SealedRef
from voxelvault.storage.pack import SHARD_BYTES, InstanceRecord, StackKey, StackRecord, frame_bytes
from voxelvault.storage.prepare import Prepared
from voxelvault.storage.sealed_objects import SealedObjects
from voxelvault.storage.shards import shard_index

HEADER_CHUNK = 1 << 20
"""Bytes of the header stream that are compressed together."""


@dataclass(slots=True)
class _Stack:
    key: StackKey
    number: int
    frames_per_shard: int
    pending: list[Buffer] = field(default_factory=list)
    shards: list[SealedRef] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)


class PackWriter:
    """Collects prepared instances of one series into sealed objects.

    Parameters
    ----------
    sealed : SealedObjects
        Where objects go.
    pack_id : str
        Id of the pack, and of its key in every preamble.
    dek : bytes
        The pack's data encryption key, 32 bytes.
    """

    def __init__(self, sealed: SealedObjects, pack_id: str, dek: bytes) -> None:
        self.pack_id = pack_id
        self._sealed = sealed
        self._dek = dek
        self._stacks: dict[StackKey, _Stack] = {}
        self._instances: list[InstanceRecord] = []
        self._literals = bytearray()
        self._literal_total = 0
        self._header_parts: list[bytes] = []
        self._header_chunks: list[tuple[int, int]] = []
        self.written: list[SealedRef] = []

    def add(self, prepared: Prepared, expected_frames: int = 0) -> InstanceRecord:
        """Store one instance.

        Parameters
        ----------
        prepared : Prepared
            Encoded and verified frames, literals, digests.
        expected_frames : int
            Frames the series is likely to bring; sizes the shards of a small series.

        Returns
        -------
        InstanceRecord
            How to put the instance together again.
        """
        stack, first = self._add_frames(prepared, max(expected_frames, len(prepared.chunks)))
        original = self._put(Kind.ORIGINAL, prepared.original) if prepared.original else None
        record = InstanceRecord(
            prepared.instance_id,
            prepared.sop_instance_uid,
            prepared.sop_class_uid,
            prepared.sha256,
            prepared.length,
            prepared.pieces,
            self._literal_total,
            stack,
            first,
            len(prepared.chunks),
            prepared.fragments,
            original,
            prepared.origin,
        )
        self._add_literals(prepared.literals)
        self._instances.append(record)
        return record

    def finish(
        self,
    ) -> tuple[
        tuple[StackRecord, ...], tuple[InstanceRecord, ...], SealedRef | None, tuple[tuple[int, int], ...]
    ]:
        """Write what is pending; return stacks, instances, the header object and its chunks."""
        for stack in self._stacks.values():
            self._flush(stack)
        if self._literals:
            self._compress(len(self._literals))
        headers = self._put(Kind.HEADERS, self._header_parts) if self._header_parts else None
        return (
            tuple(_record(stack) for stack in self._stacks.values()),
            tuple(self._instances),
            headers,
            tuple(self._header_chunks),
        )

    def _add_frames(self, prepared: Prepared, expected: int) -> tuple[int, int]:
        if prepared.key is None:
            return -1, 0
        stack = self._stacks.get(prepared.key)
        if stack is None:
            fit = max(1, SHARD_BYTES // max(1, frame_bytes(prepared.key)))
            stack = _Stack(prepared.key, len(self._stacks), min(fit, expected))
            self._stacks[prepared.key] = stack
        first = len(stack.digests)
        for chunk, digest in zip(prepared.chunks, prepared.digests, strict=True):
            stack.pending.append(chunk)
            stack.digests.append(digest)
            if len(stack.pending) == stack.frames_per_shard:
                self._flush(stack)
        return stack.number, first

    def _flush(self, stack: _Stack) -> None:
        if not stack.pending:
            return
        index = shard_index([len(chunk) for chunk in stack.pending], stack.frames_per_shard)
        stack.shards.append(self._put(Kind.SHARD, [index, *stack.pending]))
        stack.pending.clear()

    def _add_literals(self, literals: Sequence[Buffer]) -> None:
        for literal in literals:
            self._literal_total += len(literal)
            for start in range(0, len(literal), HEADER_CHUNK):
                self._literals += literal[start : start + HEADER_CHUNK]
                if len(self._literals) >= HEADER_CHUNK:
                    self._compress(HEADER_CHUNK)

    def _compress(self, count: int) -> None:
        raw = bytes(self._literals[:count])
        del self._literals[:count]
        packed = bytes(imagecodecs.zstd_encode(raw, level=3))
        if bytes(imagecodecs.zstd_decode(packed, out=len(raw))) != raw:
            raise IntegrityError(
                "a header chunk did not survive compression; nothing of this series was stored"
            )
        self._header_chunks.append((len(raw), len(packed)))
        self._header_parts.append(packed)

    def _put(self, kind: Kind, parts: Sequence[Buffer]) -> SealedRef:
        ref = self._sealed.put(kind, self._dek, self.pack_id, parts)
        self.written.append(ref)
        return ref


def _record(stack: _Stack) -> StackRecord:
    return StackRecord(
        stack.key, len(stack.digests), stack.frames_per_shard, tuple(stack.shards), tuple(stack.digests)
    )
