"""Made slices: a marker at a known point, every plane; grouping; what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import nibabel
import numpy as np
import pytest
from geometry_support import LPS_TO_RAS, assert_same_in_space, frames_of, header_of, made, niftis
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from voxelvault.dicom.geometry import (
    FrameAttributes,
    FrameGroup,
    arrange,
    frame_attributes,
    pixel_aspect,
    resample_regular,
    suv_factor,
)
from voxelvault.errors import GeometryError, StackChoiceNeeded

ANGLE = np.radians(20)
PLANES = {
    "axial": (1, 0, 0, 0, 1, 0),
    "coronal": (1, 0, 0, 0, 0, -1),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "feet first": (-1, 0, 0, 0, 1, 0),
    "prone": (-1, 0, 0, 0, -1, 0),
    "oblique": (np.cos(ANGLE), np.sin(ANGLE), 0, -np.sin(ANGLE) * 0.8, np.cos(ANGLE) * 0.8, -0.6),
}
ROWS, COLUMNS, SLICES = 20, 24, 9
SPACING = (1.5, 2.5)
STEP = 4.0


def stack(plane: str, tilt: float = 0.0, **more: object) -> list[Dataset]:
    """Return slices with a tilt (mm along the columns' direction for each slice), in a scrambled order."""
    cosines = np.array(PLANES[plane], dtype=float)
    normal = np.cross(cosines[:3], cosines[3:])
    step = normal * STEP + cosines[3:] * tilt
    slices = [
        made(np.array([-10, 20, 5]) + k * step, cosines, SPACING, InstanceNumber=k, **more)
        for k in range(SLICES)
    ]
    return [slices[k] for k in np.random.default_rng(0).permutation(SLICES)]


@pytest.mark.parametrize("tilt", [0.0, -1.3])
@pytest.mark.parametrize("plane", PLANES)
def test_marker_comes_out_where_it_lies(plane: str, tilt: float) -> None:
    datasets = stack(plane, tilt)
    group = arrange(frames_of(datasets)).choose()
    column, row, slice_ = 17, 3, 6
    dataset = datasets[group.order[slice_]]
    point = (
        np.array(dataset.ImagePositionPatient, dtype=float)
        + np.array(dataset.ImageOrientationPatient[:3], dtype=float) * SPACING[1] * column
        + np.array(dataset.ImageOrientationPatient[3:], dtype=float) * SPACING[0] * row
    )
    np.testing.assert_allclose((group.affine_lps @ [column, row, slice_, 1])[:3], point, atol=1e-5)
    image = nibabel.Nifti1Image(np.zeros((COLUMNS, ROWS, SLICES), np.uint8), group.affine_ras)
    ras = nibabel.affines.apply_affine(image.affine, [column, row, slice_])
    np.testing.assert_allclose(ras, point * [-1, -1, 1], atol=1e-4)
    np.testing.assert_allclose(group.spacing, (STEP, *SPACING), rtol=1e-6)
    np.testing.assert_allclose(group.tilt, (0, tilt), atol=1e-6)
    assert group.tilted == (tilt != 0)


@pytest.mark.parametrize(
    ("plane", "codes"),
    [("axial", "LPS"), ("coronal", "LIP"), ("sagittal", "PIR"), ("feet first", "RPI"), ("prone", "RAS")],
)
def test_axis_codes_as_nibabel_reads_them(plane: str, codes: str) -> None:
    """Columns grow towards the first letter, rows the second, slices the third."""
    affine = arrange(frames_of(stack(plane))).choose().affine_ras
    assert "".join(nibabel.aff2axcodes(affine)) == codes


def write(folder: Path, datasets: list[Dataset]) -> np.ndarray:
    """Write slices as files with one asymmetric block; return them in the order given."""
    folder.mkdir()
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    planes = []
    for number, dataset in enumerate(datasets):
        pixels = np.full((ROWS, COLUMNS), 10 + int(dataset.InstanceNumber), np.int16)
        pixels[2:5, 15:20] += 500
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = (
            study,
            series,
            frame,
        )
        dataset.Rows, dataset.Columns = ROWS, COLUMNS
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        dataset.SeriesNumber, dataset.SliceThickness = 7, STEP
        dataset.PixelData = pixels.tobytes()
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)
        planes.append(pixels)
    return np.stack(planes)


@pytest.mark.parametrize("plane", PLANES)
def test_made_series_like_dcm2niix(tmp_path: Path, plane: str) -> None:
    datasets = stack(plane)
    pixels = write(tmp_path / "dicom", datasets)
    group = arrange(frames_of(datasets)).choose()
    (image,) = niftis(tmp_path / "dicom", tmp_path / "nifti")
    assert_same_in_space(pixels[group.order].astype(float), group.affine_ras, image)


# ---- grouping


def frame(z: float, **more: object) -> FrameAttributes:
    return FrameAttributes((0.0, 0.0, z), (1, 0, 0, 0, 1, 0), (1.0, 1.0), **more)


def test_echoes_always_separate_even_where_places_do_not_repeat() -> None:
    arrangement = arrange([frame(0, echo=2.0), frame(1, echo=2.0), frame(2, echo=9.0)])
    assert arrangement.labels == ("echo 2 ms", "echo 9 ms")


def test_nearly_equal_echo_times_are_one_echo() -> None:
    assert len(arrange([frame(z, echo=4.6 + 0.001 * z) for z in range(5)]).groups) == 1


def test_a_time_for_each_slice_is_no_time_point() -> None:
    group = arrange(
        [frame(z, temporal=100.0 + z, temporal_source="AcquisitionTime") for z in range(5)]
    ).choose()
    assert group.regular


def test_labels_hold_no_time_of_day() -> None:
    times = [
        frame(z, temporal=t, temporal_source="AcquisitionTime") for z in range(3) for t in (47655.0, 47755.0)
    ]
    assert arrange(times).labels == ("time 1", "time 2")


def test_frames_of_reference_never_mix_and_stay_unnamed() -> None:
    labels = arrange(
        [
            frame(0, marks=(("FrameOfReferenceUID", "1.2.3"),)),
            frame(1, marks=(("FrameOfReferenceUID", "1.2.4"),)),
        ]
    ).labels
    assert labels == ("frame of reference 1", "frame of reference 2")


def test_unexplained_repeats_are_counted_off_by_instance() -> None:
    frames = [frame(z, instance=10 * t + z) for t in (2, 1) for z in range(3)]
    arrangement = arrange(frames)
    assert arrangement.labels == ("repeat 1", "repeat 2")
    assert arrangement.groups[0].order.tolist() == [3, 4, 5]
    assert arrangement.groups[0].order.dtype == np.int32


def test_unequal_unexplained_repeats_have_no_affine() -> None:
    """A lost slice would shift every later one into the wrong time point."""
    frames = [frame(z, instance=10 * t + z) for t in range(3) for z in range(3)][:-1]
    group = arrange(frames).choose()
    assert len(group) == 8
    with pytest.raises(GeometryError, match="repeat unequally"):
        group.affine_lps


def test_an_interrupted_last_time_point_is_told_by_its_index() -> None:
    frames = [
        frame(z, temporal=t, temporal_source="TemporalPositionIndex") for t in range(3) for z in range(4)
    ][:-2]
    assert [len(group) for group in arrange(frames).groups] == [4, 4, 2]


def test_groups_come_in_one_order_however_the_frames_come() -> None:
    turns = [(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1), (0.8, 0.6, 0, 0, 0, -1)]
    frames = [FrameAttributes((0.0, 0.0, 0.0), turn, (1.0, 1.0), instance=k) for k, turn in enumerate(turns)]
    labels = arrange(frames).labels
    assert labels == ("axial", "coronal", "sagittal", "oblique coronal")
    assert arrange(frames[::-1]).labels == arrange(frames[2:] + frames[:2]).labels == labels


def test_two_keys_at_once() -> None:
    frames = [
        frame(z, temporal=float(t), image_type=("ORIGINAL", "PRIMARY", part))
        for t in range(2)
        for part in ("M", "P")
        for z in range(3)
    ]
    assert arrange(frames).labels == (
        "component m, time 1",
        "component m, time 2",
        "component p, time 1",
        "component p, time 2",
    )


def test_slices_beside_each_other_are_no_volume() -> None:
    beside = [FrameAttributes((50.0 * k, 0.0, 1.0 * k), (1, 0, 0, 0, 1, 0), (1.0, 1.0)) for k in range(3)]
    with pytest.raises(GeometryError, match="beside each other"):
        arrange(beside).choose().affine_lps


def test_spacing_missing_or_differing() -> None:
    bare = FrameAttributes((0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0))
    with pytest.raises(GeometryError, match="distance between pixels"):
        arrange([bare]).choose().affine_lps
    wide = FrameAttributes((0.0, 0.0, 3.0), (1, 0, 0, 0, 1, 0), (2.0, 2.0))
    assert len(arrange([frame(0), wide]).groups) == 2


def test_choose_names_the_choices() -> None:
    arrangement = arrange([frame(0, echo=1.0), frame(0, echo=2.0)])
    with pytest.raises(
        StackChoiceNeeded, match=r"2 separate stacks; pass stack= one of 0 \(echo 1 ms\), 1 \(echo 2 ms\)"
    ):
        arrangement.choose()
    with pytest.raises(StackChoiceNeeded, match="no such stack"):
        arrangement.choose(2)
    assert arrangement.choose(1) is arrangement.choose("echo 2 ms")
    with pytest.raises(GeometryError):
        arrange([]).choose()


@settings(max_examples=40, deadline=None)
@given(
    st.permutations(range(8)),
    st.floats(0.3, 9.0),
    st.lists(st.floats(-1, 1), min_size=6, max_size=6),
    st.floats(-0.4, 0.4),
)
def test_any_orientation_any_order(order: list[int], step: float, numbers: list[float], shear: float) -> None:
    matrix = np.linalg.qr(np.array([numbers[:3], numbers[3:], [0.3, 0.5, 0.7]]).T + np.eye(3) * 2)[0]
    row, column = matrix[:, 0], matrix[:, 1]
    move = np.cross(row, column) * step + column * shear * step
    frames = [FrameAttributes(tuple(move * k), (*row, *column), (1.0, 2.0)) for k in order]
    group = arrange(frames).choose()
    assert [order[i] for i in group.order] == list(range(8))
    np.testing.assert_allclose(group.affine_lps[:3, 2], move, atol=1e-9)
    assert isinstance(group, FrameGroup)


# ---- attributes


def test_per_frame_before_shared_before_root() -> None:
    dataset = made((9, 9, 9), (1, 0, 0, 0, 1, 0), RescaleSlope="7", RescaleIntercept="1", NumberOfFrames="3")
    plane, shared_values, own_values, kind = Dataset(), Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    shared_values.RescaleSlope, shared_values.RescaleIntercept, shared_values.RescaleType = "2", "3", "HU"
    own_values.RescaleSlope, own_values.RescaleIntercept, own_values.RescaleType = "5", "6", "US"
    shared = Dataset()
    shared.PlaneOrientationSequence = Sequence([plane])
    shared.PixelValueTransformationSequence = Sequence([shared_values])
    per_frame = [Dataset() for _ in range(3)]
    for k, group in enumerate(per_frame):
        place = Dataset()
        place.ImagePositionPatient = [k, 0, 0]
        group.PlanePositionSequence = Sequence([place])
    per_frame[1].PixelValueTransformationSequence = Sequence([own_values])
    kind.FrameType = ["DERIVED", "PRIMARY", "X", "NONE"]
    per_frame[2].CTImageFrameTypeSequence = Sequence([kind])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(per_frame)
    frames = frames_of([dataset])
    assert [f.position for f in frames] == [(0, 0, 0), (1, 0, 0), (2, 0, 0)]
    assert {f.orientation for f in frames} == {(0, 1, 0, 0, 0, -1)}
    assert [(f.slope, f.intercept, f.rescale_type) for f in frames] == [
        (2, 3, "HU"),
        (5, 6, "US"),
        (2, 3, "HU"),
    ]
    assert frames[0].pixel_spacing == (2, 3)
    assert frames[2].image_type[0] == "DERIVED"
    assert [f.frame for f in frames] == [0, 1, 2]


@pytest.mark.parametrize(
    ("cosines", "known"),
    [
        ((0, 0, 0, 0, 0, 0), False),
        ((1, 0, 0, 1, 0, 0), False),
        ((2, 0, 0, 0, 1, 0), False),
        ((0.9999, 0, 0, 0, 1, 0), True),
    ],
)
def test_cosines_that_are_no_directions_are_refused(cosines: tuple[float, ...], known: bool) -> None:
    (found,) = frames_of([made((0, 0, 0), cosines)])
    assert (found.orientation is not None) == known


def test_a_slope_of_zero_or_none_leaves_values_as_stored() -> None:
    for slope in ("0", None):
        dataset = made((0, 0, 0), PLANES["axial"], RescaleIntercept="-1024")
        if slope:
            dataset.RescaleSlope = slope
        (found,) = frames_of([dataset])
        assert (found.slope, found.intercept, found.rescale_type) == (1, 0, None)


def test_padding_in_the_sign_of_the_pixels() -> None:
    dataset = made((0, 0, 0), PLANES["axial"], BitsAllocated=16, PixelRepresentation=1)
    dataset.add_new("PixelPaddingValue", "US", 63536)
    assert frames_of([dataset])[0].padding == (-2000, -2000)
    dataset.add_new("PixelPaddingRangeLimit", "SS", -1900)
    assert frames_of([dataset])[0].padding == (-2000, -1900)


def test_dose_planes_by_offset_or_by_coordinate() -> None:
    def planes(offsets: list[float], cosines: tuple[float, ...]) -> list[tuple[float, ...]]:
        dataset = made((1, 2, 30), cosines, NumberOfFrames="3", GridFrameOffsetVector=offsets)
        dataset.Modality = "RTDOSE"
        return [f.position for f in frames_of([dataset])]

    assert planes([0, 2, 5], PLANES["axial"]) == [(1, 2, 30), (1, 2, 32), (1, 2, 35)]
    assert planes([0, 2, 5], PLANES["feet first"]) == [(1, 2, 30), (1, 2, 28), (1, 2, 25)]
    assert planes([30, 32, 35], PLANES["axial"]) == [(1, 2, 30), (1, 2, 32), (1, 2, 35)]
    assert planes([30, 32, 35], PLANES["feet first"]) == [(1, 2, 30), (1, 2, 32), (1, 2, 35)]


def test_nuclear_slices() -> None:
    detector = Dataset()
    detector.ImagePositionPatient, detector.ImageOrientationPatient = [0, 0, 100], [1, 0, 0, 0, 1, 0]
    dataset = Dataset()
    dataset.Modality, dataset.NumberOfFrames, dataset.SpacingBetweenSlices = "NM", "3", "4"
    dataset.PixelSpacing, dataset.SliceVector = [4, 4], [1, 2, 3]
    dataset.DetectorInformationSequence = Sequence([detector])
    group = arrange(frames_of([dataset])).choose()
    assert group.spacing == (4, 4, 4)
    assert group.affine_lps[2, 3] == 100


def test_frame_attributes_survive_json() -> None:
    (found,) = frames_of(
        [made((1, 2, 3), PLANES["oblique"], EchoTime="4.2", FlipAngle="30", AcquisitionNumber="2")]
    )
    assert FrameAttributes.from_row(json.loads(json.dumps(found.to_row()))) == found


def test_frame_count_may_be_given_and_is_never_below_one() -> None:
    header = header_of(made((0, 0, 0), PLANES["axial"], NumberOfFrames="0"))
    assert len(frame_attributes(header)) == 1
    assert len(frame_attributes(header, frames=4)) == 4


def test_a_claim_of_a_billion_frames_is_refused() -> None:
    header = header_of(made((0, 0, 0), PLANES["axial"], NumberOfFrames="2000000000"))
    with pytest.raises(GeometryError, match="claims 2000000000 frames"):
        frame_attributes(header)
    assert len(frame_attributes(header, frames=3)) == 3


def test_frames_that_the_groups_do_not_describe_have_no_place() -> None:
    place, group = Dataset(), Dataset()
    place.ImagePositionPatient = [1, 2, 3]
    group.PlanePositionSequence = Sequence([place])
    dataset = Dataset()
    dataset.PerFrameFunctionalGroupsSequence = Sequence([group])
    found = frame_attributes(header_of(dataset), frames=3)
    assert [frame.position for frame in found] == [(1, 2, 3), None, None]


def test_a_position_for_many_frames_counts_only_for_a_cine() -> None:
    """Without a vector or a time nothing says where the second frame lies."""
    dataset = made((1, 2, 3), PLANES["axial"], NumberOfFrames="3")
    group = arrange(frames_of([dataset])).choose()
    with pytest.raises(GeometryError, match="no position"):
        group.affine_lps
    dataset.FrameTime = "40"
    assert arrange(frames_of([dataset])).labels == ("time 1", "time 2", "time 3")


JUNK = (
    None,
    "",
    "x",
    "1A",
    "\u0661",
    "130000",
    "20200101",
    "nan",
    "1e400",
    -1,
    0,
    1,
    2,
    0.5,
    1e-300,
    1e300,
    10**30,
    float("inf"),
)
KEYWORDS = (
    "ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness EchoTime AcquisitionNumber "
    "InstanceNumber RescaleSlope RescaleIntercept RescaleType WindowCenter WindowWidth ImageType Modality "
    "AcquisitionTime ContentTime TriggerTime FrameTime PixelPaddingValue PixelPaddingRangeLimit Units "
    "PixelRepresentation GridFrameOffsetVector SliceVector SpacingBetweenSlices BitsAllocated StackID "
    "TemporalPositionIndex EffectiveEchoTime DiffusionGradientOrientation FrameTimeVector PatientWeight "
    "CorrectedImage SeriesDate SeriesTime AcquisitionDate DecayCorrection"
).split()


class Junk:
    """A header that answers anything with anything, now and then with a plane."""

    def __init__(self, random: Random, depth: int = 0) -> None:
        self._random, self._depth = random, depth
        self._values: dict[str, list[object]] = {
            keyword: random.choices(JUNK, k=random.choice((1, 2, 3, 6)))
            for keyword in KEYWORDS
            if random.random() < 0.7
        }
        if random.random() < 0.6:
            self._values |= {
                "ImagePositionPatient": [random.choice((0, 1, 1e300)), 0, random.randint(0, 4)],
                "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
                "PixelSpacing": [1, random.choice((1, 1e-300, 1e300))],
            }
        if random.random() < 0.2:
            self._values["Units"] = ["BQML"]

    def values(self, keyword: str) -> list[object]:
        return self._values.get(keyword, [])

    def get(self, keyword: str, default: object = None) -> object:
        return next(iter(self.values(keyword)), default)

    def items_of(self, keyword: str) -> list[Junk]:
        count = self._random.choice((0, 0, 1, 2)) if self._depth < 2 else 0
        return [Junk(self._random, self._depth + 1) for _ in range(count)]


def test_junk_gives_frames_or_a_geometry_error() -> None:
    placed = 0
    for seed in range(120):
        random = Random(seed)
        frames = [
            frame for _ in range(3) for frame in frame_attributes(Junk(random), frames=random.randint(1, 3))
        ]
        for group in arrange(frames).groups:
            placed += group.regular
            if group.regular:
                assert np.isfinite(group.affine_lps).all()
            else:
                with pytest.raises(GeometryError):
                    group.affine_lps
        with pytest.raises(GeometryError, match="no SUV"):
            suv_factor(Junk(random))
    assert placed > 30


def test_pixel_aspect_from_the_best_source() -> None:
    assert pixel_aspect(header_of(made((0, 0, 0), PLANES["axial"], (3.0, 1.5)))) == 2.0
    dataset = Dataset()
    assert pixel_aspect(header_of(dataset)) == 1.0
    dataset.PixelAspectRatio = [1, 2]
    assert pixel_aspect(header_of(dataset)) == 0.5


# ---- resampling


def test_upright_marker_stays_at_its_point() -> None:
    """Every voxel holds its own z coordinate and y coordinate: linear, so interpolation is exact."""
    tilt = -2.2
    datasets = stack("axial", tilt)
    group = arrange(frames_of(datasets)).choose()
    index = np.indices((SLICES, ROWS, COLUMNS)).reshape(3, -1)
    points = group.affine_lps @ np.vstack([index[::-1], np.ones(index.shape[1])])
    for axis in range(3):
        even = resample_regular(points[axis].reshape(SLICES, ROWS, COLUMNS), group, step=1.7)
        known = np.argwhere(np.isfinite(even.volume))
        expected = (even.affine_lps @ np.vstack([known.T[::-1], np.ones(len(known))]))[axis]
        np.testing.assert_allclose(even.volume[tuple(known.T)], expected, atol=1e-3)
        assert len(known) > 0.7 * SLICES * STEP / 1.7 * ROWS * COLUMNS * 0.8
    assert even.spacing == pytest.approx((1.7, *SPACING))


def test_resampling_refuses_what_it_cannot_know() -> None:
    volume = np.zeros((2, 4, 4))
    with pytest.raises(GeometryError, match="no position"):
        resample_regular(volume, arrange([FrameAttributes(), FrameAttributes()]).choose())
    group = arrange([frame(0), frame(1)]).choose()
    with pytest.raises(GeometryError, match="as many slices"):
        resample_regular(volume[:1], group)
    with pytest.raises(GeometryError, match="above zero"):
        resample_regular(volume, group, step=0)


def test_ras_is_lps_turned_round() -> None:
    group = arrange(frames_of(stack("oblique"))).choose()
    np.testing.assert_allclose(group.affine_ras, LPS_TO_RAS @ group.affine_lps)
