"""Changed frames are coded as they came, without a loss, or not at all."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np
import pytest

from voxelvault.deid.blanking import coded_again, rle_frame, values_only
from voxelvault.dicom.decode import decode_frame
from voxelvault.dicom.read import Header
from voxelvault.model import FrameSpec


def _frame(samples: int, kind: type[np.generic]) -> np.ndarray[Any, Any]:
    shape = (33, 47) if samples == 1 else (33, 47, samples)
    values = np.random.default_rng(3).integers(0, 200, shape).astype(kind)
    values[5:9, 3:40] = 0
    return values


@pytest.mark.parametrize("name", ["4.57", "4.70", "4.80", "4.90", "4.201", "4.202", "5", "8.1"])
@pytest.mark.parametrize(
    ("samples", "kind", "bits"), [(1, np.uint8, 8), (1, np.uint16, 12), (3, np.uint8, 8)]
)
def test_lossless_codings_are_made_again(name: str, samples: int, kind: type[np.generic], bits: int) -> None:
    syntax, frame = f"1.2.840.10008.1.2.{name}", _frame(samples, kind)
    photometric = "RGB" if samples == 3 else "MONOCHROME2"
    spec = FrameSpec(33, 47, samples, frame.dtype.itemsize * 8, bits, 0, photometric)
    made = coded_again(frame, syntax, b"", spec)
    if made is None:
        assert samples == 3
        return
    assert made[0] == (syntax if name != "4.202" else "1.2.840.10008.1.2.4.201")
    assert np.array_equal(decode_frame(*made, spec), frame)


def test_signed_values_are_made_again() -> None:
    frame = _frame(1, np.int16) - 100
    spec = FrameSpec(33, 47, 1, 16, 16, 1)
    for name in ("4.90", "4.201", "5"):
        made = coded_again(frame, f"1.2.840.10008.1.2.{name}", b"", spec)
        assert made is not None
        assert np.array_equal(decode_frame(*made, spec), frame)


def test_what_was_coded_lossily_is_not_coded_again() -> None:
    frame = _frame(1, np.uint8)
    lossy = bytes(imagecodecs.jpeg2k_encode(frame, level=30, reversible=False, codecformat="j2k"))
    spec = FrameSpec(33, 47, 1, 8, 8)
    assert coded_again(frame, "1.2.840.10008.1.2.4.91", lossy, spec) is None
    for name in ("4.50", "4.51", "4.55", "4.81", "4.110"):
        assert coded_again(frame, f"1.2.840.10008.1.2.{name}", b"", spec) is None


def test_a_reversible_codestream_in_the_lossy_syntax_stays_lossless() -> None:
    frame = _frame(1, np.uint8)
    whole = bytes(imagecodecs.jpeg2k_encode(frame, level=0, reversible=True, codecformat="j2k"))
    spec = FrameSpec(33, 47, 1, 8, 8)
    made = coded_again(frame, "1.2.840.10008.1.2.4.91", whole, spec)
    assert made is not None
    assert np.array_equal(decode_frame(*made, spec), frame)


@pytest.mark.parametrize("high", [11, 15, 13])
def test_other_bits_of_a_word_are_cleared(high: int) -> None:
    low = high - 11
    values = np.arange(0, 4095, 7, dtype=np.uint16).reshape(9, -1) << low
    hidden = values | np.uint16(0xFFFF & ~(0xFFF << low))
    spec = FrameSpec(9, values.shape[1], 1, 16, 12)
    header = Header({"00280102": {"vr": "US", "Value": [high]}})
    assert np.array_equal(values_only(hidden, spec, header), values)


def test_signs_are_kept() -> None:
    values = np.array([[-2048, -1, 0, 2047]], np.int16)
    spec = FrameSpec(1, 4, 1, 16, 12, 1)
    header = Header({"00280102": {"vr": "US", "Value": [11]}})
    assert np.array_equal(values_only(values & np.int16(0x0FFF) | np.int16(0x5000), spec, header), values)


def test_an_rle_frame_has_fifteen_segments_at_most() -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        rle_frame([b"ab"] * 16)
    assert len(rle_frame([b"abc"])) == 68
