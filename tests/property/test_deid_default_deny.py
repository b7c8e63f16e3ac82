"""A unique value planted anywhere, that no chosen option retains, never comes out."""

from __future__ import annotations

import base64
import warnings
import zlib
from io import BytesIO

import pydicom
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydicom.datadict import DicomDictionary  # type: ignore[attr-defined]
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

from deid_support import image, rewritten
from voxelvault.deid.model import Option, Person
from voxelvault.deid.text import TextCleaner
from voxelvault.deid.writing import file_bytes

NEEDLE = "Zqxvk"
TEXTS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
BINARY = ("FD", "FL", "OB", "OD", "OF", "OL", "OV", "OW", "SL", "SS", "SV", "UL", "UN", "US", "UV")
RETAINING = frozenset(
    [
        Option.RETAIN_DEVICE,
        Option.RETAIN_INSTITUTION,
        Option.RETAIN_PATIENT_CHARACTERISTICS,
        Option.RETAIN_UIDS,
    ]
)
"""Options that keep values as they are: what they retain is planted apart."""

# Pixels, overlays, curves' like and documents are other rooms'; file meta and group lengths aren't elements.
PUBLIC = sorted(
    tag
    for tag in DicomDictionary
    if 8 <= tag >> 16 < 0x7FE0 and not 0x5000 <= tag >> 16 <= 0x50FF and tag not in (0x00080005, 0x00420011)
)

needles = st.text("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789", min_size=12, max_size=12).map(
    lambda text: NEEDLE[:4] + text
)
groups = st.integers(8, 0x7FDE)
unassigned = st.tuples(groups.map(lambda group: group * 2 // 2 & ~1), st.integers(1, 0xFFFF)).map(
    lambda pair: pair[0] << 16 | pair[1]
)
private = st.tuples(groups.map(lambda group: group | 1), st.integers(0x1000, 0x10FF)).map(
    lambda pair: pair[0] << 16 | pair[1]
)
tags = st.one_of(st.sampled_from(PUBLIC), unassigned, private).filter(
    lambda tag: tag not in (0x00080005, 0x00420011)
)
shapes = st.sampled_from(["plain", "second", "name", "date", "base64", "zlib", "utf-16", "hex", "item"])


def shaped(needle: str, shape: str) -> bytes:
    made = {
        "plain": needle.encode(),
        "second": f"A\\{needle}".encode(),
        "name": f"{needle}^B=Y=Z".encode(),
        "date": b"20200101" + needle.encode(),
        "base64": base64.b64encode(needle.encode()),
        "zlib": zlib.compress(needle.encode()),
        "utf-16": needle.encode("utf-16-le"),
        "hex": needle.encode().hex().upper().encode(),
        "item": b"\x10\0\x10\0" + len(needle).to_bytes(4, "little") + needle.encode(),
    }[shape]
    if shape == "item":
        made = b"\xfe\xff\x00\xe0" + len(made).to_bytes(4, "little") + made
    return made + b"\0" * (len(made) % 2)


def planted(tag: int, vr: str, value: bytes, depth: int) -> Dataset:
    """Give a data set as if it were read: elements raw, so that nothing checks them."""
    elements: dict[BaseTag, RawDataElement | DataElement] = {}
    if tag >> 16 & 1:
        elements[Tag(tag >> 16, tag >> 8 & 0xFF)] = raw(tag >> 16 << 16 | tag >> 8 & 0xFF, "LO", b"A MAKER ")
    elements[Tag(tag)] = raw(tag, vr, value)
    for _ in range(depth):
        items = Sequence([Dataset(elements)])
        elements = {Tag(0x00409096): DataElement(0x00409096, "SQ", items)}
    root = image()
    made = Dataset({**dict(root.items()), **elements})
    made.file_meta = root.file_meta
    return made


def raw(tag: int, vr: str, value: bytes) -> RawDataElement:
    return RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    tag=tags,
    vr=st.sampled_from(TEXTS + BINARY),
    needle=needles,
    shape=shapes,
    depth=st.integers(0, 4),
    options=st.sets(st.sampled_from(sorted(set(Option) - RETAINING))),
)
def test_a_planted_value_never_comes_out(
    tag: int, vr: str, needle: str, shape: str, depth: int, options: set[Option]
) -> None:
    if Option.RETAIN_FULL_DATES in options:
        options.discard(Option.RETAIN_MODIFIED_DATES)
    # Numbers are numbers, whatever was meant by them.
    assume(shape != "zlib" or vr in TEXTS or (vr in ("OB", "UN") and tag not in DicomDictionary))
    value = shaped(needle, shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = file_bytes(rewritten(planted(tag, vr, value, depth), preset="basic", options=options))
    forms = [needle.encode(), needle.upper().encode(), base64.b64encode(needle.encode())[:14]]
    forms += [
        needle.encode("utf-16-le"),
        needle.encode().hex().upper().encode(),
        zlib.compress(needle.encode()),
    ]
    assert not [form for form in forms if form in data]
    pydicom.dcmread(BytesIO(data))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(needle=needles, where=st.sampled_from(["preamble", "meta", "creator", "charset", "trailing"]))
def test_outside_the_data_set_neither(needle: str, where: str) -> None:
    source = image()
    if where == "preamble":
        source.preamble = needle.encode().ljust(128, b"\0")
    elif where == "meta":
        source.file_meta.SourceApplicationEntityTitle = needle
        source.file_meta.PrivateInformationCreatorUID = "1.2.3"
        source.file_meta.PrivateInformation = needle.encode()
    elif where == "creator":
        source.private_block(0x0011, needle, create=True).add_new(1, "LO", "A")
    elif where == "charset":
        source = planted(0x00080005, "CS", needle.encode(), 0)
    else:
        source = planted(0xFFFCFFFC, "OB", needle.encode(), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for options in ([], set(Option) - {Option.RETAIN_FULL_DATES}):
            data = file_bytes(rewritten(source, preset="basic", options=options))
            assert needle.encode() not in data


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    needle=st.text("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789", min_size=4, max_size=12),
    before=st.sampled_from(["", "SSD-", "syngo CT ", "CT_", "V", "12 "]),
    after=st.sampled_from(["", "-4000", " VA48A", "_R01", "/CT"]),
)
def test_no_name_of_a_machine_hides_a_value(needle: str, before: str, after: str) -> None:
    unique = NEEDLE[:4].upper() + needle
    made = TextCleaner(Person("subject"), uid=str).machine(before + unique + after)
    assert unique not in made
