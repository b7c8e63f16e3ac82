"""The zarr face: what zarr's own stores answer, and nothing in plaintext."""

from __future__ import annotations

import asyncio
import os
import pickle
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
import zarr.registry
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest, SupportsSetSync
from zarr.core.buffer import default_buffer_prototype
from zarr.core.buffer.cpu import Buffer
from zarr.storage import MemoryStore

from voxelvault.crypto.streaming_aead import Kind
from voxelvault.errors import IntegrityError, ObjectExists, ObjectMissing, StorageError, UsageError
from voxelvault.model import new_id
from voxelvault.storage.objects import LocalObjects, MemoryObjects
from voxelvault.storage.sealed_objects import SealedObjects
from voxelvault.storage.zarr_store import PackStore, SealedEntries, WritableSealedStore

DEK, KEY_ID = os.urandom(32), new_id()
PROTOTYPE = default_buffer_prototype()
PATTERN = np.frombuffer(b"EXAMPLE^PATIENT:", np.uint16)


@pytest.fixture
def sealed(tmp_path: Path) -> SealedObjects:
    return SealedObjects(LocalObjects(tmp_path / "vault", durable=False), new_id())


@pytest.fixture
def store(sealed: SealedObjects) -> WritableSealedStore:
    return WritableSealedStore(sealed, DEK, KEY_ID)


def volume(shape: tuple[int, ...] = (16, 32, 32)) -> Any:
    return np.resize(PATTERN, shape)


def raw_files(sealed: SealedObjects) -> dict[str, bytes]:
    root = sealed.objects.root  # type: ignore[attr-defined]
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


ARRAYS: dict[str, dict[str, Any]] = {
    "sharded": {"chunks": (1, 32, 32), "shards": (8, 32, 32)},
    "sharded, raw": {"chunks": (1, 32, 32), "shards": (16, 32, 32), "compressors": None},
    "chunked": {"chunks": (1, 32, 32)},
    "chunked, raw": {"chunks": (4, 16, 16), "compressors": None, "filters": None},
    "one chunk, v2": {"chunks": (16, 32, 32), "zarr_format": 2, "compressors": None},
}


def pipelines() -> Iterator[Any]:
    """Every codec pipeline that zarr knows, single chunks and batches."""
    zarr.registry.get_pipeline_class()  # fills the registry
    registry = zarr.registry.__dict__["__pipeline_registry"]
    for path, batch in product(registry, (1, 64)):
        yield pytest.param({"codec_pipeline": {"path": path, "batch_size": batch}}, id=f"{path}-{batch}")


class TestNothingInPlaintext:
    @pytest.mark.parametrize("settings", [*pipelines()])
    @pytest.mark.parametrize("layout", ARRAYS)
    def test_arrays(self, sealed: SealedObjects, store: Store, layout: str, settings: Any) -> None:
        data = volume()
        with zarr.config.set(settings):
            array = zarr.create_array(
                store,
                name="stack",
                shape=data.shape,
                dtype=data.dtype,
                attributes={"note": "planted"},
                **ARRAYS[layout],
            )
            array[:] = data
            assert np.array_equal(zarr.open_array(store, path="stack", mode="r")[:], data)
        files = raw_files(sealed)
        assert len(files) == len(store.refs) >= 2  # type: ignore[attr-defined]
        for name, content in files.items():
            area, folder, object_id = name.split("/")
            assert (area, folder) == ("objects", object_id[:2])
            assert len(object_id) == 32
            assert content.startswith(b"VOXVAULT")
            for needle in (PATTERN.tobytes(), b"zarr_format", b"planted", b"stack"):
                assert needle not in content

    def test_the_test_can_fail(self, tmp_path: Path) -> None:
        """The same search over an unsealed store finds pattern and metadata."""
        data = volume()
        array = zarr.create_array(tmp_path, shape=data.shape, dtype=data.dtype, **ARRAYS["sharded, raw"])
        array[:] = data
        found = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
        assert PATTERN.tobytes() in found
        assert b"zarr_format" in found

    def test_no_way_around_the_seal(self) -> None:
        """A synchronous setter, inherited or new, would be one; `Store` itself has none."""
        assert WritableSealedStore.__mro__[1:3] == (PackStore, Store)
        assert not issubclass(WritableSealedStore, SupportsSetSync)
        setters = {name for name in dir(WritableSealedStore) if "set" in name and not name.startswith("__")}
        assert setters == {"set", "set_if_not_exists", "_set_many"}


class TestWriteOnce:
    def test_a_second_set_is_refused(self, store: Store) -> None:
        value = Buffer.from_bytes(b"first")
        asyncio.run(store.set("c/0", value))
        with pytest.raises(ObjectExists):
            asyncio.run(store.set("c/0", Buffer.from_bytes(b"second")))
        asyncio.run(store.set_if_not_exists("c/0", Buffer.from_bytes(b"third")))
        assert asyncio.run(store.get("c/0", PROTOTYPE)).to_bytes() == b"first"  # type: ignore[union-attr]

    def test_simultaneous_sets_have_one_winner(self, sealed: SealedObjects, store: Store) -> None:
        async def race() -> list[Any]:
            values = [Buffer.from_bytes(bytes([n]) * 100) for n in range(8)]
            return await asyncio.gather(*(store.set("c/0", v) for v in values), return_exceptions=True)

        outcomes = asyncio.run(race())
        assert sum(outcome is None for outcome in outcomes) == 1
        assert len(raw_files(sealed)) == 1

    def test_a_partial_write_of_a_shard_is_refused(self, sealed: SealedObjects, store: Store) -> None:
        array = zarr.create_array(store, shape=(16, 32, 32), dtype="u2", **ARRAYS["sharded"])
        array[:8] = volume()[:8]
        before = raw_files(sealed)
        with pytest.raises(ObjectExists):
            array[3] = 7
        assert raw_files(sealed) == before
        assert np.array_equal(array[:8], volume()[:8])

    def test_stored_keys_stay(self, sealed: SealedObjects, store: Store) -> None:
        array = zarr.create_array(store, name="stack", shape=(16, 32, 32), dtype="u2", **ARRAYS["sharded"])
        array[:] = volume()
        with pytest.raises(UsageError):
            asyncio.run(store.delete("stack/zarr.json"))
        with pytest.raises(NotImplementedError):  # zarr's own answer of a store without deletes
            asyncio.run(store.clear())
        with pytest.raises((UsageError, StorageError, ValueError)):
            zarr.create_array(store, name="stack", shape=(1,), dtype="u1", overwrite=True)
        assert np.array_equal(array[:], volume())

    def test_a_failed_set_may_be_tried_again(self, sealed: SealedObjects, monkeypatch: Any) -> None:
        store = WritableSealedStore(sealed, DEK, KEY_ID)
        with monkeypatch.context() as patch:
            patch.setattr(SealedObjects, "put", lambda *_: (_ for _ in ()).throw(StorageError("disk")))
            with pytest.raises(StorageError):
                asyncio.run(store.set("c/0", Buffer.from_bytes(b"x")))
        assert not asyncio.run(store.exists("c/0"))
        asyncio.run(store.set("c/0", Buffer.from_bytes(b"x")))
        assert asyncio.run(store.exists("c/0"))

    def test_empty_chunks_are_absent(self, store: WritableSealedStore) -> None:
        array = zarr.create_array(store, shape=(16, 32, 32), dtype="u2", fill_value=0, **ARRAYS["sharded"])
        array[:] = 0
        assert list(store.refs) == ["zarr.json"]
        assert not array[:].any()


class TestReopened:
    def test_references_open_it_again(self, sealed: SealedObjects, store: WritableSealedStore) -> None:
        array = zarr.create_array(store, shape=(16, 32, 32), dtype="u2", **ARRAYS["sharded"])
        array[:] = volume()
        assert {ref.kind for ref in store.refs.values()} == {int(Kind.DERIVED)}
        again = zarr.open_array(PackStore(SealedEntries(sealed, dict(store.refs), DEK)), mode="r")
        assert np.array_equal(again[:], volume())
        assert np.array_equal(again[5, 3:9, 2:30:3], volume()[5, 3:9, 2:30:3])
        with pytest.raises(ValueError, match="read-only"):
            again[:] = 1

    def test_swapped_shards_are_refused(self, sealed: SealedObjects, store: WritableSealedStore) -> None:
        array = zarr.create_array(
            store, shape=(16, 32, 32), dtype="u2", **ARRAYS["sharded, raw"] | {"shards": (8, 32, 32)}
        )
        array[:] = volume()
        one, two = (sealed.name(store.refs[key].object_id) for key in ("c/0/0/0", "c/1/0/0"))
        first, second = sealed.objects.get(one), sealed.objects.get(two)
        sealed.objects.replace(one, second)
        sealed.objects.replace(two, first)
        with pytest.raises(IntegrityError):
            zarr.open_array(PackStore(SealedEntries(sealed, store.refs, DEK)), mode="r")[:]

    def test_a_lost_shard_is_no_fill_value(self, sealed: SealedObjects, store: WritableSealedStore) -> None:
        array = zarr.create_array(store, shape=(16, 32, 32), dtype="u2", **ARRAYS["sharded"])
        array[:] = volume()
        sealed.delete(store.refs["c/1/0/0"].object_id)
        again = zarr.open_array(PackStore(SealedEntries(sealed, store.refs, DEK)), mode="r")
        assert np.array_equal(again[:8], volume()[:8])
        with pytest.raises(ObjectMissing):
            again[8:]

    def test_a_changed_shard_is_refused(self, sealed: SealedObjects, store: WritableSealedStore) -> None:
        array = zarr.create_array(store, shape=(16, 32, 32), dtype="u2", **ARRAYS["sharded"])
        array[:] = volume()
        name = sealed.name(store.refs["c/1/0/0"].object_id)
        stored = bytearray(sealed.objects.get(name))
        stored[200] ^= 1
        sealed.objects.replace(name, stored)
        again = zarr.open_array(PackStore(SealedEntries(sealed, store.refs, DEK)), mode="r")
        with pytest.raises(IntegrityError):
            again[:]


CONTENT = {
    "zarr.json": b'{"zarr_format": 3, "node_type": "group"}',
    "stack/zarr.json": b'{"zarr_format": 3}',
    "stack/c/0/0": bytes(range(200)),
    "stack/c/0/1": b"",
    "stacked/c/0": b"x",
}


@pytest.fixture(scope="module")
def pack() -> PackStore:
    sealed = SealedObjects(MemoryObjects(), new_id())
    documents = {key: value for key, value in CONTENT.items() if key.endswith("json")}
    shards = {
        key: sealed.reader(sealed.put(Kind.SHARD, DEK, KEY_ID, [value]), DEK)
        for key, value in CONTENT.items()
        if key not in documents
    }
    return PackStore(documents | shards)


@pytest.fixture(scope="module")
def reference() -> MemoryStore:
    return MemoryStore({key: Buffer.from_bytes(value) for key, value in CONTENT.items()})


class TestLikeZarrsOwn:
    """Every answer of a pack with documents and sealed shards equals that of zarr's memory store."""

    @pytest.mark.parametrize("key", [*CONTENT, "absent", "stack", "stack/c", ""])
    @pytest.mark.parametrize(
        "span",
        [
            None,
            RangeByteRequest(0, 10),
            RangeByteRequest(5, 10_000),
            OffsetByteRequest(7),
            OffsetByteRequest(500),
            SuffixByteRequest(1),
        ],
    )
    def test_get(self, pack: PackStore, reference: MemoryStore, key: str, span: Any) -> None:
        def answer(store: Store) -> bytes | None:
            value = asyncio.run(store.get(key, PROTOTYPE, span))
            return None if value is None else value.to_bytes()

        assert answer(pack) == answer(reference)

    def test_a_suffix_longer_than_the_value(self, pack: PackStore) -> None:
        value = asyncio.run(pack.get("stacked/c/0", PROTOTYPE, SuffixByteRequest(50)))
        assert value is not None
        assert value.to_bytes() == b"x"

    def test_what_is_no_range(self, pack: PackStore) -> None:
        with pytest.raises(ValueError, match="Unexpected byte_range"):
            asyncio.run(pack.get("zarr.json", PROTOTYPE, (0, 2)))  # type: ignore[arg-type]

    def test_partial_values(self, pack: PackStore) -> None:
        wanted = [("stack/c/0/0", RangeByteRequest(3, 5)), ("absent", None), ("stacked/c/0", None)]
        values = asyncio.run(pack.get_partial_values(PROTOTYPE, wanted))
        assert [v and v.to_bytes() for v in values] == [b"\3\4", None, b"x"]

    @pytest.mark.parametrize(
        "prefix", ["", "stack", "stack/", "stack/c", "stack/c/0/", "absent", "zarr.json"]
    )
    def test_lists(self, pack: PackStore, reference: MemoryStore, prefix: str) -> None:
        async def collect(keys: Any) -> list[str]:
            return sorted([key async for key in keys])

        for method in ("list_prefix", "list_dir"):
            answers = [asyncio.run(collect(getattr(s, method)(prefix))) for s in (pack, reference)]
            assert answers[0] == answers[1]
        assert asyncio.run(collect(pack.list())) == sorted(CONTENT)

    def test_sizes(self, pack: PackStore) -> None:
        for key, value in CONTENT.items():
            assert asyncio.run(pack.getsize(key)) == len(value)
            assert asyncio.run(pack.exists(key))
        with pytest.raises(FileNotFoundError):
            asyncio.run(pack.getsize("absent"))
        assert not asyncio.run(pack.exists("absent"))

    def test_it_is_read_only(self, pack: PackStore) -> None:
        assert pack.read_only
        assert (pack.supports_writes, pack.supports_deletes, pack.supports_listing) == (False, False, True)
        with pytest.raises(ValueError, match="read-only"):
            asyncio.run(pack.set("new", Buffer.from_bytes(b"x")))
        with pytest.raises(ValueError, match="read-only"):
            asyncio.run(pack.delete("zarr.json"))
        with pytest.raises(UsageError):
            pack.with_read_only(False)
        assert pack.with_read_only(True).read_only

    def test_equality_is_of_the_same_pack(self, pack: PackStore) -> None:
        assert pack == pack.with_read_only(True)
        assert pack != PackStore({})
        assert "entries" in repr(pack)

    def test_keys_are_never_pickled(self, pack: PackStore) -> None:
        with pytest.raises(UsageError):
            pickle.dumps(pack)
        assert pickle.loads(pickle.dumps(PackStore({"zarr.json": b"{}"})))._entries == {"zarr.json": b"{}"}
