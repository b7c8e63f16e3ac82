"""Whatever a file claims about itself: it is read as it is, or refused in our own words."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header
from voxelvault.errors import VoxelVaultError
from voxelvault.testing.damage import changed
from voxelvault.testing.dissection import dissect
from voxelvault.testing.hostile import hostile
from voxelvault.testing.part10_strategies import Wire, part10_files

MULTIPLE = 220
"""At worst: an element of 8 bytes, or a name of one letter, is an object in a dictionary, and text again."""

SOME = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def test_a_file_of_any_structure_is_read_or_refused() -> None:
    accepted: list[bool] = []

    @SOME
    @given(part10_files())
    def each(data: bytes) -> None:
        accepted.append(dissect(data) is not None)

    each()
    # A strategy whose files are refused at once would test the first check alone.
    assert sum(accepted) > len(accepted) // 3


@SOME
@given(st.sampled_from(sorted(name for name, data in hostile().items() if len(data) < 1 << 15)), st.data())
def test_a_changed_file_is_read_or_refused(name: str, data: st.DataObject) -> None:
    dissect(data.draw(changed(hostile()[name])))


@SOME
@given(st.binary(max_size=400), st.sampled_from([b"", bytes(128) + b"DICM"]))
@example(b"", bytes(128) + b"DICM")
def test_any_bytes_are_read_or_refused(data: bytes, front: bytes) -> None:
    dissect(front + data)


WIRE = Wire()
ITEM, ENDS = WIRE.mark(0xFFFEE000), WIRE.mark(0xFFFEE00D)
CLAIMS = {
    "empty elements": b"".join(WIRE.head(0x00091000 + at, "UI", 0) for at in range(6_000)),
    "empty items": WIRE.head(0x00400275, "SQ", 8 * 6_000) + ITEM * 6_000,
    "items of one": WIRE.head(0x00400275, "SQ", 0xFFFFFFFF)
    + (WIRE.mark(0xFFFEE000, 8) + WIRE.head(0x00080018, "UI", 0)) * 6_000
    + WIRE.mark(0xFFFEE0DD),
    "names": WIRE.head(0x00100010, "PN", 12_000) + b"a\\" * 6_000,
    "numbers": WIRE.head(0x00181164, "DS", 12_000) + b"1\\" * 6_000,
    "a sequence of 4 GB": WIRE.head(0x00400275, "SQ", 0xFFFFFFF0) + ITEM,
    "a value of 4 GB": WIRE.head(0x00104000, "UT", 0xFFFFFFF0) + b"x",
    "fragments": WIRE.head(0x7FE00010, "OB", 0xFFFFFFFF) + ITEM * 6_000 + WIRE.mark(0xFFFEE0DD),
    "an offset table": WIRE.head(0x7FE00010, "OB", 0xFFFFFFFF)
    + WIRE.mark(0xFFFEE000, 40_000)
    + bytes(40_000)
    + WIRE.mark(0xFFFEE0DD),
    "nested": (WIRE.head(0x00400275, "SQ", 0xFFFFFFFF) + WIRE.mark(0xFFFEE000, 0xFFFFFFFF)) * 10_000,
}


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_memory_is_a_multiple_of_the_file_whatever_it_claims(name: str) -> None:
    syntax = b"1.2.840.10008.1.2.1\0"
    data = bytes(128) + b"DICM" + WIRE.head(0x00020010, "UI", len(syntax)) + syntax + CLAIMS[name]
    parse(bytes(128) + b"DICM" + WIRE.head(0x00080018, "UI", 2) + b"1\0")  # what is loaded once
    tracemalloc.start()
    try:
        Header.from_part10(parse(data)).json()
    except VoxelVaultError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MULTIPLE * len(data) + (1 << 18)
