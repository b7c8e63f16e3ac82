"""From one file to verified chunks: every encoding, odd files, codecs that lie."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pydicom
import pytest
from pack_support import prepared_from
from pydicom.pixels import get_decoder

from voxelvault.dicom import native
from voxelvault.dicom.decode import DecoderPool
from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header
from voxelvault.errors import DecodeError, DecoderCrashed, IntegrityError
from voxelvault.storage import codecs, prepare
from voxelvault.storage.codecs import CODECS, ChunkCodec, codec_named
from voxelvault.storage.prepare import GE_BIG_ENDIAN_PIXELS, Prepared, encode_verified
from voxelvault.testing import synthetic

KINDS = synthetic.every_kind()
WITHOUT_PIXELS = {"structured report", "PDF"}
UNDECODABLE = {"video"}
NATIVE = [name for name in KINDS if name[0] != "1" and name not in WITHOUT_PIXELS | UNDECODABLE]
FRAMES = np.random.default_rng(2).integers(-900, 2000, (4, 17, 19), dtype=np.int16)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(2) as made:
        yield made


def decoded(prepared: Prepared) -> np.ndarray[Any, Any]:
    assert prepared.key is not None
    out = np.empty((len(prepared.chunks), *prepared.key.shape), prepared.key.dtype)
    for chunk, frame in zip(prepared.chunks, out, strict=True):
        codec_named(prepared.key.codec).decode_into(chunk, frame)
    return out


def expected(data: bytes, prepared: Prepared) -> np.ndarray[Any, Any]:
    """Return what pydicom makes of the native pixels, as stored values."""
    dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = parse(data).transfer_syntax
    frames, _ = get_decoder(dataset.file_meta.TransferSyntaxUID).as_array(dataset, raw=True)
    if len(prepared.chunks) == 1 and frames.shape[0] != 1:
        frames = frames[None]
    return np.asarray(frames)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", NATIVE)
def test_native_pixels_are_the_stored_values(name: str, codec: str, pool: DecoderPool) -> None:
    data = KINDS[name]
    prepared = prepared_from(data, pool, codec)
    assert prepared.pixels == "array"
    values = decoded(prepared)
    assert prepared.key is not None
    if prepared.key.shape[-1] == 2 and prepared.key.spec.samples == 3:
        values = native.expand_422(values)
    wanted = expected(data, prepared)
    assert np.array_equal(values.reshape(wanted.shape), wanted)
    assert np.dtype(prepared.key.dtype) == values.dtype


@pytest.mark.parametrize("name", KINDS)
def test_chunks_have_their_digests_and_pieces_make_up_the_file(name: str, pool: DecoderPool) -> None:
    data = KINDS[name]
    prepared = prepared_from(data, pool)
    assert prepared.digests == tuple(hashlib.sha256(chunk).hexdigest() for chunk in prepared.chunks)
    assert (prepared.length, prepared.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    if prepared.original:
        assert (prepared.literals, prepared.pieces) == ((), ())
        assert b"".join(prepared.original) == data
        assert name in {"deflated", *UNDECODABLE}
        return
    assert sum(prepared.pieces) == len(data)
    assert [len(literal) for literal in prepared.literals] == list(prepared.pieces[::2])
    at = 0
    for literal, length in zip(prepared.literals, (*prepared.pieces[1::2], 0), strict=True):
        assert data[at : at + len(literal)] == literal
        at += len(literal) + length


@pytest.mark.parametrize("name", synthetic.CODESTREAMS)
def test_a_senders_codestream_is_kept(name: str, pool: DecoderPool) -> None:
    prepared = prepared_from(KINDS[f"{name} frames"], pool)
    assert prepared.pixels == "codestream"
    assert prepared.key is not None
    assert prepared.key.codec == "dicom_frame"
    assert prepared.key.transfer_syntax == name
    assert len(prepared.chunks) == len(prepared.fragments) == 3
    assert all(bytes(chunk) in KINDS[f"{name} frames"] for chunk in prepared.chunks)


def test_objects_without_pixels_are_literals(pool: DecoderPool) -> None:
    for name in WITHOUT_PIXELS:
        prepared = prepared_from(KINDS[name], pool)
        assert (prepared.pixels, prepared.key, prepared.pieces) == ("none", None, (len(KINDS[name]),))


def test_a_large_object_without_pixels_is_an_object_of_its_own(
    pool: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "LITERAL_LIMIT", 100)
    prepared = prepared_from(KINDS["PDF"], pool)
    assert (prepared.pixels, prepared.literals) == ("none", ())
    assert b"".join(prepared.original) == KINDS["PDF"]


def test_single_bits_and_floats_are_never_htj2k(pool: DecoderPool) -> None:
    for name in ("one bit", "float", "double", "unsigned 32", "YBR_FULL_422"):
        key = prepared_from(KINDS[name], pool).key
        assert key is not None
        assert key.codec == "fast", name
    key = prepared_from(KINDS["signed 8"], pool).key
    assert key is not None
    assert (key.codec, key.dtype) == ("htj2k", "|i1")


def test_bits_above_bits_stored_are_kept_and_told(pool: DecoderPool) -> None:
    clean = np.arange(64, dtype=np.uint16).reshape(8, 8) * 60
    overlaid = clean | 0x8000
    told = []
    for frame in (clean, overlaid):
        prepared = prepared_from(synthetic.image(frame, bits_stored=12), pool)
        assert prepared.key is not None
        assert np.array_equal(decoded(prepared)[0], frame)
        told.append(prepared.key.high_bits)
    assert told == [False, True]


def test_the_private_syntax_of_ge_has_big_endian_pixels(pool: DecoderPool) -> None:
    data = synthetic.image(FRAMES.astype(">i2").view("<i2"), transfer_syntax=synthetic.IMPLICIT)
    swapped = replace(parse(data), transfer_syntax=GE_BIG_ENDIAN_PIXELS)
    prepared = prepare.prepare(
        data, swapped, Header.from_part10(swapped), instance_id="", sha256="", codec="raw", pool=pool
    )
    assert np.array_equal(decoded(prepared), FRAMES)
    assert not prepared.original


@pytest.mark.parametrize("batch", [1, 700, 1 << 20])
@pytest.mark.parametrize("name", ["one bit", "big endian 8 in words", "multi-frame", "YBR_FULL_422"])
def test_batches_change_nothing(
    name: str, batch: int, pool: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepared_from(KINDS[name], pool)
    monkeypatch.setattr(prepare, "BATCH_BYTES", batch)
    parts = prepared_from(KINDS[name], pool)
    assert (parts.key, parts.digests, parts.pieces) == (whole.key, whole.digests, whole.pieces)


@pytest.mark.parametrize(
    ("frames", "dtype"), [((37, 3, 5), bool), ((5, 3, 3), np.uint8)], ids=["bits", "bytes"]
)
def test_odd_frames_in_swapped_words(
    frames: tuple[int, ...], dtype: Any, pool: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(4).integers(0, 2 if dtype is bool else 256, frames).astype(dtype)
    flat = np.packbits(values, bitorder="little") if dtype is bool else values.reshape(-1)
    flat = np.pad(flat, (0, flat.size % 2)).reshape(-1, 2)[:, ::-1]
    made = synthetic.put_pixels(synthetic.header(transfer_syntax=synthetic.BIG_ENDIAN), values)
    made.PixelData = flat.tobytes()
    made["PixelData"].VR = "OW"
    monkeypatch.setattr(prepare, "BATCH_BYTES", 1)
    prepared = prepared_from(synthetic.to_bytes(made), pool)
    assert prepared.key is not None
    assert prepared.key.word_swapped
    assert not prepared.original
    assert np.array_equal(decoded(prepared), values)


def test_more_pixels_than_frames_are_a_tail(pool: DecoderPool) -> None:
    dataset = pydicom.dcmread(io.BytesIO(synthetic.image(FRAMES)))
    dataset.NumberOfFrames = 3
    prepared = prepared_from(synthetic.to_bytes(dataset), pool)
    assert prepared.pixels == "array"
    assert np.array_equal(decoded(prepared), FRAMES[:3])
    assert len(prepared.literals[1]) >= FRAMES[3].nbytes


def test_fewer_pixels_than_frames_are_kept_whole(pool: DecoderPool) -> None:
    for data in (synthetic.image(FRAMES)[:-1200], synthetic.compressed("1.2.840.10008.1.2.4.80", 3)[:-200]):
        prepared = prepared_from(data, pool)
        assert (prepared.pixels, prepared.key, prepared.chunks) == ("undecodable", None, ())
        assert b"".join(prepared.original) == data


def test_a_codestream_of_another_size_is_kept_whole(pool: DecoderPool) -> None:
    dataset = pydicom.dcmread(io.BytesIO(synthetic.compressed("1.2.840.10008.1.2.4.80")))
    for rows in (dataset.Rows + 1, 65535):
        dataset.Rows = dataset.Columns = rows
        dataset.BitsAllocated = 8
        assert prepared_from(synthetic.to_bytes(dataset), pool).pixels == "undecodable"


def test_a_claim_of_many_specks_is_not_followed(pool: DecoderPool) -> None:
    dataset = pydicom.dcmread(io.BytesIO(synthetic.image(np.zeros((1, 1), np.uint8))))
    dataset.NumberOfFrames = 200_000
    dataset.PixelData = b"\1" * 200_000
    assert prepared_from(synthetic.to_bytes(dataset), pool).pixels == "undecodable"


def test_memory_holds_chunks_and_one_batch(pool: DecoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "BATCH_BYTES", 1 << 20)
    dataset = pydicom.dcmread(io.BytesIO(synthetic.image(FRAMES, transfer_syntax=synthetic.BIG_ENDIAN)))
    dataset.Rows = dataset.Columns = 512
    dataset.NumberOfFrames = 48
    dataset.PixelData = bytes(48 * 512 * 512 * 2)
    data = synthetic.to_bytes(dataset)
    prepared_from(data, pool, "fast")
    tracemalloc.start()
    try:
        prepared = prepared_from(data, pool, "fast")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(prepared.chunks) == 48
    assert peak < 8 << 20 < len(data)


def lying(**changed: Any) -> dict[str, ChunkCodec]:
    return {**CODECS, "htj2k": replace(CODECS["htj2k"], **changed)}


def off_by_one(chunk: Any, out: Any) -> None:
    CODECS_AS_THEY_ARE["htj2k"].decode_into(chunk, out)
    out.reshape(-1)[-1] ^= 1


def lossy(frame: Any) -> Any:
    return CODECS_AS_THEY_ARE["htj2k"].encode(frame & ~1)


def refuses(_: Any) -> Any:
    raise RuntimeError("htj2k_encode failed")


CODECS_AS_THEY_ARE = dict(CODECS)


@pytest.mark.parametrize(
    "lie",
    [{"decode_into": off_by_one}, {"encode": lossy}, {"encode": refuses}],
    ids=["decoder", "encoder", "error"],
)
def test_a_codec_that_lies_is_caught_on_write(
    lie: dict[str, Any], pool: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codecs, "CODECS", lying(**lie))
    with pytest.raises(IntegrityError, match="did not survive"):
        prepared_from(synthetic.image(FRAMES), pool)
    with pytest.raises(IntegrityError, match="did not survive"):
        encode_verified(FRAMES, "htj2k")
    assert prepared_from(synthetic.image(FRAMES), pool, "fast").pixels == "array"


def test_a_wrong_bit_of_a_nan_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.array([[[0x7FC00001, 0x7F800000]]], "<u4").view("<f4")
    assert len(encode_verified(values, "fast")[0]) == 1

    def quiet(chunk: Any, out: Any) -> None:
        out[...] = [np.nan, np.inf]

    monkeypatch.setattr(codecs, "CODECS", {"fast": replace(CODECS["fast"], decode_into=quiet)})
    with pytest.raises(IntegrityError):
        encode_verified(values, "fast")


@pytest.mark.parametrize("fault", ["abort", "hang"])
def test_a_crash_is_not_merely_undecodable(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "can_decode", lambda _: True)
    data = synthetic.compressed("1.2.840.10008.1.2.4.80")
    part10 = replace(parse(data), transfer_syntax=fault)
    with (
        DecoderPool(1, seconds=1, module="voxelvault.testing.misbehaving_decoder") as bad,
        pytest.raises(DecoderCrashed),
    ):
        prepare.prepare(
            data, part10, Header.from_part10(part10), instance_id="", sha256="", codec="raw", pool=bad
        )


def test_fragments_out_of_order_are_refused() -> None:
    with pytest.raises(DecodeError, match="order"):
        prepare._literals(memoryview(bytes(20)), [(8, 12), (2, 4)])
