"""The parser, the header and the decoders together, over every synthetic kind and every hostile file."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from voxelvault.dicom.decode import BIG_ENDIAN, VIDEO, DecoderPool, can_decode
from voxelvault.dicom.native import is_subsampled, native_length, pack_native, unpack_native, word_swapped
from voxelvault.dicom.part10 import parse
from voxelvault.dicom.pixel_span import frame_fragments
from voxelvault.dicom.read import Header, frame_spec, number_of_frames
from voxelvault.errors import VoxelVaultError
from voxelvault.testing.synthetic import every_kind, hostile

KINDS = every_kind()


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(1, seconds=10) as made:
        yield made


def frames_of(file: bytes, pool: DecoderPool) -> np.ndarray | None:
    """Read the pixels as the verbs do; native ones are also packed again and compared."""
    part10 = parse(file)
    header, pixels = Header.from_part10(part10), part10.pixels
    header.json()
    if pixels is None or part10.transfer_syntax in VIDEO:
        return None
    spec, frames = frame_spec(header), number_of_frames(header)
    if can_decode(part10.transfer_syntax):
        cut = frame_fragments(pixels, frames)
        codestreams = [b"".join(pixels.data[a:b] for a, b in fragments) for fragments in cut]
        return pool.decode_many(part10.transfer_syntax, codestreams, spec)
    value, big = memoryview(pixels.data)[pixels.start : pixels.stop], part10.transfer_syntax in BIG_ENDIAN
    order = {"big_endian": big, "word_swapped": word_swapped(spec, big_endian=big, vr=pixels.vr)}
    half = is_subsampled(spec, len(value), frames)
    array = unpack_native(value, spec, frames, subsampled=half, **order)
    packed = bytes(pack_native(array, spec, **order))
    assert bytes(value).startswith(packed)
    assert len(packed) == native_length(spec, frames, subsampled=half)
    return array


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_read(name: str, pool: DecoderPool) -> None:
    array = frames_of(KINDS[name], pool)
    assert (array is None) == (name in ("structured report", "PDF", "video"))
    assert array is None or array.any()


@pytest.mark.parametrize("name", hostile())
def test_hostile_files_raise_errors_of_ours_or_are_read(name: str, pool: DecoderPool) -> None:
    try:
        frames_of(hostile()[name], pool)
    except VoxelVaultError as error:
        assert "\n" not in str(error)  # noqa: PT017
