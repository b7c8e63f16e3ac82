"""Bricks: what goes in comes out, whatever patch is asked for, and nothing else is believed."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import zarr.storage
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.core.buffer import default_buffer_prototype

from voxelvault.crypto.streaming_aead import FIRST_PLAIN, PLAIN_SEGMENT, Kind
from voxelvault.derived.brick_reader import BrickReader
from voxelvault.derived.bricks import BrickLayout, brick_shape, check_chunks, encoded, place
from voxelvault.errors import ForkedProcess, IntegrityError, UsageError
from voxelvault.model import SealedRef, new_id
from voxelvault.storage.objects import MemoryObjects
from voxelvault.storage.sealed_objects import SealedObjects

AFFINE = tuple(tuple(row) for row in np.diag([1.0, 2.0, 3.0, 1.0]).tolist())
SEALED = SealedObjects(MemoryObjects(), new_id(), "derived")
DEK = os.urandom(32)


def some(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Return a volume whose first half is nothing but fill."""
    values = np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)
    values[: shape[0] // 2] = 7
    return values


def layout_of(volume: np.ndarray, chunks: tuple[int, int, int], codec: str) -> BrickLayout:
    a, b, c = volume.shape
    return BrickLayout((a, b, c), chunks, volume.dtype.name, codec, 7.0, AFFINE, "HU")


def put(volume: np.ndarray, layout: BrickLayout) -> SealedRef:
    return SEALED.put(Kind.DERIVED, DEK, new_id(), encoded(volume, layout))


def patch_of(volume: np.ndarray, start: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    """Cut a patch by plain indexing; outside is 7."""
    wide = np.full([40 + length + 80 for length in volume.shape], 7, volume.dtype)
    wide[tuple(slice(40, 40 + length) for length in volume.shape)] = volume
    return wide[tuple(slice(40 + s, 40 + s + n) for s, n in zip(start, size, strict=True))]


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 30)] * 3),
    chunks=st.tuples(*[st.integers(1, 16)] * 3),
    start=st.tuples(*[st.integers(-35, 35)] * 3),
    size=st.tuples(*[st.integers(0, 35)] * 3),
    dtype=st.sampled_from(["float32", "float16", "int16", "uint8"]),
    codec=st.sampled_from(["raw", "lz4", "zstd", "fast"]),
)
def test_any_patch_is_what_indexing_gives(
    shape: tuple[int, int, int],
    chunks: tuple[int, int, int],
    start: tuple[int, int, int],
    size: tuple[int, int, int],
    dtype: str,
    codec: str,
) -> None:
    volume = some(shape, dtype)
    layout = layout_of(volume, chunks, codec)
    reader = BrickReader(SEALED, put(volume, layout), DEK, layout.to_json())
    assert np.array_equal(reader.read(), volume)
    out = np.empty((2, *size), np.float32)[1]
    assert reader.read(start, size, out) is out
    assert np.array_equal(out, patch_of(volume, start, size).astype(np.float32))


def test_halves_become_what_numpy_makes_of_them() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    volume = np.resize(bits[np.isfinite(bits)], (40, 40, 40))
    layout = layout_of(volume, (32, 32, 32), "raw")
    reader = BrickReader(SEALED, put(volume, layout), DEK, layout)
    out = np.empty(volume.shape, np.float32)
    assert np.array_equal(reader.read(out=out).view(np.uint32), volume.astype(np.float32).view(np.uint32))


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize("shape", [(70, 80, 96), (130, 66, 64)])
def test_raw_bricks_lie_in_segments_of_their_own(shape: tuple[int, int, int], dtype: str) -> None:
    chunks = brick_shape(shape, 32, dtype, "raw")
    layout = BrickLayout(shape, chunks, dtype, "raw", 0.0, AFFINE)
    assert all(24 <= edge <= 40 for edge in chunks)
    places = place([layout.brick_bytes] * layout.slots, layout.index_bytes)
    needed = -(-layout.brick_bytes // PLAIN_SEGMENT)
    behind = [(start + PLAIN_SEGMENT - FIRST_PLAIN) % PLAIN_SEGMENT for start, _ in places]
    assert all(at + layout.brick_bytes <= needed * PLAIN_SEGMENT for at in behind)
    assert needed * PLAIN_SEGMENT - layout.brick_bytes < layout.brick_bytes / 7
    whole = int(np.prod(shape)) * np.dtype(dtype).itemsize
    assert sum(places[-1]) < 1.3 * whole


def test_edges_fit_thin_volumes_and_are_checked() -> None:
    assert brick_shape((3, 300, 300), 32, "int16", "raw")[0] == 3
    assert brick_shape((3, 30, 300), (8, 8, 8), "int16", "raw") == (3, 8, 8)
    assert check_chunks([8, 9, 10]) == (8, 9, 10)
    for wrong in (0, 513, (8, 8), (8, 8, 0)):
        with pytest.raises(UsageError, match="chunks="):
            check_chunks(wrong)


@pytest.mark.parametrize("codec", ["raw", "lz4", "zstd"])
def test_zarr_opens_what_is_sealed(codec: str) -> None:
    volume = some((40, 33, 50), "int16")
    layout = layout_of(volume, (16, 16, 16), codec)
    plain = b"".join(bytes(part) for part in encoded(volume, layout))
    inner: list[dict[str, object]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    if codec != "raw":
        blosc = {"cname": codec, "clevel": 1, "shuffle": "shuffle", "typesize": 2, "blocksize": 0}
        inner.append({"name": "blosc", "configuration": blosc})
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    shard = {"chunk_shape": [16] * 3, "codecs": inner, "index_codecs": index, "index_location": "start"}
    meta = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": volume.shape,
        "data_type": "int16",
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [16 * n for n in layout.grid]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 7,
        "codecs": [{"name": "sharding_indexed", "configuration": shard}],
        "attributes": {},
    }
    store = zarr.storage.MemoryStore()
    make = default_buffer_prototype().buffer.from_bytes
    for name, data in {"zarr.json": json.dumps(meta).encode(), "c/0/0/0": plain}.items():
        asyncio.run(store.set(name, make(data)))
    assert np.array_equal(zarr.open_array(store, mode="r")[:], volume)


def test_bricks_of_nothing_but_fill_are_not_stored() -> None:
    full, empty = some((32, 32, 32), "int16"), np.full((32, 32, 32), 7, np.int16)
    layout = layout_of(full, (8, 8, 8), "raw")
    assert put(empty, layout).length < 2000 < put(full, layout).length < 0.6 * full.nbytes


@pytest.fixture
def reader() -> BrickReader:
    volume = some((20, 20, 20), "float32")
    layout = layout_of(volume, (8, 8, 8), "raw")
    return BrickReader(SEALED, put(volume, layout), DEK, layout)


def test_destinations_that_do_not_fit_are_refused(reader: BrickReader) -> None:
    for out in (
        np.empty((4, 4, 5), np.float32),
        np.empty((4, 4, 4), np.int16),
        np.empty((4, 4, 4), np.float16),
    ):
        with pytest.raises(UsageError, match="out="):
            reader.read((0, 0, 0), (4, 4, 4), out)
    with pytest.raises(UsageError, match="three"):
        reader.read((0, 0), (4, 4))


def test_a_reader_stays_in_its_process(reader: BrickReader) -> None:
    with pytest.raises(UsageError, match="open it anew"):
        pickle.dumps(reader)
    context = multiprocessing.get_context("fork")
    said = context.Queue()

    def child() -> None:
        try:
            reader.read()
        except ForkedProcess as error:
            said.put(str(error))

    process = context.Process(target=child)
    process.start()
    assert "forkserver" in said.get(timeout=20)
    process.join()


def test_a_changed_byte_a_cut_object_or_another_index_is_noticed() -> None:
    volume = some((40, 40, 40), "int16")
    layout = layout_of(volume, (16, 16, 16), "lz4")
    objects = MemoryObjects()
    sealed = SealedObjects(objects, SEALED.vault_id, "derived")
    ref = sealed.put(Kind.DERIVED, DEK, new_id(), encoded(volume, layout))
    name, whole = sealed.name(ref.object_id), objects.get(sealed.name(ref.object_id))
    objects.replace(name, whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(IntegrityError):
        BrickReader(sealed, ref, DEK, layout).read()
    objects.replace(name, whole[:-1])
    with pytest.raises(IntegrityError):
        BrickReader(sealed, ref, DEK, layout)
    objects.replace(name, whole)
    with pytest.raises(IntegrityError):
        BrickReader(sealed, ref, os.urandom(32), layout)
    with pytest.raises(IntegrityError, match="evict"):
        BrickReader(sealed, ref, DEK, replace(layout, chunks=(8, 8, 8)))
    with pytest.raises(IntegrityError, match="evict"):
        BrickReader(sealed, ref, DEK, replace(layout, dtype="float32")).read()
    for wrong in ("{}", "[]", layout.to_json().replace("lz4", "gzip")):
        with pytest.raises(IntegrityError, match="evict"):
            BrickLayout.from_json(wrong)
