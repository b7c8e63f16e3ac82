"""What an action makes of a value."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from deid_support import Hashes, context, image, reread, rewritten
from voxelvault.deid.apply import rewrite
from voxelvault.deid.model import Option, Person
from voxelvault.deid.text import TextCleaner
from voxelvault.deid.values import is_term


def raw(tag: int, vr: str | None, value: bytes, *, little: bool = True) -> Dataset:
    """Give an object with one element as a file has it."""
    root = image()
    elements = {
        **dict(root.items()),
        Tag(tag): RawDataElement(Tag(tag), vr, len(value), value, 0, vr is None, little),
    }
    made = Dataset(elements)  # type: ignore[arg-type]
    made.file_meta = root.file_meta
    return made


def value_of(tag: int, vr: str | None, value: bytes, **how: object) -> object:
    little = bool(how.pop("little", True))
    out = rewritten(raw(tag, vr, value, little=little), **how).dataset
    return out.get_item(tag).value if tag in out else None


def test_a_known_tag_has_its_own_vr_whatever_the_file_says() -> None:
    assert value_of(0x00280010, "UN", b"\x40\x01") == b"\x40\x01"
    assert value_of(0x00280010, "IS", b"320 ") == b"\x40\x01"
    assert value_of(0x00280010, "US", b"\x01\x40", little=False) == b"\x40\x01"
    assert value_of(0x00280010, "LO", b"Secret") is None
    assert value_of(0x00180081, "FD", struct.pack("<d", 2.5)) == b"2.5"
    assert value_of(0x00180081, "OB", b"Secret") is None
    assert value_of(0x0008103E, "US", b"\x01\x40") is None
    assert value_of(0x00100010, "UN", b"Secret^Name ") == Hashes().patient("subject").encode()


@pytest.mark.parametrize("implicit", [True, False])
def test_a_sequence_within_un_is_opened_or_removed(implicit: bool) -> None:
    inner = b"\x10\0\x10\0" + (b"\x06\0\0\0" if implicit else b"PN\x06\0") + b"Secret"
    item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(inner)) + inner
    out = rewritten(raw(0x00409096, "UN", item)).dataset
    assert out[0x00409096].value[0].PatientName == Hashes().patient("subject")
    assert 0x00409096 not in rewritten(raw(0x00409096, "UN", b"Secret")).dataset


def test_uids_are_mapped_at_every_depth_and_registered_ones_stay() -> None:
    source = image()
    source.FrameOfReferenceUID = "1.2.3.9"
    item = Dataset()
    item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    item.ReferencedSOPInstanceUID = "1.2.3.4.5"
    source.ReferencedImageSequence = Sequence([item])
    source.IrradiationEventUID = ["1.2.3.9", "1.2.3.8"]
    for preset in ("basic", "research"):
        out = rewritten(reread(source), preset=preset).dataset
        inner = out.ReferencedImageSequence[0]
        assert inner.ReferencedSOPInstanceUID == out.SOPInstanceUID == Hashes().uid("1.2.3.4.5")
        assert inner.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
        assert out.IrradiationEventUID[0] == out.FrameOfReferenceUID
    out = rewritten(reread(source), preset="basic", options=[Option.RETAIN_UIDS]).dataset
    assert out.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.5"


def test_dates_move_by_whole_days_and_what_is_no_date_goes() -> None:
    assert value_of(0x00080020, "DA", b"20200410") == b"20200101"
    assert value_of(0x00080030, "TM", b"101530.5") == b"101530.5"
    assert value_of(0x0008002A, "DT", b"20200410101530+0100 ") == b"20200101101530+0100"
    assert value_of(0x00080020, "DA", b"Secret  ") is None
    assert value_of(0x00080201, "SH", b"+0100 ") == b"+0100"
    assert value_of(0x00080201, "SH", b"Secret") is None
    full = {"preset": "basic", "options": [Option.RETAIN_FULL_DATES]}
    assert value_of(0x00080020, "DA", b"20200410", **full) == b"20200410"
    assert value_of(0x00080020, "DA", b"Secret  ", **full) is None


def test_ages_over_89_are_told_as_90() -> None:
    keep = {"preset": "basic", "options": [Option.RETAIN_PATIENT_CHARACTERISTICS]}
    assert value_of(0x00101010, "AS", b"097Y", **keep) == b"090Y"
    assert value_of(0x00101010, "AS", b"061Y", **keep) == b"061Y"
    assert value_of(0x00101010, "AS", b"061Y") is None


def test_codes_of_public_schemes_stay_and_others_are_keyed() -> None:
    def coded(value: str, scheme: str) -> tuple[str, str]:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "known"
        source = image()
        source.AnatomicRegionSequence = Sequence([item])
        out = rewritten(reread(source), known=["known"]).dataset.AnatomicRegionSequence[0]
        assert out.CodeMeaning in ("known", "Entire body", "Maxilla")
        return out.CodeValue, out.CodingSchemeDesignator

    assert coded("38266002", "SCT") == ("38266002", "SCT")
    assert coded("T-11170", "SRT") == ("T-11170", "SRT")
    assert coded("2345-7", "LN") == ("2345-7", "LN")
    assert coded("38266003", "SCT") == (Hashes().other("38266003"), "SCT")
    assert coded("Secret", "99LOCAL") == (Hashes().other("Secret"), "99OTHER")


def test_numbers_too_long_to_be_counts_go() -> None:
    assert value_of(0x00200012, "IS", b"12") == b"12"
    number = value_of(0x00200012, "IS", b"83517240")
    assert isinstance(number, bytes)
    assert number.isdigit()
    assert len(number) == 5
    assert value_of(0x00200013, "IS", b"83517240") != b"83517240"  # wanted with a value
    assert value_of(0x00180095, "DS", b"83517240") is None
    assert value_of(0x00181074, "DS", b"370000000 ") == b"370000000 "
    assert value_of(0x00180095, "DS", b"3.5173e-4") == b"3.5173e-4"
    own = Person("subject", ids=frozenset(["4711"]))
    assert value_of(0x00180095, "DS", b"4711", person=own) is None
    assert value_of(0x00189220, "FD", struct.pack("<d", 1.5)) == struct.pack("<d", 1.5)
    assert value_of(0x00189220, "FD", b"SMITH^J ") is None


def test_identifiers_as_short_as_counts_take_no_count_away() -> None:
    own = Person("subject", ids=frozenset(["0", "1", "16", "512", "1024"]))
    for tag, vr, value in (
        (0x00280002, "US", b"\1\0"),
        (0x00280010, "US", struct.pack("<H", 1024)),
        (0x00280103, "US", bytes(2)),
        (0x00200013, "IS", b"1 "),
        (0x00200037, "DS", b"1\\0\\0\\0\\1\\0 "),
        (0x00281053, "DS", b"1 "),
    ):
        assert value_of(tag, vr, value, person=own) == value


@pytest.mark.parametrize("text", [b"778899", b"+778899 ", b"778899.0", b"1\\7.78899E5 ", b"0000778899"])
@pytest.mark.parametrize("own", ["778899", "PAT-778899/X", "000778899"])
def test_own_identifiers_go_in_whatever_way_a_number_is_written(text: bytes, own: str) -> None:
    person = Person("subject", ids=frozenset([own]))
    assert value_of(0x00180095, "DS", text, person=person) is None
    for vr, tag, code in (("UL", 0x00280009, "<I"), ("FD", 0x00189220, "<d"), ("FL", 0x00089459, "<f")):
        made = value_of(tag, vr, struct.pack(code, 778899), person=person)
        assert made is None or struct.pack(code, 778899) not in made, vr
    assert value_of(0x00080008, "CS", b"ORIGINAL\\4711 ", person=Person("s", ids=frozenset(["4711"]))) == (
        b"ORIGINAL\\OTHER"
    )


@pytest.mark.parametrize("text", [b"993487.123456", b"246012", b"4711", b"12:75"])
def test_a_time_is_one_of_the_day(text: bytes) -> None:
    assert value_of(0x00080030, "TM", text) is None
    assert value_of(0x00080201, "SH", b"+9999 ") is None


def test_what_an_option_retains_is_what_its_element_promises() -> None:
    uids = {"preset": "basic", "options": [Option.RETAIN_UIDS]}
    assert value_of(0x0020000D, "UI", b"Secret^Name", **uids) == Hashes().uid("Secret^Name").encode()
    assert value_of(0x0020000D, "UI", b"1.2.3\0", **uids) == b"1.2.3"
    full = {"preset": "basic", "options": [Option.RETAIN_FULL_DATES]}
    assert value_of(0x00080201, "SH", b"Secret", **full) is None
    assert value_of(0x00080201, "SH", b"+0100 ", **full) == b"+0100"


@pytest.mark.parametrize(
    ("tag", "vr"),
    [
        (0x00660016, "OF"),
        (0x00660023, "OW"),
        (0x00660129, "OL"),
        (0x00189220, "FD"),
        (0x00720052, "AT"),
        (0x54000110, "OW"),
    ],
)
def test_large_tables_of_numbers_spell_nothing(tag: int, vr: str) -> None:
    text = b"SMITH^JOHN 19500607 ELM STREET 12  "
    numbers = struct.pack("<64f", *(index * 0.75 for index in range(64)))
    for value in (text * 9 + b" ", numbers + text[:32] + numbers):
        made = value_of(tag, vr, value)
        assert made is None or b"SMITH" not in made


def test_samples_stand_in_waveforms_alone() -> None:
    group = Dataset()
    group.add_new(0x54001010, "OB", bytes(range(128, 256)) * 8)
    group.add_new(0x5400100A, "OB", bytes(range(128, 256)) * 8)
    source = image()
    source.WaveformSequence = Sequence([group])
    made = rewritten(reread(source)).dataset.WaveformSequence[0]
    assert 0x54001010 not in made
    assert 0x5400100A not in made


def test_the_day_of_birth_is_not_moved_where_it_may_be_meant() -> None:
    person = Person("subject", dates=frozenset(["19500607"]))
    assert value_of(0x0040A121, "DA", b"19500607", person=person) is None
    assert value_of(0x0040A120, "DT", b"19500607101500", person=person) is None
    assert value_of(0x0040A121, "DA", b"19500608", person=person) == b"19500228"
    assert value_of(0x00080020, "DA", b"19500607", person=person) == b"19500227"  # a newborn's study


def test_terms_are_known_or_put_together_from_known_ones() -> None:
    assert is_term("ORIGINAL")
    assert is_term("CSA MPR")
    assert is_term("")
    assert not is_term("SMITH")
    assert not is_term("MPR SMITH")
    assert value_of(0x00080008, "CS", b"ORIGINAL\\PRIMARY\\SMITH") == b"ORIGINAL\\PRIMARY\\OTHER"
    assert value_of(0x00180022, "CS", b"SMITH ") == b""


def test_a_dummy_for_a_sequence_keeps_its_shape_and_its_references() -> None:
    source = image("1.2.840.10008.5.1.4.1.1.88.33")
    item = Dataset()
    item.VerifyingObserverName = "Secret^Name"
    item.VerifyingOrganization = "Secret"
    item.ReferencedSOPInstanceUID = "1.2.3.4.5"
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "Secret", "99SECRET", "Secret"
    item.PurposeOfReferenceCodeSequence = Sequence([code])
    source.VerifyingObserverSequence = Sequence([item, item])
    out = rewritten(reread(source), known=["Secret"]).dataset
    assert len(out.VerifyingObserverSequence) == 2
    assert out.VerifyingObserverSequence[1].ReferencedSOPInstanceUID == out.SOPInstanceUID
    assert "Secret" not in str(out)
    assert "SECRET" not in str(out)
    assert (
        out.VerifyingObserverSequence[0].PurposeOfReferenceCodeSequence[0].CodingSchemeDesignator == "99ANON"
    )


def test_pseudonyms_stand_where_the_table_says_zero_or_dummy() -> None:
    source = image()
    source.PatientID = source.AccessionNumber = source.StudyID = "Secret"
    source.PatientName = "Secret^Name=Geheim=Secret"
    out = rewritten(reread(source), preset="basic").dataset
    made = Hashes()
    assert out.PatientID == out.PatientName == made.patient("subject")
    assert (out.AccessionNumber, out.StudyID) == (made.accession("Secret"), made.study_id("Secret"))


def test_colour_profiles_are_one_and_the_same() -> None:
    first = value_of(0x00282000, "OB", b"Secret profile")
    assert isinstance(first, bytes)
    assert first == value_of(0x00282000, "OB", b"other")
    assert first[36:40] == b"acsp"


def test_machines_are_called_what_their_maker_calls_them() -> None:
    person = Person("subject", names=frozenset(["Smith^John"]))
    cleaner = TextCleaner(person, uid=str)
    rules = replace(context(person=person), cleaner=cleaner)
    source = image()
    source.ManufacturerModelName, source.SoftwareVersions = "SSD-4000", ["syngo CT VA48A", "Smith JS57"]
    source.StudyDescription = "SSD-4000 VA48A"
    made = rewrite(reread(source), rules).dataset
    assert made.ManufacturerModelName == "SSD-4000"
    assert list(made.SoftwareVersions) == ["syngo CT VA48A", "XXX"]
    assert made.StudyDescription == "SSD-XXX"
