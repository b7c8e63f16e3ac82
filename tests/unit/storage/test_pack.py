"""The manifest: there and back, and refused where it is not ours."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import imagecodecs
import pytest
from pack_support import IDENTITY

from voxelvault.errors import IntegrityError, NewerFormat
from voxelvault.model import FORMAT, FrameSpec, SealedRef, new_id
from voxelvault.storage.pack import (
    InstanceRecord,
    Manifest,
    StackKey,
    StackRecord,
    frame_bytes,
    frames_a_batch,
    manifest_from_bytes,
    manifest_to_bytes,
)

KEY = StackKey(FrameSpec(3, 5), "1.2.840.10008.1.2.1", "<u2", (3, 5), "htj2k")


def ref() -> SealedRef:
    return SealedRef(new_id(), new_id(), 2, 1000, "ab" * 32)


def manifest() -> Manifest:
    stack = StackRecord(KEY, 3, 2, (ref(), ref()), ("11" * 32, "22" * 32, "33" * 32))
    instances = (
        InstanceRecord(new_id(), "1.2", "1.3", "cd" * 32, 70, (10, 30, 30), 0, 0, 0, 1),
        InstanceRecord(new_id(), "1.4", "1.3", "ef" * 32, 70, (), 40, 0, 1, 2, (1, 2), ref()),
    )
    return Manifest(
        new_id(), new_id(), new_id(), "00ff", "2026-01-01", IDENTITY, (stack,), instances, ref(), ((40, 21),)
    )


def changed(**values: Any) -> bytes:
    document = json.loads(imagecodecs.zstd_decode(manifest_to_bytes(manifest())))
    return bytes(imagecodecs.zstd_encode(json.dumps({**document, **values}).encode()))


def test_there_and_back() -> None:
    before = manifest()
    assert manifest_from_bytes(manifest_to_bytes(before)) == before
    assert manifest_from_bytes(memoryview(bytearray(manifest_to_bytes(before)))) == before


def test_equal_manifests_have_equal_bytes() -> None:
    before = manifest()
    assert manifest_to_bytes(replace(before)) == manifest_to_bytes(before)


def test_every_object_is_listed() -> None:
    made = manifest()
    assert made.objects() == [*made.stacks[0].shards, made.headers, made.instances[1].original]


def test_an_instance_is_found_by_its_id() -> None:
    made = manifest()
    assert made.instance(made.instances[1].instance_id) is made.instances[1]
    with pytest.raises(IntegrityError, match="voxelvault verify"):
        made.instance(new_id())


def test_a_newer_format_is_refused() -> None:
    with pytest.raises(NewerFormat, match="update"):
        manifest_from_bytes(changed(format=FORMAT + 1, surprise=1))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no manifest",
        bytes(imagecodecs.zstd_encode(b"{")),
        bytes(imagecodecs.zstd_encode(b"[]")),
        bytes(imagecodecs.zstd_encode(b"{}")),
        changed(format=None),
        changed(stacks=[{}]),
        changed(instances=[1]),
        changed(header_chunks=[[1]]),
        changed(surprise=1),
    ],
)
def test_what_does_not_parse_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="voxelvault verify"):
        manifest_from_bytes(data)


def test_batches_begin_at_whole_bytes_and_words() -> None:
    assert frame_bytes(KEY) == 30
    assert frames_a_batch(KEY, 100) == 3
    assert frames_a_batch(KEY, 1) == 1
    bits = replace(KEY, spec=FrameSpec(3, 5, bits_allocated=1, bits_stored=1), dtype="|u1")
    assert [frames_a_batch(bits, limit) for limit in (1, 480, 1000)] == [16, 32, 64]
    words = replace(KEY, spec=FrameSpec(3, 5, bits_allocated=8), dtype="|u1", word_swapped=True)
    assert [frames_a_batch(words, limit) for limit in (1, 50, 100)] == [2, 2, 6]
    huge = replace(KEY, shape=(65535, 65535, 4), dtype="<f8")
    assert frame_bytes(huge) == 65535**2 * 32
    assert frames_a_batch(huge, 1 << 20) == 1


def test_a_frame_of_the_largest_size_is_counted_without_overflow() -> None:
    assert frame_bytes(replace(KEY, shape=(2**31, 2**20))) == 2**52
