"""What a header takes in memory is bounded by what headers are, not by what a file claims."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from struct import pack

import pytest

from voxelvault.dicom import elements, json_model
from voxelvault.dicom.elements import TooLarge
from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header

CELLS = 8_000
LONG = ("UC", "OB", "SQ", "UN")


def element(group: int, number: int, vr: str, value: bytes) -> bytes:
    head = pack("<HH2s", group, number, vr.encode())
    return head + (pack("<HI", 0, len(value)) if vr in LONG else pack("<H", len(value))) + value


def many(vr: str, value: bytes, size: int) -> bytes:
    """Return private elements of one value, all in all about so many bytes."""
    count = size // (len(value) + 8)
    return b"".join(element(9 + 2 * (n // 60_000), 0x1000 + n % 60_000, vr, value) for n in range(count))


def items(content: bytes, size: int) -> bytes:
    item = pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
    return element(0x0008, 0x1140, "SQ", item * (size // len(item)))


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "empty elements": lambda size: many("LO", b"", size),
    "empty items": lambda size: items(b"", size),
    "items of one element": lambda size: items(element(0x0008, 0x0060, "CS", b"CT"), size),
    "names of one letter": lambda size: many("PN", b"a\\" * 30_000, size),
    "short elements of names": lambda size: many("PN", b"a\\" * 4, size),
    "names without any": lambda size: many("PN", b"\\" * 60_000, size),
    "numbers of one digit": lambda size: many("DS", b"1\\" * 30_000, size),
    "words of two letters": lambda size: many("UC", b"xy\\" * 20_000, size),
    "binary numbers": lambda size: many("US", pack("<H", 40_000) * 8_000, size),
    "binary": lambda size: many("UN", b"\xff" * 1_000, size),
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have less than a hundredth of what is really allowed: the same, sooner."""
    monkeypatch.setattr(elements, "MAX_ELEMENTS", CELLS)
    monkeypatch.setattr(json_model, "MAX_CELLS", CELLS)


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("size", [100_000, 600_000])
def test_a_hostile_header_takes_no_more_than_its_cells(kind: str, size: int) -> None:
    data = b"\0" * 128 + b"DICM" + element(0x0008, 0x0016, "UI", b"1.2") + HOSTILE[kind](size)
    tracemalloc.start()
    try:
        header = Header.from_part10(parse(data))
        text = header.json()
    except TooLarge:
        header, text = None, ""
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{kind}, {len(data):,} bytes: {peak / CELLS:.0f} bytes a cell, {len(text):,} of JSON")
    assert peak < 2 * 512 * CELLS + 2 * len(data)
    if header is not None:
        assert 0 < header.cells <= 2 * CELLS


def test_a_header_knows_what_it_takes() -> None:
    data = b"\0" * 128 + b"DICM" + element(0x0008, 0x0016, "UI", b"1.2") + many("PN", b"Doe^Jane", 1_600)
    header = Header.from_part10(parse(data))
    assert 100 < header.cells < 500
    assert Header.from_json(header.json()).cells == 0
