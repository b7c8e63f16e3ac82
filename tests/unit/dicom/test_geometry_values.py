"""Rescaling, padding, real-world values, SUV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from geometry_support import files_in, header_of
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from voxelvault.dicom.geometry import padding_mask, real_world_maps, suv_factor, to_modality
from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header
from voxelvault.errors import GeometryError, UsageError


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.uint32, np.float32])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (1, -1024), (2.5, 3), (0.0010346139, 0)])
def test_rescale_in_every_width(dtype: type, slope: float, intercept: float) -> None:
    ends = (np.iinfo(dtype).min, np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else (-1.5, 1e6)
    stored = np.array([ends[0], 0, 1, ends[1]], dtype)
    exact = stored.astype(np.float64) * slope + intercept
    np.testing.assert_allclose(to_modality(stored, slope, intercept), exact, rtol=3e-7, atol=1e-5)
    out = np.empty(4, np.float64)
    assert to_modality(stored, slope, intercept, out) is out
    np.testing.assert_allclose(out, exact, rtol=1e-12)


def test_hounsfield_units_of_unsigned_values_do_not_wrap() -> None:
    assert to_modality(np.array([0, 24], np.uint16), 1, -1024).tolist() == [-1024, -1000]


def test_integers_cannot_hold_rescaled_values() -> None:
    with pytest.raises(UsageError, match="floating"):
        to_modality(np.zeros(2, np.int16), 2, 0, np.zeros(2, np.int16))


def test_padding_range() -> None:
    stored = np.array([-2001, -2000, -1950, -1900, -1899], np.int16)
    assert padding_mask(stored, (-2000, -1900)).tolist() == [False, True, True, True, False]
    assert not padding_mask(stored, None).any()


def mapping(**more: object) -> Dataset:
    item, unit = Dataset(), Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "ug/g", "UCUM", "microgram per gram"
    item.MeasurementUnitsCodeSequence = Sequence([unit])
    item.LUTLabel = "fat"
    item.add_new("RealWorldValueFirstValueMapped", "US", 10)
    item.add_new("RealWorldValueLastValueMapped", "US", 12)
    for keyword, value in more.items():
        setattr(item, keyword, value)
    return item


def test_real_world_map_holds_only_in_its_range() -> None:
    dataset = Dataset()
    dataset.RealWorldValueMappingSequence = Sequence(
        [mapping(RealWorldValueSlope=2.0, RealWorldValueIntercept=-1.0)]
    )
    (found,) = real_world_maps(header_of(dataset))
    assert (found.unit, found.label) == ("ug/g", "fat")
    np.testing.assert_array_equal(found.apply(np.array([9, 10, 12, 13], np.uint16)), [np.nan, 19, 23, np.nan])


def test_real_world_table() -> None:
    dataset = Dataset()
    dataset.RealWorldValueMappingSequence = Sequence(
        [mapping(RealWorldValueLUTData=[0.5, 7.0, -3.0]), mapping(RealWorldValueLUTData=[1.0])]
    )
    (found,) = real_world_maps(header_of(dataset))
    np.testing.assert_array_equal(found.apply(np.array([10, 11, 12, 13], np.uint16)), [0.5, 7, -3, np.nan])


def test_real_world_map_of_a_frame_before_the_shared_one() -> None:
    shared, own, dataset = Dataset(), Dataset(), Dataset()
    shared.RealWorldValueMappingSequence = Sequence(
        [mapping(RealWorldValueSlope=1.0, RealWorldValueIntercept=0.0)]
    )
    own.RealWorldValueMappingSequence = Sequence(
        [mapping(RealWorldValueSlope=9.0, RealWorldValueIntercept=0.0)]
    )
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence([Dataset(), own])
    assert [real_world_maps(header_of(dataset), k)[0].slope for k in (0, 1)] == [1, 9]


def pet(**more: object) -> Dataset:
    dataset, dose = Dataset(), Dataset()
    dataset.Modality, dataset.Units, dataset.DecayCorrection = "PT", "BQML", "START"
    dataset.CorrectedImage = ["NORM", "DTIM", "ATTN", "DECY"]
    dataset.SeriesDate = dataset.AcquisitionDate = "20200102"
    dataset.SeriesTime, dataset.AcquisitionTime, dataset.PatientWeight = "130000", "130500", "70"
    dose.RadionuclideTotalDose, dose.RadionuclideHalfLife = "400000000", "6586.2"
    dose.RadiopharmaceuticalStartTime = "120000.000"
    for keyword, value in more.items():
        setattr(dose if keyword.startswith("Radio") else dataset, keyword, value)
    dataset.RadiopharmaceuticalInformationSequence = Sequence([dose])
    return dataset


def test_suv_of_an_hour_after_injection() -> None:
    expected = 70000 / (4e8 * 2 ** (-3600 / 6586.2))
    assert suv_factor(header_of(pet())) == pytest.approx(expected)


def test_suv_over_midnight() -> None:
    late = pet(SeriesTime="003000", AcquisitionTime="003100", RadiopharmaceuticalStartTime="233000")
    assert suv_factor(header_of(late)) == pytest.approx(70000 / (4e8 * 2 ** (-3600 / 6586.2)))
    dated = pet(RadiopharmaceuticalStartDateTime="20200102110000.00+0100")
    assert suv_factor(header_of(dated)) == pytest.approx(70000 / (4e8 * 2 ** (-7200 / 6586.2)))


def test_suv_when_corrected_to_administration_or_given_as_such() -> None:
    assert suv_factor(header_of(pet(DecayCorrection="ADMIN"))) == pytest.approx(70000 / 4e8)
    assert suv_factor(header_of(pet(Units="GML"))) == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"Units": "CNTS"},
        {"Units": "GML", "SUVType": "LBM"},
        {"CorrectedImage": ["ATTN"]},
        {"PatientWeight": None},
        {"PatientWeight": "0"},
        {"RadionuclideTotalDose": None},
        {"RadionuclideHalfLife": None},
        {"RadiopharmaceuticalStartTime": None},
        {"DecayCorrection": "NONE"},
        {"SeriesTime": "140000"},
        {"SeriesTime": None},
        {"RadiopharmaceuticalStartDateTime": "20191230110000"},
        {"RadiopharmaceuticalStartDateTime": "20200102110000+0000", "TimezoneOffsetFromUTC": "+0100"},
    ],
)
def test_suv_is_refused_rather_than_guessed(wrong: dict[str, object]) -> None:
    with pytest.raises(GeometryError, match="no SUV"):
        suv_factor(header_of(pet(**wrong)))


def test_suv_of_the_real_series_is_the_same_for_every_bed(shared_dicom: Path) -> None:
    paths = files_in(shared_dicom / "FNNDSC+data/dicom/rsna_2/PET")[::40]
    factors = {round(suv_factor(Header.from_part10(parse(path.read_bytes()))), 12) for path in paths}
    assert len(factors) == 1
    assert 1e-5 < factors.pop() < 1e-3
