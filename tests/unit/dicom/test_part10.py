"""Part 10 taken apart: places, bounds, and what hostile bytes do."""

from __future__ import annotations

import csv
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxelvault.dicom import elements, part10
from voxelvault.dicom.part10 import MAX_DEPTH, parse
from voxelvault.dicom.pixel_span import PixelSpan, frame_fragments
from voxelvault.dicom.read import Header
from voxelvault.errors import DicomError, MalformedDicom, NotDicom
from voxelvault.testing.hostile import hostile

ITEM, ITEM_END, SEQUENCE_END = 0xE000, 0xE00D, 0xE0DD
UNDEFINED = 0xFFFFFFFF


def short(tag: int, vr: str, value: bytes = b"") -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value


def long(tag: int, vr: str, value: bytes = b"", length: int | None = None) -> bytes:
    size = len(value) if length is None else length
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, size) + value


def implicit(tag: int, value: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def mark(number: int, length: int = 0) -> bytes:
    return struct.pack("<HHI", 0xFFFE, number, length)


def item(content: bytes) -> bytes:
    return mark(ITEM, len(content)) + content


def part10_file(dataset: bytes, syntax: str = "1.2.840.10008.1.2.1") -> bytes:
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    meta = short(0x00020010, "UI", uid)
    return bytes(128) + b"DICM" + short(0x00020000, "UL", struct.pack("<I", len(meta))) + meta + dataset


UID = short(0x00080018, "UI", b"1.2.3\0")
PIXELS = long(0x7FE00010, "OW", b"\1\2\3\4")


class TestPlaces:
    def test_element_values_lie_where_it_says(self) -> None:
        data = part10_file(UID + PIXELS)
        found = parse(data)
        assert found.has_preamble
        assert found.has_meta
        assert found.transfer_syntax == "1.2.840.10008.1.2.1"
        assert found.value(0x00080018) == b"1.2.3\0"
        assert found.value(0x00020010) == b"1.2.840.10008.1.2.1\0"
        assert found.pixels is not None
        assert data[found.pixels.start : found.pixels.stop] == b"\1\2\3\4"
        assert (found.pixels.end, found.length, found.end) == (len(data),) * 3

    @pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
    def test_any_buffer(self, wrap: type) -> None:
        data = wrap(part10_file(UID + PIXELS))
        assert Header.from_part10(parse(data)).get("SOPInstanceUID") == "1.2.3"

    def test_tail_after_the_pixels(self) -> None:
        data = part10_file(UID + PIXELS) + short(0xFFFCFFFC, "LO", b"pad ") + b"loose bytes that are none"
        found = parse(data)
        assert found.pixels is not None
        assert 0xFFFCFFFC in found.dataset
        assert data[found.end :] == b"loose bytes that are none"

    def test_nested_sequences_of_both_lengths(self) -> None:
        inner = long(0x00081115, "SQ", item(UID) + item(b""))
        outer = long(0x00081140, "SQ", mark(ITEM, UNDEFINED) + inner + mark(ITEM_END), UNDEFINED) + mark(
            SEQUENCE_END
        )
        found = parse(part10_file(outer + PIXELS))
        items = found.dataset[0x00081140].items
        assert items is not None
        nested = items[0][0x00081115].items
        assert nested is not None
        assert [len(each) for each in nested] == [1, 0]

    def test_implicit_item_in_an_explicit_file(self) -> None:
        data = part10_file(long(0x00081140, "SQ", item(implicit(0x00081155, b"1.2.9\0"))) + PIXELS)
        header = Header.from_part10(parse(data))
        assert header.items_of("ReferencedImageSequence")[0].get("ReferencedSOPInstanceUID") == "1.2.9"

    def test_un_with_items_is_a_sequence_and_without_is_bytes(self) -> None:
        good = item(implicit(0x00081155, b"1.2.9\0"))
        dataset = (
            short(0x00090010, "LO", b"NOBODY")
            + long(0x00091001, "UN", good)
            + long(0x00091002, "UN", good[:-3])
        )
        found = parse(part10_file(dataset))
        assert [found.dataset[0x00091001].vr, found.dataset[0x00091002].vr] == ["SQ", "UN"]

    def test_broken_sequence_of_known_length_stays_opaque(self) -> None:
        data = part10_file(long(0x00081140, "SQ", mark(ITEM, 900) + b"abc") + UID)
        found = parse(data)
        assert found.dataset[0x00081140].vr == "UN"
        assert found.value(0x00080018) == b"1.2.3\0"

    def test_unknown_vr_has_the_long_form(self) -> None:
        found = parse(part10_file(long(0x00091001, "ZZ", b"abcd") + UID))
        assert found.value(0x00091001) == b"abcd"
        assert found.value(0x00080018) == b"1.2.3\0"

    def test_deflated(self) -> None:
        squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
        body = squeeze.compress(UID + PIXELS) + squeeze.flush()
        found = parse(part10_file(body, "1.2.840.10008.1.2.1.99"))
        assert found.deflated
        assert found.pixels is not None
        assert bytes(found.pixels.data[found.pixels.start : found.pixels.stop]) == b"\1\2\3\4"
        with pytest.raises(MalformedDicom):
            parse(part10_file(body[:-4], "1.2.840.10008.1.2.1.99"))

    def test_inflation_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(part10, "INFLATED_EXTRA", 1 << 20)
        bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
        body = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(3)) + bomb.flush()
        with pytest.raises(MalformedDicom, match="inflates"):
            parse(part10_file(body, "1.2.840.10008.1.2.1.99"))

    @pytest.mark.parametrize(
        ("name", "syntax", "meta"),
        [
            ("ExplVR_BigEndNoMeta.dcm", "1.2.840.10008.1.2.2", False),
            ("ExplVR_LitEndNoMeta.dcm", "1.2.840.10008.1.2.1", False),
            ("meta_missing_tsyntax.dcm", "1.2.840.10008.1.2", True),
            ("rtstruct.dcm", "1.2.840.10008.1.2", False),
        ],
    )
    def test_syntax_is_guessed(self, wheel_dicom: Path, name: str, syntax: str, meta: bool) -> None:
        found = parse((wheel_dicom / name).read_bytes())
        assert (found.transfer_syntax, found.has_meta) == (syntax, meta)
        assert len(found.dataset) > 1


class TestFragments:
    def encapsulated(self, fragments: list[bytes], table: bytes = b"", end: bool = True) -> PixelSpan:
        body = item(table) + b"".join(map(item, fragments)) + (mark(SEQUENCE_END) if end else b"")
        span = parse(
            part10_file(UID + long(0x7FE00010, "OB", body, UNDEFINED), "1.2.840.10008.1.2.4.50")
        ).pixels
        assert span is not None
        return span

    def read(self, span: PixelSpan, frames: int) -> list[list[bytes]]:
        return [[bytes(span.data[a:b]) for a, b in frame] for frame in frame_fragments(span, frames)]

    def test_one_frame_takes_all(self) -> None:
        assert self.read(self.encapsulated([b"ab", b"cd"]), 1) == [[b"ab", b"cd"]]

    def test_basic_offset_table(self) -> None:
        span = self.encapsulated([b"ab", b"cd", b"ef"], struct.pack("<II", 0, 20))
        assert span.basic_offset_table == (0, 20)
        assert self.read(span, 2) == [[b"ab", b"cd"], [b"ef"]]

    def test_wrong_table_is_not_followed(self) -> None:
        span = self.encapsulated([b"ab", b"cd"], struct.pack("<II", 0, 0xFFFFFFF0))
        assert self.read(span, 2) == [[b"ab"], [b"cd"]]

    def test_codestream_starts(self) -> None:
        span = self.encapsulated([b"\xff\xd8\xff\xe0", b"more", b"\xff\xd8\xff\xdb"])
        assert self.read(span, 2) == [[b"\xff\xd8\xff\xe0", b"more"], [b"\xff\xd8\xff\xdb"]]

    def test_nothing_tells(self) -> None:
        span = self.encapsulated([b"ab", b"cd", b"ef"])
        for frames in (0, -1, 2, 4, 10**12):
            with pytest.raises(MalformedDicom):
                frame_fragments(span, frames)

    def test_missing_delimiter_and_cut_fragment(self) -> None:
        span = self.encapsulated([b"abcd"], end=False)
        assert not span.truncated
        body = item(b"") + mark(ITEM, 4_000_000_000) + b"abcd"
        cut = parse(part10_file(long(0x7FE00010, "OB", body, UNDEFINED), "1.2.840.10008.1.2.4.50")).pixels
        assert cut is not None
        assert cut.truncated
        assert self.read(cut, 1) == [[b"abcd"]]

    def test_extended_offset_table(self) -> None:
        table = long(0x7FE00001, "OV", struct.pack("<QQ", 0, 20)) + long(
            0x7FE00002, "OV", struct.pack("<QQ", 20, 2)
        )
        body = item(b"") + item(b"ab") + item(b"cd") + item(b"ef") + mark(SEQUENCE_END)
        span = parse(part10_file(table + long(0x7FE00010, "OB", body, UNDEFINED))).pixels
        assert span is not None
        assert (span.extended_offsets, span.extended_lengths) == ((0, 20), (20, 2))
        assert self.read(span, 2) == [[b"ab", b"cd"], [b"ef"]]

    def test_same_frames_as_pydicom(self, shared_dicom: Path) -> None:
        compared = 0
        for row in csv.DictReader((shared_dicom / "MANIFEST.csv").read_text().splitlines()):
            if row["frames"] in ("", "1") or not row["transfer_syntax_uid"].startswith("1.2.840.10008.1.2.4"):
                continue
            data = (shared_dicom / row["path"]).read_bytes()
            span, frames = parse(data).pixels, int(row["frames"])
            assert span is not None
            theirs = pydicom.encaps.generate_frames(span_bytes(data, span), number_of_frames=frames)
            assert [b"".join(frame) for frame in self.read(span, frames)] == list(theirs)
            compared += 1
        assert compared > 5


def span_bytes(data: bytes, span: PixelSpan) -> bytes:
    return data[span.start : span.stop] + mark(SEQUENCE_END)


class TestHostile:
    @pytest.mark.parametrize(
        "data", [b"", b"x", b"DICM", bytes(200), b"%PDF-1.7" + bytes(300), b"a,b\n" * 99]
    )
    def test_not_dicom(self, data: bytes) -> None:
        with pytest.raises(NotDicom):
            parse(data)

    def test_claims_cost_nothing(self) -> None:
        files = [
            part10_file(UID + long(0x7FE00010, "OW", b"ab", 0xFFFFFFF0)),
            part10_file(UID + long(0x7FE00010, "OB", mark(ITEM, 0xFFFFFFF0) * 20, UNDEFINED)),
            part10_file(UID + long(0x00081140, "SQ", b"", 0xFFFFFFF0)),
            part10_file(UID + long(0x00081140, "SQ", mark(ITEM, 0xFFFFFFF0), UNDEFINED)),
            part10_file(UID + long(0x00020102, "OB", b"", 0xFFFFFFF0)),
        ]
        tracemalloc.start()
        outcomes = []
        for data in files:
            try:
                span = parse(data).pixels
                outcomes.append("truncated" if span and span.truncated else "parsed")
            except MalformedDicom:
                outcomes.append("malformed")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert outcomes == ["truncated", "truncated", "malformed", "malformed", "malformed"]
        assert peak < 1 << 20

    @pytest.mark.parametrize("undefined", [True, False])
    def test_ten_thousand_deep(self, undefined: bool) -> None:
        content = b""
        if undefined:
            content = (long(0x00081140, "SQ", b"", UNDEFINED) + mark(ITEM, UNDEFINED)) * 10_000
        else:
            for _ in range(2_000):
                content = long(0x00081140, "SQ", item(content))
        with pytest.raises(MalformedDicom, match="deeper"):
            parse(part10_file(content))

    def test_deep_but_bounded_is_read_and_written(self) -> None:
        content = UID
        for _ in range(MAX_DEPTH):
            content = long(0x00081140, "SQ", item(content))
        text = Header.from_part10(parse(part10_file(content))).json()
        assert Header.from_json(text).json() == text

    def test_number_of_elements_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(elements, "MAX_ELEMENTS", 1000)
        many = b"".join(short(0x00090000 + index, "CS") for index in range(1, 1100))
        for dataset in (many, long(0x00081140, "SQ", item(b"") * 1100)):
            with pytest.raises(MalformedDicom, match="more elements"):
                parse(part10_file(dataset))

    def test_broken_sequences_do_not_multiply_the_work(self) -> None:
        content = b"\xff" * 20_000
        for _ in range(MAX_DEPTH - 1):
            content = long(0x00081140, "SQ", item(content))
        start = time.perf_counter()
        parse(part10_file(content))
        assert time.perf_counter() - start < 1

    def test_the_hostile_collection(self) -> None:
        assert len(hostile()) > 20
        for name, data in hostile().items():
            tracemalloc.start()
            survive(data)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            allowed = 64 * len(data) + (1 << 20)
            assert peak < allowed + (2 * part10.INFLATED_EXTRA if "deflate" in name else 0), name

    def test_every_cut_of_a_real_file(self, wheel_dicom: Path) -> None:
        data = (wheel_dicom / "reportsi.dcm").read_bytes()
        for stop in range(0, len(data), 7):
            survive(data[:stop])

    @settings(max_examples=300, deadline=None)
    @given(changes=st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=6)), max_size=8))
    def test_damaged_files(self, changes: list[tuple[int, bytes]]) -> None:
        for base in (SMALL, NESTED):
            data = bytearray(base)
            for place, value in changes:
                place = 132 + place % (len(data) - 140)
                data[place : place + len(value)] = value
            survive(bytes(data))

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=400))
    def test_noise(self, noise: bytes) -> None:
        survive(part10_file(noise))
        survive(UID + noise)


def survive(data: bytes) -> None:
    """Whatever comes, it is a value or a `DicomError`."""
    try:
        header = Header.from_part10(parse(data))
    except DicomError:
        return
    header.json()


SMALL = part10_file(UID + short(0x00280010, "US", b"\1\0") + short(0x00080005, "CS", b"ISO_IR 192") + PIXELS)
NESTED = part10_file(
    short(0x00080005, "CS", b"ISO 2022 IR 87")
    + long(0x00081140, "SQ", item(UID) + mark(ITEM, UNDEFINED) + UID + mark(ITEM_END), UNDEFINED)
    + mark(SEQUENCE_END)
    + long(0x00091001, "UN", item(implicit(0x00100010, b"A^B\\C")))
    + short(0x00100010, "PN", b"\x1b$BABCD\x1b(B=x ")
    + short(0x00280030, "DS", b"1\\nan ")
    + long(0x7FE00010, "OB", item(b"") + item(b"ab") + mark(SEQUENCE_END), UNDEFINED)
)


def test_a_ct_header_is_read_in_milliseconds(shared_dicom: Path) -> None:
    data = next((shared_dicom / "neurolabusc+dcm_qa_ct/In/GE").rglob("*.dcm")).read_bytes()
    parse(data)
    best = min(timed(data) for _ in range(20))
    assert best < 0.004  # about 0.5 ms on an idle core


def timed(data: bytes) -> float:
    start = time.perf_counter()
    Header.from_part10(parse(data)).json()
    return time.perf_counter() - start
