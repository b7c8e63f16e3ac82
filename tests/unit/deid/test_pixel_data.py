"""Pixels go along as they were, and nothing beside them: real files of every transfer syntax."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset

from voxelvault.deid.model import Refused, Rewritten
from voxelvault.deid.pixel_data import PixelData
from voxelvault.deid.stripping import strip
from voxelvault.deid.writing import file_bytes
from voxelvault.dicom.decode import DecoderPool
from voxelvault.dicom.part10 import Part10, parse
from voxelvault.dicom.read import Header
from voxelvault.errors import DicomError
from voxelvault.model import FrameSpec

SECRET = b"ZQXJONES4711"
KEPT = (
    *("SOPClassUID", "SOPInstanceUID", "Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored"),
    *("HighBit", "PixelRepresentation", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames"),
)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(2) as found:
        yield found


def one_of_each(folder: Path) -> list[Path]:
    """Return a file of each transfer syntax, bit depth and colour that decodes, the smallest one."""
    rows = csv.DictReader((folder / "MANIFEST.csv").read_text("utf-8").splitlines())
    found: dict[tuple[str, str, str], tuple[int, Path]] = {}
    for row in rows:
        key = (row["transfer_syntax_uid"], row["photometric"], str(bool(row["frames"])))
        candidate = (int(row["bytes"]), folder / row["path"])
        if row["decode_ok"] == "yes" and candidate[0] < 3_000_000:
            found[key] = min(found.get(key, candidate), candidate)
    return [path for _, path in found.values()]


def again(part10: Part10, header: Header, data: PixelData) -> bytes:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = part10.transfer_syntax
    for keyword in KEPT:
        value = header.get(keyword)
        if value is not None:
            setattr(made, keyword, value)
    data.pass_on(made)
    return file_bytes(Rewritten(made))


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore:Invalid value")
def test_pixels_of_every_syntax_are_the_same_afterwards(shared_dicom: Path, pool: DecoderPool) -> None:
    compared = 0
    for path in one_of_each(shared_dicom):
        part10 = parse(path.read_bytes())
        header = Header.from_part10(part10)
        try:
            data = PixelData.of(part10, header)
            before = data.frames(pool)
        except Refused:
            continue
        after = parse(again(part10, header, data))
        found = PixelData.of(after, Header.from_part10(after)).frames(pool)
        bits = data.spec.bits_stored
        mask = (1 << bits) - 1 if before.dtype.kind in "iu" and not data.encapsulated else None
        if mask is None:
            assert np.array_equal(before, found, equal_nan=before.dtype.kind == "f"), path.name
        else:
            assert np.array_equal(before & before.dtype.type(mask), found & found.dtype.type(mask)), path.name
        compared += 1
    assert compared > 25


def _with_comment(codestream: bytes) -> bytes:
    if codestream[:2] == b"\xff\xd8":
        size = (len(SECRET) + 2).to_bytes(2, "big")
        segments = b"".join(b"\xff" + bytes([marker]) + size + SECRET for marker in (0xFE, 0xE1, 0x02, 0xF0))
        return b"\xff\xd8" + segments + codestream[2:] + SECRET
    if codestream[:2] == b"\xff\x4f":
        head = 4 + int.from_bytes(codestream[4:6], "big")
        comment = b"\xff\x64" + (len(SECRET) + 4).to_bytes(2, "big") + b"\0\1" + SECRET
        unknown = b"\xff\x7a" + (len(SECRET) + 2).to_bytes(2, "big") + SECRET
        return codestream[:head] + comment + unknown + codestream[head:] + SECRET
    return codestream + SECRET


@pytest.mark.shared
def test_what_was_written_beside_the_image_is_gone(shared_dicom: Path, pool: DecoderPool) -> None:
    compared = 0
    for path in one_of_each(shared_dicom):
        part10 = parse(path.read_bytes())
        header = Header.from_part10(part10)
        if part10.pixels is None or not part10.pixels.encapsulated:
            continue
        try:
            data = PixelData.of(part10, header)
            stream = data.codestreams()[0]
            expected = pool.decode(part10.transfer_syntax, stream, data.spec)
        except (Refused, DicomError):
            continue
        if part10.transfer_syntax.startswith("1.2.840.10008.1.2.4.11"):
            continue  # JPEG XL has no place for a comment in a bare codestream
        stripped = strip(part10.transfer_syntax, _with_comment(stream), data.spec)
        assert SECRET not in stripped, path.name
        assert np.array_equal(pool.decode(part10.transfer_syntax, stripped, data.spec), expected), path.name
        compared += 1
    assert compared > 15


@pytest.mark.parametrize("syntax", ["4.50", "4.90", "4.80", "5", "4.110", "8.1", "4.100"])
@pytest.mark.parametrize(
    "stream", [b"", b"\xff\xd8", b"\xff\xd8\xff\xda\0\4\0\0\1\2", bytes(64), b"\xff\x4f\xff\x51\0"]
)
def test_what_is_no_codestream_is_refused(syntax: str, stream: bytes) -> None:
    with pytest.raises(Refused):
        strip(f"1.2.840.10008.1.2.{syntax}", stream, FrameSpec(8, 8))


def test_bytes_behind_the_last_frame_and_above_the_stored_bits_are_gone() -> None:
    from voxelvault.testing import synthetic

    data = bytearray(synthetic.ct_series(1, 4, 4)[0])
    part10 = parse(bytes(data))
    assert part10.pixels is not None
    start, stop = part10.pixels.start, part10.pixels.stop
    data[start + 1 :: 2] = bytes(byte | 0xF0 for byte in data[start + 1 :: 2])
    changed = parse(bytes(data))
    made = again(changed, Header.from_part10(changed), PixelData.of(changed, Header.from_part10(changed)))
    found = parse(made)
    assert found.pixels is not None
    pixels = bytes(found.data[found.pixels.start : found.pixels.stop])
    assert len(pixels) == stop - start
    assert not any(byte & 0xF0 for byte in pixels[1::2])


def test_a_short_adobe_segment_tells_no_transform_and_goes() -> None:
    out = io.BytesIO()
    Image.new("L", (16, 16), 90).save(out, "JPEG")
    plain = strip("1.2.840.10008.1.2.4.50", out.getvalue(), FrameSpec(16, 16))
    short = plain[:2] + b"\xff\xee\x00\x0cAdobe" + bytes(5) + plain[2:]
    assert strip("1.2.840.10008.1.2.4.50", short, FrameSpec(16, 16)) == plain
