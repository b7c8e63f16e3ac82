"""What fuzzers found, each as small as it gets."""

from __future__ import annotations

import time

import pytest

from voxelvault.dicom.coerce import as_number, as_seconds
from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header
from voxelvault.dicom.segmentation import read_segmentation
from voxelvault.errors import MalformedDicom
from voxelvault.testing.dissection import dissect
from voxelvault.testing.part10_strategies import Wire

WIRE = Wire()


def file_of(tag: int, vr: str, value: bytes) -> bytes:
    syntax = b"1.2.840.10008.1.2.1\0"
    meta = WIRE.head(0x00020010, "UI", len(syntax)) + syntax
    return bytes(128) + b"DICM" + meta + WIRE.head(tag, vr, len(value)) + value


@pytest.mark.parametrize("digits", [b"9" * 310, b"-" + b"9" * 400, b"1" * 5000, b"9" * 19])
def test_a_number_beyond_64_bits_stays_text(digits: bytes) -> None:
    data = file_of(0x00280008, "IS", digits)
    assert Header.from_part10(parse(data)).get("NumberOfFrames") == digits.decode()
    assert dissect(data) is not None


def test_superscripts_are_no_time() -> None:
    assert as_seconds("\xb2\xb3") is None
    assert dissect(file_of(0x00080032, "TM", b"\xb2\xb3\xb959 ")) is not None


def test_a_number_that_no_float_holds_is_none() -> None:
    assert as_number(10**400) is None


def test_frames_that_nothing_describes_are_not_described() -> None:
    header = Header.from_json(
        '{"00620001": {"vr": "CS", "Value": ["LABELMAP"]}, "00280008": {"vr": "IS", "Value": [1000000]}}'
    )
    start = time.perf_counter()
    with pytest.raises(MalformedDicom, match="fewer frames"):
        read_segmentation(header)
    assert time.perf_counter() - start < 1
