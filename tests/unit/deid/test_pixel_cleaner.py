"""Pixels of whole objects: searched where they must be, blanked, and written without a second loss."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from voxelvault.deid import burned_in, pixels
from voxelvault.deid.model import Context, Option, Refused, Rewritten
from voxelvault.deid.ocr import Reading
from voxelvault.deid.pixel_data import PixelData
from voxelvault.deid.pixels import PixelCleaner
from voxelvault.deid.writing import file_bytes
from voxelvault.dicom.decode import DecoderPool
from voxelvault.dicom.part10 import Part10, parse
from voxelvault.dicom.read import Header

ROWS, COLUMNS = 64, 96
TEXT = (slice(8, 16), slice(16, 56))
ULTRASOUND, CT = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


class _Cleaner:
    def text(self, value: str) -> str:
        return value

    def machine(self, value: str) -> str:
        return self.text(value)

    def harmless(self, text: str) -> bool:
        return False


class _Policy:
    options: frozenset[Option] = frozenset()


CONTEXT = Context(_Policy(), None, None, _Cleaner())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def cleaner() -> Iterator[PixelCleaner]:
    with DecoderPool(1) as pool:
        yield PixelCleaner(pool)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a name where the frame is brightest, as long as it is there."""

    def read(picture: np.ndarray[Any, Any]) -> list[Reading]:
        grey = picture.min(axis=2) if picture.ndim == 3 else picture
        scale = grey.shape[0] / ROWS
        if scale != int(scale) or grey.shape[1] != COLUMNS * scale:
            return []
        s = int(scale)
        inked = grey[8 * s : 16 * s, 16 * s : 56 * s].mean() > 150
        return [Reading(8 * s, 16 * s, 16 * s, 56 * s, "SMITH^JOHN", 0.95)] if inked else []

    monkeypatch.setattr(burned_in, "read", read)


def _frames(count: int, samples: int) -> np.ndarray[Any, Any]:
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    one = (60 + 30 * np.sin(x / 9) + 30 * np.cos(y / 7)).astype(np.uint8)
    frames = np.stack([one + np.uint8(index) for index in range(count)])
    if samples == 3:
        frames = np.stack([frames, frames // 2, frames // 3], axis=-1)
    frames[:, TEXT[0], TEXT[1]] = 250
    return frames


def _file(
    coded: bytes | list[bytes],
    syntax: str,
    *,
    samples: int = 1,
    count: int = 1,
    photometric: str = "MONOCHROME2",
    sop_class: str = ULTRASOUND,
    **more: object,
) -> tuple[Part10, Header, Rewritten]:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, "1.2.3.4"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = ROWS, COLUMNS, samples
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PhotometricInterpretation, dataset.NumberOfFrames = photometric, count
    if samples == 3:
        dataset.PlanarConfiguration = 0
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    made = Rewritten(Dataset())
    made.dataset.update(dict(dataset.items()))
    made.dataset.file_meta = dataset.file_meta
    dataset.PixelData = encapsulate(coded) if isinstance(coded, list) else coded
    dataset["PixelData"].VR = "OB"
    part10 = parse(file_bytes(Rewritten(dataset)))
    return part10, Header.from_part10(part10), made


def _result(made: Rewritten) -> tuple[Part10, np.ndarray[Any, Any]]:
    part10 = parse(file_bytes(made))
    with DecoderPool(1) as pool:
        return part10, PixelData.of(part10, Header.from_part10(part10)).frames(pool)


@pytest.mark.usefixtures("reads")
@pytest.mark.parametrize("samples", [1, 3])
def test_native_pixels_are_blanked_in_place(cleaner: PixelCleaner, samples: int) -> None:
    frames = _frames(2, samples)
    photometric = "RGB" if samples == 3 else "MONOCHROME2"
    part10, header, made = _file(
        frames.tobytes(), EXPLICIT, samples=samples, count=2, photometric=photometric
    )
    report = cleaner.put(part10, header, made, CONTEXT, None)
    assert report.verdict == "blanked"
    assert {box[0] for box in report.boxes} == {-1}
    assert made.applied == {Option.CLEAN_PIXELS.code}
    _, after = _result(made)
    assert not after[:, TEXT[0], TEXT[1]].any()
    assert np.array_equal(after[:, 40:], frames[:, 40:])
    assert report.before is not None
    assert report.after is not None
    assert Image.open(io.BytesIO(report.before)).size == Image.open(io.BytesIO(report.after)).size


@pytest.mark.usefixtures("reads")
def test_jpeg_is_blanked_by_blocks(cleaner: PixelCleaner) -> None:
    coded = []
    for frame in _frames(2, 1):
        out = io.BytesIO()
        Image.fromarray(frame).save(out, "JPEG", quality=90)
        coded.append(out.getvalue())
    part10, header, made = _file(coded, "1.2.840.10008.1.2.4.50", count=2)
    before = cleaner.frames(part10, header)
    cleaner.put(part10, header, made, CONTEXT, None)
    written, after = _result(made)
    assert written.transfer_syntax == "1.2.840.10008.1.2.4.50"
    assert not after[:, TEXT[0], TEXT[1]].any()
    assert np.array_equal(after[:, 40:], before[:, 40:])


@pytest.mark.usefixtures("reads")
def test_lossy_jpeg2000_becomes_native_and_keeps_its_pixels(cleaner: PixelCleaner) -> None:
    frame = _frames(1, 3)[0]
    coded = bytes(imagecodecs.jpeg2k_encode(frame, level=40, reversible=False, codecformat="j2k", mct=True))
    part10, header, made = _file(
        [coded], "1.2.840.10008.1.2.4.91", samples=3, photometric="YBR_ICT", LossyImageCompression="01"
    )
    before = cleaner.frames(part10, header)
    cleaner.put(part10, header, made, CONTEXT, None)
    written, after = _result(made)
    assert written.transfer_syntax == EXPLICIT
    assert Header.from_part10(written).get("PhotometricInterpretation") == "RGB"
    assert Header.from_part10(written).get("LossyImageCompression") == "01"
    assert not after[:, TEXT[0], TEXT[1]].any()
    assert np.array_equal(after[:, 40:], before[:, 40:])


@pytest.mark.usefixtures("reads")
def test_lossy_pixels_that_become_native_say_so_whatever_their_header_said(cleaner: PixelCleaner) -> None:
    frame = _frames(1, 1)[0]
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "JPEG", quality=90, progressive=True)
    part10, header, made = _file([out.getvalue()], "1.2.840.10008.1.2.4.55")
    cleaner.put(part10, header, made, CONTEXT, None)
    written, _ = _result(made)
    result = Header.from_part10(written)
    assert written.transfer_syntax == EXPLICIT
    assert result.get("LossyImageCompression") == "01"
    assert result.get("LossyImageCompressionMethod") == "ISO_10918_1"
    assert float(result.get("LossyImageCompressionRatio")) == pytest.approx(
        ROWS * COLUMNS / len(out.getvalue()), rel=0.01
    )


@pytest.mark.usefixtures("reads")
def test_blocks_that_do_not_come_out_blank_are_not_written(
    cleaner: PixelCleaner, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.BytesIO()
    Image.fromarray(_frames(1, 1)[0]).save(out, "JPEG", quality=90)
    monkeypatch.setattr(pixels, "blank_blocks", lambda codestream, boxes, colour: codestream)
    part10, header, made = _file([out.getvalue()], "1.2.840.10008.1.2.4.50")
    cleaner.put(part10, header, made, CONTEXT, None)
    written, after = _result(made)
    assert written.transfer_syntax == EXPLICIT
    assert not after[:, TEXT[0], TEXT[1]].any()


@pytest.mark.usefixtures("reads")
def test_the_picture_is_of_a_frame_with_text(cleaner: PixelCleaner) -> None:
    frames = _frames(3, 1)
    frames[:2, TEXT[0], TEXT[1]] = 0
    part10, header, made = _file(frames.tobytes(), EXPLICIT, count=3)
    report = cleaner.put(part10, header, made, CONTEXT, None)
    assert report.before is not None
    assert np.asarray(Image.open(io.BytesIO(report.before)))[TEXT].min() == 255


@pytest.mark.usefixtures("reads")
def test_sections_are_not_searched_but_faces_go(cleaner: PixelCleaner) -> None:
    values = np.arange(ROWS * COLUMNS, dtype=np.uint16).reshape(1, ROWS, COLUMNS) % 4096
    kind = {
        "sop_class": CT,
        "Modality": "CT",
        "ImagePositionPatient": [0, 0, 0],
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
    }
    part10, header, made = _file(values.tobytes(), EXPLICIT, **kind)  # type: ignore[arg-type]
    assert cleaner.put(part10, header, made, CONTEXT, None).verdict == "not_searched"
    assert not made.applied
    assert np.array_equal(_result(made)[1], values)
    face = np.zeros(values.shape, bool)
    face[0, :5] = True
    assert cleaner.put(part10, header, made, CONTEXT, face).verdict == "not_searched"
    assert np.array_equal(_result(made)[1][0, 5:], values[0, 5:])
    assert not _result(made)[1][0, :5].any()


def test_text_that_stays_readable_is_refused(cleaner: PixelCleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burned_in, "read", lambda picture: [Reading(8, 16, 16, 56, "SMITH", 0.95)])
    part10, header, made = _file(_frames(1, 1).tobytes(), EXPLICIT)
    with pytest.raises(Refused):
        cleaner.put(part10, header, made, CONTEXT, None)
    with pytest.raises(Refused):
        cleaner.clean_page(CONTEXT)(_frames(1, 3)[0])


@pytest.mark.usefixtures("reads")
def test_pages_of_documents_are_blanked(cleaner: PixelCleaner) -> None:
    page = _frames(1, 3)[0]
    made = cleaner.clean_page(CONTEXT)(page)
    assert not made[TEXT].any()
    assert np.array_equal(made[40:], page[40:])
