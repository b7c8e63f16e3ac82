"""One parsed file becomes chunks: encoded, decoded again, compared, and ready to be stored.

Nothing here writes. What leaves this module has been verified: each encoded frame was decoded and
equals the sender's pixels, and literals plus pixels give the file again byte for byte; where they
don't (deflated, odd or half-broken files), the whole original goes along.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault.dicom import native
from voxelvault.dicom.decode import DecoderPool, can_decode
from voxelvault.dicom.part10 import Part10, PixelSpan, frame_fragments
from voxelvault.dicom.read import Header, frame_spec, number_of_frames
from voxelvault.errors import DecodeError, DicomError, IntegrityError
from voxelvault.model import Buffer, FrameSpec
from voxelvault.storage.codecs import DICOM_FRAME, codec_for, codec_named
from voxelvault.storage.pack import StackKey


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
        One encoded chunk and one SHA-256 of its content a frame.
    fragments : tuple of int
        Fragments of each frame, for encapsulated pixel data.
    original : tuple of buffer
        The whole file, where it must be kept as it is.
    pixels : str
        ``array`` (our codec), ``codestream`` (the sender's), ``none`` or ``undecodable``.
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


def prepare(
    data: Buffer,
    part10: Part10,
    header: Header,
    *,
    instance_id: str,
    sha256: str,
    codec: str,
    pool: DecoderPool,
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

    Raises
    ------
    DecodeError
        With `crashed` set, when a codestream killed its decoder: the file belongs in quarantine.
    """
    base = Prepared(
        instance_id,
        str(header.get("SOPInstanceUID", "") or ""),
        str(header.get("SOPClassUID", "") or ""),
        sha256,
        len(data),
        literals=(data,),
        pieces=(len(data),),
    )
    span = part10.pixels
    if span is None:
        return replace(base, literals=(), pieces=(), original=(data,)) if part10.deflated else base
    try:
        done = _pixels(base, memoryview(data), part10, header, span, codec, pool)
    except DecodeError as error:
        if getattr(error, "crashed", False):
            raise
        done = None
    except DicomError:
        done = None
    if done is None:
        return replace(base, literals=(), pieces=(), original=(data,), pixels="undecodable")
    if part10.deflated:
        return replace(done, literals=(), pieces=(), fragments=(), original=(data,))
    return done


def _pixels(
    base: Prepared,
    data: memoryview,
    part10: Part10,
    header: Header,
    span: PixelSpan,
    codec: str,
    pool: DecoderPool,
) -> Prepared | None:
    spec = frame_spec(header)
    count = number_of_frames(header)
    if span.encapsulated:
        if not can_decode(part10.transfer_syntax):
            return None
        return _encapsulated(base, data, part10, span, spec, count, pool)
    return _native(base, data, part10, span, spec, count, codec)


def _native(
    base: Prepared,
    data: memoryview,
    part10: Part10,
    span: PixelSpan,
    spec: FrameSpec,
    count: int,
    codec: str,
) -> Prepared | None:
    source = memoryview(part10.data)
    big_endian = part10.big_endian
    swapped = native.word_swapped(spec, big_endian=big_endian, vr=span.vr)
    subsampled = native.is_subsampled(spec, span.stop - span.start, count)
    needed = native.native_length(spec, count, subsampled=subsampled)
    needed += needed % 2 if swapped else 0
    if needed == 0 or span.stop - span.start < needed:
        return None
    pixels = source[span.start : span.start + needed]
    frames = native.unpack_native(
        pixels, spec, count, big_endian=big_endian, word_swapped=swapped, subsampled=subsampled
    )
    packed = native.pack_native(frames, spec, big_endian=big_endian, word_swapped=swapped)
    key = StackKey(
        spec,
        part10.transfer_syntax,
        frames.dtype.str,
        tuple(frames.shape[1:]),
        codec_for(codec, frames.dtype, frames.shape[3] if frames.ndim == 4 else 1),
        big_endian,
        swapped,
        high_bits=not np.array_equal(native.stored_values(frames, spec), frames),
    )
    chunks, digests = encode_verified(frames, key.codec)
    done = replace(base, key=key, chunks=chunks, digests=digests, pixels="array")
    if not _same(packed, pixels):
        return replace(done, literals=(), pieces=(), original=(data,))
    head, tail = source[: span.start], source[span.start + needed :]
    return replace(done, literals=(head, tail), pieces=(len(head), needed, len(tail)))


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
        One a frame.

    Raises
    ------
    IntegrityError
        A frame did not come back as it went in; nothing may be stored.
    """
    coder = codec_named(codec)
    scratch = np.empty(frames.shape[1:], frames.dtype)
    chunks: list[Buffer] = []
    digests: list[str] = []
    for frame in frames:
        chunk = coder.encode(frame)
        coder.decode_into(chunk, scratch)
        if not np.array_equal(scratch.view(_bits(frame)), frame.view(_bits(frame))):
            raise IntegrityError("a frame did not survive its codec; it was not stored, so try again")
        chunks.append(chunk)
        digests.append(hashlib.sha256(frame.data).hexdigest())
    return tuple(chunks), tuple(digests)


def _bits(frame: npt.NDArray[Any]) -> str:
    # Floats are compared as bits: a NaN equals itself.
    return f"u{frame.itemsize}"


def _encapsulated(
    base: Prepared,
    data: memoryview,
    part10: Part10,
    span: PixelSpan,
    spec: FrameSpec,
    count: int,
    pool: DecoderPool,
) -> Prepared:
    fragments = frame_fragments(span, count)
    streams = [_join([data[start:stop] for start, stop in frame]) for frame in fragments]
    shape = native.frame_shape(spec)
    scratch = np.empty((len(streams), *shape), native.native_dtype(spec))
    pool.decode_many(part10.transfer_syntax, streams, spec, scratch)
    literals, pieces = _literals(data, [piece for frame in fragments for piece in frame])
    return replace(
        base,
        literals=literals,
        pieces=pieces,
        key=StackKey(spec, part10.transfer_syntax, scratch.dtype.str, shape, DICOM_FRAME),
        chunks=tuple(streams),
        digests=tuple(hashlib.sha256(stream).hexdigest() for stream in streams),
        fragments=tuple(len(frame) for frame in fragments),
        pixels="codestream",
    )


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
            raise DecodeError("fragments are out of order")
        literals.append(data[at:start])
        pieces += (start - at, stop - start)
        at = stop
    literals.append(data[at:])
    return tuple(literals), (*pieces, len(data) - at)
