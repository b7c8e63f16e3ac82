"""All that a vault does with a stranger's file before a decoder sees it, for fuzzers and properties.

Whatever the bytes are, each step ends with a value or with an error of `voxelvault.errors`, and what
the parser says of a file fits the file. Anything else is a finding.
"""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain

from voxelvault.dicom import native
from voxelvault.dicom.codestream import coding_style, jpeg2000_info, jpeg_info, jpegxl_info, rle_info
from voxelvault.dicom.columns import TABLES, columns
from voxelvault.dicom.decode import check_frame
from voxelvault.dicom.elements import Dataset
from voxelvault.dicom.frames import frame_attributes, pixel_aspect
from voxelvault.dicom.geometry import arrange
from voxelvault.dicom.lookup import modality_table, palette_table
from voxelvault.dicom.part10 import Part10, PixelSpan, frame_fragments, parse
from voxelvault.dicom.read import Header, frame_spec, number_of_frames
from voxelvault.dicom.rtstruct import read_structure_set
from voxelvault.dicom.segmentation import read_segmentation
from voxelvault.dicom.structured_report import findings
from voxelvault.dicom.values import real_world_maps, suv_factor
from voxelvault.dicom.write import Encoder, dataset_bytes
from voxelvault.errors import VoxelVaultError
from voxelvault.intake.identity import name_words, person_of, valid_uids
from voxelvault.model import Buffer

FEW = 64
"""Frames that are described of one file: each costs the same."""

LARGEST = 1 << 20
"""Pixels are unpacked up to this many bytes."""


def dissect(data: Buffer) -> Part10 | None:
    """Take a file apart in every way there is.

    Parameters
    ----------
    data : buffer
        Anything.

    Returns
    -------
    Part10 or None
        What was parsed; None where the parser refused.

    Raises
    ------
    AssertionError
        The parser's answer does not fit the file.
    Exception
        Whatever else a step let through: each is a fault of ours.
    """
    try:
        part10 = parse(data)
    except VoxelVaultError:
        return None
    check_places(part10)
    header = Header.from_part10(part10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, about values
        for step in STEPS:
            with suppress(VoxelVaultError):
                step(part10, header)
    return part10


def check_places(part10: Part10) -> None:
    """Assert that every place lies in the file, and that head, pixels and tail give it again."""
    size = len(part10.data)
    assert 0 <= part10.dataset_start <= part10.end <= size
    for start, stop in chain(_places(part10.dataset), _places(part10.meta)):
        assert 0 <= start <= stop
    assert all(stop <= size for _, stop in _places(part10.dataset))
    assert all(stop <= part10.length for _, stop in _places(part10.meta))
    if part10.pixels is not None:
        assert b"".join(_parts(part10, part10.pixels)) == bytes(part10.data)


def _places(dataset: Dataset) -> Iterator[tuple[int, int]]:
    for element in dataset.values():
        yield element.start, element.stop
        for item in element.items or ():
            yield from _places(item)


def _parts(part10: Part10, span: PixelSpan) -> Iterator[Buffer]:
    """Yield head, pixels and tail; heads of fragments are written anew from their lengths (PS3.5 A.4)."""
    data = part10.data
    assert 0 <= span.start <= span.stop <= span.end <= len(data)
    yield data[: span.start]
    at = span.start
    for start, stop in span.fragments:
        assert at + 8 <= start <= stop <= span.stop
        first_cut = stop - start
        whole = struct.unpack_from(_order(part10) + "I", data, start - 4)[0]
        assert first_cut == whole or (span.truncated and stop == len(data))
        yield data[at : start - 8]  # the offset table before the first fragment, nothing before others
        assert at == start - 8 or at == span.start
        yield struct.pack(_order(part10) + "HHI", 0xFFFE, 0xE000, whole)
        yield data[start:stop]
        at = stop
    yield data[at : span.stop]
    yield data[span.stop :]


def _order(part10: Part10) -> str:
    return ">" if part10.big_endian else "<"


def _header(part10: Part10, header: Header) -> None:
    text = header.json()
    text.encode()
    again = Header.from_json(text)
    assert again == header
    assert json.loads(text) == json.loads(again.json())
    for name in header:
        header.get(name)
        header.values(name)
        header.items_of(name)
        header.name_groups(name)


def _catalog(part10: Part10, header: Header) -> None:
    for table in TABLES:
        columns(header, table)


def _identity(part10: Part10, header: Header) -> None:
    valid_uids(header)
    name_words(person_of(header, "", "").name)
    header.private("SIEMENS CSA HEADER", 0x29, 0x10)


def _frames(part10: Part10, header: Header) -> None:
    number_of_frames(header)
    pixel_aspect(header)
    arrange(frame_attributes(header, min(FEW, number_of_frames(header))))


def _real_values(part10: Part10, header: Header) -> None:
    real_world_maps(header)
    suv_factor(header)


def _palette(part10: Part10, header: Header) -> None:
    palette_table(bytes(part10.data))


def _lookup(part10: Part10, header: Header) -> None:
    modality_table(bytes(part10.data))


def _segmentation(part10: Part10, header: Header) -> None:
    read_segmentation(header)


def _regions(part10: Part10, header: Header) -> None:
    read_structure_set(header, part10.data)


def _report(part10: Part10, header: Header) -> None:
    findings(header)


def _written(part10: Part10, header: Header) -> None:
    written = dataset_bytes([(Encoder(part10.data, big_endian=part10.big_endian), part10.dataset)], {})
    if written:
        parse(bytes(128) + b"DICM" + _EXPLICIT + written)


_EXPLICIT = struct.pack("<HH2sH", 2, 0x10, b"UI", 20) + b"1.2.840.10008.1.2.1\0"


def _native(part10: Part10, header: Header) -> None:
    span, spec = part10.pixels, frame_spec(header)
    if span is None or span.encapsulated:
        return
    count, held = number_of_frames(header), min(span.stop - span.start, LARGEST)
    swapped = native.word_swapped(spec, big_endian=part10.big_endian, vr=span.vr)
    halved = native.is_subsampled(spec, span.stop - span.start, count)
    needed = native.native_length(spec, count, subsampled=halved)
    if needed + needed % 2 <= held and count <= held:
        data = part10.data[span.start : span.start + needed + needed % 2]
        frames = native.unpack_native(
            data, spec, count, big_endian=part10.big_endian, word_swapped=swapped, subsampled=halved
        )
        native.stored_values(frames, spec)
        native.pack_native(frames, spec, big_endian=part10.big_endian, word_swapped=swapped)


def _codestreams(part10: Part10, header: Header) -> None:
    span, spec = part10.pixels, frame_spec(header)
    if span is None or not span.encapsulated:
        return
    for fragments in frame_fragments(span, number_of_frames(header))[:FEW]:
        stream = b"".join(bytes(part10.data[start:stop]) for start, stop in fragments)
        for read in (jpeg_info, jpeg2000_info, jpegxl_info, coding_style):
            with suppress(VoxelVaultError):
                read(stream)
        with suppress(VoxelVaultError):
            rle_info(stream, spec)
        check_frame(stream, spec)


STEPS: tuple[Callable[[Part10, Header], None], ...] = (
    _header,
    _catalog,
    _identity,
    _frames,
    _real_values,
    _palette,
    _lookup,
    _segmentation,
    _regions,
    _report,
    _written,
    _native,
    _codestreams,
)
"""What is done with a parsed file, each on its own: one that refuses does not spare the next."""

__all__ = ["STEPS", "check_places", "dissect"]
