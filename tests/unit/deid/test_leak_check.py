"""The second reader finds a planted value in every encoding, and nothing in a clean file."""

from __future__ import annotations

import base64
import gzip
import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGBaseline8Bit

from voxelvault.deid.apply import rewrite
from voxelvault.deid.leak_check import DEEPEST, Hit, Searcher
from voxelvault.deid.model import Context
from voxelvault.deid.needles import Kind, Needle, Needles, collect
from voxelvault.deid.person import collect as collect_person
from voxelvault.deid.profile import profile
from voxelvault.deid.pseudonym import ProjectPseudonyms
from voxelvault.deid.text import TextCleaner
from voxelvault.deid.writing import file_bytes
from voxelvault.dicom.part10 import parse
from voxelvault.errors import DicomError, MalformedDicom

NAME = "Quisenberry"
NEEDLES = Needles(
    frozenset(
        [
            Needle(Kind.NAME, NAME),
            Needle(Kind.NAME, "Mœller"),
            Needle(Kind.NAME, "Zsófi"),
            Needle(Kind.NAME, "김희중"),
            Needle(Kind.ID, "48151623"),
            Needle(Kind.ID, "90210"),
            Needle(Kind.BIRTH, "19560314"),
            Needle(Kind.ADDRESS, "+1 (555) 867-5309"),
            Needle(Kind.UID, "1.2.276.0.7230010.3.1.2"),
        ]
    ),
    frozenset(["wu", "li", "j"]),
    frozenset(["iso8859", "euc_kr"]),
)


def search(data: bytes, needles: Needles) -> tuple[Hit, ...]:
    return Searcher(needles).file(data)


def file_with(
    blob: bytes = b"",
    syntax: str = ExplicitVRLittleEndian,
    pixels: bytes | None = None,
    bits: int = 16,
    **values: object,
) -> bytes:
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.SOPInstanceUID = "2.25.339840183847126358465128637265"
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    if blob:
        dataset.private_block(0x0029, "MAKER", create=True).add_new(
            0x01, "OB", blob + b"\0" * (len(blob) % 2)
        )
    if pixels is not None:
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 8, 8, 1
        dataset.BitsAllocated, dataset.PixelRepresentation = bits, 0
        dataset.add_new(0x7FE00010, "OB" if bits == 8 or syntax == JPEGBaseline8Bit else "OW", pixels)
        dataset["PixelData"].is_undefined_length = syntax == JPEGBaseline8Bit
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _zip(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("report.txt", data)
    return out.getvalue()


def _hex(data: bytes) -> bytes:
    return data.hex().encode()


def _misaligned(data: bytes) -> bytes:
    return b"x" + base64.b64encode(b"no" + data)


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "upper": bytes.upper,
    "utf-16-le": lambda data: data.decode().encode("utf-16-le"),
    "utf-16-be": lambda data: data.decode().encode("utf-16-be"),
    "zlib": zlib.compress,
    "zlib, best": lambda data: zlib.compress(data * 3, 9),
    "gzip": gzip.compress,
    "zip": _zip,
    "base64": base64.b64encode,
    "base64, url": base64.urlsafe_b64encode,
    "base64, misaligned": _misaligned,
    "base64, lines": lambda data: base64.encodebytes(
        b"many words before it, so that lines break " * 2 + data
    ),
    "base64 of UTF-16": lambda data: base64.b64encode(data.decode().encode("utf-16-le")),
    "hex": lambda data: data.hex().encode(),
    "HEX, spaced": lambda data: data.hex(" ").upper().encode(),
    "percent": lambda data: b"".join(b"%%%02X" % byte for byte in data),
    "hex of odd start": lambda data: b"0" + data.hex().encode(),
    "base64 of zlib": lambda data: base64.b64encode(zlib.compress(data)),
    "gzip of base64 of zlib": lambda data: gzip.compress(base64.b64encode(zlib.compress(data))),
    "hex of base64 of gzip": lambda data: base64.b64encode(gzip.compress(data)).hex().encode(),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("value", [NAME, "48151623", "1956-03-14", "1.2.276.0.7230010.3.1.2"])
@pytest.mark.parametrize("filler", [b"", bytes(range(256)) * 64], ids=["alone", "in a large table"])
def test_a_value_is_found_in_every_encoding(encoding: str, value: str, filler: bytes) -> None:
    if filler and encoding.startswith("utf-16"):
        value = NAME + "^" + value
    planted = ENCODINGS[encoding](f"about {value} it".encode())
    found = search(file_with(filler + b"\0" + planted + b"\0" + filler), NEEDLES)
    assert found, encoding
    assert all(value not in repr(hit) for hit in found)


@given(
    st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=7, max_size=20),
    st.sampled_from(["utf-8", "utf-16-le", "utf-16-be"]),
    st.lists(st.sampled_from([zlib.compress, gzip.compress, base64.b64encode, _hex]), max_size=DEEPEST),
    st.binary(max_size=40),
)
def test_any_name_in_any_nesting_is_found(
    name: str, codec: str, layers: list[Callable[[bytes], bytes]], around: bytes
) -> None:
    planted = f"Name: {name};".encode(codec)
    for layer in layers:
        planted = layer(planted)
    needles = Needles(frozenset([Needle(Kind.NAME, name.title())]))
    assert search(file_with(around + b"\0" + planted + b"\0" + around), needles)


@pytest.mark.parametrize(
    "text", [r"Zs\u00f3fi", "Zs&#243;fi", "Zs&#xF3;fi", "Zs%C3%B3fi", "Zs=C3=B3fi", r"\u005A\u0053\u00d3fi"]
)
def test_escapes_of_json_xml_and_urls_are_read(text: str) -> None:
    assert Searcher(NEEDLES).other_file(f'{{"a": "{text}"}}'.encode())
    assert search(file_with(SeriesDescription=text), NEEDLES)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"PatientName": "QUISENBERRY^J"}, Kind.NAME),
        ({"SeriesDescription": "ct of quisenberrys head"}, Kind.NAME),
        ({"SeriesDescription": "ZSOFI"}, Kind.NAME),
        ({"SpecificCharacterSet": "ISO_IR 192", "SeriesDescription": "ＺＳÓＦＩ"}, Kind.NAME),
        ({"SpecificCharacterSet": "ISO_IR 192", "SeriesDescription": "MŒLLER"}, Kind.NAME),
        ({"SpecificCharacterSet": "ISO_IR 192", "SeriesDescription": "환자김희중님"}, Kind.NAME),
        ({"SpecificCharacterSet": ["", "ISO 2022 IR 149"], "PatientName": "Kim=김희중"}, Kind.NAME),
        ({"SeriesDescription": "phone 1.555.867.5309"}, Kind.ADDRESS),
        ({"SeriesDescription": "481 516 23"}, Kind.ID),
        ({"SeriesDescription": "room 90210"}, Kind.ID),
        ({"SeriesDescription": "Li, W."}, Kind.NAME),
        ({"SeriesDescription": "born 14 MAR 1956"}, Kind.BIRTH),
        ({"ContentTime": "120000", "AcquisitionDateTime": "19560314120000"}, Kind.BIRTH),
        ({"StudyInstanceUID": "1.2.276.0.7230010.3.1.2"}, Kind.UID),
        ({"StudyDescription": "see 1.2.276.0.7230010.3.1.2."}, Kind.UID),
        ({"PatientName": "J^"}, Kind.NAME),
    ],
)
def test_a_value_is_found_as_text_has_it(values: dict[str, object], kind: Kind) -> None:
    assert kind in {hit.kind for hit in search(file_with(**values), NEEDLES)}


@pytest.mark.parametrize(
    "values",
    [
        {"SeriesDescription": "LIVER J", "WindowCenter": "90210", "SeriesNumber": "90210"},
        {"SeriesDescription": "series 1902105", "StudyID": "7481516234"},
        {"StudyInstanceUID": "11.2.276.0.7230010.3.1.2", "SeriesInstanceUID": "1.2.276.0.7230010.3.1.24"},
        {"StudyDescription": "Wunder", "SeriesDescription": "Zsófia"},
    ],
)
def test_parts_of_longer_words_and_numbers_are_no_hit(values: dict[str, object]) -> None:
    found = search(file_with(SpecificCharacterSet="ISO_IR 100", **values), NEEDLES)
    assert {hit for hit in found if hit.kind is not Kind.NAME or "Zs" not in str(values)} == set()


@pytest.mark.parametrize("text", ["by O K O N K W O, CT", "O.K.O.N.K.W.O", "o-k-o-n-k-w-o"])
def test_a_name_spelled_out_is_found(text: str) -> None:
    needles = Needles(frozenset({Needle(Kind.NAME, "Okonkwo")}))
    assert search(file_with(StudyDescription=text), needles)


def test_short_names_are_found_in_reports_of_any_length() -> None:
    needles = Needles(short=frozenset({"wu"}))
    report = "lung and liver, " * 1000
    assert not search(file_with(TextValue=report), needles)
    assert search(file_with(TextValue=report + "Wu"), needles)


def test_the_hit_tells_the_element_and_never_the_value() -> None:
    inner = Dataset()
    inner.add_new(0x00081010, "SH", NAME)
    found = search(file_with(RequestAttributesSequence=[inner]), NEEDLES)
    assert found == (Hit(Kind.NAME, "raw", 0x00081010),)


def test_a_deflated_data_set_preamble_and_bytes_behind_are_searched() -> None:
    assert search(file_with(syntax=DeflatedExplicitVRLittleEndian, StationName=NAME), NEEDLES)
    data = file_with()
    assert not search(data, NEEDLES)
    assert search(NAME.encode().ljust(128, b"\0") + data[128:], NEEDLES)
    assert search(file_with(pixels=bytes(128)) + NAME.encode(), NEEDLES)


def test_native_pixels_what_lies_behind_them_and_codestreams_are_searched() -> None:
    frame = bytes(128)
    planted = frame[:50] + NAME.encode() + frame[61:]
    assert not search(file_with(pixels=frame), NEEDLES)
    assert search(file_with(pixels=planted), NEEDLES)
    assert search(file_with(pixels=planted[:64], bits=8), NEEDLES)
    assert search(file_with(pixels=frame + b"90210\0"), NEEDLES)
    comment = b"\xff\xd8\xff\xfe\x00\x07" + b"90210" + b"\xff\xda" + bytes(20) + b"\xff\xd9\0"
    assert search(file_with(pixels=encapsulate([comment]), syntax=JPEGBaseline8Bit), NEEDLES)
    behind = b"\xff\xd8\xff\xda" + bytes(20) + b"\xff\xd9 90210 "
    assert search(file_with(pixels=encapsulate([behind]), syntax=JPEGBaseline8Bit), NEEDLES)


def test_a_cut_file_is_not_vouched_for() -> None:
    whole = file_with(pixels=bytes(128))
    with pytest.raises(MalformedDicom):
        search(whole[:-20], NEEDLES)


def test_other_files_are_searched_as_bytes() -> None:
    searcher = Searcher(NEEDLES)
    assert searcher.other_file(b'{"a": "quisenberry"}') == (Hit(Kind.NAME, "raw"),)
    assert searcher.other_file(b"x" * (5 << 20) + gzip.compress(NAME.encode()))
    assert not searcher.other_file(b"")
    far = np.random.default_rng(1).bytes(5 << 20) + NAME.encode() + b"\0" + bytes(99)
    for content in (far, gzip.compress(far, 1)):
        assert searcher.other_file(content, pixels=True) == (Hit(Kind.NAME, "raw"),)
    assert not searcher.other_file(gzip.compress(far[: 5 << 20], 1), pixels=True)
    with pytest.raises(MalformedDicom):
        searcher.other_file(gzip.compress(far, 1)[:-4], pixels=True)


def test_a_stream_is_searched_to_its_end_wherever_it_begins() -> None:
    long = np.random.default_rng(2).bytes(5 << 20)
    table = bytes(3 << 20) + zlib.compress(long + NAME.encode(), 1)
    assert search(file_with(table), NEEDLES)


def test_a_bomb_is_neither_inflated_without_end_nor_vouched_for() -> None:
    bomb = zlib.compress(zlib.compress(bytes(40 << 20), 9))
    with pytest.raises(MalformedDicom, match="compressed"):
        search(file_with(bomb), NEEDLES)


@pytest.mark.parametrize("mean", [40, 80, 110])
@pytest.mark.parametrize("bits", [8, 16])
def test_pixels_hold_no_value_by_chance(mean: int, bits: int) -> None:
    words = ("anna", "marco", "helena", "okonkwo", "4711")
    noise = (
        np.random.default_rng(5).normal(mean, 10, 1 << 20).clip(0, 255).astype("u1" if bits == 8 else "<u2")
    )
    data = file_with(pixels=noise.tobytes(), bits=bits, NumberOfFrames=noise.size // 64)
    assert not search(data, Needles(frozenset(Needle(Kind.NAME, word) for word in words)))


def test_real_files_hold_their_own_values_and_none_of_others(shared_dicom: Path) -> None:
    parsed = []
    for path in sorted(shared_dicom.rglob("*.dcm"))[::12]:
        data = path.read_bytes()
        try:
            parsed.append((data, collect(parse(data)).without({Kind.DATE})))
        except DicomError:
            continue
    stranger = collect(
        parse(file_with(PatientName="Quisenberry^Zebulon", PatientID="48151623", StationName="KX9-RACK"))
    )
    searcher = Searcher(stranger)
    assert len(parsed) > 30
    for data, own in parsed:
        assert not searcher.file(data)
        if own.values:
            assert search(data, own)


def test_real_files_that_were_rewritten_hold_nothing_of_their_own(shared_dicom: Path) -> None:
    pseudonyms = ProjectPseudonyms(bytes(32), "0" * 32)
    policy, checked = profile("research"), 0
    for path in sorted(shared_dicom.rglob("*.dcm"))[3::12]:
        data = path.read_bytes()
        try:
            needles, source = collect(parse(data)), dcmread(io.BytesIO(data), force=True)
        except DicomError:
            continue
        subject = f"{source.get('PatientID', '')}|{source.get('StudyInstanceUID', '')}"
        person, days = collect_person([source], subject), pseudonyms.days(subject)
        cleaner = TextCleaner(person, uid=pseudonyms.uid, days=days)
        rewritten = rewrite(source, Context(policy, pseudonyms, person, cleaner))
        assert not search(file_bytes(rewritten), needles.moved(days)), checked
        checked += 1
    assert checked > 30


def test_dates_in_the_digits_of_a_made_uid_are_there_by_chance() -> None:
    needles = Needles(frozenset([Needle(Kind.DATE, "19911208"), Needle(Kind.DATE, "20200101")]))
    made = file_with(FrameOfReferenceUID="2.25.195659114087493407574773087406219911208")
    assert search(made, needles) == ()
    for uid in ("1.2.840.113619.2.20200101.7", "2.25.20200101"):
        assert search(file_with(FrameOfReferenceUID=uid), needles)
