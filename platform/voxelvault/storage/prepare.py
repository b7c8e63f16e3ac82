"""One parsed file becomes chunks: encoded, decoded again, compared, and ready to be stored.

Nothing here writes. What leaves this module has been verified: each encoded frame was decoded and
equals the sender's pixels, and literals plus pixels give the file again byte for byte; where they
don't (deflated, odd or half-broken files), the whole original goes along.

Frames are taken a batch at a time, so that a large object costs its chunks and one batch of memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault.dicom import native
from voxelvault.dicom.decode import DecoderPool, can_decode, check_frame
from voxelvault.dicom.part10 import Part10, PixelSpan, frame_fragments
from voxelvault.dicom.read import Header, frame_spec, number_of_frames
from voxelvault.errors import DecodeError, DecoderCrashed, DicomError, IntegrityError
from voxelvault.model import Buffer, FrameSpec
from voxelvault.storage.codecs import DICOM_FRAME, codec_for, codec_named
from voxelvault.storage.pack import StackKey, frames_a_batch

BATCH_BYTES = 16 << 20
"""Decoded frames that are at hand at a time, about."""

LITERAL_LIMIT = 16 << 20
"""A file without pixels above this many bytes is an object of its own, not part of the header stream."""

SPECK, SPECKS = 64, 1024
"""No image has more than so many frames of less than so many bytes: each would cost more to keep
than it holds, and a small file could claim millions."""

GE_BIG_ENDIAN_PIXELS = "1.2.840.113619.5.2"
"""Private transfer syntax of GE: implicit little endian, but for its pixels."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """One instance, ready for a pack.

    Parameters
    ----------
    literals : tuple of buffer
        The bytes of the file that are not pixels, in order; views of the source.
    pieces : tuple of int
        Lengths of literal, pixels, literal, …, literal; empty where `original` stands for all.
    key : StackKey or None
        The stack its frames belong to.
    chunks, digests : tuple
        One encoded chunk and its SHA-256 a frame.
    fragments : tuple of int
        Fragments of each frame, for encapsulated pixel data.
    original : tuple of buffer
        The whole file, where it must be kept as it is.
    pixels : str
        ``array`` (our codec), ``codestream`` (the sender's), ``none`` or ``undecodable``.
    origin : str
        Which pipeline made it here; empty for what was sent in.
    """

    instance_id: str
    sop_instance_uid: str
    sop_class_uid: str
    sha256: str
    length: int
    literals: tuple[Buffer, ...] = ()
    pieces: tuple[int, ...] = ()
    key: StackKey | None = None
    chunks: tuple[Buffer, ...] = ()
    digests: tuple[str, ...] = ()
    fragments: tuple[int, ...] = ()
    original: tuple[Buffer, ...] = ()
    pixels: str = "none"
    origin: str = ""


def prepare(
    data: Buffer,
    part10: Part10,
    header: Header,
    *,
    instance_id: str,
    sha256: str,
    codec: str,
    pool: DecoderPool,
    origin: str = "",
) -> Prepared:
    """Encode and verify one instance.

    Parameters
    ----------
    data : buffer
        The whole file.
    part10, header : Part10, Header
        What was parsed from it.
    instance_id, sha256 : str
        The id it gets, and the digest of `data`.
    codec : str
        Preferred codec for native pixels.
    pool : DecoderPool
        Child processes that decode the sender's codestreams.
    origin : str
        Which pipeline made it here; empty for what was sent in.

    Returns
    -------
    Prepared
        Views of `data` among the rest: keep it until the pack is written.

    Raises
    ------
    DecoderCrashed
        A codestream killed its decoder: the file belongs in quarantine.
    IntegrityError
        A frame did not survive its codec; nothing may be stored.
    """
    base = Prepared(
        instance_id,
        str(header.get("SOPInstanceUID", "") or ""),
        str(header.get("SOPClassUID", "") or ""),
        sha256,
        len(data),
        literals=(data,),
        pieces=(len(data),),
        origin=origin,
    )
    span = part10.pixels
    if span is None:
        return _whole(base, data) if part10.deflated or len(data) > LITERAL_LIMIT else base
    try:
        done = _pixels(base, part10, header, span, codec, pool)
    except DecoderCrashed:
        raise
    except DicomError:
        done = None
    if done is None:
        return replace(_whole(base, data), pixels="undecodable")
    return done if done.literals and not part10.deflated else _whole(done, data)


def _whole(prepared: Prepared, data: Buffer) -> Prepared:
    """Keep the file as it is: its parts don't make it up again."""
    return replace(prepared, literals=(), pieces=(), fragments=(), original=(data,))


def _pixels(
    base: Prepared, part10: Part10, header: Header, span: PixelSpan, codec: str, pool: DecoderPool
) -> Prepared | None:
    spec, count = frame_spec(header), number_of_frames(header)
    if not span.encapsulated:
        return _native(base, part10, span, spec, count, codec)
    if not can_decode(part10.transfer_syntax):
        return None
    return _encapsulated(base, part10, span, spec, count, pool)


@dataclass(frozen=True, slots=True)
class Wire:
    """How native pixel bytes lie in a file, and how they become frames and bytes again."""

    spec: FrameSpec
    big_endian: bool
    swapped: bool
    subsampled: bool

    @classmethod
    def of(cls, part10: Part10, span: PixelSpan, spec: FrameSpec, count: int) -> Wire:
        """Tell how the frames of a file lie."""
        big_endian = part10.big_endian or part10.transfer_syntax == GE_BIG_ENDIAN_PIXELS
        return cls(
            spec,
            big_endian,
            native.word_swapped(spec, big_endian=big_endian, vr=span.vr),
            native.is_subsampled(spec, span.stop - span.start, count),
        )

    def length(self, frames: int) -> int:
        """Return the bytes of so many frames."""
        needed = native.native_length(self.spec, frames, subsampled=self.subsampled)
        return needed + needed % 2 if self.swapped else needed

    def unpack(self, data: Buffer, frames: int) -> npt.NDArray[Any]:
        """Return frames as an array; see `native.unpack_native`."""
        return native.unpack_native(
            data,
            self.spec,
            frames,
            big_endian=self.big_endian,
            word_swapped=self.swapped,
            subsampled=self.subsampled,
        )

    def rebuilds(self, frames: npt.NDArray[Any], data: Buffer) -> bool:
        """Say whether frames give the bytes again that they came of."""
        packed = native.pack_native(frames, self.spec, big_endian=self.big_endian, word_swapped=self.swapped)
        return _same(packed, data)

    def has_high_bits(self, frames: npt.NDArray[Any]) -> bool:
        """Say whether anything stands above BitsStored."""
        values = native.stored_values(frames, self.spec)
        return values is not frames and not np.array_equal(values, frames)


def _native(
    base: Prepared, part10: Part10, span: PixelSpan, spec: FrameSpec, count: int, codec: str
) -> Prepared | None:
    source = memoryview(part10.data)
    wire = Wire.of(part10, span, spec, count)
    needed = wire.length(count)
    if span.stop - span.start < needed or (count > SPECKS and needed < SPECK * count):
        return None
    pixels = source[span.start : span.start + needed]
    key = _native_key(part10.transfer_syntax, wire, codec)
    chunks: list[Buffer] = []
    digests: list[str] = []
    faithful, high_bits = True, False
    step = frames_a_batch(key, BATCH_BYTES)
    for first in range(0, count, step):
        some = min(step, count - first)
        start = wire.length(first)
        data = pixels[start : start + wire.length(some)]
        frames = wire.unpack(data, some)
        faithful = faithful and wire.rebuilds(frames, data)
        high_bits = high_bits or wire.has_high_bits(frames)
        new_chunks, new_digests = encode_verified(frames, key.codec)
        chunks += new_chunks
        digests += new_digests
    done = replace(
        base,
        key=replace(key, high_bits=high_bits),
        chunks=tuple(chunks),
        digests=tuple(digests),
        pixels="array",
    )
    if not faithful:
        return replace(done, literals=(), pieces=())
    head, tail = source[: span.start], source[span.start + needed :]
    return replace(done, literals=(head, tail), pieces=(len(head), needed, len(tail)))


def _native_key(transfer_syntax: str, wire: Wire, codec: str) -> StackKey:
    spec, dtype = wire.spec, native.native_dtype(wire.spec)
    shape = native.frame_shape(spec)
    if wire.subsampled:
        shape = (*shape[:2], 2)
    samples = shape[2] if len(shape) == 3 else 1
    chosen = codec_for(codec, dtype, samples, bits=spec.bits_allocated)
    return StackKey(spec, transfer_syntax, dtype.str, shape, chosen, wire.big_endian, wire.swapped)


def _same(left: Buffer, right: Buffer) -> bool:
    if len(left) != len(right):
        return False
    one, other = np.frombuffer(left, "u1"), np.frombuffer(right, "u1")
    return np.may_share_memory(one, other) or np.array_equal(one, other)


def encode_verified(frames: npt.NDArray[Any], codec: str) -> tuple[tuple[Buffer, ...], tuple[str, ...]]:
    """Encode each frame, decode it again and compare.

    Parameters
    ----------
    frames : ndarray
        (frame, row, column[, sample]) stored values, little endian.
    codec : str
        Name of the codec.

    Returns
    -------
    chunks, digests : tuple
        One encoded chunk and its SHA-256 a frame.

    Raises
    ------
    IntegrityError
        A frame did not come back as it went in; nothing may be stored.
    """
    coder = codec_named(codec)
    scratch = np.empty(frames.shape[1:], frames.dtype)
    chunks: list[Buffer] = []
    for frame in frames:
        try:
            chunk = coder.encode(frame)
            coder.decode_into(chunk, scratch)
        except (RuntimeError, ValueError, TypeError) as error:  # what imagecodecs raises
            raise IntegrityError(_LOST) from error
        if not np.array_equal(scratch.view(_bits(frame)), frame.view(_bits(frame))):
            raise IntegrityError(_LOST)
        chunks.append(chunk)
    return tuple(chunks), tuple(hashlib.sha256(chunk).hexdigest() for chunk in chunks)


_LOST = "a frame did not survive its codec; it was not stored, so try again or with codec='raw'"


def _bits(frame: npt.NDArray[Any]) -> str:
    # Floats are compared as bits: a NaN equals itself.
    return f"u{frame.itemsize}"


def _encapsulated(
    base: Prepared, part10: Part10, span: PixelSpan, spec: FrameSpec, count: int, pool: DecoderPool
) -> Prepared:
    data = memoryview(part10.data)
    fragments = frame_fragments(span, count)
    streams = [_join([data[start:stop] for start, stop in frame]) for frame in fragments]
    _require_decodable(streams, part10.transfer_syntax, spec, pool)
    literals, pieces = _literals(data, [piece for frame in fragments for piece in frame])
    return replace(
        base,
        literals=literals,
        pieces=pieces,
        key=StackKey(
            spec,
            part10.transfer_syntax,
            native.native_dtype(spec).str,
            native.frame_shape(spec),
            DICOM_FRAME,
        ),
        chunks=tuple(streams),
        digests=tuple(hashlib.sha256(stream).hexdigest() for stream in streams),
        fragments=tuple(len(frame) for frame in fragments),
        pixels="codestream",
    )


def _require_decodable(
    streams: Sequence[Buffer], transfer_syntax: str, spec: FrameSpec, pool: DecoderPool
) -> None:
    """Decode every frame once, a batch at a time; `DecodeError` if one doesn't."""
    for stream in streams:  # before memory is taken for what they claim
        check_frame(stream, spec)
    step = min(len(streams), max(1, BATCH_BYTES // native.frame_nbytes(spec)))
    scratch = np.empty((step, *native.frame_shape(spec)), native.native_dtype(spec))
    for first in range(0, len(streams), step):
        some = streams[first : first + step]
        pool.decode_many(transfer_syntax, some, spec, scratch[: len(some)])


def _join(parts: Sequence[memoryview]) -> Buffer:
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _literals(
    data: memoryview, pixels: Sequence[tuple[int, int]]
) -> tuple[tuple[Buffer, ...], tuple[int, ...]]:
    literals: list[Buffer] = []
    pieces: list[int] = []
    at = 0
    for start, stop in pixels:
        if start < at:
            raise DecodeError("fragments are out of order; export the original file instead")
        literals.append(data[at:start])
        pieces += (start - at, stop - start)
        at = stop
    literals.append(data[at:])
    return tuple(literals), (*pieces, len(data) - at)


__all__ = ["Prepared", "Wire", "encode_verified", "prepare"]
