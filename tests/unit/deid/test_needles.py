"""Needles: which values of a source are searched for, by kind, at every depth."""

from __future__ import annotations

import io

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from voxelvault.deid.model import Option
from voxelvault.deid.needles import Kind, Needle, Needles, collect, date_forms, fold, searched, stop_words
from voxelvault.dicom.part10 import parse


def needles_of(dataset: Dataset) -> Needles:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=False, little_endian=True, implicit_vr=False)
    return collect(parse(out.getvalue()))


def source(**values: object) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def texts(needles: Needles, kind: Kind) -> set[str]:
    return {needle.text for needle in needles.values if needle.kind is kind}


def test_a_name_counts_by_component_token_and_joined() -> None:
    found = texts(needles_of(source(PatientName="Okonkwo^Chidi Emeka^^Dr")), Kind.NAME)
    assert {"Okonkwo", "Chidi", "Emeka", "Okonkwo^Chidi", "Chidi Okonkwo", "OkonkwoChidi"} <= found


def test_given_and_family_name_together_count_where_each_is_a_common_word() -> None:
    found = texts(needles_of(source(PatientName="Long^Brown")), Kind.NAME)
    assert "Long" not in found
    assert {"Long Brown", "Brown, Long", "LongBrown"} <= found
    assert not needles_of(source(PatientName="Test^Patient")).values


def test_short_components_are_kept_apart() -> None:
    needles = needles_of(source(PatientName="Wu^Li"))
    assert needles.short == {"wu", "li"}
    assert "Wu Li" in texts(needles, Kind.NAME)


def test_every_group_of_a_name_counts_in_its_own_script() -> None:
    needles = needles_of(source(SpecificCharacterSet="ISO_IR 192", PatientName="Kim^Huijung=김^희중"))
    assert {"희중", "김희중", "Huijung"} <= texts(needles, Kind.NAME)
    assert {"김", "kim"} & needles.short == {"kim", fold("김")}


def test_a_value_counts_under_whatever_vr_it_stands() -> None:
    dataset = source()
    dataset.add_new(0x00100010, "LO", "Okonkwo^Chidi")
    dataset.add_new(0x00100020, "OB", b"4711-08 ")
    dataset.add_new(0x00080020, "LO", "20200101")
    needles = needles_of(dataset)
    assert {"Okonkwo", "Chidi"} <= texts(needles, Kind.NAME)
    assert texts(needles, Kind.ID) == {"4711-08"}
    assert texts(needles, Kind.DATE) == {"20200101"}


def test_long_lists_of_names_count() -> None:
    names = [f"Okonkwo{letter * 4}^Chidi" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    assert "OkonkwoZZZZ" in texts(needles_of(source(OtherPatientNames=names)), Kind.NAME)


def test_the_make_of_a_machine_hides_nobody() -> None:
    needles = needles_of(
        source(
            PatientName="Mens^Philip",
            PatientID="1234",
            Manufacturer="SIEMENS Philips",
            SoftwareVersions="v 1234",
            InstitutionName="Siemens",
            StationName="Philip",
        )
    )
    assert {"Mens", "Philip"} <= texts(needles, Kind.NAME)
    assert texts(needles, Kind.ID) == {"1234"}
    assert not texts(needles, Kind.INSTITUTION)
    assert texts(needles, Kind.DEVICE) == {"Philip"}


def test_kinds_by_tag_at_every_depth() -> None:
    step = source(
        AccessionNumber="ACC-99817",
        PatientID="MRN0042187",
        OperatorsName="Fernandez^Inés",
        SpecificCharacterSet="ISO_IR 100",
    )
    outer = source(
        PatientBirthDate="19560314",
        StudyDate="20040119",
        InstitutionName="St. Elsewhere",
        StationName="RACK0815",
        PatientAddress="12 Rowan Lane",
        StudyInstanceUID="1.2.276.0.7230010.3.1.2",
    )
    outer.RequestAttributesSequence = [step]
    needles = needles_of(outer)
    assert texts(needles, Kind.ID) == {"ACC-99817", "MRN0042187"}
    assert {"Fernandez", "Inés"} <= texts(needles, Kind.PEOPLE)
    assert texts(needles, Kind.BIRTH) == {"19560314"}
    assert texts(needles, Kind.DATE) == {"20040119"}
    assert texts(needles, Kind.INSTITUTION) == {"St. Elsewhere"}
    assert texts(needles, Kind.DEVICE) == {"RACK0815"}
    assert texts(needles, Kind.ADDRESS) == {"12 Rowan Lane"}
    assert texts(needles, Kind.UID) == {"1.2.276.0.7230010.3.1.2"}


def test_words_of_any_header_and_registered_uids_are_no_sign_of_a_leak() -> None:
    needles = needles_of(
        source(
            PatientName="Anonymous^Patient", PatientID="0000", StudyInstanceUID="1.2.840.10008.1.4.1.1",
            PatientBirthDate="19000101",
        )
    )  # fmt: skip
    assert needles.values == frozenset()
    assert "head" in stop_words()


def test_the_make_of_the_machine_stays() -> None:
    needles = needles_of(source(StationName="Lumina", ManufacturerModelName="MAGNETOM Lumina"))
    assert needles.values == frozenset()


def test_what_an_option_retains_is_left_out_and_a_birth_on_such_a_day_with_it() -> None:
    needles = needles_of(source(PatientBirthDate="20040119", StudyDate="20040119", StationName="RACK0815"))
    assert {needle.kind for needle in needles.without({Kind.DATE}).values} == {Kind.DEVICE}
    assert {needle.kind for needle in needles.without({Kind.DEVICE}).values} == {Kind.DATE, Kind.BIRTH}


def test_a_day_on_which_another_comes_to_lie_is_left_out() -> None:
    needles = needles_of(source(StudyDate="20040119", ContentDate="20040109"))
    assert texts(needles.moved(-10), Kind.DATE) == {"20040119"}
    assert texts(needles.moved(-11), Kind.DATE) == {"20040119", "20040109"}


def test_the_options_in_force_say_what_is_searched_for() -> None:
    needles = needles_of(
        source(
            StudyDate="20040119",
            StationName="RACK0815",
            InstitutionName="St. Elsewhere",
            PatientID="MRN0042187",
        )
    )
    left = searched(needles, {Option.RETAIN_DEVICE, Option.RETAIN_INSTITUTION, Option.RETAIN_FULL_DATES}, -5)
    assert {needle.kind for needle in left.values} == {Kind.ID}
    assert searched(needles, {Option.CLEAN_DESCRIPTORS}, -5) == needles
    assert searched(needles, {Option.RETAIN_MODIFIED_DATES}, 0).values < needles.values


def test_needles_of_several_files_join() -> None:
    joined = needles_of(source(PatientID="MRN0042187")) | needles_of(source(PatientID="MRN0042188"))
    assert len(joined.values) == 2


@pytest.mark.parametrize(
    "form",
    ["20040109", "2004-01-09", "09.01.2004", "9.1.2004", "01/09/2004", "1/9/2004", "09012004", "2004年1月9日",
     "09-jan-2004", "9 january 2004", "january 9, 2004", "9jan2004"],
)  # fmt: skip
def test_a_date_has_many_forms(form: str) -> None:
    assert form in date_forms("20040109")


def test_folding_takes_away_case_accents_and_compatibility_forms() -> None:
    assert fold("\uff2aéröme ﬁ ß") == "jerome fi ss"
    assert Needle(Kind.NAME, "x") == (Kind.NAME, "x")
