"""Header values, character sets and what a header says of its frames."""

from __future__ import annotations

import csv
import json
import pickle
import warnings
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from voxelvault.dicom import charset
from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header, frame_spec, number_of_frames, person_name
from voxelvault.errors import DicomError, MalformedDicom, NoPixels, UsageError


def header_of(dataset: Dataset) -> Header:
    return Header.from_json(json.dumps(dataset.to_json_dict()))


@pytest.fixture(scope="module")
def ct(wheel_dicom: Path) -> Header:
    return Header.from_part10(parse((wheel_dicom / "CT_small.dcm").read_bytes()))


class TestAccess:
    def test_by_keyword_hexadecimal_and_number(self, ct: Header) -> None:
        assert ct.get("Rows") == ct.get("00280010") == ct.get(0x00280010) == 128
        assert ct["Rows"] == {"vr": "US", "Value": [128]}
        assert "Rows" in ct
        assert "EchoTime" not in ct

    def test_values_and_defaults(self, ct: Header) -> None:
        assert ct.values("ImageType") == ["ORIGINAL", "PRIMARY", "AXIAL"]
        assert ct.get("ImageType") == "ORIGINAL"
        assert ct.values("EchoTime") == []
        assert ct.get("EchoTime", 3.5) == 3.5
        assert ct.values("PixelSpacing") == [0.661468, 0.661468]

    def test_names(self, ct: Header) -> None:
        assert ct.name_groups() == {"Alphabetic": "CompressedSamples^CT1"}
        assert ct.get("PatientName") == "CompressedSamples^CT1"
        assert ct.name_groups("OperatorsName") == {}
        assert person_name({"Alphabetic": "Wang", "Phonetic": "W"}) == "Wang==W"
        assert person_name(ct.get("PatientName")) == "CompressedSamples^CT1"
        assert person_name(None) == ""

    def test_transfer_syntax_survives_json(self, ct: Header) -> None:
        again = Header.from_json(ct.json())
        assert again == ct
        assert again.transfer_syntax == again.get("TransferSyntaxUID") == "1.2.840.10008.1.2.1"

    def test_private_by_creator(self, ct: Header) -> None:
        assert ct.private("GEMS_IDEN_01", 0x0009, 0x01) == "GE_GENESIS_FF"
        assert ct.get("00091001") == "GE_GENESIS_FF"
        assert ct.private("SIEMENS CSA HEADER", 0x0029, 0x10) is None

    def test_unknown_keyword(self, ct: Header) -> None:
        for name in ("Rwos", "zzzzzzzz", ""):
            with pytest.raises(UsageError):
                ct.get(name)

    def test_sequences(self) -> None:
        dataset, item = Dataset(), Dataset()
        item.ReferencedSOPInstanceUID = "1.2"
        dataset.ReferencedImageSequence = Sequence([item])
        header = header_of(dataset)
        assert [
            each.get("ReferencedSOPInstanceUID") for each in header.items_of("ReferencedImageSequence")
        ] == ["1.2"]
        assert header.get("ReferencedImageSequence") == header.items_of("ReferencedImageSequence")
        assert header.items_of("Rows") == []

    def test_inline_binary_is_bytes_and_bulk_is_absent(self, wheel_dicom: Path, ct: Header) -> None:
        assert ct.get("PixelData") is None
        header = Header.from_json('{"00420011":{"vr":"OB","InlineBinary":"AAE="}}')
        assert header.get("EncapsulatedDocument") == b"\0\1"

    def test_pickles(self, ct: Header) -> None:
        assert pickle.loads(pickle.dumps(ct)) == ct

    def test_says_nothing_of_the_patient(self, ct: Header) -> None:
        assert repr(ct) == f"<Header of {len(ct)} attributes>"

    @pytest.mark.parametrize("text", ["", "[]", "{", "null"])
    def test_no_json(self, text: str) -> None:
        with pytest.raises(MalformedDicom):
            Header.from_json(text)


class TestText:
    @pytest.mark.parametrize(
        ("term", "raw", "text"),
        [  # PS3.5 Annexes H, I, J, K
            (b"ISO_IR 100", b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
            (b"ISO_IR 192", "Wang^XiaoDong=王^小東".encode(), "Wang^XiaoDong=王^小東"),
            (b"GB18030", "王^小东".encode("gb18030"), "王^小东"),
            (
                b"\\ISO 2022 IR 87",
                b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
                "Yamada^Tarou=山田^太郎",
            ),
            (b"\\ISO 2022 IR 149", b"\x1b$)C\xb1\xe8^\x1b$)C\xc8\xf1\xc1\xdf", "김^희중"),
            (b"iso-ir 144", "Люкс".encode("iso8859_5"), "Люкс"),
            (b"nonsense", b"abc", "abc"),
        ],
    )
    def test_character_sets(self, term: bytes, raw: bytes, text: str) -> None:
        assert charset.decode(raw, charset.encodings_of(term), name=True) == text

    def test_half_a_character_is_no_backslash(self) -> None:
        raw = "璡".encode("gb18030")
        assert raw[1:] == b"\\"
        assert charset.decode(raw, charset.encodings_of(b"GB18030")) == "璡"

    def test_bad_bytes_neither_fail_nor_warn(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for term in (
                b"ISO_IR 192",
                b"\\ISO 2022 IR 87",
                b"\\ISO 2022 IR 149",
                b"GB18030",
                b"hex",
                b"\xff\xfe",
            ):
                for raw in (b"\xff\xfe", b"\x1b$B\xff", b"\x1b", b"\x1b$)C\xff", b"\x1bzzz"):
                    assert charset.decode(raw, charset.encodings_of(term))


class TestFrames:
    def test_number_of_frames(self) -> None:
        for value, expected in [("3", 3), ("1A", 1), ("0", 1), ("-2", 1)]:
            text = json.dumps({"00280008": {"vr": "IS", "Value": [int(value) if value != "1A" else value]}})
            assert number_of_frames(Header.from_json(text)) == expected
        assert number_of_frames(Header.from_json("{}")) == 1

    def test_no_image(self, wheel_dicom: Path) -> None:
        for name in ("test-SR.dcm", "rtplan.dcm"):
            with pytest.raises(NoPixels):
                frame_spec(Header.from_part10(parse((wheel_dicom / name).read_bytes())))

    def test_floating_pixels(self) -> None:
        model = {"00280010": [2], "00280011": [3], "00280100": [8], "7FE00009": []}
        header = Header({tag: {"vr": "US", "Value": value} for tag, value in model.items()})
        spec = frame_spec(header)
        assert (spec.floating, spec.bits_allocated, spec.bits_stored) == (True, 64, 64)

    def test_contradictions(self) -> None:
        model = {"00280010": [2], "00280011": [3], "00280100": [8], "00280101": [12], "7FE00010": []}
        with pytest.raises(MalformedDicom):
            frame_spec(Header({tag: {"vr": "US", "Value": value} for tag, value in model.items()}))

    def test_every_real_image_has_the_spec_that_pydicom_reads(self, shared_dicom: Path) -> None:
        compared = 0
        for index, row in enumerate(manifest(shared_dicom)):
            if row["decode_ok"] != "yes" or (row["modality"] in ("PT", "MR") and index % 7):
                continue
            path = shared_dicom / row["path"]
            compared += 1
            assert described(Header.from_part10(parse(path.read_bytes()))) == described_by_pydicom(path), row[
                "path"
            ]
        assert compared > 300

    def test_no_real_file_fails_otherwise_than_without_pixels(self, shared_dicom: Path) -> None:
        outcomes: dict[str, int] = {}
        for row in manifest(shared_dicom):
            try:
                frame_spec(Header.from_part10(parse((shared_dicom / row["path"]).read_bytes())))
                outcome = "image"
            except DicomError as error:
                outcome = type(error).__name__
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        assert outcomes.pop("NotDicom") == 1
        assert outcomes.pop("MalformedDicom", 0) <= 3
        assert outcomes["image"] > 860


def manifest(shared_dicom: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((shared_dicom / "MANIFEST.csv").read_text().splitlines()))


def described(header: Header) -> tuple[object, ...]:
    spec = frame_spec(header)
    return (
        spec.rows,
        spec.columns,
        spec.samples,
        spec.bits_allocated,
        spec.bits_stored,
        spec.pixel_representation,
        spec.photometric,
        number_of_frames(header),
    )


def described_by_pydicom(path: Path) -> tuple[object, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path, force=True)
        width = 64 if "DoubleFloatPixelData" in dataset else 32 if "FloatPixelData" in dataset else 0
        return (
            dataset.Rows,
            dataset.Columns,
            dataset.get("SamplesPerPixel", 1),
            width or dataset.BitsAllocated,
            width or dataset.BitsStored,
            dataset.get("PixelRepresentation", 0),
            dataset.PhotometricInterpretation,
            int(dataset.get("NumberOfFrames") or 1),
        )
