"""What the rooms of de-identification hand to each other."""

from voxelvault.deid.model import REASONS, Option, Refused
from voxelvault.errors import DicomError


def test_options_carry_the_codes_of_cid_7050() -> None:
    assert {option.value: option.code for option in Option} == {
        "clean_pixels": "113101",
        "clean_visual_features": "113102",
        "clean_graphics": "113103",
        "clean_structured": "113104",
        "clean_descriptors": "113105",
        "retain_full_dates": "113106",
        "retain_modified_dates": "113107",
        "retain_patient_characteristics": "113108",
        "retain_device": "113109",
        "retain_uids": "113110",
        "retain_safe_private": "113111",
        "retain_institution": "113112",
    }


def test_a_refusal_is_one_line_and_names_its_reason() -> None:
    for reason, sentence in REASONS.items():
        refusal = Refused(reason)
        assert isinstance(refusal, DicomError)
        assert refusal.reason == reason
        assert str(refusal) == sentence
        assert "\n" not in sentence
