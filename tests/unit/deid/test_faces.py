"""Faces are found by geometry, and what is taken off is the face and never the brain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from voxelvault.deid.faces.finding import FaceFinder, Faces
from voxelvault.deid.faces.grid import STEP, Plane, Slice, on_grid
from voxelvault.deid.faces.head import Head, find_head, outline_of
from voxelvault.deid.faces.mask import face_of
from voxelvault.deid.model import Refused
from voxelvault.dicom.frames import frame_attributes
from voxelvault.dicom.native import unpack_native
from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header, frame_spec, number_of_frames

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
GE_CT = "neurolabusc+dcm_qa_ct/In/GE/*.dcm"
MR = "rii-mango+Papaya/tests/data/dicom/brain_*.dcm"
PET = "FNNDSC+data/dicom/rsna_2/PET/*.dcm"


def read(path: Path) -> tuple[Header, np.ndarray]:
    part10 = parse(path.read_bytes())
    header = Header.from_part10(part10)
    assert part10.pixels is not None
    data = memoryview(part10.data)[part10.pixels.start : part10.pixels.stop]
    return header, unpack_native(data, frame_spec(header), number_of_frames(header))


def finder(paths: Sequence[Path]) -> FaceFinder:
    found = FaceFinder()
    for path in paths:
        header, frames = read(path)
        if found.wants(header):
            found.look(header, frames)
    return found


def head_of(found: FaceFinder) -> Head:
    ((_, (_, modality, _)), places) = max(found._series.items(), key=lambda one: len(one[1]))
    head = head_in(list(places.values()), hounsfield=modality == "CT")
    assert head is not None
    return head


def head_in(slices: Sequence[Slice], *, hounsfield: bool) -> Head | None:
    grid = on_grid(slices)
    outline = outline_of(grid, hounsfield=hounsfield)
    return None if outline is None else find_head(grid, outline, hounsfield=hounsfield)


def moved(head: Head) -> np.ndarray:
    """Return, for each cell of the old surface of the face, mm to the new surface."""
    mask = face_of(head)
    assert mask is not None
    left = head.body & ~mask.cells
    surface = left & ~ndimage.binary_erosion(left)
    distance = ndimage.distance_transform_edt(~surface) * STEP
    foremost = np.nonzero(head.brain.any(axis=(0, 2)))[0][0]
    floor = int(np.argmax(head.brain[:, : foremost + 9].any(axis=(1, 2))))
    first = np.where(head.body.any(axis=1), np.argmax(head.body, axis=1), 10**6)
    level, column = np.nonzero(first[:floor] < foremost)
    return np.asarray(distance[level, first[level, column], column])


@pytest.mark.shared
@pytest.mark.parametrize(("pattern", "least"), [(GE_CT, 12.0), (MR, 18.0)])
def test_the_surface_of_a_real_face_is_elsewhere_afterwards(
    shared_dicom: Path, pattern: str, least: float
) -> None:
    distance = moved(head_of(finder(sorted(shared_dicom.glob(pattern)))))
    assert len(distance) > 200
    assert distance.mean() > least
    assert (distance < 4).mean() < 0.05


@pytest.mark.shared
@pytest.mark.parametrize("pattern", [GE_CT, MR])
def test_a_real_brain_is_left_as_it_is(shared_dicom: Path, pattern: str) -> None:
    head = head_of(finder(sorted(shared_dicom.glob(pattern))))
    mask = face_of(head)
    assert mask is not None
    assert 800e3 < head.brain.sum() * STEP**3 < 1600e3
    assert not (mask.cells & head.brain).any()


@pytest.mark.shared
def test_a_head_on_a_whole_body_is_found_and_the_body_left_alone(shared_dicom: Path) -> None:
    found = finder(sorted(shared_dicom.glob(PET)))
    (mask,) = found.faces().masks.values()
    levels = np.nonzero(mask.cells.any(axis=(1, 2)))[0]
    assert (levels[-1] - levels[0]) * STEP < 400
    assert levels[-1] == mask.cells.shape[0] - 1


@pytest.mark.shared
def test_no_voxel_that_an_atlas_calls_brain_is_touched(shared_dicom: Path) -> None:
    """An average of many heads, with grey and white matter known (MNI space, 2 mm)."""
    folder = shared_dicom.parent / "templates"
    units, affine = _template(folder / "scct.nii")
    brain = sum(_template(folder / f"{name}.nii")[0] for name in ("scgrey", "scwhite")) > 0.5
    # The template's units stretch soft tissue: 11 of them a Hounsfield unit from -100 to 100.
    hounsfield = np.select(
        [units < 900, units < 3100], [units - 1000, (units - 900) / 11 - 100], units - 3000
    )
    planes = [Plane((*affine[:2], affine[2] + 2.0 * level), AXIAL, (2.0, 2.0)) for level in range(len(units))]
    slices = [Slice(plane, level) for plane, level in zip(planes, hounsfield.astype(np.float32), strict=True)]
    head = head_in(slices, hounsfield=True)
    assert head is not None
    mask = face_of(head)
    assert mask is not None
    taken = np.stack([mask.on(plane, brain.shape[1:]) for plane in planes])
    assert not (taken & brain).any()
    assert (taken & (hounsfield > -300)).sum() * 8 > 100e3


def _template(path: Path) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Return values (z, y, x) with y growing to the back, and the first one's place (LPS)."""
    image = nibabel.load(path)
    values = np.transpose(image.get_fdata(), (2, 1, 0))[:, ::-1]
    a = image.affine
    return values, (-a[0, 3], -(a[1, 3] + 2 * (values.shape[1] - 1)), a[2, 3])


def ball_head(radius: float, spacing: float = 4.0, levels: int = 40) -> list[Slice]:
    """Return a ball of water with a shell of bone, in air."""
    planes = [Plane((-120.0, -120.0, spacing * level), AXIAL, (3.0, 3.0)) for level in range(levels)]
    slices = []
    for plane in planes:
        distance = np.linalg.norm(plane.points((81, 81)) - [0, 0, spacing * levels], axis=-1)
        values = np.select(
            [distance < radius - 12, distance < radius - 6, distance < radius], [30, 800, 20], -1000
        )
        slices.append(Slice(plane, values.astype(np.float32)))
    return slices


@pytest.mark.parametrize("radius", [40.0, 150.0])
def test_what_has_not_a_head_s_size_is_none(radius: float) -> None:
    assert head_in(ball_head(radius), hounsfield=True) is None


def test_air_is_no_head() -> None:
    plane = Plane((0.0, 0.0, 0.0), AXIAL, (3.0, 3.0))
    slices = [
        Slice(Plane((0.0, 0.0, 3.0 * level), AXIAL, plane.spacing), np.full((60, 60), -1000, np.float32))
        for level in range(20)
    ]
    assert head_in(slices, hounsfield=True) is None


@pytest.mark.shared
def test_a_mask_falls_on_other_series_of_its_frame_of_reference(shared_dicom: Path) -> None:
    paths = sorted(shared_dicom.glob(GE_CT))
    faces = finder(paths).faces()
    header, frames = read(paths[0])
    same = faces.on(header, frames.shape)
    assert same is not None
    # The same plane with pixels twice as large.
    model = {name: dict(header[name]) for name in header}
    model["00280030"] = {"vr": "DS", "Value": [2 * value for value in header.values("PixelSpacing")]}
    half = faces.on(Header(model), (1, 256, 256))
    assert half is not None
    assert (half[0] != same[0, ::2, ::2]).mean() < 0.01


@pytest.mark.shared
def test_what_can_t_be_mapped_is_refused(shared_dicom: Path) -> None:
    paths = sorted(shared_dicom.glob(GE_CT))
    faces = finder(paths).faces()
    header, frames = read(paths[0])
    model = {name: header[name] for name in header if name != "00200032"}
    with pytest.raises(Refused) as caught:
        faces.on(Header(model), frames.shape)
    assert caught.value.reason == "face_unmapped"
    screen = {"00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.7"]}}
    with pytest.raises(Refused):
        faces.on(Header(screen), (1, 10, 10))
    assert Faces().on(Header(screen), (1, 10, 10)) is None
    assert frame_attributes(header)[0].position is not None
