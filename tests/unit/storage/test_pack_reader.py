"""The one reader: any frames in any order, nothing forged, nothing cut."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pack_support import Packed, pack

from voxelvault.dicom.decode import DecoderPool
from voxelvault.dicom.part10 import parse
from voxelvault.errors import ForkedProcess, IntegrityError, UsageError
from voxelvault.model import SealedRef
from voxelvault.storage import codecs, pack_reader, pack_writer
from voxelvault.storage.codecs import CODECS
from voxelvault.storage.objects import MemoryObjects
from voxelvault.storage.pack_reader import PackReader
from voxelvault.storage.shards import OpenShard, crc32c, joined, shard_index
from voxelvault.testing import synthetic

JPEG_LS = "1.2.840.10008.1.2.4.80"
FRAMES = np.random.default_rng(8).integers(-900, 2000, (11, 20, 24), dtype=np.int16)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(2) as made:
        yield made


@pytest.fixture
def packed(pool: DecoderPool, monkeypatch: pytest.MonkeyPatch) -> Packed:
    """Eleven frames in shards of four, the last one short."""
    return series(pool, monkeypatch, "htj2k")


def series(pool: DecoderPool, monkeypatch: pytest.MonkeyPatch, codec: str) -> Packed:
    monkeypatch.setattr(pack_writer, "SHARD_BYTES", 4 * FRAMES[0].nbytes)
    files = {str(at): synthetic.image(frame, instance=at) for at, frame in enumerate(FRAMES)}
    made = pack(files, pool, codec, expected_frames=len(FRAMES))
    assert [stack.frames_per_shard for stack in made.manifest.stacks] == [4]
    assert len(made.manifest.stacks[0].shards) == 3
    return made


def read(reader: PackReader, frames: Any, **options: Any) -> Any:
    return reader.read(0, frames, np.empty((len(frames), 20, 24), np.int16), **options)


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize(
    "frames",
    [range(11), range(10, -1, -1), [3], [10], [4, 3], [0, 0, 7, 0], [], [2, 9, 5], range(0, 11, 3)],
)
def test_frames_in_the_order_asked_for(packed: Packed, frames: Any, threads: int) -> None:
    reader = packed.reader()
    assert np.array_equal(read(reader, frames, threads=threads), FRAMES[list(frames)])
    assert np.array_equal(read(reader, frames), FRAMES[list(frames)])


def test_convert_writes_each_slot_once(packed: Packed) -> None:
    positions: list[int] = []
    out = np.zeros((11, 20, 24), np.float32)

    def halve(position: int, stored: Any, slot: Any) -> None:
        positions.append(position)
        np.multiply(stored, 0.5, out=slot)

    packed.reader().read(0, range(10, -1, -1), out, halve, threads=3)
    assert sorted(positions) == list(range(11))
    assert np.array_equal(out, FRAMES[::-1].astype(np.float32) / 2)


def test_many_threads_share_a_reader(packed: Packed) -> None:
    reader = packed.reader(threads=2)
    wrong: list[int] = []

    def work(seed: int) -> None:
        for _ in range(20):
            frames = np.random.default_rng(seed).permutation(11)[:5].tolist()
            if not np.array_equal(read(reader, frames), FRAMES[frames]):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("frames", [[11], [-1], [0, 400]])
def test_an_unknown_frame_is_refused(packed: Packed, frames: list[int]) -> None:
    with pytest.raises(UsageError, match="frames 0 to 10"):
        read(packed.reader(), frames)
    with pytest.raises(UsageError, match="frames 0 to 10"):
        packed.reader().chunks(0, frames)


@pytest.mark.parametrize(
    "out",
    [
        np.empty((2, 20, 24), np.int32),
        np.empty((3, 20, 24), np.int16),
        np.empty((2, 24, 20), np.int16),
        np.empty((2, 20, 48), np.int16)[:, :, ::2],
        np.empty((2, 20, 24), ">i2"),
        np.frombuffer(bytes(2 * 20 * 24 * 2), np.int16).reshape(2, 20, 24),
    ],
)
def test_out_must_fit(packed: Packed, out: Any) -> None:
    with pytest.raises(UsageError, match="C-contiguous"):
        packed.reader().read(0, [0, 1], out)


def test_chunks_are_what_was_encoded(packed: Packed) -> None:
    chunks = packed.reader().chunks(0, [9, 1])
    assert chunks == [bytes(packed.prepared[name].chunks[0]) for name in ("9", "1")]


def test_the_head_ends_where_pixels_begin(packed: Packed, pool: DecoderPool) -> None:
    reader = packed.reader()
    span = parse(packed.files["5"]).pixels
    assert span is not None
    record = packed.manifest.instance(packed.prepared["5"].instance_id)
    assert reader.literal_head(record) == packed.files["5"][: span.start]
    whole = pack({"deflated": synthetic.every_kind()["deflated"]}, pool)
    assert whole.reader().literal_head(whole.manifest.instances[0]) == whole.files["deflated"]


def test_a_forked_child_is_told(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = packed.reader()
    record = packed.manifest.instances[0]
    monkeypatch.setattr(pack_reader.os, "getpid", lambda: -1)
    for use in (
        lambda: read(reader, [0]),
        lambda: reader.chunks(0, [0]),
        lambda: list(reader.instance_bytes(record)),
        lambda: reader.literal_head(record),
    ):
        with pytest.raises(ForkedProcess, match="spawn"):
            use()


def test_neighbours_are_one_read(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = packed.reader(threads=1)
    read(reader, range(11))
    asked: list[int] = []
    objects = packed.sealed.objects
    plain = objects.read_into
    monkeypatch.setattr(
        objects, "read_into", lambda name, start, out: (asked.append(start), plain(name, start, out))
    )
    read(reader, range(4))
    assert len(asked) <= 4  # a quarter of the request each, whatever the number of frames
    asked.clear()
    read(reader, [7])
    assert len(asked) == 1


class TestCodestreams:
    @pytest.fixture
    def packed(self, pool: DecoderPool) -> Packed:
        return pack({"jpeg-ls": synthetic.compressed(JPEG_LS, 3)}, pool)

    def test_batches_and_conversion(
        self, packed: Packed, pool: DecoderPool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = packed.frames("jpeg-ls", packed.reader(pool))
        assert whole.any()
        monkeypatch.setattr(pack_reader, "BATCH_BYTES", 1)
        assert np.array_equal(packed.frames("jpeg-ls", packed.reader(pool)), whole)
        out = np.empty(whole.shape, np.float32)
        seen: list[int] = []

        def negate(position: int, stored: Any, slot: Any) -> None:
            seen.append(position)
            slot[...] = -stored.astype(np.float32)

        packed.reader(pool).read(0, [2, 0, 1], out, negate)
        assert seen == [0, 1, 2]
        assert np.array_equal(-out, whole[[2, 0, 1]])

    def test_without_decoders_chunks_and_files_still_come(self, packed: Packed) -> None:
        reader = packed.reader()
        assert packed.out_of("jpeg-ls", reader) == packed.files["jpeg-ls"]
        assert len(reader.chunks(0, [0, 1, 2])) == 3
        with pytest.raises(UsageError, match="DecoderPool"):
            packed.frames("jpeg-ls", reader)


def raw_objects(packed: Packed) -> dict[str, bytes]:
    objects = packed.sealed.objects
    return {info.name: objects.get(info.name) for info in objects.list("objects/")}


def with_objects(packed: Packed, objects: dict[str, bytes]) -> Packed:
    store = MemoryObjects()
    for name, data in objects.items():
        store.put(name, [data])
    return replace(packed, sealed=type(packed.sealed)(store, packed.sealed.vault_id))


def resealed(packed: Packed, ref: SealedRef, content: bytes) -> Packed:
    """Forge one object as somebody who holds the pack's key could."""
    objects = raw_objects(packed)
    del objects[packed.sealed.name(ref.object_id)]
    forged = with_objects(packed, objects)
    new = forged.sealed.put(ref.kind, packed.dek, ref.key_id, [content], object_id=ref.object_id)
    assert new.length == ref.length
    return forged


def forged_frame(packed: Packed) -> Packed:
    """Change a bit of the first frame's chunk and seal the shard again."""
    ref = packed.manifest.stacks[0].shards[0]
    content = packed.sealed.read(ref, packed.dek)
    start, length = np.frombuffer(content[:16], "<u8").tolist()
    content[start + length // 2] ^= 1
    return resealed(packed, ref, bytes(content))


class TestForgery:
    @pytest.mark.parametrize("at", [0, 50, 100, -1])
    def test_a_flipped_bit(self, packed: Packed, at: int) -> None:
        name = packed.sealed.name(packed.manifest.stacks[0].shards[1].object_id)
        objects = raw_objects(packed)
        data = bytearray(objects[name])
        data[at] ^= 1
        with pytest.raises(IntegrityError):
            read(with_objects(packed, {**objects, name: bytes(data)}).reader(), range(11))

    def test_a_cut_object_gives_not_even_its_beginning(self, packed: Packed) -> None:
        name = packed.sealed.name(packed.manifest.stacks[0].shards[0].object_id)
        objects = raw_objects(packed)
        with pytest.raises(IntegrityError):
            read(with_objects(packed, {**objects, name: objects[name][:-1]}).reader(), [0])

    def test_swapped_shards(self, packed: Packed) -> None:
        first, second, _ = (packed.sealed.name(ref.object_id) for ref in packed.manifest.stacks[0].shards)
        objects = raw_objects(packed)
        swapped = {**objects, first: objects[second], second: objects[first]}
        with pytest.raises(IntegrityError):
            read(with_objects(packed, swapped).reader(), [0])

    def test_shards_in_another_order(self, packed: Packed) -> None:
        stack = packed.manifest.stacks[0]
        first, second, third = stack.shards
        swapped = replace(stack, shards=(second, first, third))
        forged = replace(packed, manifest=replace(packed.manifest, stacks=(swapped,)))
        with pytest.raises(IntegrityError, match="not what was stored"):
            read(forged.reader(), [0])

    def test_a_forgers_codestream_never_reaches_the_decoder(
        self, packed: Packed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forged = forged_frame(packed)
        seen: list[int] = []
        monkeypatch.setattr(
            codecs,
            "CODECS",
            {"htj2k": replace(CODECS["htj2k"], decode_into=lambda chunk, out: seen.append(len(chunk)))},
        )
        for use in (lambda r: read(r, [0]), lambda r: r.chunks(0, [0]), lambda r: read(r, range(11))):
            with pytest.raises(IntegrityError, match="not what was stored"):
                use(forged.reader(threads=1))
        assert not seen

    @pytest.mark.parametrize("codec", ["fast", "raw"])
    def test_plain_codecs_are_proven_on_request(
        self, codec: str, pool: DecoderPool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forged = forged_frame(series(pool, monkeypatch, codec))
        with pytest.raises(IntegrityError, match="not what was stored"):
            read(forged.reader(verify=True), [0])
        with pytest.raises(IntegrityError, match="not what was stored"):
            forged.reader().chunks(0, [0])
        assert np.array_equal(read(forged.reader(verify=True), [1, 2]), FRAMES[1:3])

    def test_a_senders_codestream_is_proven_too(self, pool: DecoderPool) -> None:
        forged = forged_frame(pack({"jpeg-ls": synthetic.compressed(JPEG_LS, 3)}, pool))
        for use in (
            lambda: forged.frames("jpeg-ls", forged.reader(pool)),
            lambda: forged.out_of("jpeg-ls", forged.reader(pool)),
        ):
            with pytest.raises(IntegrityError, match="not what was stored"):
                use()

    def test_the_wrong_key(self, packed: Packed) -> None:
        with pytest.raises(IntegrityError):
            read(replace(packed, dek=bytes(32)).reader(), [0])

    def test_an_index_that_lies(self, packed: Packed) -> None:
        ref = packed.manifest.stacks[0].shards[0]
        content = bytes(packed.sealed.read(ref, packed.dek))
        lengths = [length for _, length in np.frombuffer(content[:64], "<u8").reshape(4, 2).tolist()]
        far = shard_index([lengths[0], 1 << 60, lengths[2], lengths[3]], 4)
        for index in (far, far[:-1] + b"\0", shard_index(lengths[:3], 4)):
            forged = resealed(packed, ref, index + content[len(index) :])
            with pytest.raises(IntegrityError, match="index"):
                read(forged.reader(), [0])

    def test_header_bytes_that_are_too_few(self, packed: Packed) -> None:
        for manifest in (
            replace(packed.manifest, header_chunks=packed.manifest.header_chunks[:-1]),
            replace(packed.manifest, headers=None),
        ):
            forged = replace(packed, manifest=manifest)
            with pytest.raises(IntegrityError, match="header bytes"):
                forged.out_of("0", forged.reader())


def test_pieces_that_disagree_with_the_pixels_are_an_error(packed: Packed) -> None:
    record = packed.manifest.instances[0]
    head, pixels, tail = record.pieces
    for pieces in ((head, pixels - 1, tail), (head, pixels + 1, tail)):
        with pytest.raises(IntegrityError):
            list(packed.reader().instance_bytes(replace(record, pieces=pieces)))


def test_large_files_come_in_bounded_pieces(pool: DecoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_reader, "JOIN_BYTES", 4096)
    monkeypatch.setattr(pack_reader, "BATCH_BYTES", 4096)
    monkeypatch.setattr(pack_writer, "HEADER_CHUNK", 4096)
    files = {
        "frames": synthetic.image(FRAMES),
        "whole": synthetic.image(FRAMES)[:-3000],
        "codestreams": synthetic.compressed(JPEG_LS, 3),
        "no pixels": synthetic.encapsulated_pdf() + bytes(20_000),
    }
    packed = pack(files, pool)
    reader = packed.reader()
    for name, data in files.items():
        pieces = list(reader.instance_bytes(packed.manifest.instance(packed.prepared[name].instance_id)))
        assert b"".join(pieces) == data
        assert max(len(piece) for piece in pieces) <= 4096


class TestShards:
    def test_the_index_counts_from_its_own_end(self) -> None:
        index = shard_index([5, 0, 7], 4)
        assert len(index) == 4 * 16 + 4
        values = np.frombuffer(index[:-4], "<u8").tolist()
        assert values == [68, 5, 73, 0, 73, 7, 2**64 - 1, 2**64 - 1]

    def test_the_checksum_is_crc32c(self) -> None:
        # RFC 3720 B.4: 32 bytes of zeros, of ones.
        assert crc32c(bytes(32)) == 0x8A9136AA
        assert crc32c(b"\xff" * 32) == 0x62A8AB43

    def test_a_shard_shorter_than_its_index(self) -> None:
        class Short:
            size = 10

        with pytest.raises(IntegrityError, match="index"):
            OpenShard(Short(), 4, 4)  # type: ignore[arg-type]

    def test_joining(self) -> None:
        wanted = [(0, 0, 10, 2), (0, 10, 10, 0), (0, 100_000, 10, 1), (1, 100_010, 10, 3)]
        assert [(s.shard, s.start, s.stop) for s in joined(wanted, 1000)] == [
            (0, 0, 20),
            (0, 100_000, 100_010),
            (1, 100_010, 100_020),
        ]
        assert [(s.start, s.stop) for s in joined(wanted[:2], 15)] == [(0, 10), (10, 20)]
        assert list(joined([], 10)) == []
