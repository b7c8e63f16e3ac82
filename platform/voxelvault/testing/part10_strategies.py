"""Hypothesis strategies for Part 10 files: mostly well formed, wrong in one place or several.

Half of what comes out is a file that a careless writer could have made, so that what lies behind the
parser is reached too; lengths, VRs, delimiters and offset tables then lie now and again.

References
----------
DICOM PS3.10 7 (file format), PS3.5 7 (data elements), A (transfer syntaxes), A.4 (fragments).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from hypothesis import strategies as st

from voxelvault.dicom.vr import CODES, tags_by_keyword
from voxelvault.testing.damage import changed

Draw = st.DrawFn
UNDEFINED = 0xFFFFFFFF
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
CODED = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5")
SYNTAXES = (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED, *CODED, "1.2.3.4")

SEQUENCES = (
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "PlanePositionSequence",
    "PixelMeasuresSequence",
    "ModalityLUTSequence",
    "RealWorldValueMappingSequence",
    "StructureSetROISequence",
    "ROIContourSequence",
    "ContourSequence",
    "SegmentSequence",
    "ContentSequence",
    "ConceptNameCodeSequence",
)
PLAIN = {
    "SpecificCharacterSet": "CS",
    "ImageType": "CS",
    "SOPInstanceUID": "UI",
    "StudyDate": "DA",
    "AcquisitionTime": "TM",
    "FrameAcquisitionDateTime": "DT",
    "Modality": "CS",
    "PatientName": "PN",
    "PatientID": "LO",
    "PatientBirthDate": "DA",
    "PatientAge": "AS",
    "SliceThickness": "DS",
    "ImagePositionPatient": "DS",
    "ImageOrientationPatient": "DS",
    "PixelSpacing": "DS",
    "InstanceNumber": "IS",
    "NumberOfFrames": "IS",
    "Rows": "US",
    "BitsAllocated": "US",
    "PixelRepresentation": "US",
    "PixelPaddingValue": "US",
    "FrameIncrementPointer": "AT",
    "RescaleSlope": "DS",
    "WindowCenter": "DS",
    "LUTDescriptor": "US",
    "LUTData": "OW",
    "RedPaletteColorLookupTableDescriptor": "US",
    "RedPaletteColorLookupTableData": "OW",
    "SegmentedRedPaletteColorLookupTableData": "OW",
    "ROINumber": "IS",
    "ContourData": "DS",
    "SegmentNumber": "US",
    "GridFrameOffsetVector": "DS",
    "DiffusionBValue": "FD",
    "EncapsulatedDocument": "OB",
    "ExtendedOffsetTable": "OV",
}
"""Keywords that something behind the parser looks at, with the VR that they should have."""

TEXTS = (
    b"",
    b"1",
    b"-1.5",
    b"0\\0\\0",
    b"1\\0\\0\\0\\1\\0",
    b"\\\\",
    b"1e999",
    b"nan",
    b"1_0",
    b"9" * 320,
    b"\xb2\xb9\xb3",
    b"20240230",
    b"235960.999999",
    b"A^B=\xc3\x84=",
    b"\x1b$B0!\x1b(B\\\x1b$)C",
    b"ISO 2022 IR 87\\ISO_IR 192",
    b"a\0b",
    b"..\\/",
)
"""Values that texts, numbers, dates, names and character sets stumble over (PS3.5 6.2)."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How elements are written."""

    implicit: bool = False
    big_endian: bool = False

    def head(self, tag: int, vr: str, length: int) -> bytes:
        """Return tag, VR and length; the short form holds what fits into it."""
        order = ">" if self.big_endian else "<"
        start = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
        code = vr.encode()
        if self.implicit:
            return start + struct.pack(order + "I", length)
        if code in CODES and not CODES[code].long:
            return start + code + struct.pack(order + "H", length & 0xFFFF)
        return start + code + struct.pack(order + "HI", 0, length)

    def mark(self, tag: int, length: int = 0) -> bytes:
        """Return an item or a delimiter (PS3.5 7.5)."""
        return struct.pack((">" if self.big_endian else "<") + "HHI", tag >> 16, tag & 0xFFFF, length)


def lengths(true: int) -> st.SearchStrategy[int]:
    """Return what a length field says: nearly always the truth."""
    lies = [0, 1, true + 1, true + 2, max(0, true - 1), 0x7FFFFFFF, 0xFFFFFFFE, UNDEFINED]
    return st.integers(0, 15).flatmap(lambda at: st.sampled_from(lies) if at == 15 else st.just(true))


def vrs(right: str) -> st.SearchStrategy[str]:
    """Return a VR: nearly always the right one."""
    wrong = st.sampled_from([code.decode() for code in CODES]) | st.sampled_from(["UN", "ZZ", "??", "\0\0"])
    return st.integers(0, 11).flatmap(lambda at: wrong if at == 11 else st.just(right))


def values() -> st.SearchStrategy[bytes]:
    """Return a value field, of odd length at times."""
    return st.sampled_from(TEXTS) | st.binary(max_size=24)


@st.composite
def elements(draw: Draw, wire: Wire, depth: int = 0) -> bytes:
    """Return one element: plain, a sequence, or private."""
    kind = draw(st.integers(0, 9))
    if kind >= 8 and depth < 4:
        return draw(sequences(wire, depth))
    if kind == 7:
        group, number = draw(st.sampled_from([0x0009, 0x0029, 0x7FE1])), draw(st.integers(0, 0xFFFF))
        value = draw(values())
        creator = wire.head(group << 16 | 0x10, "LO", 6) + b"SIEMENS CSA HEADER"[:6]
        return creator + wire.head(group << 16 | number, draw(vrs("UN")), draw(lengths(len(value)))) + value
    keyword, vr = draw(st.sampled_from(sorted(PLAIN.items())))
    value = draw(values())
    head = wire.head(tags_by_keyword()[keyword], draw(vrs(vr)), draw(lengths(len(value))))
    return head + value


@st.composite
def sequences(draw: Draw, wire: Wire, depth: int) -> bytes:
    """Return a sequence of known or undefined length, its delimiters forgotten at times (PS3.5 7.5.2)."""
    content = b""
    inside = Wire(draw(st.booleans()), wire.big_endian) if draw(st.integers(0, 9)) == 9 else wire
    for item in draw(st.lists(st.lists(elements(inside, depth + 1), max_size=3), max_size=3)):
        joined = b"".join(item)
        known = draw(st.booleans())
        length = draw(lengths(len(joined))) if known else UNDEFINED
        end = b"" if known or draw(st.integers(0, 9)) == 9 else wire.mark(0xFFFEE00D)
        content += wire.mark(0xFFFEE000, length) + joined + end
    tag = tags_by_keyword()[draw(st.sampled_from(SEQUENCES))]
    vr = draw(vrs("SQ"))
    if draw(st.booleans()):
        return wire.head(tag, vr, draw(lengths(len(content)))) + content
    end = b"" if draw(st.integers(0, 9)) == 9 else wire.mark(0xFFFEE0DD)
    return wire.head(tag, vr, UNDEFINED) + content + end


@st.composite
def images(draw: Draw, wire: Wire, encapsulated: bool) -> bytes:
    """Return an image's description and its pixels, which mostly fit it (PS3.3 C.7.6.3)."""
    rows, columns, frames = draw(st.integers(0, 5)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    bits, samples = draw(st.sampled_from([1, 8, 8, 12, 16, 32])), draw(st.sampled_from([1, 1, 3]))
    numbers = {
        0x00280002: samples,
        0x00280006: draw(st.integers(0, 1)) if samples == 3 else None,
        0x00280010: rows,
        0x00280011: columns,
        0x00280100: bits,
        0x00280101: draw(st.sampled_from([bits, max(1, bits - 4), 33])),
        0x00280103: draw(st.integers(0, 1)),
    }
    short = struct.Struct(">H" if wire.big_endian else "<H")
    described = {
        tag: wire.head(tag, "US", 2) + short.pack(number)
        for tag, number in numbers.items()
        if number is not None
    }
    photometric = draw(st.sampled_from([b"MONOCHROME2 ", b"RGB ", b"YBR_FULL_422", b"PALETTE COLOR "]))
    described[0x00280004] = wire.head(0x00280004, "CS", len(photometric)) + photometric
    described[0x00280008] = wire.head(0x00280008, "IS", 2) + b"%d " % frames
    head = b"".join(described[tag] for tag in sorted(described))
    if encapsulated:
        return head + draw(fragments(wire, frames))
    size = (rows * columns * frames * samples * bits + 7) // 8
    size += draw(st.sampled_from([0, 0, size % 2, 1, -1 if size else 0, 7]))
    pixels = (bytes(range(256)) * (size // 256 + 1))[:size]
    vr = draw(vrs("OW" if bits > 8 or wire.implicit else "OB"))
    return head + wire.head(0x7FE00010, vr, draw(lengths(size))) + pixels


@st.composite
def fragments(draw: Draw, wire: Wire, frames: int) -> bytes:
    """Return encapsulated pixels with an offset table that is right, absent or wrong (PS3.5 A.4)."""
    starts = (b"\xff\xd8\xff\xf7\0\x0b\x08\0\4\0\4\1\1\x11\0", b"\xff\x4f\xff\x51\0\x29", b"\xff\x0a", b"")
    parts = [
        draw(st.sampled_from(starts)) + draw(st.binary(max_size=12))
        for _ in range(draw(st.sampled_from([frames, frames, frames, 0, frames + 2])))
    ]
    at, offsets = 0, []
    for part in parts:
        offsets.append(at)
        at += 8 + len(part)
    order = ">" if wire.big_endian else "<"
    table = struct.pack(f"{order}{len(offsets)}I", *offsets)
    table = draw(st.sampled_from([b"", table, table, table[:-1], table[::-1], table + b"\xff" * 4]))
    made = wire.mark(0xFFFEE000, len(table)) + table
    for part in parts:
        made += wire.mark(0xFFFEE000, draw(lengths(len(part)))) + part
    end = b"" if draw(st.integers(0, 9)) == 9 else wire.mark(0xFFFEE0DD)
    return wire.head(0x7FE00010, draw(vrs("OB")), UNDEFINED) + made + end


def identification(wire: Wire, number: int, study: int) -> bytes:
    """Return the UIDs and the patient that make an object storable."""
    texts = {
        0x00080016: ("UI", b"1.2.840.10008.5.1.4.1.1.7\0"),
        0x00080018: ("UI", b"1.2.826.7.%d" % number),
        0x00100020: ("LO", b"HYPO%d" % (study % 2)),
        0x0020000D: ("UI", b"1.2.826.8.%d" % study),
        0x0020000E: ("UI", b"1.2.826.9.%d" % study),
    }
    return b"".join(
        wire.head(tag, vr, len(value) + len(value) % 2) + value + b"\0" * (len(value) % 2)
        for tag, (vr, value) in texts.items()
    )


@st.composite
def part10_files(draw: Draw, *, damaged: bool = True) -> bytes:
    """Return a file.

    Parameters
    ----------
    draw : callable
        Given by Hypothesis.
    damaged : bool
        Some are cut, spliced or changed in a byte afterwards.
    """
    syntax = draw(st.sampled_from(SYNTAXES))
    wire = Wire(syntax == IMPLICIT, syntax == BIG_ENDIAN)
    whole = identification(wire, draw(st.integers(0, 1 << 40)), draw(st.integers(0, 3)))
    body = whole if draw(st.integers(0, 9)) else b""
    body += b"".join(draw(st.lists(elements(wire), max_size=5)))
    if draw(st.booleans()):
        coded = syntax in CODED or draw(st.integers(0, 9)) == 9
        body += draw(images(wire, coded))
    body += draw(st.sampled_from([b"", b"", b"", b"\0", bytes(300), wire.head(0xFFFCFFFC, "OB", 3) + b"pad"]))
    if syntax == DEFLATED:
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        body = packer.compress(body) + packer.flush()
    file = draw(st.sampled_from([bytes(128) + b"DICM"] * 6 + [b"", bytes(128)])) + draw(_meta(syntax)) + body
    return draw(changed(file)) if damaged and draw(st.integers(0, 3)) == 3 else file


@st.composite
def _meta(draw: Draw, syntax: str) -> bytes:
    """Return group 0002, or nothing, or one whose length lies."""
    if draw(st.integers(0, 15)) == 15:
        return b""
    wire, uid = Wire(), syntax.encode() + b"\0" * (len(syntax) % 2)
    rest = wire.head(0x00020001, "OB", 2) + b"\0\1" + wire.head(0x00020010, "UI", len(uid)) + uid
    return wire.head(0x00020000, "UL", 4) + struct.pack("<I", draw(lengths(len(rest)))) + rest


__all__ = ["Wire", "part10_files"]
