"""Sealed objects whose parts someone moved: the bytes that were sealed, or a refusal, never others."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from voxelvault.crypto.streaming_aead import PREAMBLE_LENGTH, SEGMENT, Kind
from voxelvault.errors import VoxelVaultError
from voxelvault.model import SealedRef, new_id
from voxelvault.storage.objects import MemoryObjects
from voxelvault.storage.sealed_objects import SealedObjects
from voxelvault.testing.damage import changed

VAULT, KEY_ID, DEK = new_id(), new_id(), os.urandom(32)
SIZES = (0, 1, 65_480, 65_481, 2 * SEGMENT, 3 * SEGMENT + 17, 3 * SEGMENT + 17)
PLAINS = tuple(os.urandom(size) for size in SIZES)
STORE = MemoryObjects()
SEALED = SealedObjects(STORE, VAULT)
REFS = tuple(SEALED.put(Kind.SHARD, DEK, KEY_ID, [plain]) for plain in PLAINS)
STORED = tuple(STORE.get(SEALED.name(ref.object_id)) for ref in REFS)
EARLIER = SealedObjects(MemoryObjects(), VAULT)
"""Other writings of the same objects: same ids, same key, other bytes."""
for one, size in zip(REFS, SIZES, strict=True):
    EARLIER.put(Kind.SHARD, DEK, KEY_ID, [os.urandom(size)], one.object_id)

SOME = settings(max_examples=50, deadline=None, derandomize=True)


def cut(whole: bytes) -> list[bytes]:
    """Return the preamble with its header's segment, and the segments after it."""
    borders = [0, *range(PREAMBLE_LENGTH + SEGMENT, len(whole), SEGMENT), len(whole)]
    return [whole[start:stop] for start, stop in pairwise(borders)]


@st.composite
def rearranged(draw: st.DrawFn, at: int) -> bytes:
    """Return object `at` with segments swapped, doubled, dropped, or of another object or writing."""
    parts = cut(STORED[at])
    for _ in range(draw(st.integers(1, 2))):
        here = draw(st.integers(0, len(parts) - 1))
        kind = draw(st.sampled_from(["swap", "double", "drop", "foreign", "earlier", "head"]))
        other = draw(st.integers(0, len(REFS) - 1))
        older = cut(EARLIER.objects.get(SEALED.name(REFS[at].object_id)))
        if kind == "swap":
            there = draw(st.integers(0, len(parts) - 1))
            parts[here], parts[there] = parts[there], parts[here]
        elif kind == "double":
            parts.insert(here, parts[here])
        elif kind == "drop" and len(parts) > 1:
            del parts[here]
        elif kind == "foreign":
            parts[here] = draw(st.sampled_from(cut(STORED[other])))
        elif kind == "earlier" and here and here < len(older):
            # Not the first: with its salt, whoever holds the key can write the object anew, and only
            # the digests of manifests and of `open_whole` tell.
            parts[here] = older[here]
        elif kind == "head":
            parts[0] = STORED[other][: PREAMBLE_LENGTH + 40] + parts[0][PREAMBLE_LENGTH + 40 :]
    return b"".join(parts)


def read(stored: bytes, at: int, ref: SealedRef, start: int, stop: int, *, whole: bool) -> None:
    """Read what lies in an object's place; assert that it is what was sealed there, if anything comes."""
    store = MemoryObjects()
    sealed = SealedObjects(store, VAULT)
    store.put(sealed.name(ref.object_id), [stored])
    try:
        found = bytes(sealed.open_whole(ref, DEK)) if whole else bytes(sealed.read(ref, DEK, start, stop))
    except VoxelVaultError:
        return
    assert found == (PLAINS[at] if whole else PLAINS[at][start:stop])
    assert not whole or stored == STORED[at]


@SOME
@given(st.integers(0, len(REFS) - 1), st.data())
def test_moved_segments_are_refused_or_not_touched(at: int, data: st.DataObject) -> None:
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, SIZES[at])] * 2)))
    read(data.draw(rearranged(at)), at, REFS[at], start, stop, whole=data.draw(st.booleans()))


@SOME
@given(st.integers(0, len(REFS) - 1), st.integers(0, len(REFS) - 1), st.booleans())
def test_an_object_in_anothers_place_is_refused(at: int, other: int, whole: bool) -> None:
    read(STORED[other], at, REFS[at], 0, SIZES[at], whole=whole)


@SOME
@given(st.integers(0, 2), st.data())
def test_damaged_objects_are_refused_or_not_touched(at: int, data: st.DataObject) -> None:
    stored = data.draw(changed(STORED[at]))
    # A reference whose length was changed along with the object, as a catalog's forger could.
    ref = replace(REFS[at], length=len(stored)) if data.draw(st.booleans()) else REFS[at]
    read(stored, at, ref, 0, SIZES[at], whole=False)


@SOME
@given(st.integers(0, 3), st.sampled_from(["vault", "kind", "key_id", "object_id", "dek"]), st.data())
def test_another_context_opens_nothing(at: int, what: str, data: st.DataObject) -> None:
    """Everything that the seal authenticates, changed on the reader's side or in the object's head."""
    ref, dek, vault, head = REFS[at], DEK, VAULT, bytearray(STORED[at])
    if what == "vault":
        vault = new_id()
    elif what == "dek":
        dek = data.draw(st.binary(min_size=32, max_size=32).filter(lambda key: key != DEK))
    elif what == "kind":
        kind = data.draw(st.integers(0, 0xFFFF).filter(lambda kind: kind != Kind.SHARD))
        head[10:12], ref = kind.to_bytes(2, "big"), replace(ref, kind=kind)
    elif what == "key_id":
        other = new_id()
        head[32:48], ref = bytes.fromhex(other), replace(ref, key_id=other)
    else:
        other = new_id()
        head[16:32], ref = bytes.fromhex(other), replace(ref, object_id=other)
    sealed = SealedObjects(MemoryObjects(), vault)
    for stored in (bytes(head), STORED[at]):
        sealed.objects.replace(sealed.name(ref.object_id), stored)
        try:
            sealed.read(ref, dek)
        except VoxelVaultError:
            continue
        raise AssertionError(f"it opened under another {what}")
