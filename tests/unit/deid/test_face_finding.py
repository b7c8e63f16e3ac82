"""Whose face is where: in any series, with raised arms, without a frame of reference; doubt is told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

import head_phantom as phantom
from voxelvault.deid.faces.finding import FaceFinder, Faces, reference_of
from voxelvault.deid.model import Refused
from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header

SHAPE = (1, phantom.SIZE, phantom.SIZE)
SEEN = 30
"""A level that shows the face."""


def header_of(made: Dataset) -> Header:
    return Header.from_part10(parse(phantom.file_of(made)))


def shown(finder: FaceFinder, slices: Iterable[Dataset]) -> None:
    for one in slices:
        header = header_of(one)
        assert finder.wants(header)
        finder.look(header, np.frombuffer(one.PixelData, "<i2").reshape(SHAPE))


def faces_in(*parts: Iterable[Dataset]) -> Faces:
    finder = FaceFinder()
    for part in parts:
        shown(finder, part)
    return finder.faces()


@pytest.fixture(scope="module")
def plain() -> Faces:
    return faces_in(phantom.head())


def refusal(faces: Faces, made: Dataset) -> str:
    with pytest.raises(Refused) as caught:
        faces.on(header_of(made), SHAPE)
    return caught.value.reason


def test_a_face_is_found_and_the_brain_stays(plain: Faces) -> None:
    mask = plain.on(header_of(phantom.dataset(15)), SHAPE)
    assert mask is not None
    assert mask[0, :40].any()
    above = plain.on(header_of(phantom.dataset(48)), SHAPE)
    assert above is None or not above[0][phantom.level(48) == 35].any()
    assert not plain.doubtful


def test_arms_beside_a_head_hide_no_face() -> None:
    assert set(faces_in(phantom.head(arms=True)).masks) == {"2.25.4"}


@pytest.mark.parametrize("said", [{"Modality": "OT"}, {"FrameOfReferenceUID": None}])
def test_a_head_whose_header_says_little_has_a_face(said: dict[str, Any]) -> None:
    faces = faces_in(phantom.head(**said))
    made = phantom.dataset(SEEN, **said)
    assert faces.on(header_of(made), SHAPE) is not None
    assert reference_of(header_of(made)) in faces.masks


def test_slices_in_a_series_each_are_seen_together() -> None:
    each = phantom.head(SeriesInstanceUID=lambda number: f"2.25.6{number:03}")
    assert set(faces_in(each).masks) == {"2.25.4"}


def test_slices_that_could_not_be_looked_at_are_refused() -> None:
    finder = FaceFinder()
    finder.miss(header_of(phantom.dataset(3)))
    assert refusal(finder.faces(), phantom.dataset(3)) == "pixels_undecodable"
    assert finder.faces().on(header_of(phantom.dataset(4)), SHAPE) is None


def test_few_slices_elsewhere_may_show_the_face_that_another_series_has() -> None:
    other = {"FrameOfReferenceUID": "2.25.44", "SeriesInstanceUID": "2.25.66"}
    few = [phantom.dataset(number, **other) for number in (20, 30, 40)]
    faces = faces_in(phantom.head(), few)
    assert refusal(faces, few[0]) == "face_unmapped"
    assert faces_in(few).on(header_of(few[0]), SHAPE) is None


def test_a_body_elsewhere_stays_though_its_scout_has_few_slices() -> None:
    other = {"FrameOfReferenceUID": "2.25.44", "SeriesInstanceUID": "2.25.66"}
    body = [phantom.dataset(number, **other) for number in range(12)]
    for index, one in enumerate(body):
        one.PixelData = phantom.level(0).astype("<i2").tobytes()
        one.ImagePositionPatient[2] = 4 * index
    scout = phantom.dataset(20, **{**other, "SeriesInstanceUID": "2.25.67"})
    scout.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    faces = faces_in(phantom.head(), body, [scout])
    assert faces.on(header_of(body[0]), SHAPE) is None
    assert faces.on(header_of(scout), SHAPE) is None


@pytest.mark.parametrize(
    "said",
    [
        {"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE"]},
        {"ImageType": ["DERIVED", "SECONDARY", "OTHER", "CSA MIP"]},
        {"VolumeBasedCalculationTechnique": "VOLUME_RENDER"},
        {"ImagePositionPatient": None},
    ],
)
def test_what_shows_more_than_its_plane_is_refused(plain: Faces, said: dict[str, Any]) -> None:
    assert refusal(plain, phantom.dataset(SEEN, **said)) == "face_unmapped"


def test_renderings_without_a_place_are_refused_beside_a_face(plain: Faces) -> None:
    screen = phantom.dataset(SEEN, SOPClassUID="1.2.840.10008.5.1.4.1.1.7", FrameOfReferenceUID=None)
    assert refusal(plain, screen) == "face_unmapped"
    assert Faces().on(header_of(screen), SHAPE) is None
