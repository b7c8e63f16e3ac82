from __future__ import annotations

import gc
import hashlib
import os
import pickle
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxelvault.crypto.streaming_aead import Kind, sealed_length
from voxelvault.errors import IntegrityError, ObjectExists, ObjectMissing, UsageError
from voxelvault.model import Buffer, SealedRef, new_id
from voxelvault.storage import sealed_objects
from voxelvault.storage.objects import LocalObjects, MemoryObjects
from voxelvault.storage.sealed_objects import SealedObjects

VAULT, KEY_ID, DEK = new_id(), new_id(), os.urandom(32)
FIRST, SEGMENT = 65536 - 16 - 40, 65536 - 16
WINDOW = 8 * SEGMENT
SIZES = [0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + SEGMENT, WINDOW - 40, WINDOW - 39, 3 * WINDOW + 12_345]


@pytest.fixture(params=["local", "memory"])
def sealed(request: pytest.FixtureRequest, tmp_path: Path) -> SealedObjects:
    store = LocalObjects(tmp_path, durable=False) if request.param == "local" else MemoryObjects()
    return SealedObjects(store, VAULT)


def put(sealed: SealedObjects, data: Buffer) -> SealedRef:
    return sealed.put(Kind.SHARD, DEK, KEY_ID, [data])


def test_a_put_leaves_no_buffers_to_the_collector(sealed: SealedObjects) -> None:
    gc.collect()
    gc.disable()
    try:
        tracemalloc.start()
        for _ in range(4):
            put(sealed, b"some")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert held < 256 << 10


@pytest.mark.parametrize("size", SIZES)
def test_round_trip(sealed: SealedObjects, size: int) -> None:
    data = os.urandom(size)
    ref = put(sealed, data)
    stored = sealed.objects.get(sealed.name(ref.object_id))
    assert (ref.length, ref.sha256) == (len(stored), hashlib.sha256(stored).hexdigest())
    assert ref.length == sealed_length(size)
    assert (ref.kind, ref.key_id) == (Kind.SHARD, KEY_ID)
    assert sealed.read(ref, DEK) == data == sealed.open_whole(ref, DEK)
    assert sealed.reader(ref, DEK).size == size
    sealed.verify(ref)
    assert sealed.describe(ref.object_id) == ref


def test_nothing_of_the_plaintext_is_stored(sealed: SealedObjects) -> None:
    pattern = b"EXAMPLE^PATIENT " * 64
    ref = put(sealed, pattern * 300)
    assert b"EXAMPLE^PATIENT" not in sealed.objects.get(sealed.name(ref.object_id))


def test_parts_of_any_kind_join(sealed: SealedObjects) -> None:
    reused = bytearray(3)

    def parts() -> Iterator[Buffer]:
        for number in range(3):
            reused[:] = bytes([number]) * 3
            yield reused
        yield memoryview(np.arange(6, dtype="<i2").reshape(2, 3))
        yield memoryview(np.empty((0, 4), "f4"))
        yield b""
        yield os.urandom(0)

    ref = sealed.put(Kind.HEADERS, DEK, KEY_ID, parts())
    assert sealed.read(ref, DEK) == b"\0\0\0\1\1\1\2\2\2" + np.arange(6, dtype="<i2").tobytes()


def test_failing_parts_store_nothing(sealed: SealedObjects) -> None:
    def parts() -> Iterator[Buffer]:
        yield os.urandom(3 << 20)
        raise RuntimeError("source failed")

    with pytest.raises(RuntimeError, match="source failed"):
        sealed.put(Kind.SHARD, DEK, KEY_ID, parts())
    assert list(sealed.objects.list("")) == []


def test_an_id_is_used_once(sealed: SealedObjects) -> None:
    object_id = new_id()
    ref = sealed.put(Kind.SHARD, DEK, KEY_ID, [b"first"], object_id)
    with pytest.raises(ObjectExists):
        sealed.put(Kind.SHARD, DEK, KEY_ID, [b"second"], object_id)
    assert sealed.read(ref, DEK) == b"first"


_BIG = os.urandom(2 * WINDOW + 777)
_MEMORY = SealedObjects(MemoryObjects(), VAULT)
_BIG_READER = _MEMORY.reader(put(_MEMORY, _BIG), DEK)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_range(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(_BIG)))
    stop = data.draw(st.integers(start, len(_BIG)))
    assert _BIG_READER.read(start, stop) == _BIG[start:stop]


@pytest.mark.parametrize("border", [FIRST, FIRST + SEGMENT, WINDOW - 40, 2 * WINDOW - 40, len(_BIG)])
def test_ranges_at_borders(border: int) -> None:
    for start in (border - 2, border - 1, border):
        for stop in range(start, min(border + 3, len(_BIG) + 1)):
            assert _BIG_READER.read(start, stop) == _BIG[start:stop]


def test_ranges_outside_are_refused_before_memory_is_taken() -> None:
    for start, stop in ((-1, 5), (5, 4), (0, len(_BIG) + 1), (0, 1 << 60)):
        with pytest.raises(UsageError):
            _BIG_READER.read(start, stop)
    out = bytearray(b"x" * 10)
    with pytest.raises(UsageError):
        _BIG_READER.read_into(len(_BIG) - 9, memoryview(out))


def test_read_into_an_array() -> None:
    array = np.zeros((100, 7), "<u4")
    _BIG_READER.read_into(123, memoryview(array))
    assert array.tobytes() == _BIG[123 : 123 + array.nbytes]


def test_threads_share_a_reader() -> None:
    wrong: list[int] = []

    def read(number: int) -> None:
        for step in range(10):
            start = (number * 97_001 + step * 53_017) % (len(_BIG) - 700_000)
            if _BIG_READER.read(start, start + 700_000) != _BIG[start : start + 700_000]:
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_segments_are_read_once(sealed: SealedObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = put(sealed, _BIG)
    reader = sealed.reader(ref, DEK)
    read: list[int] = []

    class Counting(MemoryObjects):
        def read_into(self, name: str, start: int, out: memoryview) -> None:
            read.append(len(out))
            sealed.objects.read_into(name, start, out)

    monkeypatch.setattr(reader, "_objects", Counting())
    assert reader.read() == _BIG
    assert sum(read) == ref.length - 88
    assert max(read) <= 8 * 65536


def tamper(sealed: SealedObjects, ref: SealedRef, change: bytes, at: int) -> None:
    name = sealed.name(ref.object_id)
    stored = bytearray(sealed.objects.get(name))
    stored[at : at + len(change)] = change
    sealed.objects.replace(name, stored)


def test_a_changed_byte_is_refused_and_nothing_comes_out(sealed: SealedObjects) -> None:
    ref = put(sealed, _BIG)
    at = ref.length - 1000
    tamper(sealed, ref, bytes([sealed.objects.get(sealed.name(ref.object_id))[at] ^ 1]), at)
    reader = sealed.reader(ref, DEK)
    assert reader.read(0, WINDOW) == _BIG[:WINDOW]  # what is whole still opens
    out = bytearray(b"x" * len(_BIG))
    with pytest.raises(IntegrityError, match=ref.object_id):
        reader.read_into(0, memoryview(out))
    assert not any(out)
    for proof in (lambda: sealed.open_whole(ref, DEK), lambda: sealed.verify(ref)):
        with pytest.raises(IntegrityError, match=ref.object_id):
            proof()


@pytest.mark.parametrize("at", [0, 9, 11, 13, 15, 20, 40, 48, 60, 85])
def test_every_part_of_the_head_counts(sealed: SealedObjects, at: int) -> None:
    ref = put(sealed, b"plain" * 100)
    tamper(sealed, ref, bytes([sealed.objects.get(sealed.name(ref.object_id))[at] ^ 0x80]), at)
    with pytest.raises(Exception, match=r"object|sealed") as caught:
        sealed.read(ref, DEK)
    assert type(caught.value).__module__ == "voxelvault.errors"


@pytest.mark.parametrize("keep", [0, 10, 87, 88, 104, 48 + 65536, 48 + 2 * 65536])
def test_a_cut_object_opens_nowhere(sealed: SealedObjects, keep: int) -> None:
    """Its earlier segments are genuine: only the length betrays it."""
    ref = put(sealed, _BIG)
    name = sealed.name(ref.object_id)
    sealed.objects.replace(name, sealed.objects.get(name)[:keep])
    for proof in (
        lambda: sealed.reader(ref, DEK),
        lambda: sealed.read(ref, DEK, 0, 10),
        lambda: sealed.open_whole(ref, DEK),
        lambda: sealed.verify(ref),
    ):
        with pytest.raises(IntegrityError):
            proof()


def test_an_object_cut_while_it_is_read(sealed: SealedObjects) -> None:
    ref = put(sealed, _BIG)
    reader = sealed.reader(ref, DEK)
    name = sealed.name(ref.object_id)
    sealed.objects.replace(name, sealed.objects.get(name)[: 48 + 2 * 65536])
    with pytest.raises(IntegrityError):
        reader.read()


def test_swapped_objects_are_refused(sealed: SealedObjects) -> None:
    one, two = put(sealed, b"one" * 50), put(sealed, b"two" * 50)
    names = [sealed.name(ref.object_id) for ref in (one, two)]
    first, second = map(sealed.objects.get, names)
    sealed.objects.replace(names[0], second)
    sealed.objects.replace(names[1], first)
    for ref in (one, two):
        with pytest.raises(IntegrityError):
            sealed.read(ref, DEK)
        with pytest.raises(IntegrityError):
            sealed.describe(ref.object_id)


def test_another_key_vault_kind_or_key_id(sealed: SealedObjects) -> None:
    ref = put(sealed, b"plain")
    elsewhere = SealedObjects(sealed.objects, new_id())
    for proof in (
        lambda: sealed.read(ref, os.urandom(32)),
        lambda: elsewhere.read(ref, DEK),
        lambda: sealed.read(replace(ref, kind=int(Kind.HEADERS)), DEK),
        lambda: sealed.read(replace(ref, key_id=new_id()), DEK),
    ):
        with pytest.raises(IntegrityError):
            proof()


def test_a_forger_with_the_key_is_caught_by_the_digest(sealed: SealedObjects) -> None:
    ref = put(sealed, b"true")
    sealed.delete(ref.object_id)
    forged = sealed.put(Kind.SHARD, DEK, KEY_ID, [b"fake"], ref.object_id)
    assert forged.length == ref.length
    with pytest.raises(IntegrityError):
        sealed.open_whole(ref, DEK)
    with pytest.raises(IntegrityError):
        sealed.verify(ref)


def test_missing(sealed: SealedObjects) -> None:
    ref = put(sealed, b"plain")
    sealed.delete(ref.object_id)
    sealed.delete(ref.object_id)
    for proof in (
        lambda: sealed.reader(ref, DEK),
        lambda: sealed.open_whole(ref, DEK),
        lambda: sealed.verify(ref),
        lambda: sealed.describe(ref.object_id),
    ):
        with pytest.raises(ObjectMissing):
            proof()


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """16 MB go in and out through a few megabytes."""
    sealed = SealedObjects(LocalObjects(tmp_path, durable=False), VAULT)
    part = bytes(1 << 20)
    out = memoryview(bytearray(12 << 20))
    tracemalloc.start()
    try:
        ref = sealed.put(Kind.SHARD, DEK, KEY_ID, (part for _ in range(16)))
        reader = sealed.reader(ref, DEK)
        reader.read_into(1000, out)
        sealed.verify(ref)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 << 20


def test_areas_are_folders(sealed: SealedObjects) -> None:
    caches = SealedObjects(sealed.objects, VAULT, "derived")
    ref = put(caches, b"brick")
    (info,) = sealed.objects.list("derived/")
    assert info.name == f"derived/{ref.object_id[:2]}/{ref.object_id}"


def test_a_reader_is_not_pickled() -> None:
    with pytest.raises(UsageError, match="never pickled"):
        pickle.dumps(_BIG_READER)


def test_windows_meet_segments() -> None:
    windows = list(sealed_objects._windows(0, len(_BIG)))
    assert windows[0] == (0, WINDOW - 40)
    assert [stop for _, stop in windows[:-1]] == [start for start, _ in windows[1:]]
    assert list(sealed_objects._windows(7, 7)) == [(7, 7)]
