"""Whatever range is asked of whatever object: the right bytes, or a refusal."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxelvault.crypto import streaming_aead as sealed
from voxelvault.crypto.streaming_aead import Kind, Opener, Preamble, Sealer, plain_length, sealed_length
from voxelvault.errors import VoxelVaultError
from voxelvault.model import new_id

DEK, VAULT, WHAT = os.urandom(32), new_id(), Preamble(Kind.HEADERS, new_id(), new_id())
BORDERS = [0, *(sealed.FIRST_PLAIN + i * sealed.PLAIN_SEGMENT for i in range(3))]
NEAR_BORDERS = st.builds(lambda b, d: max(0, b + d), st.sampled_from(BORDERS), st.integers(-20, 20))
LENGTHS = NEAR_BORDERS | st.integers(0, BORDERS[-1] + 100)
SOURCE = os.urandom(BORDERS[-1] + 200)


def seal(plain: bytes) -> bytearray:
    whole = bytearray()
    sealer = Sealer(DEK, WHAT, VAULT, whole.extend)
    sealer.write(plain)
    sealer.close()
    return whole


def read(whole: bytearray, start: int, stop: int) -> bytearray:
    opener = Opener(DEK, whole[: sealed.HEAD_LENGTH], VAULT, len(whole), WHAT)
    out = bytearray(min(stop, opener.size) - start)
    first, end = opener.cipher_range(start, start + len(out))
    opener.open_range(whole[first:end], start, start + len(out), memoryview(out))
    return out


@settings(max_examples=150, deadline=None)
@given(LENGTHS, LENGTHS, LENGTHS)
def test_every_range_opens_to_its_bytes(size: int, start: int, stop: int) -> None:
    start, stop = sorted((min(start, size), min(stop, size)))
    assert read(seal(SOURCE[:size]), start, stop) == SOURCE[start:stop]


@settings(max_examples=150, deadline=None)
@given(LENGTHS, st.data())
def test_every_flipped_bit_is_refused(size: int, data: st.DataObject) -> None:
    whole = seal(SOURCE[:size])
    at = data.draw(st.integers(0, len(whole) - 1) | st.integers(0, sealed.HEAD_LENGTH - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(VoxelVaultError):
        read(whole, 0, size)


@settings(max_examples=150, deadline=None)
@given(LENGTHS, st.data())
def test_every_cut_is_refused(size: int, data: st.DataObject) -> None:
    whole = seal(SOURCE[:size])
    del whole[data.draw(st.integers(0, len(whole) - 1)) :]
    with pytest.raises(VoxelVaultError):
        read(whole, 0, size)


@settings(deadline=None)
@given(st.integers(0, 1 << 47))
def test_lengths_invert_and_grow(size: int) -> None:
    assert plain_length(sealed_length(size)) == size
    assert sealed_length(size) < sealed_length(size + 1)


@settings(deadline=None)
@given(st.integers(0, 1 << 40))
def test_a_length_is_possible_or_refused(length: int) -> None:
    try:
        plain = plain_length(length)
    except VoxelVaultError:
        return
    assert sealed_length(plain) == length
