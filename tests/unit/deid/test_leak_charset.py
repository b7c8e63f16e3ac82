"""The second reader's own decoder: the standard's examples, and what the first one reads in real files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelvault.deid import leak_charset, leak_views
from voxelvault.deid.leak_charset import codecs_of, decoded
from voxelvault.dicom import charset
from voxelvault.dicom.part10 import parse

# PS3.5 Annexes H, I, J and K.
EXAMPLES = [
    (
        "\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    (
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
    ),
    (
        "\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    ("ISO_IR 192", "Wang^XiaoDong=王^小東".encode(), "Wang^XiaoDong=王^小東"),
    ("GB18030", "Wang^XiaoDong=王^小东".encode("gb18030"), "Wang^XiaoDong=王^小东"),
    ("\\ISO 2022 IR 58", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab", "Zhang^XiaoDong=张^小东"),
    ("iso-ir 100", b"\xc4neas^R\xfcdiger", "Äneas^Rüdiger"),
    ("ISO_IR 144", b"\xbb\xee\xdace\xdc", "Люкceм"),
    ("ISO_IR 203", b"\xbd\xa4", "œ€"),
    ("ISO 2022 IR 6\\ISO 2022 IR 127", b"a^\x1b-G\xe2\xc8\xc7^b", "a^قبا^b"),
    ("unheard of", b"caf\xe9", "café"),
]


@pytest.mark.parametrize(("term", "raw", "text"), EXAMPLES)
def test_names_read_as_the_standard_has_them(term: str, raw: bytes, text: str) -> None:
    assert decoded(raw, codecs_of(term.encode()), name=True) == text


def test_a_delimiter_goes_back_to_the_first_set() -> None:
    codecs = codecs_of(b"ISO 2022 IR 100\\ISO 2022 IR 144")
    assert decoded(b"\x1b-L\xbb\\\xbb", codecs) == "Л\\»"
    assert decoded(b"\x1b-L\xbb^\xbb", codecs, name=True) == "Л^»"


def test_both_readers_read_the_same_in_real_files(wheel_dicom: Path) -> None:
    places = sorted((wheel_dicom.parent / "charset_files").glob("*.dcm"))
    assert len(places) > 10
    for place in places:
        part10 = parse(place.read_bytes())
        declared = part10.value(0x00080005)
        mine, theirs = codecs_of(declared), charset.encodings_of(declared)
        for element, text in leak_views.texts(part10.data, part10.dataset, codecs_of(b"")):
            raw = bytes(part10.data[element.start : element.stop])
            name = element.vr == "PN"
            if element.tag in part10.dataset:
                assert text == decoded(raw, mine, name=name) == charset.decode(raw, theirs, name=name)


@given(st.binary(max_size=40), st.sampled_from(sorted({term for term, _, _ in EXAMPLES})))
def test_no_bytes_make_it_fail(raw: bytes, term: str) -> None:
    decoded(raw, codecs_of(term.encode()))
    codecs_of(raw)


def test_it_shares_nothing_with_the_first_reader() -> None:
    source = Path(str(leak_charset.__file__)).read_text("utf-8")
    assert "pydicom" not in source
    assert "voxelvault" not in source
