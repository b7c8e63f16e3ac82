"""The one reader: frames, chunks and whole files out of a pack.

`Series.load`, `pixels`, `volume`, served frames, `verify` and `export` all read through here. It
holds the shard index and the derived key of each shard, joins neighbouring ranges, and decodes
straight into the destination.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

from voxelvault.dicom import native
from voxelvault.dicom.decode import DecoderPool
from voxelvault.errors import ForkedProcess, IntegrityError, UsageError
from voxelvault.model import Buffer
from voxelvault.storage.codecs import DICOM_FRAME, stored_codec
from voxelvault.storage.pack import InstanceRecord, Manifest, StackRecord, frame_bytes, frames_a_batch
from voxelvault.storage.sealed_objects import SealedObjects, SealedReader
from voxelvault.storage.shards import OpenShard, Span, joined

JOIN_BYTES = 4 << 20
"""Longest joined range; bounds the scratch memory of each thread."""

BATCH_BYTES = 16 << 20
"""Decoded frames on their way elsewhere that are held at a time, about."""

Convert = Callable[[int, npt.NDArray[Any], npt.NDArray[Any]], None]
"""Called as ``convert(position, stored_frame, out_slot)``; writes the slot."""


class PackReader:
    """Reads one pack under its data encryption key.

    Parameters
    ----------
    manifest : Manifest
        What the pack holds.
    dek : bytes
        The pack's key.
    sealed : SealedObjects
        Where the objects are.
    pool : DecoderPool, optional
        Child processes for the sender's codestreams; needed for ``dicom_frame`` stacks only.
    threads : int, optional
        Decoding threads; by default the processor's cores.
    verify : bool
        Compare the SHA-256 of every chunk with the manifest before it is decoded. Codestreams (HTJ2K,
        and the sender's own) always are; the seal's tag protects what `fast` and `raw` read from all
        but those who held the pack's key.
    """

    def __init__(
        self,
        manifest: Manifest,
        dek: bytes,
        sealed: SealedObjects,
        pool: DecoderPool | None = None,
        threads: int | None = None,
        verify: bool = False,
    ) -> None:
        self._verify = verify
        self.manifest = manifest
        self._dek = dek
        self._sealed = sealed
        self._pool = pool
        self._threads = threads or os.cpu_count() or 1
        self._pid = os.getpid()
        self._shards: dict[tuple[int, int], OpenShard] = {}
        self._lock = threading.Lock()
        self._header_chunk = lru_cache(maxsize=4)(self._read_header_chunk)

    def read(
        self,
        stack: int,
        frames: Sequence[int],
        out: npt.NDArray[Any],
        convert: Convert | None = None,
        threads: int | None = None,
    ) -> npt.NDArray[Any]:
        """Read frames of one stack, in the order asked for.

        Parameters
        ----------
        stack : int
            Number of the stack.
        frames : sequence of int
            Frame numbers within the stack, from 0.
        out : ndarray
            (frame, row, column[, sample]), C order; of the stack's dtype unless `convert` is given.
        convert : callable, optional
            Turns each stored frame into its slot of `out`, in the decoding thread.
        threads : int, optional
            Instead of the reader's own number.

        Returns
        -------
        ndarray
            `out`.

        Raises
        ------
        IntegrityError
            A tag, digest, length or index does not hold.
        DecodeError
            A sender's codestream does not decode.
        UsageError
            There is no such frame, or `out` can't hold the frames.
        MissingExtra
            Another package's codec stored them, and it is not installed.
        """
        self._check_process()
        record = self.manifest.stacks[stack]
        if convert is None:
            _check_destination(out, len(frames), record)
        if record.key.codec == DICOM_FRAME:
            self._read_codestreams(stack, record, frames, out, convert)
            return out
        threads = threads or self._threads
        spans = self._spans(stack, record, frames, threads)

        def work(span: Span) -> None:
            self._decode_span(stack, record, span, frames, out, convert)

        workers = min(threads, len(spans))
        if workers <= 1:
            for span in spans:
                work(span)
        else:
            with ThreadPoolExecutor(workers) as executor:
                list(executor.map(work, spans))
        return out

    def chunks(self, stack: int, frames: Sequence[int]) -> list[bytes]:
        """Return the encoded chunks of frames, in the order asked for.

        Raises
        ------
        IntegrityError
            A tag, digest, length or index does not hold.
        UsageError
            There is no such frame.
        """
        return [bytes(chunk) for chunk in self._proven_chunks(stack, self.manifest.stacks[stack], frames)]

    def instance_bytes(self, record: InstanceRecord) -> Iterator[Buffer]:
        """Yield the bytes of one instance's file, in order and in bounded pieces."""
        self._check_process()
        if record.original is not None:
            yield from self._stream(self._sealed.reader(record.original, self._dek))
            return
        pixels = self._pixel_pieces(record)
        at = record.literal_offset
        for number, length in enumerate(record.pieces):
            if number % 2:
                yield from _exactly(pixels, length)
            else:
                yield from self._literals(at, at + length)
                at += length

    def literal_head(self, record: InstanceRecord) -> bytes:
        """Return the bytes before the pixels, or the whole file where it was kept whole."""
        self._check_process()
        if record.original is not None:
            return b"".join(self.instance_bytes(record))
        at = record.literal_offset
        return b"".join(self._literals(at, at + record.pieces[0]))

    def literals(self, record: InstanceRecord) -> Iterator[bytes]:
        """Yield the bytes of an instance that are not pixels, in order and in bounded pieces."""
        self._check_process()
        start = record.literal_offset
        yield from self._literals(start, start + sum(record.pieces[::2]))

    def original(self, record: InstanceRecord) -> Iterator[Buffer]:
        """Yield the whole file of an instance that was kept as it came; nothing for all others."""
        self._check_process()
        if record.original is not None:
            yield from self._stream(self._sealed.reader(record.original, self._dek))

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedProcess(
                "this handle was opened before a fork; start children with spawn or forkserver"
            )

    def _shard(self, stack: int, number: int) -> OpenShard:
        shard = self._shards.get((stack, number))
        if shard is None:
            record = self.manifest.stacks[stack]
            slots = record.frames_per_shard
            used = min(slots, record.frames - number * slots)
            shard = OpenShard(self._sealed.reader(record.shards[number], self._dek), slots, used)
            with self._lock:
                shard = self._shards.setdefault((stack, number), shard)
        return shard

    def _spans(self, stack: int, record: StackRecord, frames: Sequence[int], threads: int = 1) -> list[Span]:
        """Group the wanted chunks by shard and join neighbours, so that each span is one read."""
        wanted: list[tuple[int, int, int, int]] = []
        for position, frame in enumerate(frames):
            if not 0 <= frame < record.frames:
                raise UsageError(f"there is no frame {frame}: this stack has frames 0 to {record.frames - 1}")
            number, slot = divmod(frame, record.frames_per_shard)
            start, length = self._shard(stack, number).index[slot].tolist()
            wanted.append((number, start, length, position))
        wanted.sort()
        # Every thread gets a few spans, and none more than the scratch memory allows.
        limit = min(JOIN_BYTES, max(1, sum(item[2] for item in wanted) // (4 * threads)))
        return list(joined(wanted, limit))

    def _open_span(self, stack: int, span: Span, scratch: bytearray | None = None) -> memoryview:
        size = span.stop - span.start
        out = memoryview(scratch)[:size] if scratch and len(scratch) >= size else memoryview(bytearray(size))
        self._shard(stack, span.shard).reader.read_into(span.start, out)
        return out

    def _decode_span(
        self,
        stack: int,
        record: StackRecord,
        span: Span,
        frames: Sequence[int],
        out: npt.NDArray[Any],
        convert: Convert | None,
    ) -> None:
        codec = stored_codec(record.key.codec)
        data = self._open_span(stack, span, _scratch(span.stop - span.start))
        stored = None
        for position, start, length in span.items:
            chunk = data[start - span.start : start - span.start + length]
            if self._verify or codec.prove_first:
                self._prove(record, frames[position], chunk)
            if stored is None and convert is not None:
                stored = np.empty(record.key.shape, record.key.dtype)
            frame = out[position] if stored is None else stored
            codec.decode_into(chunk, frame)
            if convert is not None:
                convert(position, frame, out[position])

    def _read_codestreams(
        self,
        stack: int,
        record: StackRecord,
        frames: Sequence[int],
        out: npt.NDArray[Any],
        convert: Convert | None,
    ) -> None:
        if self._pool is None:
            raise UsageError("give the reader a DecoderPool: this stack holds the sender's own codestreams")
        key = record.key
        step = max(1, BATCH_BYTES // max(1, frame_bytes(key)))
        for first in range(0, len(frames), step):
            some = frames[first : first + step]
            streams = self._proven_chunks(stack, record, some)
            if convert is None:
                self._pool.decode_many(key.transfer_syntax, streams, key.spec, out[first : first + len(some)])
                continue
            stored = self._pool.decode_many(key.transfer_syntax, streams, key.spec)
            for position, frame in enumerate(stored, first):
                convert(position, frame, out[position])

    def _proven_chunks(self, stack: int, record: StackRecord, frames: Sequence[int]) -> list[memoryview]:
        """Return chunks that have the manifest's digests."""
        self._check_process()
        found = [memoryview(b"")] * len(frames)
        for span in self._spans(stack, record, frames):
            data = self._open_span(stack, span)
            for position, start, length in span.items:
                found[position] = data[start - span.start : start - span.start + length]
                self._prove(record, frames[position], found[position])
        return found

    def _prove(self, record: StackRecord, frame: int, chunk: Buffer) -> None:
        if hashlib.sha256(chunk).hexdigest() != record.digests[frame]:
            raise IntegrityError(
                f"a frame of pack {self.manifest.pack_id} is not what was stored; run `voxelvault verify`"
            )

    def _pixel_pieces(self, record: InstanceRecord) -> Iterator[Buffer]:
        """Yield the pixel bytes of an instance as they lay in the file, a few frames at a time."""
        if not record.count:
            return
        key = self.manifest.stacks[record.stack].key
        if key.codec == DICOM_FRAME:
            yield from self._fragments(record)
            return
        step = frames_a_batch(key, BATCH_BYTES)
        for first in range(record.first, record.first + record.count, step):
            frames = range(first, min(first + step, record.first + record.count))
            stored = np.empty((len(frames), *key.shape), key.dtype)
            self.read(record.stack, frames, stored)
            yield native.pack_native(
                stored, key.spec, big_endian=key.big_endian, word_swapped=key.word_swapped
            )

    def _fragments(self, record: InstanceRecord) -> Iterator[Buffer]:
        lengths = iter(record.pieces[1::2])
        frames = [[next(lengths) for _ in range(count)] for count in record.fragments]
        for first, stop in _batches([sum(frame) for frame in frames], JOIN_BYTES):
            chunks = self._proven_chunks(
                record.stack,
                self.manifest.stacks[record.stack],
                range(record.first + first, record.first + stop),
            )
            for chunk, frame in zip(chunks, frames[first:stop], strict=True):
                at = 0
                for length in frame:
                    yield chunk[at : at + length]
                    at += length

    def _literals(self, start: int, stop: int) -> Iterator[bytes]:
        at = 0
        for number, (raw, _) in enumerate(self.manifest.header_chunks):
            if at < stop and at + raw > start:
                yield self._header_chunk(number)[max(0, start - at) : stop - at]
            at += raw
        if at < stop:
            raise IntegrityError(
                f"pack {self.manifest.pack_id} has too few header bytes; run `voxelvault verify`"
            )

    def _read_header_chunk(self, number: int) -> bytes:
        if self.manifest.headers is None:
            raise IntegrityError(f"pack {self.manifest.pack_id} has no header bytes; run `voxelvault verify`")
        chunks = self.manifest.header_chunks
        start = sum(packed for _, packed in chunks[:number])
        raw, packed = chunks[number]
        data = self._sealed.reader(self.manifest.headers, self._dek).read(start, start + packed)
        return bytes(imagecodecs.zstd_decode(bytes(data), out=raw))

    @staticmethod
    def _stream(reader: SealedReader) -> Iterator[Buffer]:
        for start in range(0, reader.size, JOIN_BYTES):
            yield reader.read(start, min(start + JOIN_BYTES, reader.size))


_local = threading.local()


def _scratch(size: int) -> bytearray | None:
    """Return this thread's scratch buffer, grown to the size: fresh memory is what costs."""
    if size > 2 * JOIN_BYTES:
        return None
    buffer: bytearray | None = getattr(_local, "buffer", None)
    if buffer is None or len(buffer) < size:
        buffer = _local.buffer = bytearray(max(size, 256 << 10))
    return buffer


def _check_destination(out: npt.NDArray[Any], frames: int, record: StackRecord) -> None:
    shape, dtype = (frames, *record.key.shape), np.dtype(record.key.dtype)
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous or not out.flags.writeable:
        raise UsageError(f"out must be a writeable C-contiguous array of shape {shape} and dtype {dtype}")


def _batches(lengths: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Yield first and stop of neighbours that together stay under the limit, or are one."""
    first, total = 0, 0
    for number, length in enumerate(lengths):
        if number > first and total + length > limit:
            yield first, number
            first, total = number, 0
        total += length
    if lengths:
        yield first, len(lengths)


def _exactly(pieces: Iterator[Buffer], length: int) -> Iterator[Buffer]:
    """Pass on pieces until they make up the length; they end where a literal begins."""
    while length > 0:
        piece = next(pieces, None)
        if piece is None or len(piece) > length:
            raise IntegrityError("pixel bytes and manifest disagree; run `voxelvault verify`")
        length -= len(piece)
        yield piece
