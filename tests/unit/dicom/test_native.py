"""Native pixel bytes to arrays and back."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.pixels import pixel_array

from voxelvault.dicom.colour import apply_palette, to_rgb, ybr_to_rgb
from voxelvault.dicom.native import (
    expand_422,
    frame_nbytes,
    is_subsampled,
    native_length,
    pack_native,
    stored_values,
    unpack_native,
    word_swapped,
)
from voxelvault.errors import DecodeError, MalformedDicom
from voxelvault.model import FrameSpec

NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")


@st.composite
def native_pixels(draw: st.DrawFn) -> tuple[FrameSpec, int, bytes, dict[str, bool]]:
    """Any spec, a number of frames, and bytes that fill them."""
    bits = draw(st.sampled_from([1, 8, 16, 32, 64]))
    floating = bits >= 32 and draw(st.booleans())
    samples = draw(st.sampled_from([1, 3]))
    sign = 0 if bits == 1 else draw(st.integers(0, 1))
    spec = FrameSpec(
        rows=draw(st.integers(1, 7)),
        columns=draw(st.integers(1, 9)),
        samples=samples,
        bits_allocated=bits,
        bits_stored=bits,
        pixel_representation=sign,
        planar=draw(st.integers(0, 1)) if samples == 3 else 0,
        floating=floating,
    )
    frames = draw(st.integers(1, 5))
    length = native_length(spec, frames)
    data = bytearray(draw(st.binary(min_size=length, max_size=length)))
    if bits == 1 and (spare := -(frames * spec.rows * spec.columns * samples) % 8):
        data[-1] &= 0xFF >> spare
    big = draw(st.booleans())
    return (
        spec,
        frames,
        bytes(data),
        {"big_endian": big, "word_swapped": big and bits <= 8 and draw(st.booleans())},
    )


@given(native_pixels())
def test_unpack_and_pack_are_inverse(drawn: tuple[FrameSpec, int, bytes, dict[str, bool]]) -> None:
    spec, frames, data, order = drawn
    sent = data
    if order["word_swapped"]:
        sent = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").astype("<u2").tobytes()
    array = unpack_native(sent, spec, frames, **order)
    assert array.nbytes == frames * frame_nbytes(spec)
    assert array.flags.aligned
    assert bytes(pack_native(array, spec, **order)) == sent


def test_big_endian_words_and_swapped_bytes_mean_the_same_pixels() -> None:
    spec8, spec16 = FrameSpec(1, 4, bits_allocated=8), FrameSpec(1, 2)
    assert unpack_native(b"\1\0\3\2", spec8, 1, big_endian=True, word_swapped=True).tolist() == [
        [[0, 1, 2, 3]]
    ]
    assert unpack_native(b"\1\0\2\0", spec16, 1, big_endian=True).tolist() == [[[256, 512]]]
    assert word_swapped(spec8, big_endian=True, vr="OW")
    assert not word_swapped(spec8, big_endian=True, vr="OB")
    assert not word_swapped(spec16, big_endian=True, vr="OW")


def test_little_endian_pixels_are_a_view_both_ways() -> None:
    data = bytearray(range(16))
    array = unpack_native(data, FrameSpec(2, 4), 1)
    assert np.shares_memory(array, np.frombuffer(data, np.uint8))
    assert np.shares_memory(np.asarray(pack_native(array, FrameSpec(2, 4))), array)


def test_planes_become_the_last_axis() -> None:
    spec = FrameSpec(1, 2, samples=3, bits_allocated=8, photometric="RGB", planar=1)
    array = unpack_native(b"rRgGbB", spec, 1)
    assert array.tobytes() == b"rgbRGB"
    assert bytes(pack_native(array, spec)) == b"rRgGbB"


def test_one_bit_frames_follow_each_other_without_a_gap() -> None:
    spec = FrameSpec(1, 3, bits_allocated=1, bits_stored=1)
    data = bytes([0b01_101_001, 0b1])
    assert unpack_native(data, spec, 3)[:, 0].tolist() == [[1, 0, 0], [1, 0, 1], [1, 0, 1]]
    assert unpack_native(data, spec, 2, bit_offset=3)[:, 0].tolist() == [[1, 0, 1], [1, 0, 1]]
    assert bytes(pack_native(unpack_native(data, spec, 3), spec)) == data


def test_subsampled_chroma_stays_as_sent_and_expands_on_request() -> None:
    spec = FrameSpec(1, 4, samples=3, bits_allocated=8, photometric="YBR_FULL_422")
    data = bytes([1, 2, 100, 200, 3, 4, 101, 201])
    assert is_subsampled(spec, 8, 1)
    assert not is_subsampled(spec, 12, 1)
    pairs = unpack_native(data, spec, 1, subsampled=True)
    assert pairs.shape == (1, 1, 4, 2)
    assert bytes(pack_native(pairs, spec)) == data
    assert expand_422(pairs)[0, 0].tolist() == [[1, 100, 200], [2, 100, 200], [3, 101, 201], [4, 101, 201]]
    assert to_rgb(pairs, "YBR_FULL_422").shape == (1, 1, 4, 3)
    with pytest.raises(MalformedDicom, match="even"):
        expand_422(np.zeros((1, 3, 2), np.uint8))


def test_bits_above_bits_stored_are_not_part_of_the_value() -> None:
    words = np.array([[0xF801, 0x0801, 0x07FF]], np.uint16)
    assert stored_values(words, FrameSpec(1, 3, bits_stored=12)).tolist() == [[0x801, 0x801, 0x7FF]]
    signed = stored_values(words.view(np.int16), FrameSpec(1, 3, bits_stored=12, pixel_representation=1))
    assert signed.tolist() == [[-2047, -2047, 2047]]
    assert stored_values(words, FrameSpec(1, 3)) is words


@pytest.mark.parametrize(
    ("spec", "length"),
    [
        (FrameSpec(60000, 60000), 1024),
        (FrameSpec(0, 4), 16),
        (FrameSpec(2, 2, bits_allocated=12), 16),
        (FrameSpec(2, 2, bits_allocated=16, floating=True), 16),
    ],
)
def test_impossible_headers_are_refused_before_memory_is_taken(spec: FrameSpec, length: int) -> None:
    with pytest.raises(MalformedDicom):
        unpack_native(bytes(length), spec, 1)


def test_ybr_matches_the_standards_equations() -> None:
    assert ybr_to_rgb(np.array([[76, 85, 255], [150, 44, 21], [29, 255, 107]], np.uint8)).tolist() == [
        [254, 0, 0],
        [0, 255, 1],
        [0, 0, 254],
    ]
    with pytest.raises(DecodeError):
        to_rgb(np.zeros((2, 2), np.uint8), "PALETTE COLOR")


def test_palette_begins_at_the_descriptors_first_value() -> None:
    ramp = np.array([10, 20, 30], np.uint8)
    colours = apply_palette(np.array([0, 5, 6, 7, 99]), 5, ramp, ramp + 1, ramp + 2)
    assert colours[:, 0].tolist() == [10, 10, 20, 30, 30]
    with pytest.raises(DecodeError):
        apply_palette(np.array([0]), 0, ramp, ramp, ramp[:2])


def spec_of(dataset: pydicom.Dataset) -> FrameSpec:
    """What the header of a file says of its frames."""
    return FrameSpec(
        dataset.Rows,
        dataset.Columns,
        dataset.get("SamplesPerPixel", 1),
        dataset.BitsAllocated,
        dataset.get("BitsStored", dataset.BitsAllocated),
        dataset.get("PixelRepresentation", 0),
        dataset.PhotometricInterpretation,
        dataset.get("PlanarConfiguration", 0) or 0,
        "PixelData" not in dataset,
    )


@pytest.mark.filterwarnings("ignore")
def test_real_files_rebuild_byte_for_byte_and_match_pydicom(shared_dicom: Path) -> None:
    rows = csv.DictReader((shared_dicom / "MANIFEST.csv").open())
    rows = [row for row in rows if row["transfer_syntax_uid"] in NATIVE and row["decode_ok"] == "yes"]
    for row in rows[:: 1 if len(rows) < 100 else 4]:
        dataset = pydicom.dcmread(shared_dicom / row["path"], force=True)
        spec, frames = spec_of(dataset), int(dataset.get("NumberOfFrames", 1) or 1)
        name = next(k for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if k in dataset)
        value, big = dataset[name].value, row["transfer_syntax_uid"] == NATIVE[3]
        order = {"big_endian": big, "word_swapped": word_swapped(spec, big_endian=big, vr=dataset[name].VR)}
        pixels = unpack_native(
            value, spec, frames, subsampled=is_subsampled(spec, len(value), frames), **order
        )
        assert value.startswith(bytes(pack_native(pixels, spec, **order))), row["path"]
        theirs = pixel_array(dataset, raw=True)
        ours = expand_422(pixels) if pixels.shape[-1] == 2 and spec.samples == 3 else pixels
        np.testing.assert_array_equal(stored_values(ours, spec), theirs.reshape(ours.shape), row["path"])
