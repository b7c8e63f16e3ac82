"""Bytes of a released file: new meta, nothing before, nothing behind."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from deid_support import image, reread, rewritten
from voxelvault.deid.model import Rewritten
from voxelvault.deid.writing import file_bytes


def read(result: Rewritten) -> Dataset:
    return pydicom.dcmread(BytesIO(file_bytes(result)))


def test_meta_is_new_and_agrees_with_the_data_set() -> None:
    source = image()
    source.file_meta.SourceApplicationEntityTitle = "SECRETNODE"
    source.preamble = b"SECRET".ljust(128, b"!")
    out = read(rewritten(reread(source)))
    assert out.preamble == bytes(128)
    assert out.file_meta.MediaStorageSOPInstanceUID == out.SOPInstanceUID != "1.2.3.4.5"
    assert out.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert [element.keyword for element in out.file_meta] == [
        "FileMetaInformationGroupLength",
        "FileMetaInformationVersion",
        "MediaStorageSOPClassUID",
        "MediaStorageSOPInstanceUID",
        "TransferSyntaxUID",
        "ImplementationClassUID",
        "ImplementationVersionName",
    ]


def test_text_is_utf_8_at_every_depth() -> None:
    source = image()
    source.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 144"
    item.SeriesDescription = "Голова"
    source.add_new(0x00409096, "SQ", Sequence([item]))
    out = read(rewritten(reread(source), known=["Голова"]))
    assert out.SpecificCharacterSet == "ISO_IR 192"
    assert out[0x00409096].value[0].SeriesDescription == "Голова"
    assert "SpecificCharacterSet" not in out[0x00409096].value[0]


def test_text_in_iso_2022_is_decoded() -> None:
    source = image()
    source.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    source.ImageComments = "たろう"
    source = reread(source)
    assert b"\x1b" in source.get_item("ImageComments").value
    assert read(rewritten(source)).ImageComments == "XXX"
    assert read(rewritten(source, known=["たろう"])).ImageComments == "たろう"


def test_encapsulated_pixels_end_once() -> None:
    source = image()
    source.file_meta.TransferSyntaxUID = RLELossless
    source.PixelData = encapsulate([b"\1\2\3\4"])
    source["PixelData"].VR = "OB"
    source["PixelData"].is_undefined_length = True
    result = rewritten(reread(source))
    assert "PixelData" not in result.dataset
    result.dataset.PixelData = encapsulate([b"\5\6\7\x08"])
    data = file_bytes(result)
    assert data.endswith(b"\xfe\xff\xdd\xe0\0\0\0\0")
    assert data.count(b"\xfe\xff\xdd\xe0") == 1
    assert pydicom.dcmread(BytesIO(data)).file_meta.TransferSyntaxUID == RLELossless


def test_what_other_rooms_put_in_is_written() -> None:
    result = rewritten(reread(image()))
    pixels = np.arange(6, dtype="<u2")
    result.dataset.PixelData = pixels.tobytes()
    result.dataset["PixelData"].VR = "OW"
    result.dataset.ImageComments = "größer"
    out = read(result)
    assert out.PixelData == pixels.tobytes()
    assert out.ImageComments == "größer"
